"""A small HTTP/1.1 client on a raw socket: it says exactly what it is told to say, in the pieces it is told to, and reads
answers strictly.  Every wait is bounded by the connection's timeout."""

from __future__ import annotations

import re
import select
import socket
import struct
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Union

from .limits import PROMPT

Address = Union[tuple[str, int], str]  # (host, port), or the path of a unix socket, or its @name
Headers = Sequence[tuple[str, str]]

_STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})(?:;[^\r\n]*)?")


_open: weakref.WeakSet[Connection] = weakref.WeakSet()


def close_all() -> None:
    """Closes the connections that a test has left open, so that they do not disturb the next one."""
    for c in list(_open):
        c.close()


class Malformed(AssertionError):
    """The peer said something that is not HTTP."""


class Truncated(AssertionError):
    """The response ended before its framing said so: what a client must see of a failed response."""

    def __init__(self, why: str, response: Response | None = None) -> None:
        super().__init__(why)
        self.response = response


class NoResponse(Truncated):
    """The connection ended without a byte."""


@dataclass
class Response:
    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    framing: str = "none"  # what ended the body: none, length, chunked, close
    blocks: list[bytes] = field(default_factory=list)  # the chunks of a chunked body
    interim: list[Response] = field(default_factory=list)  # the 1xx responses before

    def all(self, name: str) -> list[str]:
        return [value for n, value in self.headers if n.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The value of a header that must not be repeated."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def keeps_alive(self) -> bool:
        """Whether the server has said that the connection can be used again."""
        said = [token.strip().lower() for value in self.all("Connection") for token in value.split(",")]
        if self.framing == "close" or "close" in said:
            return False
        return self.version == "1.1" or "keep-alive" in said


def build(
    method: str,
    target: str,
    headers: Headers = (),
    body: bytes | None = None,
    *,
    version: str = "1.1",
    host: str | None = "test.example",
) -> bytes:
    """The bytes of one request.  Content-Length is added for a body unless the headers frame it."""
    lines = [f"{method} {target} HTTP/{version}"]
    names = {name.lower() for name, _ in headers}
    if host is not None and "host" not in names:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def chunked(*blocks: bytes, trailers: Headers = ()) -> bytes:
    """A chunked body."""
    framed = b"".join(b"%x\r\n%s\r\n" % (len(block), block) for block in blocks)
    return framed + b"0\r\n" + "".join(f"{n}: {v}\r\n" for n, v in trailers).encode("latin-1") + b"\r\n"


class Connection:
    def __init__(
        self,
        address: Address,
        *,
        timeout: float = PROMPT,
        receive_buffer: int | None = None,
        source: str | None = None,
    ) -> None:
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            self.sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if receive_buffer is not None:  # before connect: it decides the window that is offered
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if source is not None:
                self.sock.bind((source, 0))
            if isinstance(address, str):
                # A queue that is full is waited for, as by TCP; a socket that does not block, as those with a timeout, fails.
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(timeout) + 1, 0))
                self.sock.connect("\0" + address[1:] if address.startswith("@") else address)
            self.sock.settimeout(timeout)
            if not isinstance(address, str):
                self.sock.connect(address)
            if not isinstance(address, str):
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.sock.close()
            raise
        _open.add(self)
        self.timeout = timeout
        self.received = b""  # read from the socket, not yet taken

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Sending

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_pieces(self, pieces: Iterable[bytes], pause: float = 0.002) -> None:
        """Each piece in a write (and, with a pause, a packet) of its own.  A peer that has had enough ends it."""
        for piece in pieces:
            try:
                self.sock.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                return
            time.sleep(pause)

    def send_request(
        self, method: str, target: str, headers: Headers = (), body: bytes | None = None, **how: str
    ) -> None:
        self.send(build(method, target, headers, body, **how))

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Closes with a RST instead of a FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    # Reading

    def _fill(self, limit: int = 65536) -> bool:
        """Reads some more; False at the end of the stream."""
        data = self.sock.recv(limit)
        self.received += data
        return bool(data)

    def _line(self, at_most: int = 65536) -> bytes:
        while (end := self.received.find(b"\n")) < 0:
            if len(self.received) > at_most:
                raise Malformed(f"a line without an end: {self.received[:100]!r}")
            if not self._fill():
                if not self.received:
                    raise NoResponse("the connection ended")
                raise Truncated(f"the connection ended within a line: {self.received!r}")
        line, self.received = self.received[:end], self.received[end + 1 :]
        if not line.endswith(b"\r"):
            raise Malformed(f"a line without CR: {line!r}")
        return line[:-1]

    def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        parts = [self.received[:size]]
        self.received = self.received[size:]
        missing = size - len(parts[0])
        while missing:
            data = self.sock.recv(min(missing, 1 << 20))
            if not data:
                raise Truncated(f"the connection ended {missing} bytes early")
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def read_head(self) -> Response:
        line = self._line()
        found = _STATUS_LINE.fullmatch(line)
        if not found:
            raise Malformed(f"no status line: {line!r}")
        head = Response(found[1].decode(), int(found[2]), found[3].decode("latin-1"), [])
        try:
            while line := self._line():
                pair = _FIELD.fullmatch(line)
                if not pair:
                    raise Malformed(f"no header field: {line!r}")
                head.headers.append((pair[1].decode(), pair[2].decode("latin-1")))
        except NoResponse:
            raise Truncated("the connection ended within a head", head) from None
        self._set_framing(head)
        return head

    @staticmethod
    def _set_framing(head: Response) -> None:
        coding, length = head.header("Transfer-Encoding"), head.header("Content-Length")
        if coding is not None:
            if coding != "chunked" or length is not None or head.version == "1.0":
                raise Malformed(f"framing: {head.headers}")
            head.framing = "chunked"
        elif length is not None:
            if not length.isascii() or not length.isdigit():
                raise Malformed(f"Content-Length: {length!r}")
            head.framing = "length"
        else:
            head.framing = "close"

    def iter_body(self, head: Response) -> Iterator[bytes]:
        """The blocks of a body as they come."""
        if head.framing == "length":
            left = int(head.header("Content-Length") or 0)
            while left:
                if not self.received and not self._fill():
                    raise Truncated(f"the connection ended {left} bytes before the end of the body", head)
                block, self.received = self.received[:left], self.received[left:]
                left -= len(block)
                yield block
        elif head.framing == "chunked":
            yield from self._iter_chunks(head)
        elif head.framing == "close":
            while self.received or self._fill():
                block, self.received = self.received, b""
                yield block

    def _iter_chunks(self, head: Response) -> Iterator[bytes]:
        while True:
            try:
                line = self._line()
                size = _CHUNK_SIZE.fullmatch(line)
                if not size:
                    raise Malformed(f"no chunk size: {line!r}")
                if int(size[1], 16) == 0:
                    break
                block = self.read(int(size[1], 16))
                if self.read(2) != b"\r\n":
                    raise Malformed("a chunk is longer than it says")
            except Truncated as error:
                raise Truncated(f"within a chunked body: {error}", head) from None
            yield block
        if self._line():
            raise Malformed("trailers that the client has not asked for")

    def read_response(self, method: str = "GET") -> Response:
        """One final response, whole; the interim ones before it are in its .interim."""
        interim = []
        while (head := self.read_head()).status < 200:
            if head.status != 101 and (head.all("Content-Length") or head.all("Transfer-Encoding")):
                raise Malformed(f"an interim response with a body: {head}")
            head.framing = "none"
            interim.append(head)
        head.interim = interim
        if method == "HEAD" or head.status in (204, 304):
            head.framing = "none"
            return head
        try:
            for block in self.iter_body(head):
                head.blocks.append(block)
        except Truncated as error:
            head.body = b"".join(head.blocks)
            error.response = head
            raise
        head.body = b"".join(head.blocks)
        return head

    def read_cut(self) -> bytes:
        """A response that is visibly cut off; gives what came of its body."""
        try:
            whole = self.read_response()
        except Truncated as error:
            return error.response.body if error.response is not None else b""
        except ConnectionResetError:
            return b""
        raise AssertionError(f"a complete response: {whole}")

    def read_failed(self) -> None:
        """A response that failed at a moment when its headers may have left or not: a 500, or one that is cut off."""
        try:
            whole = self.read_response()
        except (Truncated, ConnectionResetError):
            return
        assert whole.status == 500, f"a complete response: {whole}"

    def request(
        self, method: str, target: str, headers: Headers = (), body: bytes | None = None, **how: str
    ) -> Response:
        self.send_request(method, target, headers, body, **how)
        return self.read_response(method)

    # What the peer does

    def readable(self, within: float) -> bool:
        """Whether something (data, the end, a reset) comes within so many seconds."""
        return bool(self.received) or bool(select.select([self.sock], [], [], within)[0])

    def ended(self) -> str:
        """Waits for the end of the stream: 'eof' or 'reset'.  Whatever comes before it is an error."""
        if self.received:
            raise AssertionError(f"bytes after the end: {self.received[:300]!r}")
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            return "reset"
        except TimeoutError:
            raise AssertionError("the connection stays open") from None
        assert not data, f"bytes after the end: {data[:300]!r}"
        return "eof"

    def drain(self) -> tuple[bytes, str]:
        """Reads to the end of the stream: everything, and how it ended."""
        parts = [self.received]
        self.received = b""
        while True:
            try:
                data = self.sock.recv(1 << 20)
            except ConnectionResetError:
                return b"".join(parts), "reset"
            except TimeoutError:
                raise AssertionError(f"the connection stays open after {b''.join(parts)[-300:]!r}") from None
            if not data:
                return b"".join(parts), "eof"
            parts.append(data)
