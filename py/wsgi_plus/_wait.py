"""Waiting for futures without a thread: what an application says after ``yield from`` (S2 to S5, S8).

Every wait yields one future, which the server parks the request on.  For several futures at once that is a *gate*: a
future of our own, with no failure, which their done-callbacks open in whatever threads they run (S10).  Several of them
may come to it at the same time, and after the request has ended: the first one opens it, the rest find it open.

When a wait is left before its end it cancels what it waited for.  In a WSGI+ server the only way to that is close(),
that is GeneratorExit at the yield (S7, S8); where a future has failed it is done, and cancelling it does nothing.

A future that cannot be cancelled any more comes to a result that the request does not get.  Where that is something
open, such as a connection, ``discard`` closes it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import ExitStack
from functools import partial
from typing import Any, Optional, TypeVar, overload

from ._hints import wrong_future
from ._outcome import follow, result
from ._unwaited import Heeded, Unwaited

__all__ = ["first", "gather", "settled", "shield", "wait"]

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")
T7 = TypeVar("T7")
T8 = TypeVar("T8")

Discard = Optional[Callable[[Any], object]]
"""What closes a result that the request does not get."""


def wait(fut: Future[T], *, discard: Callable[[T], object] | None = None) -> Generator[Future[T], None, T]:
    """``value = yield from wait(fut)``: the result of ``fut``.

    Raises what ``fut`` failed with (S5); ``CancelledError`` of concurrent.futures if it was cancelled.  Cancels ``fut``
    if the generator is closed meanwhile (S8).  To wait for a future that is not yours to cancel, ``shield`` it.

    If the client leaves when there is a result already, or when it is too late to cancel, the request does not get it.
    If it has to be closed, name what does that: ``wait(offload(connect), discard=Connection.close)``.  It is called
    with the result, once there is one, in any thread.

    This and the others raise TypeError at once for what is no future, and warn if what they give is not waited for.
    """
    check("wait", fut)
    return hold(fut, (fut,), discard, Unwaited("wait"))


def settled(
    fut: Future[T], *, discard: Callable[[T], object] | None = None
) -> Generator[Future[Any], None, Future[T]]:
    """``yield from settled(fut)``: gives ``fut`` itself when it is done, and does not raise what it failed with.

    The failure is found with ``fut.exception()`` or ``fut.result()``.  The future that is yielded does not fail, so
    this works behind middleware that has no ``throw`` (S5).  Cancels ``fut`` if the generator is closed meanwhile (S8).
    ``discard`` is as that of ``wait``.
    """
    check("settled", fut)
    return _settled(Unwaited("settled"), fut, discard)


def _settled(note: Unwaited, fut: Future[T], discard: Discard) -> Generator[Future[Any], None, Future[T]]:
    note.begun()
    gate: Future[None] = Future()
    fut.add_done_callback(partial(open_gate, gate, None))
    yield from hold(gate, (fut,), discard)
    return fut


@overload
def gather(
    fut1: Future[T1], /, *, discard: Discard = None
) -> Generator[Future[Any], None, tuple[T1]]: ...


@overload
def gather(
    fut1: Future[T1], fut2: Future[T2], /, *, discard: Discard = None
) -> Generator[Future[Any], None, tuple[T1, T2]]: ...


@overload
def gather(
    fut1: Future[T1], fut2: Future[T2], fut3: Future[T3], /, *, discard: Discard = None
) -> Generator[Future[Any], None, tuple[T1, T2, T3]]: ...


@overload
def gather(
    fut1: Future[T1], fut2: Future[T2], fut3: Future[T3], fut4: Future[T4], /, *, discard: Discard = None
) -> Generator[Future[Any], None, tuple[T1, T2, T3, T4]]: ...


@overload
def gather(
    fut1: Future[T1],
    fut2: Future[T2],
    fut3: Future[T3],
    fut4: Future[T4],
    fut5: Future[T5],
    /,
    *,
    discard: Discard = None,
) -> Generator[Future[Any], None, tuple[T1, T2, T3, T4, T5]]: ...


@overload
def gather(
    fut1: Future[T1],
    fut2: Future[T2],
    fut3: Future[T3],
    fut4: Future[T4],
    fut5: Future[T5],
    fut6: Future[T6],
    /,
    *,
    discard: Discard = None,
) -> Generator[Future[Any], None, tuple[T1, T2, T3, T4, T5, T6]]: ...


@overload
def gather(
    fut1: Future[T1],
    fut2: Future[T2],
    fut3: Future[T3],
    fut4: Future[T4],
    fut5: Future[T5],
    fut6: Future[T6],
    fut7: Future[T7],
    /,
    *,
    discard: Discard = None,
) -> Generator[Future[Any], None, tuple[T1, T2, T3, T4, T5, T6, T7]]: ...


@overload
def gather(
    fut1: Future[T1],
    fut2: Future[T2],
    fut3: Future[T3],
    fut4: Future[T4],
    fut5: Future[T5],
    fut6: Future[T6],
    fut7: Future[T7],
    fut8: Future[T8],
    /,
    *,
    discard: Discard = None,
) -> Generator[Future[Any], None, tuple[T1, T2, T3, T4, T5, T6, T7, T8]]: ...


@overload
def gather(*futs: Future[T], discard: Discard = None) -> Generator[Future[Any], None, tuple[T, ...]]: ...


def gather(*futs: Future[Any], discard: Discard = None) -> Generator[Future[Any], None, tuple[Any, ...]]:
    """``one, two = yield from gather(fut1, fut2)``: a tuple of all results, in the order of the arguments.

    The first one to fail or to be cancelled ends the wait: the rest are cancelled, and its exception is raised.  Those
    that run already and cannot be cancelled go on, unheeded.  All are cancelled if the generator is closed (S8).
    ``discard`` is called with each result that the request does not get, as that of ``wait`` is.
    """
    check("gather", *futs)
    return _gathered(Unwaited("gather"), futs, discard)


def _gathered(
    note: Unwaited, futs: tuple[Future[Any], ...], discard: Discard
) -> Generator[Future[Any], None, tuple[Any, ...]]:
    note.begun()
    try:
        if futs:
            failed = yield from hold(_all_done(futs), futs, discard)
            if failed is not None:
                give_up(futs, discard)
                result(futs[failed])
        return tuple(fut.result() for fut in futs)
    finally:
        del futs  # the traceback has this frame: no cycle with the exception


def _all_done(futs: tuple[Future[Any], ...]) -> Future[int | None]:
    """A gate that opens when all are done, with None, or when one has failed, with the number of that one."""
    gate: Future[int | None] = Future()
    left: list[None] = [None] * len(futs)
    for number, fut in enumerate(futs):
        # A future keeps its callbacks for good, so they must not lead to it, and the gate has a number.
        fut.add_done_callback(partial(_one_done, gate, left, number))
    return gate


def _one_done(gate: Future[int | None], left: list[None], number: int, fut: Future[Any]) -> None:
    left.pop()  # atomic: so the callback that comes last finds it empty, and perhaps another one too
    if fut.cancelled() or fut.exception() is not None:
        open_gate(gate, number)
    elif not left:
        open_gate(gate, None)


@overload
def first(*futs: Future[T], discard: Discard = None) -> Generator[Future[Any], None, Future[T]]: ...


@overload
def first(
    fut1: Future[T1], fut2: Future[T2], /, *, discard: Discard = None
) -> Generator[Future[Any], None, Future[T1] | Future[T2]]: ...


@overload
def first(*futs: Future[Any], discard: Discard = None) -> Generator[Future[Any], None, Future[Any]]: ...


def first(*futs: Future[Any], discard: Discard = None) -> Generator[Future[Any], None, Future[Any]]:
    """``winner = yield from first(fut1, fut2)``: the future that is done first, whether or not it has failed.

    The rest are cancelled then, as far as they can be.  Of several that are done already it is the first in order.  As
    with ``settled`` no failure is raised: ask ``winner.result()``.  All are cancelled if the generator is closed (S8).
    ``discard`` is called with each result of the rest, as that of ``wait`` is.  Raises ValueError if there are no
    futures, as nothing would ever be done.
    """
    if not futs:
        raise ValueError("first() of no futures")
    check("first", *futs)
    return _first(Unwaited("first"), futs, discard)


def _first(
    note: Unwaited, futs: tuple[Future[Any], ...], discard: Discard
) -> Generator[Future[Any], None, Future[Any]]:
    note.begun()
    gate: Future[int] = Future()
    for number, fut in enumerate(futs):
        fut.add_done_callback(partial(open_gate, gate, number))
    winner = futs[(yield from hold(gate, futs, discard))]
    give_up([fut for fut in futs if fut is not winner], discard)
    return winner


def shield(fut: Future[T]) -> Future[T]:
    """A future that ends as ``fut`` does, and can be cancelled without cancelling ``fut``.

    For a future that several requests wait for: each waits for a shield of its own, with any of the helpers here.
    May be called in any thread.
    """
    check("shield", fut)
    copy: Future[T] = Heeded(fut._what) if isinstance(fut, Heeded) else Future()
    fut.add_done_callback(partial(end_as, copy))
    return copy


def end_as(copy: Future[T], fut: Future[T]) -> None:
    """Ends ``copy``, which may have been cancelled, or be at any moment, as ``fut`` has ended."""
    if fut.cancelled():
        copy.cancel()
        copy.set_running_or_notify_cancel()
    elif copy.set_running_or_notify_cancel():  # from here on it cannot be cancelled
        follow(copy, fut)


# For the modules of this package


def check(call: str, *futs: object) -> None:
    """Raises TypeError, with what to write instead, if one of them is no future."""
    for fut in futs:
        if not isinstance(fut, Future):
            raise wrong_future(call, fut)


def hold(
    fut: Future[T], cancels: Iterable[Future[Any]], discard: Discard = None, note: Unwaited | None = None
) -> Generator[Future[T], None, T]:
    """Yields ``fut`` and gives its result; gives up ``cancels`` if that does not come to a good end.

    After the yield ``fut`` is done.  Where it is not, because the server does not know WSGI+, result() waits in the
    thread.
    """
    if note is not None:
        note.begun()
    try:
        yield fut
        return result(fut)
    except BaseException:
        give_up(cancels, discard)
        raise
    finally:
        del fut, cancels  # the traceback has this frame: no cycle with the exception


def open_gate(gate: Future[T], value: T, *_: Any) -> None:
    """Completes a future that others may have completed, now or before.  In any thread; never raises."""
    try:
        gate.set_result(value)
    except InvalidStateError:
        pass


def give_up(futs: Iterable[Future[Any]], discard: Discard = None) -> None:
    """Cancels every one in turn, even if a callback of one of them should raise; then that is raised.

    ``discard`` gets the results of those that have one all the same, now or later.  What it raises is logged.
    """
    with ExitStack() as stack:
        for fut in reversed(tuple(futs)):
            if discard is not None:
                stack.callback(_watch, fut, partial(_discard, discard))
            stack.callback(fut.cancel)


def _watch(fut: Future[Any], discard: Callable[[Future[Any]], None]) -> None:
    """``fut`` has been given up: if it is cancelled, a task of AsyncBridge may be about to end with a result."""
    late = fut.late if isinstance(fut, Heeded) and fut.cancelled() else None
    (late or fut).add_done_callback(discard)


def _discard(discard: Callable[[Any], object], fut: Future[Any]) -> None:
    if not fut.cancelled() and fut.exception() is None:
        discard(fut.result())
