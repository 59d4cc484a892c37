"""S2: what the server does meanwhile."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import stage


def threads() -> int:
    """How many threads of this process have run Python code and still exist."""
    return len(sys._current_frames())


def complete_all(keys: list[str]) -> None:
    for key in keys:
        stage.complete(key)


def large(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """A block of ``size`` bytes, and then a future."""
    told = stage.arguments(environ)
    start_response("200 OK", stage.TEXT)
    yield b"x" * int(told["size"])
    stage.record(told["key"], "parking")
    yield stage.future(told["key"])


_registered: SimpleQueue[Future[Any]] = SimpleQueue()
_completing = threading.Lock()  # held for good by the request that has started the thread


def _complete_registered() -> None:
    while True:
        _registered.get().set_result(None)


class _Soon(Future[Any]):
    """Not done before the server has registered its callback; then another thread completes it."""

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        super().add_done_callback(fn)
        _registered.put(self)


def many(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Suspends ``n`` times, with a block after every third."""
    if _completing.acquire(blocking=False):
        threading.Thread(target=_complete_registered, name="conformance-registered", daemon=True).start()
    start_response("200 OK", stage.TEXT)
    for number in range(int(stage.arguments(environ)["n"])):
        fut = _Soon()
        yield fut
        if not fut.done():
            yield b"not done! "
        if number % 3 == 0:
            yield b"%d " % number


class _Registering(Future[Any]):
    """Records that a callback has been registered."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        super().add_done_callback(fn)
        stage.record(self.key, "registered")


_weakly: dict[str, weakref.ref[Future[Any]]] = {}


def _nobody_elses(key: str) -> Future[Any]:
    fut = _Registering(key)
    _weakly[key] = weakref.ref(fut)
    return fut


def nobody_elses(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Waits for a future that only the server refers to."""
    key = stage.key_of(environ)
    yield _nobody_elses(key)
    start_response("200 OK", stage.TEXT)
    yield b"fine"


def complete_nobody_elses(key: str) -> bool:
    """Completes it, if it is still there."""
    gc.collect()
    fut = _weakly.pop(key)()
    if fut is not None:
        fut.set_result(None)
    return fut is not None
