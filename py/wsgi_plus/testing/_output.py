"""What an application says in a test: start_response, write and its blocks, as a server takes them (S6, S12)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .._validator._pep3333 import content_length, has_no_body
from ._steps import Block, Finished, Raised, Started, Step, Written

__all__ = ["Output"]


class Output:
    """The response of one request so far, and the record of everything.

    It does not know the iterable, as the application knows it: no cycle.  ``lock`` is for those who end the request
    while a step runs; what is said after that is dropped (S12.4).
    """

    def __init__(self, method: str) -> None:
        self.lock = threading.RLock()
        self.steps: list[Step] = []
        self.status: str | None = None
        self.headers: list[tuple[str, str]] = []
        self.begun = False
        self.broken_off = False
        self.ended = False  # no further step runs; close() is next, if it has not been called
        self.error: BaseException | None = None
        self.thread: int | None = None  # of the step that runs
        self._method = method

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        try:
            with self.lock:
                self._only_in_step("start_response")
                if exc_info is None and self.status is not None:
                    raise RuntimeError("S6.4: start_response was called again, and without exc_info")
                if exc_info is not None and self.begun:
                    raise _error(exc_info)
                self.status, self.headers = status, list(headers)
                self.steps.append(Started(status, tuple(headers)))
                return self.write
        finally:
            del exc_info  # its traceback may have this frame: no cycle

    def write(self, data: object) -> None:
        with self.lock:
            self._only_in_step("write()")
            if not isinstance(data, bytes):
                raise TypeError(f"S1.8: write() takes bytes, not {type(data).__name__}")
            self.accept(Written(data))

    def _only_in_step(self, call: str) -> None:
        if self.ended:
            raise RuntimeError(f"S6.6: {call} was called when the request had been ended")
        if self.thread != threading.get_ident():
            raise RuntimeError(f"S6.6: {call} was called outside of a step, or in another thread")

    def accept(self, block: Block | Written) -> None:
        with self.lock:
            if self.ended:
                return
            if block.data:
                if self.status is None:
                    raise RuntimeError("S6.1: a block before start_response was called")
                self.begun = True
            self.steps.append(block)

    def finish(self) -> None:
        """The iterable has ended."""
        with self.lock:
            if self.ended:
                return
            if self.status is None:
                raise RuntimeError("S6.5: ended, and start_response was not called")
            length = content_length(self.headers)
            if length is not None and not self._bodiless() and len(self.body()) < length:
                raise RuntimeError(f"PEP 3333: ended after {len(self.body())} bytes of Content-Length {length}")
            self.begun = self.ended = True
            self.steps.append(Finished())

    def fail(self, error: BaseException) -> None:
        """S5.7.  If the request has been ended already, the client has got its answer."""
        with self.lock:
            self.error = error
            if self.ended:
                self.steps.append(Raised(error))
            else:
                self.end(Raised(error), "500 Internal Server Error")

    def end(self, why: Step, status: str | None = None) -> None:
        """Answers with the status if the response has not begun, else breaks it off; without one there is no client."""
        with self.lock:
            self.ended = True
            self.steps.append(why)
            if status is not None and not self.begun:
                self.status, self.headers = status, []
            else:
                self.broken_off = True

    def body(self) -> bytes:
        if self._bodiless():
            return b""
        data = b"".join(step.data for step in self.steps if isinstance(step, (Block, Written)))
        return data[: content_length(self.headers)]

    def _bodiless(self) -> bool:
        return has_no_body(self._method, self.status or "")


def _error(exc_info: tuple[type[BaseException], BaseException, TracebackType | None]) -> BaseException:
    return exc_info[1].with_traceback(exc_info[2])
