"""S11: recursion."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import stage


def _depth() -> int:
    """How many calls of Python deep the caller is."""
    count = 0
    frame = sys._getframe().f_back
    while frame is not None:
        count += 1
        frame = frame.f_back
    return count


class _Registered(Future[Any]):
    """Done as soon as the callback has been registered, in the same thread."""

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        super().add_done_callback(fn)
        self.set_result(None)


class _Registering(Future[Any]):
    """Done when the callback is being registered, so that it is called at once."""

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        self.set_result(None)
        super().add_done_callback(fn)


def _done() -> Future[Any]:
    fut: Future[Any] = Future()
    fut.set_result(None)
    return fut


def _failed() -> Future[Any]:
    fut: Future[Any] = Future()
    fut.set_exception(ValueError("failed on purpose"))
    return fut


_KINDS: dict[str, Callable[[], Future[Any]]] = {
    "done": _done,
    "failed": _failed,
    "registering": _Registering,
    "registered": _Registered,
}


def limit() -> int:
    return sys.getrecursionlimit()


def at_once(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Many futures of a kind, all of which are done at once.  Says by how much the depth of the stack differs."""
    asked = stage.arguments(environ)
    make = _KINDS[asked["kind"]]
    depths = {_depth()}
    for _ in range(int(asked["n"])):
        try:
            yield make()
        except ValueError:
            pass
        depths.add(_depth())
    start_response("200 OK", stage.TEXT)
    yield str(max(depths) - min(depths)).encode()


def chain(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Waits for its future, and completes that of the ``next`` one.  Records how deep it is."""
    asked = stage.arguments(environ)
    stage.record(asked["key"], "parking")
    yield stage.future(asked["key"])
    stage.record(asked["key"], "depth", _depth())
    stage.complete(asked["next"])
    start_response("200 OK", stage.TEXT)
    yield b"fine"


def each_other(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Two requests, ``side`` 0 and 1, that complete each other's futures in turn."""
    asked = stage.arguments(environ)
    key, side, n = asked["key"], int(asked["side"]), int(asked["n"])
    depths = set()
    for turn in range(side, n, 2):
        yield stage.future(f"{key}-{turn}")
        stage.forget(f"{key}-{turn}")
        depths.add(_depth())
        stage.complete(f"{key}-{turn + 1}")
    start_response("200 OK", stage.TEXT)
    yield str(max(depths) - min(depths)).encode()
