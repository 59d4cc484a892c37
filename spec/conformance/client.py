"""HTTP over raw sockets: what a case sends is what is sent, and how a response ended is seen exactly."""

from __future__ import annotations

import hashlib
import select
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType

from .check import LONG, Failed

__all__ = ["Answer", "Connection", "NoResponse", "broken_off", "request", "silent"]

Address = tuple[str, int]

BODILESS = {204, 304}


class NoResponse(Failed):
    """The connection ended before a byte of a response."""


@dataclass
class Answer:
    """A response, as far as it came."""

    status: int
    reason: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    complete: bool = True
    """Whether it ended as its framing says: False for one that was broken off (S5.8)."""
    framing: str = "length"
    """``length``, ``chunked``, ``close`` or ``none``."""
    chunks: list[bytes] = field(default_factory=list)
    over: bool = False
    """Whether its end has been read, be it a good or a bad one."""

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def header(self, name: str) -> str | None:
        """All values of a header, joined; None if it is not there."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(found) if found else None

    @property
    def last(self) -> bool:
        """Whether the server has said that it will end the connection."""
        return "close" in (self.header("Connection") or "").lower() or self.version == "HTTP/1.0"

    def __str__(self) -> str:
        broken = "" if self.complete else ", broken off"
        return f"{self.status} {self.reason}, {len(self.body)} bytes{broken}"


def request(
    method: str,
    target: str,
    *,
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes | None = None,
    version: str = "HTTP/1.1",
    close: bool = False,
) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {target} {version}", "Host: conformance"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None and not any(name.lower() == "transfer-encoding" for name, _ in headers):
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


class Connection:
    """One connection to the server.  A context manager: leaving it closes the socket."""

    def __init__(self, address: Address, *, timeout: float = LONG, receive_buffer: int | None = None) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self.interim: list[int] = []
        """The statuses of the 1xx responses so far."""
        self._data = b""
        self._methods: list[str] = []

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # Sending

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def get(self, target: str, *, method: str = "GET", **more: object) -> None:
        """Sends a request, and reads nothing."""
        self._methods.append(method)
        self.send(request(method, target, **more))  # type: ignore[arg-type]

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Leaves without saying goodbye."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def end(self) -> None:
        """Says that nothing more will be sent, and goes on listening."""
        self.socket.shutdown(socket.SHUT_WR)

    # Receiving

    def _more(self) -> bool:
        """Reads on; False at the end of the data, be it in order or by a reset."""
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            return False
        except TimeoutError:
            raise Failed(f"no answer within {self.timeout:g} s, after {self._data[-200:]!r}") from None
        self._data += data
        return bool(data)

    def _line(self) -> bytes | None:
        while b"\n" not in self._data:
            if not self._more():
                return None
        line, _, self._data = self._data.partition(b"\n")
        return line.rstrip(b"\r")

    def _exactly(self, count: int) -> bytes:
        """So many bytes, or fewer at the end of the data."""
        taken = bytearray(self._data)  # which grows without being copied each time
        self._data = b""
        while len(taken) < count and self._more():
            taken += self._data
            self._data = b""
        self._data = bytes(taken[count:])
        return bytes(taken[:count])

    def head(self) -> Answer | None:
        """Status line and headers of the next response, 1xx apart; None if the connection has ended."""
        while True:
            line = self._line()
            if line is None and self._data:
                raise Failed(f"not a response: {self._data[:200]!r}")
            if line is None:
                return None
            version, _, rest = line.decode("latin-1").partition(" ")
            status, _, reason = rest.partition(" ")
            if not version.startswith("HTTP/1.") or not status.isdigit():
                raise Failed(f"not a response: {line[:200]!r}")
            headers: list[tuple[str, str]] = []
            while (line := self._line()) != b"":
                if line is None:
                    raise Failed("the response ended within its headers")
                name, _, value = line.decode("latin-1").partition(":")
                headers.append((name, value.strip()))
            if not status.startswith("1"):
                return Answer(int(status), reason, version, headers)
            self.interim.append(int(status))

    def start(self) -> Answer:
        """The next response as far as its headers: its body is read with ``part`` and ``finish``."""
        method = self._methods.pop(0) if self._methods else "GET"
        answer = self.head()
        if answer is None:
            raise NoResponse("the connection ended without a response")
        length = answer.header("Content-Length")
        if method == "HEAD" or answer.status in BODILESS:
            answer.framing = "none"
            answer.over = True
        elif (answer.header("Transfer-Encoding") or "").lower() == "chunked":
            answer.framing = "chunked"
        elif length is None:
            answer.framing = "close"
        elif not length.isdigit():
            raise Failed(f"not a Content-Length: {length}")
        return answer

    def response(self) -> Answer:
        """The next response, whole or broken off."""
        return self.finish(self.start())

    def response_if_any(self) -> Answer | None:
        """The same; None where the connection has ended before one."""
        try:
            return self.response()
        except NoResponse:
            return None

    def part(self, answer: Answer, count: int) -> bytes:
        """The body as soon as there are so many bytes of it; fewer only where it ends."""
        if answer.framing == "chunked":
            self._take_chunks(answer, count)
        elif not answer.over:
            if answer.framing == "length":
                count = min(count, int(answer.header("Content-Length") or 0))
            answer.body += self._exactly(count - len(answer.body))
        return answer.body

    def finish(self, answer: Answer) -> Answer:
        """Reads what is left of the body."""
        if answer.framing == "length":
            length = int(answer.header("Content-Length") or 0)
            answer.complete = len(self.part(answer, length)) == length
        elif answer.framing == "close":
            answer.complete = self._to_end(answer)
        else:
            self._take_chunks(answer)
        answer.over = True
        return answer

    def _take_chunks(self, answer: Answer, count: int | None = None) -> None:
        """Until there are so many bytes of the body, or to its end."""
        blocks, size = [answer.body], len(answer.body)
        while not answer.over and (count is None or size < count):
            chunk = self.chunk()
            if chunk:
                answer.chunks.append(chunk)
                blocks.append(chunk)
                size += len(chunk)
            else:
                answer.complete, answer.over = chunk is not None, True
        answer.body = b"".join(blocks)

    def chunk(self) -> bytes | None:
        """The next chunk of a chunked body; empty for the last one, None where the connection has ended."""
        line = self._line()
        if line is None:
            return None
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise Failed(f"not the size of a chunk: {line[:100]!r}") from None
        data = self._exactly(size)
        if len(data) < size:
            return None
        while (line := self._line()) and not size:  # trailers
            pass
        if line:
            raise Failed(f"a chunk of {size} bytes goes on: {line[:100]!r}")
        return None if line is None else data

    def _to_end(self, answer: Answer) -> bool:
        """A body that ends with the connection: whether it did so in order."""
        try:
            while True:
                data = self.socket.recv(65536)
                self._data += data
                if not data:
                    return True
        except ConnectionError:
            return False
        except TimeoutError:
            raise Failed(f"the connection was not closed within {self.timeout:g} s") from None
        finally:
            answer.body, self._data = answer.body + self._data, b""

    def drain(self, answer: Answer) -> tuple[int, str]:
        """Reads what is left of a long body, and keeps nothing: how many bytes it was, and their SHA-256."""
        digest, size = hashlib.sha256(), 0
        while not answer.over:
            answer.body = b""
            self.part(answer, 65536) if answer.framing == "chunked" else self.finish(answer)
            size += len(answer.body)
            digest.update(answer.body)
        return size, digest.hexdigest()

    def rest(self) -> bytes:
        """Whatever still comes until the server ends the connection."""
        while self._more():
            pass
        taken, self._data = self._data, b""
        return taken

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long, not even the end."""
        if self._data:
            return False
        self.socket.settimeout(seconds)
        try:
            self._data += self.socket.recv(65536)
            return False
        except TimeoutError:
            return True
        except ConnectionError:
            return False
        finally:
            self.socket.settimeout(self.timeout)

    def ended(self, within: float) -> bool:
        """Whether the server ends the connection within so many seconds, whatever it still sends."""
        deadline = time.monotonic() + within
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                if not self.socket.recv(65536):
                    return True
            except ConnectionError:
                return True
            except TimeoutError:
                return False
        return False


def silent(connections: Iterable[Connection], seconds: float) -> bool:
    """Whether nothing comes on any of them for so long, not even the end."""
    connections = list(connections)
    if any(c._data for c in connections):
        return False
    return not select.select([c.socket for c in connections], [], [], seconds)[0]


def broken_off(answer: Answer | None, status: int = 200) -> bool:
    """Whether a response that has begun with this status was broken off; perhaps so early that nothing of it came."""
    return answer is None or (answer.status == status and not answer.complete)
