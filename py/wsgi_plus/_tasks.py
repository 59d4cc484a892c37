"""Futures that belong to a request, and are cancelled with it; and work that does not, and is never lost."""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ._offload import PoolOfProcess, check_function, in_context
from ._outcome import failure
from ._types import is_future
from ._unwaited import Unwaited, named
from ._wait import check, gather, give_up

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    Ts = TypeVarTuple("Ts")

__all__ = ["TaskGroup", "background"]

T = TypeVar("T")

THREADS = 8  # of the pool of background(), at most


class TaskGroup:
    """The futures that a request has begun: what is not done when the block is left is cancelled.

        with TaskGroup() as tasks:
            audit = tasks.add(bridge.run(record(user)))        # goes on beside what follows
            page = yield from wait(offload(render, user))
            yield from tasks.join()                            # until all of them are done

    The block is left at its end, by an exception, or because the client leaves, the deadline passes or the server stops
    (S7, S8).  What has begun in a thread and cannot be cancelled goes on, unheeded; ``discard`` is called with its
    result, as that of ``wait`` is.  A future that is added after the end is cancelled at once.  A group keeps what is
    added, with its result, until its end, so a stream without end makes one for each of its turns.  A group that is
    forgotten ends then.  May be used in any thread.
    """

    def __init__(self, *, discard: Callable[[Any], object] | None = None) -> None:
        self._discard = discard
        self._lock = threading.RLock()  # reentrant, as garbage collection may call anything anywhere
        self._over = False
        self._futs: list[Future[Any]] = []
        self._given_up: set[Future[Any]] = set()  # those whose results are discarded

    def add(self, fut: Future[T]) -> Future[T]:
        """The same future, which belongs to the group now.  Raises TypeError if it is none."""
        check("tasks.add", fut)
        with self._lock:
            over = self._over
            if not over:
                self._futs.append(fut)
        if over:
            self._give_up((fut,))
        return fut

    def join(self) -> Generator[Future[Any], None, tuple[Any, ...]]:
        """``results = yield from tasks.join()``: of all that were added so far, in their order, as ``gather``.

        The first one to fail ends the wait: the rest are cancelled, and its exception is raised.
        """
        with self._lock:
            futs = tuple(self._futs)
        return self._joined(Unwaited("tasks.join"), futs)

    def _joined(self, note: Unwaited, futs: tuple[Future[Any], ...]) -> Generator[Future[Any], None, tuple[Any, ...]]:
        note.begun()
        try:
            return (yield from gather(*futs))
        except BaseException:
            self._give_up(futs)
            raise
        finally:
            del futs  # the traceback has this frame: no cycle with the exception

    def cancel(self) -> None:
        """The end of the group: cancels what is not done.  Again: it does nothing."""
        with self._lock:
            self._over = True
            futs, self._futs = self._futs, []
        self._give_up([fut for fut in futs if not fut.done()])

    def _give_up(self, futs: Iterable[Future[Any]]) -> None:
        """Once each: ``discard`` gets no result twice."""
        with self._lock:
            new = [fut for fut in futs if fut not in self._given_up]
            self._given_up.update(new)
        give_up(new, self._discard)

    def __enter__(self) -> TaskGroup:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.cancel()


def background(work: Callable[[Unpack[Ts]], object] | Future[Any], /, *args: Unpack[Ts]) -> None:
    """Work that outlives its request, as after the response: ``background(send_mail, address)``.

    The function is called in a thread of a pool of up to eight, in a copy of the caller's context variables.  No
    request waits for it or cancels it.  What it raises is logged at once with its traceback, by the logger
    ``wsgi_plus``.  What has not begun waits in memory, however much it is.  The interpreter's end waits for all such
    calls, those that have not begun among them, as long as the server lets it: what has to survive a crash belongs into
    a queue on disk.

    In place of a function it takes a future that exists: ``background(bridge.run(coroutine))``, or that of
    ``wsgi_plus.django.offload``, whose failure is then logged in the same way; and that it was cancelled, as by the end
    of its bridge.

    Say it after the last block, so that it begins when the response is whole; in ``finally``, if it is to begin also
    when the client has left, and where the response has a Content-Length: a server may close the application when so
    much has come (PEP 3333).  With Flask: ``response.call_on_close(lambda: background(send_mail, address))``.  May be
    called in any thread; never blocks.  Raises TypeError if it is neither function nor future, or a function that would
    do nothing when it is called, and RuntimeError if the interpreter is about to end.
    """
    if is_future(work):
        if args:
            raise TypeError("background() of a future takes no arguments: it has begun")
        _watch(work, getattr(work, "_what", "") or "a future")
        return
    check_function(work, "background")
    if inspect.isgeneratorfunction(work) or inspect.isasyncgenfunction(work):
        raise TypeError(f"background() of the generator function {named(work)}: what it returns would not be run")
    _watch(in_context(_pool.pool(), work, *args), named(work))


def _watch(fut: Future[Any], what: str) -> None:
    fut.add_done_callback(partial(_tell, what))


def _tell(what: str, fut: Future[Any]) -> None:
    error = failure(fut, 0)
    if error is not None:
        said = "was cancelled" if fut.cancelled() else "has failed"
        logging.getLogger("wsgi_plus").error("%s, in the background, %s", what, said, exc_info=error)


_pool = PoolOfProcess(THREADS, "wsgi_plus-background")
