"""Drives generators as a WSGI+ server does, step by step.  No wait is unbounded."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import Any

BOUND = 10.0 * max(1.0, float(os.environ.get("FERMATA_TEST_SLOW") or 1))  # "this must happen", not "this must be fast"


def done(value: Any = None) -> Future[Any]:
    fut: Future[Any] = Future()
    fut.set_result(value)
    return fut


def failed(error: BaseException | None = None) -> Future[Any]:
    fut: Future[Any] = Future()
    fut.set_exception(error or ValueError("failed on purpose"))
    return fut


def cancelled() -> Future[Any]:
    fut: Future[Any] = Future()
    fut.cancel()
    return fut


def running() -> Future[Any]:
    """One that cannot be cancelled any more."""
    fut: Future[Any] = Future()
    fut.set_running_or_notify_cancel()
    return fut


def outcome(fut: Future[Any]) -> BaseException | None:
    """How a future ended, when it has."""
    ended = threading.Event()
    fut.add_done_callback(lambda _: ended.set())
    assert ended.wait(BOUND), "the future is not done"
    try:
        return fut.exception(0)
    except BaseException as error:
        return error


def resume(gen: Generator[Any, None, Any], fut: Future[Any]) -> Any:
    """The step after a future: what is yielded next."""
    error = outcome(fut)
    return next(gen) if error is None else gen.throw(error)


def finish(gen: Generator[Any, None, Any], pieces: list[Any] | None = None, after: Future[Any] | None = None) -> Any:
    """All steps (after the one that yielded ``after``); what the generator returns.  Pieces are added to the list."""
    try:
        item = next(gen) if after is None else resume(gen, after)
        while True:
            if isinstance(item, Future):
                item = resume(gen, item)
            else:
                assert pieces is not None, f"a piece: {item!r}"
                pieces.append(item)
                item = next(gen)
    except StopIteration as end:
        return end.value


def eventually(check: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + BOUND
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def at_once(*calls: Callable[[], object]) -> None:
    """Calls each in a thread of its own, as nearly at the same time as can be had."""
    barrier = threading.Barrier(len(calls))
    errors: list[BaseException] = []

    def call(function: Callable[[], object]) -> None:
        try:
            barrier.wait(BOUND)
            function()
        except BaseException as error:
            errors.append(error)

    started = [threading.Thread(target=call, args=[function], daemon=True) for function in calls]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(BOUND)
        assert not thread.is_alive()
    assert errors == []


def in_child(check: Callable[[], object]) -> None:
    """Forks, and has the child make the check and end."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(int(BOUND))
            check()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class Wrapper:
    """Middleware that knows nothing of generators: it passes items through, and has no throw."""

    def __init__(self, iterable: Iterable[Any]) -> None:
        self._iterator = iter(iterable)

    def __iter__(self) -> Wrapper:
        return self

    def __next__(self) -> Any:
        return next(self._iterator)
