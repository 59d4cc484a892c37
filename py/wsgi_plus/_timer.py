"""Time, without a thread for each that waits (S2): one thread and a heap for all of ``sleep`` and ``timeout``."""

from __future__ import annotations

import atexit
import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from ._fork import forget_in_child
from ._outcome import result
from ._unwaited import Unwaited
from ._wait import check, give_up, hold, open_gate

__all__ = ["sleep", "timeout"]

T = TypeVar("T")


def sleep(seconds: float) -> Generator[Future[Any], None, None]:
    """``yield from sleep(seconds)``: goes on after so many seconds, or a little later; at once if that is none or less.

    It counts from here, not from where the generator was made.  ``math.inf`` is until the generator is closed.  Raises
    ValueError if ``seconds`` is not a number.
    """
    return _slept(Unwaited("sleep"), seconds)


def _slept(note: Unwaited, seconds: float) -> Generator[Future[Any], None, None]:
    note.begun()
    gate: Future[None] = Future()
    alarm = _timer.set(seconds, gate)
    try:
        yield from hold(gate, ())
    finally:
        alarm.cancel()


def timeout(
    seconds: float, fut: Future[T], *, discard: Callable[[T], object] | None = None
) -> Generator[Future[Any], None, T]:
    """``value = yield from timeout(seconds, fut)``: the result of ``fut``, if it comes in time.

    Raises what ``fut`` failed with, or the built-in TimeoutError: then ``fut`` has been cancelled, or goes on unheeded
    if it cannot be.  A future that is done when this looks is never too late, so with no seconds left it still gives
    the result of one that is done.  Cancels ``fut`` if the generator is closed (S8).  ``discard`` is called with a
    result that the request does not get, as that of ``wait`` is: one that comes too late, too.  Raises ValueError if
    ``seconds`` is not a number.
    """
    check("timeout", fut)
    return _in_time(Unwaited("timeout"), seconds, fut, discard)


def _in_time(
    note: Unwaited, seconds: float, fut: Future[T], discard: Callable[[T], object] | None
) -> Generator[Future[Any], None, T]:
    note.begun()
    gate: Future[None] = Future()
    alarm = _timer.set(seconds, gate)
    try:
        fut.add_done_callback(partial(open_gate, gate, None))
        yield from hold(gate, (fut,), discard)
        if not fut.done():
            fut.cancel()
            # It may have been completed since, and then that is the outcome.
            if fut.cancelled() or not fut.done():
                give_up((fut,), discard)
                raise TimeoutError(f"no result within {seconds:g} s")
        return result(fut)
    finally:
        alarm.cancel()
        del fut, gate  # the traceback has this frame: no cycle with the exception


class Alarm:
    """A gate that is to be opened.  Belongs to the request that set it, except for ring()."""

    __slots__ = ("gate",)

    def __init__(self, gate: Future[None]) -> None:
        self.gate: Future[None] | None = gate

    def cancel(self) -> None:
        """In any thread, and again: the gate is forgotten, unless it is being opened just now.

        Takes no lock: a generator may be closed by the garbage collector, anywhere, in set() too.
        """
        self.gate = None

    def ring(self) -> None:
        gate = self.gate
        if gate is not None:
            open_gate(gate, None)


class Timer:
    """Opens gates at their time, from a daemon thread that starts with the first one.

    In a forked child it is as new: what was set before the fork belongs to requests of the parent.  Every method may be
    called in any thread.
    """

    PRUNE = 256  # entries, below which it is not worth looking for cancelled ones

    def __init__(self) -> None:
        self._forget()
        forget_in_child(self._forget)

    def _forget(self) -> None:
        self._changed = threading.Condition()  # its lock is reentrant, as garbage collection may call anything anywhere
        self._heap: list[tuple[float, int, Alarm]] = []  # by time.monotonic(), then in the order they were set
        self._numbers = itertools.count()
        self._prune_at = self.PRUNE
        self._thread: threading.Thread | None = None

    def set(self, seconds: float, gate: Future[None]) -> Alarm:
        """Opens ``gate`` in so many seconds, in the timer's thread; here and now if there are none left."""
        if math.isnan(seconds):
            raise ValueError("seconds must be a number")
        alarm = Alarm(gate)
        if seconds <= 0:
            alarm.ring()
            return alarm
        due = time.monotonic() + seconds
        with self._changed:
            self._start()
            self._prune()
            heapq.heappush(self._heap, (due, next(self._numbers), alarm))
            if self._heap[0][2] is alarm:
                self._changed.notify()
        return alarm

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="wsgi_plus-timer", daemon=True)
            thread.start()  # it waits for the lock, which we hold
            self._thread = thread
            atexit.register(self._stop)

    def _prune(self) -> None:
        """Drops the alarms that have been cancelled, whenever they may be half of all: most timeouts are never due."""
        if len(self._heap) >= self._prune_at:
            self._heap = [entry for entry in self._heap if entry[2].gate is not None]
            heapq.heapify(self._heap)
            self._prune_at = max(self.PRUNE, 2 * len(self._heap))

    def _run(self) -> None:
        while True:
            try:
                alarm = self._next()
                if alarm is None:
                    return
                alarm.ring()
                del alarm
            except BaseException:  # out of a done-callback: the other sleepers are not to sleep for ever because of it
                logging.getLogger(__name__).exception("exception in the timer's thread")

    def _next(self) -> Alarm | None:
        """Waits for the next alarm that is due.  None: this thread is not the timer's any more."""
        with self._changed:
            while self._thread is threading.current_thread():
                now = time.monotonic()
                if self._heap and self._heap[0][0] <= now:
                    return heapq.heappop(self._heap)[2]
                self._changed.wait(min(self._heap[0][0] - now, threading.TIMEOUT_MAX) if self._heap else None)
        return None

    def _stop(self) -> None:
        """At exit: the thread ends before the interpreter does."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._heap.clear()
            self._changed.notify()
        if thread is not None:
            thread.join(1)


_timer = Timer()


def set_alarm(seconds: float, gate: Future[None]) -> Alarm:
    """For the modules of this package: ``Timer.set`` of the one timer of the process."""
    return _timer.set(seconds, gate)
