"""PEP 3333: what of HTTP an application relies on."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from wsgi_plus.simple_server import Server
from wsgi_plus.simple_server._http import Body, Head, Needs, Refusal, message

from . import Connection, Reader, Request, fault
from .pep3333_start_response import OwnMessage


def wrong_reader(name: str) -> Callable[[type[Reader]], type[Reader]]:
    """Registers what finds requests in the bytes of a connection as a fault."""

    def register(reader: type[Reader]) -> type[Reader]:
        class WrongConnection(Connection):
            def __init__(self, server: Server, sock: socket.socket, peer: tuple[Any, ...]) -> None:
                super().__init__(server, sock, peer)
                self.reader = reader(limit=server.limit_request_body, put=self.output.put)

        fault(name)(WrongConnection)
        return reader

    return register


@fault("P23-old")
class ChunksForAll(Request):
    """Clients of HTTP/1.0 get chunks as well."""

    def begin(self, known: int | None) -> None:
        self.head.version = "HTTP/1.1"
        super().begin(known)


@fault("P23-both")
class TwoFramings(OwnMessage):
    """A response in chunks has a Content-Length as well."""

    def spoil(self, head: bytes) -> bytes:
        return head.replace(b"\r\nTransfer-Encoding:", b"\r\nContent-Length: 7\r\nTransfer-Encoding:")


@fault("P23-last")
class NoLastChunk(Request):
    """The last chunk is missing."""

    def complete(self) -> None:
        self.begin(0)
        self.chunked = False
        super().complete()


@fault("P27")
class BodyForHead(Request):
    """The answer to HEAD has a body."""

    @property
    def has_body(self) -> bool:
        return self.status[:3] not in ("204", "304")


@fault("P27-close")
class HeadIsNotClosed(Request):
    """close() is not called for HEAD."""

    def close(self) -> None:
        if self.head.method != "HEAD":
            super().close()


@fault("P27-length")
class NothingForHead(OwnMessage):
    """What is not sent has no length."""

    def spoil(self, head: bytes) -> bytes:
        return head.replace(b"Content-Length: 10", b"Content-Length: 0") if self.head.method == "HEAD" else head


@fault("P42")
class BodyForAll(Request):
    """204 and 304 have a body."""

    @property
    def has_body(self) -> bool:
        return self.head.method != "HEAD"


@fault("P42-framing")
class LengthOf204(OwnMessage):
    """204 has a Content-Length."""

    def spoil(self, head: bytes) -> bytes:
        return head.replace(b"\r\n", b"\r\nContent-Length: 0\r\n", 1) if b" 204 " in head[:13] else head


@wrong_reader("P28")
class ExpectsNothing(Reader):
    """Expect: 100-continue is refused."""

    def _head(self) -> Any:
        head: Head = yield from super()._head()
        if head.waits:
            raise Refusal(417)
        return head


@wrong_reader("P28-old")
class ContinuesForAll(Reader):
    """Clients of HTTP/1.0 get a 100 as well."""

    def _head(self) -> Any:
        head: Head = yield from super()._head()
        if "expect" in head.fields and head.version == "HTTP/1.0":
            self._put(message("100 Continue", []))
        return head


@wrong_reader("P30")
class NoBodyInChunks(Reader):
    """A body in chunks is lost."""

    def _chunks(self, body: Body[bytes]) -> Needs:
        yield from super()._chunks(body)
        body.seek(0)
        body.truncate()


@wrong_reader("P30-raw")
class ChunksAsTheyAre(Reader):
    """A body in chunks is given to the application with their sizes."""

    def _chunks(self, body: Body[bytes]) -> Needs:
        while not self.buffer.endswith(b"\r\n\r\n"):
            yield
        body.write(bytes(self.buffer))
        self.buffer.clear()


@wrong_reader("P46")
class LeavesTheBody(Reader):
    """The body is the application's, and still on the connection."""

    def _take(self, size: int, body: Body[bytes]) -> Needs:
        while len(self.buffer) < size:
            yield
        body.write(bytes(self.buffer[:size]))


@fault("P32")
class WhoIsFirstIsFirst(Connection):
    """Requests of a connection are served side by side."""

    def read(self) -> None:
        super().read()
        before, self.request = self.request, None
        super().read()
        self.request = self.request or before
