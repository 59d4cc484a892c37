"""The body of a request on its way to an upstream, piece by piece."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

from ._types import Environ

__all__ = ["RequestBody"]

PIECE = 64 << 10  # bytes


class RequestBody:
    """The body of a request as a file, for an application that sends it on as it is: it is never in memory whole.

        with RequestBody(environ) as body:
            headers = {"Content-Length": str(body.length)}
            answer = yield from wait(offload(requests.post, url, body))                            # requests
            answer = yield from wait(offload(partial(http.post, url, content=body)))               # httpx.Client
            answer = yield from wait(bridge.run(client.post(url, content=body.pieces(), headers=headers)))

    A WSGI+ server has received the body before it calls the application, and keeps a large one in a file (S14).  This
    reads from there, in whatever thread or event loop the client of the upstream runs, one reader at a time.  When the
    block is left, as by a client that leaves, what is read raises ValueError.  It is not the end of the file: an
    upstream must not take half a body for a whole one.  The same is raised for a body that ends before its length.

    ``length`` is that of the whole body in bytes; None if the server does not know it, which is only so with plain
    ones. ``seek(0)`` is for another try; Fermata and ``wsgi_plus.simple_server`` can do that.  May be used in any
    thread. Views give ``request.environ``.  Raises TypeError for what is no environ.
    """

    def __init__(self, environ: Environ) -> None:
        if not isinstance(cast(object, environ), dict):  # which PEP 3333 says that it is
            what = type(environ).__name__
            raise TypeError(f"RequestBody() takes the environ, not a {what}: request.environ with Flask and Django")
        self._input = environ["wsgi.input"]
        self._lock = threading.Lock()  # of the position
        self._over = False
        self._at: int = self._input.tell() if hasattr(self._input, "tell") else 0
        self.length = _length(environ, self._input)

    def read(self, size: int | None = -1, /) -> bytes:
        """So many bytes, or what there is; nothing at the end.  Raises ValueError if the request is over."""
        with self._lock:
            self._check()
            if self.length is not None:
                left = self.length - self._at
                size = left if size is None or size < 0 else min(size, left)
            data: bytes = self._input.read() if size is None or size < 0 else self._input.read(size)
            self._at += len(data)
            self._check()  # what was read meanwhile may be less than there was
            if not data and size and self.length is not None:
                raise ValueError(f"the body ends after {self._at} of {self.length} bytes")
            return data

    def tell(self) -> int:
        """Where the next read begins, in bytes from the beginning."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """As that of a file.  Raises OSError where the server's input cannot do it, as PEP 3333 lets it."""
        with self._lock:
            self._check()
            try:
                self._at = self._input.seek(offset, whence)
            except AttributeError:
                raise OSError("the input of this server cannot be sought in") from None
            return self._at

    def __iter__(self) -> Iterator[bytes]:
        """What is left, in pieces of 64 KiB."""
        while piece := self.read(PIECE):
            yield piece

    async def pieces(self) -> AsyncIterator[bytes]:
        """The same for an event loop, which does not wait for the disk meanwhile."""
        while piece := await asyncio.to_thread(self.read, PIECE):
            yield piece

    def close(self) -> None:
        """Nothing is read any more; waits for nothing.  Again: it does nothing."""
        self._over = True

    def _check(self) -> None:
        if self._over:
            raise ValueError("the request is over, and its body with it")

    def __enter__(self) -> RequestBody:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _length(environ: Environ, file: Any) -> int | None:
    said = str(environ.get("CONTENT_LENGTH") or "")
    if said.isdecimal():
        return int(said)
    return None if environ.get("wsgi.input_terminated") else 0
