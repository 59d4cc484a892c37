"""How a future has ended, without a trace of those who have asked before (S5).

Code that raises or throws an exception adds the frames that it passes through to its traceback.  The exception is the
future's: a thousand requests that wait for one future would each find, log and keep the frames of all before.  So the
future notes the traceback that its exception came with, as those of asyncio do, and the exception gets that back each
time before it is raised.

A server uses nothing of a future but what S1.5 names.  So it takes a ``Throw``.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

__all__ = ["Throw", "failure", "follow", "result"]

T = TypeVar("T")

_NOTE = "_wsgi_plus_failure"  # an attribute of futures: the exception, and the traceback that it came with


def failure(fut: Future[Any], timeout: float | None = None) -> BaseException | None:
    """What ``fut`` failed with, to be raised or thrown, or None; CancelledError of concurrent.futures (S5.3).

    Waits for ``fut``, for so many seconds at most; one that is not done then has failed with TimeoutError (S5.9).
    """
    try:
        error = fut.exception(timeout)
    except BaseException as raised:
        return raised
    return None if error is None else _as_it_came(fut, error)


def result(fut: Future[T]) -> T:
    """As ``fut.result()``."""
    error = failure(fut)
    if error is None:
        return fut.result()
    try:
        raise error
    finally:
        del error, fut  # the traceback has this frame: no cycle with the exception


def follow(copy: Future[T], fut: Future[T]) -> None:
    """Ends ``copy``, which is running, as ``fut`` has ended, which is done and not cancelled."""
    error = fut.exception()
    if error is None:
        copy.set_result(fut.result())
        return
    _as_it_came(fut, error)
    vars(copy)[_NOTE] = vars(fut)[_NOTE]  # others may have raised it by the time that the copy is asked
    copy.set_exception(error)


def _as_it_came(fut: Future[Any], error: BaseException) -> BaseException:
    noted, traceback = vars(fut).setdefault(_NOTE, (error, error.__traceback__))
    return error.with_traceback(traceback) if noted is error else error


class Throw:
    """An exception on its way through an application, from its making to ``over()``: then it has the traceback again
    that it had.  Other threads may throw it at the same time; what it had is what it had before the first of them."""

    _lock = threading.Lock()
    _under_way: dict[int, list[Throw]] = {}  # by the id of the exception

    def __init__(self, error: BaseException) -> None:
        self._error = error
        with self._lock:
            others = self._under_way.setdefault(id(error), [])
            self._traceback: TracebackType | None = others[0]._traceback if others else error.__traceback__
            others.append(self)
        error.with_traceback(self._traceback)

    def over(self) -> None:
        with self._lock:
            others = self._under_way[id(self._error)]
            others.remove(self)
            if not others:
                del self._under_way[id(self._error)]
        self._error.with_traceback(self._traceback)
