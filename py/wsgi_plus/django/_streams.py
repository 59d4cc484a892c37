"""Streams with futures among their blocks, which Django would turn into text (S15).

The iterator of a StreamingHttpResponse is replaced by ``Blocks``.  To code that iterates over it, through the property
``streaming_content``, it gives blocks only, and waits in the thread for the futures: that is middleware which makes
another stream of it, or a server that knows no futures.  If no middleware has put another stream in its place in the
end, its ``items`` are iterated instead, with the futures.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Generator
from concurrent.futures import Future
from gzip import GzipFile
from typing import Any, cast

from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware

from .._blocking import _Waiting
from ._transactions import fate, guarded

__all__ = ["Blocks", "blocks", "rewritten"]

Notice = Callable[[str], None]


class Blocks(_Waiting):
    """The blocks of a stream, without its futures.  ``items`` has both.  Only one of the two can be iterated."""

    def __init__(self, items: Generator[Any, None, Any], notice: Notice) -> None:
        super().__init__(items)
        self.items = items
        self.reader = "middleware"  # who iterates over this
        self.notice = notice

    def _after(self, future: Future[Any]) -> Any:
        self.notice(self.reader)
        return super()._after(future)


def blocks(response: HttpResponseBase, notice: Notice) -> Blocks | None:
    """What a streaming response is iterated by.  From now on there may be futures in it.

    None for one that is a file, or is iterated asynchronously, or in a way of its own: they stay as they are.
    ``notice`` is called before code waits in the thread, with the name of who that is.
    """
    if not isinstance(response, StreamingHttpResponse) or type(response).__iter__ is not StreamingHttpResponse.__iter__:
        return None
    stream: Any = response
    if stream.is_async or getattr(stream, "file_to_stream", None) is not None:
        return None
    if not isinstance(stream._iterator, Blocks):
        stream._iterator = Blocks(guarded(stream._iterator), notice)
    found: Blocks = stream._iterator
    return found


def rewritten(before: Blocks, response: Any, middleware: Any, name: str) -> None:
    """To be called after process_response of the middleware of that name, with the blocks of the response before it."""
    if getattr(response, "_iterator", before) is before:
        return
    if cast(Any, type(middleware)).process_response is GZipMiddleware.process_response:
        items = _compressed(before.items, response.make_bytes, middleware.max_random_bytes)
        response._iterator = Blocks(items, before.notice)
    else:
        before.reader = name


def _compressed(
    items: Generator[Any, None, Any], make_bytes: Callable[[Any], bytes], max_random_bytes: int
) -> Generator[Any, None, None]:
    """A stream as GZipMiddleware of Django 6 compresses it, block by block, and with its futures (S15.5)."""
    compressed = io.BytesIO()

    def take() -> bytes:
        data = compressed.getvalue()
        compressed.seek(0)
        compressed.truncate()
        return data

    name = b"a" * secrets.randbelow(max_random_bytes) if max_random_bytes else b""  # hides the length (BREACH)
    error: BaseException | None = None
    item: Any = None
    try:
        with GzipFile(filename=name, mode="wb", compresslevel=6, fileobj=compressed, mtime=0) as file:
            while True:
                try:
                    item = next(items) if error is None else items.throw(error)
                except StopIteration:
                    break
                error = None
                if isinstance(item, Future):
                    error = yield from fate(item)
                elif block := make_bytes(item):  # with the file's header the response would begin
                    file.write(block)
                    file.flush()
                    yield take()
        yield take()
    finally:
        del error, item  # the traceback has this frame: no cycle with the exception
