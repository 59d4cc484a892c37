"""The database in threads that are not those of requests: Django does not look after their connections.

Django closes the connections of a thread that are too old, or of no use any more, when a request begins and when it
ends.  In a thread of a pool nothing begins and ends but calls, so that is done around each of them.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from django.conf import settings
from django.db import close_old_connections, connections

from .._idle_pool import IdlePool
from .._offload import around_calls, check_function
from .._unwaited import heeded, named

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    Ts = TypeVarTuple("Ts")

__all__ = ["offload"]

T = TypeVar("T")

THREADS = 16  # of the default pool, at most: each has a connection to each database that it uses
IDLE = 10.0  # seconds after which a thread of it closes them

OPENED = (
    "%s, given to wsgi_plus.offload, has opened a connection to the database %r, which is not looked after: when the "
    "database drops it, each such call fails from then on. Use offload of wsgi_plus.django"
)


def offload(fn: Callable[[Unpack[Ts]], T], *args: Unpack[Ts], pool: Executor | None = None) -> Future[T]:
    """As ``wsgi_plus.offload``, for calls that use the database.

        count = yield from wait(offload(Page.objects.count))

    Before and after the call the database connections of its thread are looked after, as Django does it around a
    request: those that are too old (CONN_MAX_AGE) or of no use any more are closed.  It has a pool of its own, of up to
    16 threads.  A thread that has been idle for 10 seconds closes its connections, and ends.  In a ``pool`` of yours
    they stay open for as long as CONN_MAX_AGE says, and its threads live.

    The call has a connection of its own, and so is in no transaction of the view.  Let it evaluate what it asks:
    ``offload(list, pages)``, as a queryset that it merely returns would be read in the thread of the view.
    """
    check_function(fn)
    call = partial(fn, *args)
    if pool is not None:
        return heeded(pool.submit(_looked_after, call), named(fn))
    return heeded(_pool.submit(contextvars.copy_context().run, _looked_after, call), named(fn))


def _looked_after(call: Callable[[], T]) -> T:
    close_old_connections()
    try:
        return call()
    finally:
        close_old_connections()


_pool = IdlePool(THREADS, IDLE, connections.close_all, name="wsgi_plus-django")


# Calls of wsgi_plus.offload that should have been given to this one


class _Once:
    """What is to be said once in a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said = False

    def warn(self, message: str, *words: object) -> None:
        with self._lock:
            said, self._said = self._said, True
        if not said:
            logging.getLogger("wsgi_plus.django").warning(message, *words)


_once = _Once()


@contextmanager
def _noticed(name: str) -> Generator[None, None, None]:
    """Around a call: warns if it has opened a connection in this thread."""
    before = _open()
    try:
        yield
    finally:
        for alias in _open() - before:
            _once.warn(OPENED, name, alias)


def _open() -> set[str]:
    if not settings.configured:
        return set()
    return {found.alias for found in connections.all(initialized_only=True) if found.connection is not None}


around_calls.append(_noticed)
