"""One call for all who ask for the same at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

from ._fork import forget_in_child
from ._unwaited import Unwaited
from ._wait import check, end_as, shield, wait

__all__ = ["single_flight"]

T = TypeVar("T")


def single_flight(key: Hashable, start: Callable[[], Future[T]]) -> Generator[Future[Any], None, T]:
    """``value = yield from single_flight(key, lambda: offload(ask, name))``: asks once for all who want the same.

    Who comes first calls ``start``, which gives a future; those who come with the same key before that is done wait for
    the same future, and get the same result or failure.  Nothing is kept: who comes later asks anew.  A request that
    leaves leaves alone; with the last one the future is cancelled (S8).  Keys are those of the whole process, so put a
    name of yours into them: ``("price", name)``.  Raises TypeError if ``start`` gives no future.
    """
    return _fly(Unwaited("single_flight"), key, start)


def _fly(note: Unwaited, key: Hashable, start: Callable[[], Future[T]]) -> Generator[Future[Any], None, T]:
    note.begun()
    flight, first = _flights.join(key)
    try:
        if first:
            flight.begin(start)
        value: T = yield from wait(shield(flight.shared))
        return value
    finally:
        flight.leave()
        del flight  # the traceback has this frame: no cycle with the exception


class _Flight:
    """A call that is under way, and how many wait for it."""

    def __init__(self, flights: _Flights, key: Hashable) -> None:
        self.shared: Future[Any] = Future()  # ends as the one that is waited for
        self.waiting = 0  # guarded by the lock of the flights
        self._flights = flights
        self._key = key
        self._source: Future[Any] | None = None

    def begin(self, start: Callable[[], Future[Any]]) -> None:
        """By the first.  What ``start`` raises is raised here, and where others wait."""
        try:
            source = start()
            check("single_flight", source)
        except BaseException as error:
            self._flights.over(self._key, self)
            self.shared.set_exception(error)
            raise
        else:
            self._source = source
            source.add_done_callback(self._landed)
        finally:
            del self  # the traceback has this frame: no cycle with the exception

    def _landed(self, source: Future[Any]) -> None:
        self._flights.over(self._key, self)
        end_as(self.shared, source)

    def leave(self) -> None:
        """By each that waits, at the end."""
        if self._flights.leave(self._key, self) and self._source is not None:
            self._source.cancel()


class _Flights:
    """Those of a process.  A forked child has none: the calls of its parent are not in it."""

    def __init__(self) -> None:
        self._forget()
        forget_in_child(self._forget)

    def _forget(self) -> None:
        self._lock = threading.RLock()  # reentrant, as garbage collection may call anything anywhere
        self._by_key: dict[Hashable, _Flight] = {}

    def join(self, key: Hashable) -> tuple[_Flight, bool]:
        """The flight of that key, and whether it has to begin."""
        with self._lock:
            found = self._by_key.get(key)
            flight = self._by_key[key] = found or _Flight(self, key)
            flight.waiting += 1
            return flight, found is None

    def leave(self, key: Hashable, flight: _Flight) -> bool:
        """Whether that was the last one: then the next caller begins another."""
        with self._lock:
            flight.waiting -= 1
            if flight.waiting == 0:
                self.over(key, flight)
            return flight.waiting == 0

    def over(self, key: Hashable, flight: _Flight) -> None:
        with self._lock:
            if self._by_key.get(key) is flight:
                del self._by_key[key]


_flights = _Flights()
