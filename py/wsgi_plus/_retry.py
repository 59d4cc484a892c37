"""Trying again, after a pause in which no thread waits."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar, cast, overload

from ._hints import wrong_future
from ._timer import sleep
from ._types import is_future, is_generator
from ._unwaited import Unwaited
from ._wait import wait

__all__ = ["backoff", "retry"]

T = TypeVar("T")

LEAST = 0.001  # seconds of a pause: ``deadline`` ends a wait that is not over, and its TimeoutError may be one of ``on``

Kinds = type[Exception] | tuple[type[Exception], ...]
Pause = Callable[[int, Exception], "float | None"]


def backoff(first: float = 0.1, *, most: float = 30.0) -> Pause:
    """Pauses for ``retry``: ``first`` seconds, then twice as many each time, ``most`` at most.

    Each is shortened by up to a half, at random, so that those who have failed together do not come back together.
    Raises ValueError if one of them is less than nothing.
    """
    if not (first >= 0 and most >= 0):  # nor is it so of what is no number
        raise ValueError(f"backoff() takes seconds, not {first} and {most}")

    def pause(number: int, _: Exception) -> float:
        return min(most, first * 2.0 ** min(number - 1, 64)) * random.uniform(0.5, 1.0)

    return pause


@overload
def retry(
    start: Callable[[], Future[T]], *, tries: int = ..., on: Kinds = ..., pause: Pause = ...
) -> Generator[Any, None, T]: ...


@overload
def retry(
    start: Callable[[], Generator[Any, None, T]], *, tries: int = ..., on: Kinds = ..., pause: Pause = ...
) -> Generator[Any, None, T]: ...


def retry(
    start: Callable[[], Any], *, tries: int = 3, on: Kinds = Exception, pause: Pause = backoff()
) -> Generator[Any, None, Any]:
    """``value = yield from retry(lambda: offload(ask, name), on=OSError)``: asks up to ``tries`` times.

    ``start`` is called for each try, and gives a future, or a generator of several waits: ``retry(lambda:
    price(name))``.  If that fails with one of ``on``, the request is parked for a while, and then there is another try;
    the failure of the last one is raised, and so is at once what is not of ``on``.  A cancelled future is not tried
    again: the caller has given up.

    ``pause(number, error)`` says for how many seconds after the try of that number, from 1 on; None is for no more
    tries.  So it can heed what an upstream says:

        def as_asked(number, error):
            return min(60.0, float(error.response.headers.get("Retry-After", 1)))

    When the client leaves, the try that is under way is cancelled, and there is no other (S8).  ``deadline`` bounds all
    tries together.  Try only what may be done twice.  Raises ValueError if ``tries`` is less than one, and TypeError
    for what cannot be called, for what is no exception, and, where it waits, if ``start`` gives nothing to wait for.
    """
    if tries < 1:
        raise ValueError(f"{tries} tries are none")
    if not callable(start):
        what = type(start).__name__
        raise TypeError(f"retry() takes a function that begins a try, not a {what}: retry(lambda: offload(ask, name))")
    if cast(Any, pause) is backoff:
        raise TypeError("write pause=backoff(), which gives the function that says how long the pauses are")
    if not callable(pause):
        raise TypeError(f"pause takes a function, such as backoff({pause or 0.1}), not a {type(pause).__name__}")
    kinds: Any = on if isinstance(on, tuple) else (on,)
    if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        raise TypeError(f"on takes a class of exceptions, or a tuple of them, not {on!r}")
    return _tried(Unwaited("retry"), start, tries, on, pause)


def _tried(note: Unwaited, start: Callable[[], Any], tries: int, on: Kinds, pause: Pause) -> Generator[Any, None, Any]:
    note.begun()
    number = 0
    while True:
        number += 1
        try:
            begun = start()
            if is_future(begun) or is_generator(begun):
                return (yield from _end_of(begun))
        except CancelledError:
            raise
        except on as error:
            seconds = pause(number, error) if number < tries else None
            if seconds is None:
                raise
        else:
            raise wrong_future("retry", begun)
        yield from sleep(max(seconds, LEAST))


def _end_of(begun: Future[Any] | Generator[Any, None, Any]) -> Generator[Any, None, Any]:
    return (yield from (wait(begun) if isinstance(begun, Future) else begun))
