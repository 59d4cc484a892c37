"""Blocking calls on threads that are not the server's (S2)."""

from __future__ import annotations

import contextvars
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ._fork import forget_in_child
from ._unwaited import heeded, named

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    Ts = TypeVarTuple("Ts")

__all__ = ["around_calls", "check_function", "in_context", "offload"]

T = TypeVar("T")

THREADS = 32  # of the default pool, at most: they wait, and do not compute


def offload(fn: Callable[[Unpack[Ts]], T], *args: Unpack[Ts], pool: Executor | None = None) -> Future[T]:
    """Has ``fn(*args)`` called in a pool's thread: ``value = yield from wait(offload(fn, argument))``.

    The default pool has up to 32 threads, starts with the first call and is for calls that wait.  There ``fn`` runs in
    a copy of the caller's context variables; in a ``pool`` of yours they are the pool's affair.  A call that has not
    begun can be cancelled, one that runs cannot: as with any ThreadPoolExecutor the interpreter's end waits for it.
    May be called in any thread; never blocks.  If the call fails and the caller neither asks nor cancels, that is
    logged.  Raises TypeError if ``fn`` cannot be called, and RuntimeError when the pool is shut down.
    """
    check_function(fn)
    if pool is None:
        return heeded(in_context(_default.pool(), fn, *args), named(fn))
    if around_calls and isinstance(pool, ThreadPoolExecutor):  # in another process there is nothing to look at
        return heeded(pool.submit(_call, named(fn), partial(fn, *args)), named(fn))
    return heeded(pool.submit(fn, *args), named(fn))


def check_function(fn: object, call: str = "offload") -> None:
    """Raises TypeError, with what to write instead, if that is nothing for ``call`` to call in a thread."""
    if inspect.iscoroutinefunction(fn):
        raise TypeError(f"{call}() of the coroutine function {named(fn)}: give what it returns to AsyncBridge.run")
    if not callable(fn):
        advice = ": AsyncBridge.run gives a future of it" if inspect.isawaitable(fn) else ""
        raise TypeError(f"{call}() takes a function, and its arguments after it, not a {type(fn).__name__}{advice}")


def in_context(pool: ThreadPoolExecutor, fn: Callable[[Unpack[Ts]], T], *args: Unpack[Ts]) -> Future[T]:
    """Has the function called in a thread of the pool, in a copy of the caller's context variables."""
    context = contextvars.copy_context()
    return pool.submit(lambda: context.run(_call, named(fn), partial(fn, *args)))


around_calls: list[Callable[[str], AbstractContextManager[None]]] = []
"""What frameworks put around each call, in the thread of a pool; they are given the function's name."""


def _call(name: str, call: Callable[[], T]) -> T:
    with ExitStack() as stack:
        for around in around_calls:
            stack.enter_context(around(name))
        return call()


class PoolOfProcess:
    """A pool for those who bring none, made when it is first asked for: ``threads`` at most, which have that name.

    A forked child gets another: its threads are not in the child.  May be used in any thread.
    """

    def __init__(self, threads: int = THREADS, name: str = "wsgi_plus-offload") -> None:
        self._threads, self._name = threads, name
        self._forget()
        forget_in_child(self._forget)

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._pool: ThreadPoolExecutor | None = None

    def pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=self._name)
            return self._pool


_default = PoolOfProcess()
