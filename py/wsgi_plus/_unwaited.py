"""What is forgotten is told, as asyncio does it: a wait without ``yield from``, and a failure that is not looked at."""

from __future__ import annotations

import logging
import sys
import warnings
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["Heeded", "Unwaited", "heeded", "named"]

T = TypeVar("T")


class Unwaited:
    """Is in the frame of a generator that has not begun, and warns if it goes before ``begun()`` was called."""

    __slots__ = ("_begun", "_call")

    def __init__(self, call: str) -> None:
        self._call = call
        self._begun = False

    def begun(self) -> None:
        self._begun = True

    def __del__(self) -> None:
        if not self._begun and not sys.is_finalizing():
            warnings.warn(
                f"{self._call}() was never waited for, and has done nothing: write `yield from {self._call}(...)`",
                RuntimeWarning,
                stacklevel=2,  # where it is let go: mostly that is the line
            )


class Heeded(Future[T]):
    """A future whose failure is logged at its end, if the application has neither asked for it nor cancelled it."""

    _what = ""  # it comes from
    _asked = False
    late: Future[T] | None = None  # gets the result of what has come to one though this has been cancelled

    def __init__(self, what: str, late: Future[T] | None = None) -> None:
        super().__init__()
        self._what = what
        self.late = late

    def result(self, timeout: float | None = None) -> T:
        self._asked = True
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._asked = True
        return super().exception(timeout)

    def cancel(self) -> bool:
        self._asked = True
        return super().cancel()

    def __del__(self) -> None:
        if self._asked or not self.done() or self.cancelled() or sys.is_finalizing():
            return
        error = super().exception(0)
        if error is not None:
            logging.getLogger("wsgi_plus").error(
                "the application has not waited for %s, which has failed", self._what, exc_info=error
            )


def heeded(fut: Future[T], what: str) -> Future[T]:
    """The same future, as a ``Heeded`` one.  One of a class of its own stays as it is."""
    if type(fut) is Future:
        fut.__class__ = Heeded  # it is the executor's, which may be completing it just now
        fut._what = what  # type: ignore[attr-defined]
    return fut


def named(function: Any) -> str:
    """How a function, a generator or a coroutine is called."""
    return getattr(function, "__qualname__", None) or type(function).__qualname__
