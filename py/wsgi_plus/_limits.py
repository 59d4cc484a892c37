"""A limit to how many requests do something at the same time, without a thread for those that wait for their turn."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Generator
from concurrent.futures import Future
from functools import partial
from typing import Any

from ._fork import forget_in_child
from ._unwaited import Unwaited
from ._wait import wait

__all__ = ["Place", "Semaphore"]


class Semaphore:
    """So many places, for requests that would otherwise be too many at once for something.

        places = Semaphore(4)                      # one for all, at module level

        def app(environ, start_response):
            with (yield from places.acquire()):    # parked until there is a place
                answer = yield from wait(offload(ask))

    Who has waited for longest is next.  If the client leaves while it waits, or when it has just been given a place,
    the place goes to the next one (S8).  In a forked child all places are free: those that are taken belong to requests
    of the parent.  May be used in any thread.  Raises ValueError if ``places`` is less than one.
    """

    def __init__(self, places: int) -> None:
        if places < 1:
            raise ValueError(f"a Semaphore of {places} places would let no request in")
        self._places = places
        self._forget()
        forget_in_child(self._forget)

    def _forget(self) -> None:
        self._state = _State(self._places)

    def acquire(self) -> Generator[Future[Any], None, Place]:
        """``with (yield from places.acquire()):`` waits for a place, and gives it back at the end of the block."""
        return self._acquire(Unwaited("acquire"))

    def _acquire(self, note: Unwaited) -> Generator[Future[Any], None, Place]:
        note.begun()
        state = self._state
        turn: Future[Place] = Future()
        with state.lock:
            free, state.free = state.free, max(0, state.free - 1)
            if not free:
                state.waiting[turn] = None
        if free:
            return Place(self, state)
        turn.add_done_callback(partial(_gone, state))
        return (yield from wait(turn, discard=Place.release))


class Place:
    """What ``Semaphore.acquire`` gives.  As a context manager it is given back at the end; forgotten, it is as well."""

    def __init__(self, semaphore: Semaphore, state: _State) -> None:
        self._semaphore = semaphore
        self._state: _State | None = state

    def release(self) -> None:
        """Gives the place to the next that waits.  Again, and in any thread: it does nothing more."""
        state, self._state = self._state, None
        if state is not None and state is self._semaphore._state:  # in a forked child it is another's
            state.pass_on(self._semaphore)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.release()


class _State:
    """Of a semaphore, in one process."""

    def __init__(self, free: int) -> None:
        self.lock = threading.RLock()  # reentrant, as garbage collection may call anything anywhere
        self.free = free
        self.waiting: OrderedDict[Future[Place], None] = OrderedDict()

    def pass_on(self, semaphore: Semaphore) -> None:
        """A place is free."""
        while True:
            with self.lock:
                if not self.waiting:
                    self.free += 1
                    return
                turn, _ = self.waiting.popitem(last=False)
            if turn.set_running_or_notify_cancel():  # from here on it cannot be cancelled
                turn.set_result(Place(semaphore, self))
                return


def _gone(state: _State, turn: Future[Place]) -> None:
    """Who has left does not stay in the queue until it is his turn."""
    with state.lock:
        state.waiting.pop(turn, None)
