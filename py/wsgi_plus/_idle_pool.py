"""A pool of threads that end when there has been nothing to do for a while, and let go of what they hold."""

from __future__ import annotations

import atexit
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, TypeVar

from ._fork import forget_in_child

__all__ = ["IdlePool"]

T = TypeVar("T")

Call = tuple["Future[Any]", Callable[[], Any]]


class IdlePool(Executor):
    """As ThreadPoolExecutor, except that a thread that has been idle for ``seconds`` calls ``leave`` and ends.

    As with that, the interpreter's end waits for the calls that have been submitted.  A forked child gets a new pool:
    threads, and the calls that they were given, are not in the child.  May be used in any thread; never blocks.
    """

    def __init__(self, threads: int, seconds: float, leave: Callable[[], object], *, name: str) -> None:
        self._most = threads
        self._seconds = seconds
        self._leave = leave
        self._name = name
        self._at_exit = False  # shutdown() will be called
        self._forget()
        forget_in_child(self._forget)

    def _forget(self) -> None:
        self._changed = threading.Condition()  # its lock is reentrant, as garbage collection may call anything anywhere
        self._calls: deque[Call] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0  # threads that wait for a call
        self._closed = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Raises RuntimeError when the pool has been shut down, and if no thread can be started."""
        fut: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the pool is shut down")
            self._calls.append((fut, partial(fn, *args, **kwargs)))
            if self._idle >= len(self._calls):
                self._changed.notify()
            elif len(self._threads) < self._most:
                self._start()
        return fut

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        if not self._at_exit:
            self._at_exit = True
            atexit.register(self.shutdown)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            self._threads.discard(thread)
            if not self._threads:  # otherwise the others will come to it
                self._calls.pop()
                raise

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As that of any executor: what has been submitted is done, or cancelled if it has not begun."""
        with self._changed:
            self._closed = True
            cancelled = [fut for fut, _ in self._calls] if cancel_futures else []
            threads = list(self._threads)
            self._changed.notify_all()
        atexit.unregister(self.shutdown)
        for fut in cancelled:
            fut.cancel()
        for thread in threads if wait else ():
            thread.join()

    # In the threads

    def _run(self) -> None:
        while (call := self._next()) is not None:
            _perform(*call)
            del call  # an idle thread keeps nothing alive
        try:
            self._leave()
        except Exception:
            logging.getLogger("wsgi_plus").exception("a thread has not let go of what it held")
        finally:
            with self._changed:
                self._threads.discard(threading.current_thread())

    def _next(self) -> Call | None:
        """The next call.  None: there has been none for long, or there will be no more."""
        with self._changed:
            self._idle += 1
            try:
                while not self._calls:
                    if self._closed or not (self._changed.wait(self._seconds) or self._calls):
                        return None
                return self._calls.popleft()
            finally:
                self._idle -= 1


def _perform(fut: Future[Any], call: Callable[[], Any]) -> None:
    try:
        if fut.set_running_or_notify_cancel():
            fut.set_result(call())
    except BaseException as error:
        fut.set_exception(error)
    finally:
        del fut, call  # the traceback has this frame: no cycle with the exception
