"""S20: futures that are yielded more than once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import stage


class _Counted(stage.Steps):
    def __init__(self, key: str, items: stage.Items, close: Callable[[], object]) -> None:
        super().__init__(items)
        self.key = key
        self.after = close

    def step(self, name: str, run: Callable[[], Any]) -> Any:
        stage.record(self.key, name)
        item = run()
        if name == "close":
            self.after()
        return item


def _nothing() -> None:
    pass


def _raises() -> None:
    raise ValueError("raised on purpose")


def shares(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Waits for the future ``of`` that name, and then does as it is told (``then``)."""
    told = stage.arguments(environ)
    key, then = told["key"], told.get("then", "")

    def items() -> stage.Items:
        fut = stage.future(told["of"])
        stage.record(key, "parking")
        try:
            yield fut
        except ValueError as error:
            stage.record(key, "failed", id(error))
            start_response("502 Bad Gateway", stage.TEXT)
            yield b"failed"
            return
        if then == "raises":
            raise ValueError("raised on purpose")
        if then == "exits":
            raise SystemExit("raised on purpose")
        if then == "is stuck":
            stage.record(key, "at the gate")
            stage.gate(key)
        start_response("200 OK", stage.TEXT)
        yield str(fut.result()).encode()

    return _Counted(key, items(), _raises if then == "raises in close()" else _nothing)


def again(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Yields the same future four times, with a block between."""
    key = stage.key_of(environ)

    def items() -> stage.Items:
        fut = stage.future(key)
        start_response("200 OK", stage.TEXT)
        stage.record(key, "parking")
        yield fut
        yield fut
        yield str(fut.done()).encode()
        yield fut
        yield fut

    return _Counted(key, items(), _nothing)


def again_failed(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """The same with one that fails: each time."""
    key = stage.key_of(environ)

    def items() -> stage.Items:
        fut = stage.future(key)
        count = 0
        stage.record(key, "parking")
        for _ in range(3):
            try:
                yield fut
            except ValueError:
                count += 1
        start_response("200 OK", stage.TEXT)
        yield f"failed {count} times".encode()

    return _Counted(key, items(), _nothing)
