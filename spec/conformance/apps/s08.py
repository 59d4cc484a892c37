"""S8: clients that go away."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import stage


class _Watched(Future[Any]):
    """Records what its callbacks raise, which an ordinary future would only log."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        def watched(fut: Future[Any]) -> None:
            try:
                fn(fut)
            except BaseException as error:
                stage.record(self.key, "raised", repr(error))

        super().add_done_callback(watched)


def watched(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Waits for a future whose callbacks are watched."""
    key = stage.key_of(environ)
    fut = _Watched(key)
    stage.adopt(key, fut)
    stage.record(key, "parking")
    try:
        yield fut
    finally:
        stage.record(key, "left", fut.done())


def wait(fut: Future[Any], *, cancels: bool) -> stage.Items:
    try:
        yield fut
    except GeneratorExit:
        if cancels:
            fut.cancel()
        raise


def waits(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Waits for its own future, which it cancels when it is closed, or for one that is ``shared``."""
    told = stage.arguments(environ)
    key = told["key"]
    try:
        stage.record(key, "parking")
        yield from wait(stage.future(told.get("shared", key)), cancels="shared" not in told)
        stage.record(key, "resumed")
        start_response("200 OK", stage.TEXT)
        yield b"fine"
    finally:
        stage.record(key, "left")
