"""Futures on their way through a framework that forwards nothing but ``__next__`` (S5.10, S15.3).

werkzeug's ``ClosingIterator`` has no ``throw``, and few of the middlewares that are put around Flask have one.  So what
reaches them never fails: in place of each future goes a *gate*, which is done when the future is, and a failure of the
future is thrown in here, below all of them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Any

from werkzeug.wrappers import Response

from .._gate import Gate
from .._hints import mistaken, never_marked
from .._outcome import failure
from .._types import is_future
from .._unwaited import named

__all__ = ["Body", "close", "gated", "watch"]


def gated(items: Iterable[Any]) -> Generator[Any, None, Any]:
    """The same items, with gates in place of the futures; returns what ``items`` does, if that is a generator.

    A failure is thrown into ``items`` (S5.2), or raised from here if they have no ``throw`` (S5.4); and so is TypeError
    where they yield what was meant to be waited for and cannot be.  Closing this does not close ``items``: that is for
    the caller, who made them.
    """
    iterator: Any = iter(items)
    item: Any = None
    error: BaseException | None = None
    try:
        while True:
            try:
                if error is None:
                    item = next(iterator)
                elif hasattr(iterator, "throw"):
                    item = iterator.throw(error)
                else:
                    raise error
            except StopIteration as end:
                if end is error:  # a failure, which must not look like the end (S5.5)
                    raise RuntimeError("a future failed with StopIteration") from error
                return end.value
            error = mistaken(item)
            if error is not None:
                continue  # raised at the yield
            if is_future(item) and not isinstance(item, Gate):
                yield Gate(item)
                error = failure(item, 0)  # it may have called its callbacks and not be done (S5.9)
            else:
                yield item
    finally:
        del item, error  # the traceback has this frame: no cycle


class Body:
    """The body of a streamed response.  Until it ``suspends``, to iterate it is to wait in the thread for its futures.

    That is what a plain server does, and an ``after_request`` function that wants the data of the response.
    """

    def __init__(self, blocks: Iterable[Any]) -> None:
        self._blocks = blocks
        self._items = gated(blocks)
        self.suspends = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        item = self._next()
        while is_future(item) and not self.suspends:
            item.result()  # a gate: it waits, and does not fail
            item = self._next()
        return item

    def _next(self) -> Any:
        """Raises TypeError where the blocks are a view that is not marked by mistake: its response is lost."""
        try:
            return next(self._items)
        except StopIteration as end:
            if end.value is None:
                raise
            error = never_marked(named(self._blocks), end.value)
        raise error

    def close(self) -> None:
        close(self._blocks)


def watch(response: Response) -> None:
    """Has the futures in a streamed body looked after, by a ``Body``.

    What has a length is no stream.  ``direct_passthrough`` is for files, which the server wants to see as they are; a
    generator there is none.
    """
    blocks = response.response
    if isinstance(blocks, Body) or not response.is_streamed:
        return
    if not response.direct_passthrough or hasattr(blocks, "throw"):
        response.response = Body(blocks)


def close(iterable: object) -> None:
    """As a server ends an iterable (S7.4)."""
    method = getattr(iterable, "close", None)
    if method is not None:
        method()
