"""A time for several waits together."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from ._outcome import failure
from ._timer import Alarm, set_alarm
from ._types import is_future, is_generator
from ._unwaited import Unwaited
from ._wait import hold, open_gate

__all__ = ["deadline"]

T = TypeVar("T")


def deadline(seconds: float, steps: Generator[Any, None, T]) -> Generator[Any, None, T]:
    """``value = yield from deadline(seconds, steps())``: what the generator returns, if its waits end in time.

        def prices():
            names = yield from wait(offload(list_names))
            return (yield from gather(*[offload(ask, name) for name in names]))

        def app(environ, start_response):
            found = yield from deadline(2.0, prices())

    When the time is over, the built-in TimeoutError is raised in the generator where it waits, which cancels what it
    waits for; and at each wait that follows, unless that is for what is done already.  So it may clean up, catch it, or
    let it pass to here.  Blocks that the generator yields are passed on.  Deadlines may be within each other.  If this
    is closed the generator is (S8).  The time counts from the first step.

    For one future take ``timeout``.  Raises TypeError if ``steps`` is no generator.
    """
    if not is_generator(steps):
        instead = "for one future: timeout(seconds, future)" if isinstance(steps, Future) else "call the function"
        raise TypeError(f"deadline() takes a generator, not a {type(steps).__name__}: {instead}")
    return _within(Unwaited("deadline"), seconds, steps)


def _within(note: Unwaited, seconds: float, steps: Generator[Any, None, T]) -> Generator[Any, None, T]:
    note.begun()
    over: Future[None] = Future()
    now: list[Future[None]] = []  # the gate that is waited for
    over.add_done_callback(partial(_open_first, now))
    alarm: Alarm | None = None
    item: Any = None
    error: BaseException | None = None
    try:
        alarm = set_alarm(seconds, over)
        while True:
            try:
                item = next(steps) if error is None else steps.throw(error)
            except StopIteration as end:
                if end is error:  # a failure, which must not look like the end (S5.5)
                    raise RuntimeError("a future failed with StopIteration") from error
                value: T = end.value
                return value
            error = None
            if not is_future(item):
                error = yield from _passed(item)
                continue
            if not item.done() and not over.done():
                gate: Future[None] = Future()
                now[:] = [gate]
                item.add_done_callback(partial(open_gate, gate, None))
                if over.done():  # and has perhaps not seen the gate
                    open_gate(gate, None)
                yield from hold(gate, ())
            if over.done() and not item.done():
                error = TimeoutError(f"not done within {seconds:g} s")
            else:
                error = failure(item, 0)
    finally:
        steps.close()
        if alarm is not None:
            alarm.cancel()
        del item, error  # the traceback has this frame: no cycle with the exception


def _open_first(now: list[Future[None]], _: Future[None]) -> None:
    for gate in now:
        open_gate(gate, None)


def _passed(item: Any) -> Generator[Any, None, BaseException | None]:
    """Yields what is no future, and gives what is thrown at it."""
    try:
        yield item
    except GeneratorExit:
        raise
    except BaseException as thrown:
        return thrown
    return None
