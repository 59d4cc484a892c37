"""HTTP/1.1 and 1.0 as simple_server needs them: bytes to requests, heads to bytes.  No sockets, no threads.

It is strict (RFC 9110, RFC 9112), as two servers that differ over where a request ends can be played off against each
other: CRLF ends a line and nothing else does, one framing a body, no white space where there is none in the grammar.
"""

from __future__ import annotations

import email.utils
import enum
import ipaddress
import logging
import re
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from tempfile import SpooledTemporaryFile
from typing import Any

from .._types import is_list, is_tuple

__all__ = ["SOFTWARE", "Body", "Head", "Phase", "Reader", "Refusal", "answer", "check_head", "message"]

log = logging.getLogger("wsgi_plus.simple_server")

SOFTWARE = "wsgi_plus.simple_server"

EMPTY_LINES = 8  # before a request line
LINE, FIELD, FIELDS = 8190, 8190, 100  # bytes of a request line, bytes of a field, fields: at most
CHUNK_LINE, EXTENSIONS = 256, 4096  # bytes of the line before a chunk, of extensions beyond those of data: at most
LENGTHS = 1 << 63  # what no length reaches
BODY_IN_MEMORY = 512 << 10  # bytes of a body that are kept out of a file (S14.2)

HOP_BY_HOP = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization"),
    *("proxy-connection", "te", "trailer", "trailers", "transfer-encoding", "upgrade"),
}
NO_TRAILERS = {"content-length", "host", "transfer-encoding"}

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_REQUEST_LINE = re.compile(rb"(%s) ([\x21-\x7e\x80-\xff]+) HTTP/([0-9]\.[0-9])" % _TOKEN)
_FIELD = re.compile(rb"(%s):(.*)" % _TOKEN)
_EXTENSION = rb"[ \t]*;[ \t]*%s(?:[ \t]*=[ \t]*(?:%s|%s))?" % (_TOKEN, _TOKEN, _QUOTED)
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)((?:%s)*)" % _EXTENSION)
_ABSOLUTE = re.compile(r"https?://([^/?]+)(/[^?]*)?(\?.*)?", re.IGNORECASE)
_HOST = re.compile(r"((?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*|\[([0-9A-Fa-f:.]+)\])(?::([0-9]*))?")
_DIGITS = re.compile(r"[0-9]{1,40}")
_STATUS = re.compile(r"[2-5][0-9][0-9] [\t\x20-\x7e\x80-\xff]*")
_NAME = re.compile(_TOKEN.decode())
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

Body = SpooledTemporaryFile  # in memory, or in a file that no other process can open (S14.2)


class Refusal(Exception):
    """A request that the server answers, and then closes the connection."""

    def __init__(self, status: int = 400) -> None:
        super().__init__(status)
        self.status = status


class Phase(enum.Enum):
    """What is being read."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


@dataclass
class Head:
    """The head of a request."""

    method: str
    target: str
    version: str
    path: str
    query: str
    fields: dict[str, list[str]]  # by the name in lower case
    length: int | None  # of the body; None if it is chunked
    keep_alive: bool
    waits: bool  # for 100 Continue


Found = tuple[Head, "Body[bytes]"]
Needs = Generator[None, None, Any]
"""Generators that yield when they need more bytes."""


class Reader:
    """Finds the requests in the bytes of a connection, which its owner puts into ``buffer``."""

    def __init__(self, *, limit: int, put: Callable[[bytes], object]) -> None:
        """``limit``: bytes of a body at most.  ``put`` takes what is to be sent before the response."""
        self.buffer = bytearray()
        self.phase = Phase.IDLE
        self.since = time.monotonic()  # when the phase began; while a body comes, when its last byte has come
        self._line_is_head: bool | None = None  # None: the request line is not whole
        self._limit, self._put = limit, put
        self._requests = self._read()

    def next(self) -> Found | None:
        """The next request, when it is whole (S14.1): its head and its body, which is the caller's to close.

        None: more bytes are needed.  Raises Refusal; then, and after close(), there are no more.
        """
        return next(self._requests, None)

    @property
    def is_head(self) -> bool:
        """Whether the request that is being read, or was refused, has the method HEAD: its answer has no body."""
        whole = self._line_is_head
        return self.buffer.startswith(b"HEAD ") if whole is None else whole

    def close(self) -> None:
        self._requests.close()
        self.buffer.clear()

    def _enter(self, phase: Phase) -> None:
        self.phase, self.since = phase, time.monotonic()

    def _read(self) -> Generator[Found | None, None, None]:
        while True:
            self._enter(Phase.IDLE)
            while not self.buffer:
                yield None
            self._enter(Phase.HEAD)
            head = yield from self._head()
            self._enter(Phase.BODY)
            if head.length is not None and head.length > self._limit:
                raise Refusal(413)
            if head.waits and head.length != 0 and not self.buffer:
                self._put(message("100 Continue", []))
            body: Body[bytes] = SpooledTemporaryFile(max_size=BODY_IN_MEMORY)
            try:
                yield from self._chunks(body) if head.length is None else self._take(head.length, body)
                body.seek(0)
            except BaseException:  # it is not whole, so the application does not get it (S14.4)
                body.close()
                raise
            yield head, body

    def _head(self) -> Generator[None, None, Head]:
        self._line_is_head = None
        line = b""
        for _ in range(EMPTY_LINES + 1):  # RFC 9112, 2.2: at least one empty line is skipped
            line = yield from self._line(LINE, 414)
            if line:
                break
        self._line_is_head = line.startswith(b"HEAD ")
        method, target, version = _parse_request_line(line)
        lines = yield from self._fields(431)
        return _make_head(method, target, version, lines)

    def _fields(self, status: int) -> Generator[None, None, list[bytes]]:
        lines: list[bytes] = []
        while line := (yield from self._line(FIELD, status)):
            if len(lines) == FIELDS:
                raise Refusal(status)
            lines.append(line)
        return lines

    def _line(self, limit: int, status: int) -> Generator[None, None, bytes]:
        """A line without its CRLF.  ``status``: of the refusal if it is longer than the limit."""
        while (end := self.buffer.find(b"\n")) < 0 and len(self.buffer) <= limit + 1:
            if _CONTROL.search(self.buffer):
                raise Refusal  # it may never end: perhaps it is TLS
            yield
        if end < 0 or end > limit + 1:
            raise Refusal(status)
        line = bytes(self.buffer[: end + 1])
        if line.find(b"\r") != end - 1 or line == b"\n" or _CONTROL.search(line):
            raise Refusal
        del self.buffer[: end + 1]
        return line[:-2]

    def _take(self, size: int, body: Body[bytes]) -> Needs:
        while size:
            while not self.buffer:
                yield
            piece = bytes(self.buffer[:size])
            del self.buffer[: len(piece)]
            size -= len(piece)
            self.since = time.monotonic()
            try:
                body.write(piece)
            except OSError as error:
                log.error("A request body cannot be kept", exc_info=error)
                raise Refusal(500) from None

    def _chunks(self, body: Body[bytes]) -> Needs:
        size, extensions = -1, 0
        while size:
            found = _CHUNK.fullmatch((yield from self._line(CHUNK_LINE, 400)))
            if found is None:
                raise Refusal
            size = int(found[1], 16)
            extensions += len(found[2])
            if size >= LENGTHS or extensions > body.tell() + EXTENSIONS:
                raise Refusal
            if body.tell() + size > self._limit:
                raise Refusal(413)
            if size:
                yield from self._take(size, body)
                yield from self._line(0, 400)
        for line in (yield from self._fields(400)):  # trailers, which are dropped
            if _parse_field(line)[0] in NO_TRAILERS:
                raise Refusal


def _parse_request_line(line: bytes) -> tuple[str, str, str]:
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise Refusal
    method, target, version = (part.decode("latin-1") for part in found.groups())
    if not version.startswith("1."):
        raise Refusal(505)
    return method, target, "1.0" if version == "1.0" else "1.1"  # RFC 9110, 2.5: a higher one is processed as ours


def _make_head(method: str, target: str, version: str, lines: Iterable[bytes]) -> Head:
    fields: dict[str, list[str]] = {}
    for name, value in map(_parse_field, lines):
        fields.setdefault(name, []).append(value)
    hosts = fields.get("host", [])
    if len(hosts) > 1 or (not hosts and version == "1.1") or not all(map(_is_host, hosts)):
        raise Refusal
    authority, path, query = _parse_target(method, target)
    if authority is not None:
        fields["host"] = [authority]  # it wins over Host (RFC 9112, 3.2.2)
    expected = fields.get("expect", []) if version == "1.1" else []
    if any(value.lower() != "100-continue" for value in expected):
        raise Refusal(417)
    options = {option.strip(" \t").lower() for value in fields.get("connection", []) for option in value.split(",")}
    keep_alive = "close" not in options and (version == "1.1" or "keep-alive" in options)
    length = _parse_length(fields, version)
    return Head(method, target, f"HTTP/{version}", path, query, fields, length, keep_alive, bool(expected))


def _parse_field(line: bytes) -> tuple[str, str]:
    found = _FIELD.fullmatch(line)
    if found is None:
        raise Refusal
    return found[1].decode("ascii").lower(), found[2].strip(b" \t").decode("latin-1")


def _parse_target(method: str, target: str) -> tuple[str | None, str, str]:
    """Authority, if there is one, path and query."""
    if method == "CONNECT":
        raise Refusal(501)
    if "#" in target:
        raise Refusal
    if target.startswith("/"):
        path, _, query = target.partition("?")
        return None, path, query
    if target == "*" and method == "OPTIONS":
        return None, target, ""
    found = _ABSOLUTE.fullmatch(target)
    if found is None or not _is_host(found[1]):
        raise Refusal
    return found[1], found[2] or "/", (found[3] or "?")[1:]


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    if found is None or int(found[3] or 0) > 65535 or (found[3] is not None and not found[1]):
        return False
    with suppress(ValueError):
        return found[2] is None or bool(ipaddress.IPv6Address(found[2]))
    return False


def _parse_length(fields: dict[str, list[str]], version: str) -> int | None:
    lengths, codings = fields.get("content-length", []), fields.get("transfer-encoding", [])
    if codings:
        names = [name.strip(" \t").lower() for name in ",".join(codings).split(",")]  # RFC 9110, 5.3: one list
        if lengths or version == "1.0" or names[-1] != "chunked" or names.count("chunked") > 1:
            raise Refusal
        if not all(map(_NAME.fullmatch, names)):
            raise Refusal
        if len(names) > 1:
            raise Refusal(501)
        return None
    if len(lengths) > 1 or not all(map(_DIGITS.fullmatch, lengths)):
        raise Refusal
    length = int(lengths[0]) if lengths else 0
    if length >= LENGTHS:
        raise Refusal
    return length


def message(status: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of a response.  Date and Server are added to that of a final one unless they are there."""
    headers, names = list(headers), {name.lower() for name, _ in headers}
    if not status.startswith("1"):
        added = (("Date", email.utils.formatdate(usegmt=True)), ("Server", SOFTWARE))
        headers += [header for header in added if header[0].lower() not in names]
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "\r\n"]
    return "\r\n".join(lines).encode("latin-1")


def answer(status: int, *, with_body: bool = True) -> bytes:
    """A whole response of the server's own, which says nothing about the inside (S5.7)."""
    said = f"{status} {HTTPStatus(status).phrase}"
    body = f"{said}\n".encode()
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("Connection", "close")]
    return message(said, headers) + (body if with_body else b"")


def check_head(status: Any, headers: Any) -> int | None:
    """Raises TypeError or ValueError if it is nothing for an application to send (PEP 3333); gives its Content-Length.

    What passes cannot split a response.
    """
    if not isinstance(status, str) or not is_list(headers):
        raise TypeError("start_response takes a str and a list of tuples")
    if not _STATUS.fullmatch(status):
        raise ValueError(f"no status: {status!r}")
    length = None
    for header in headers:
        if not is_tuple(header) or len(header) != 2 or not all(isinstance(part, str) for part in header):
            raise TypeError(f"a header is a tuple of two str, not {header!r}")
        name, value = header
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or name.lower() in HOP_BY_HOP:
            raise ValueError(f"no header for an application to send: {header!r}")
        if name.lower() == "content-length":
            if length is not None or not _DIGITS.fullmatch(value) or int(value) >= LENGTHS:
                raise ValueError(f"no Content-Length, or the second: {value!r}")
            length = int(value)
    return length
