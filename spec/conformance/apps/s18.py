"""S18: shutdown.  What happens at the end goes to standard error: the suite can read it when the server has ended."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import stage


def _say(key: str, what: str) -> None:
    print(f"conformance: {key} {what}", file=sys.stderr, flush=True)


def says(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Says that it was called."""
    _say(stage.key_of(environ), "was called")
    return stage.text(start_response, "called")


class _Says(stage.Steps):
    """Says that close() was called, and how the future was then: a generator alone would also be closed at exit."""

    def __init__(self, key: str, items: stage.Items) -> None:
        super().__init__(items)
        self.key = key

    def step(self, name: str, run: Callable[[], Any]) -> Any:
        if name == "close":
            _say(self.key, f"was closed, its future {stage.state(self.key)}")
        return run()


def held(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Waits for its future, after a block if it has ``begun``."""
    told = stage.arguments(environ)
    key = told["key"]

    def items() -> stage.Items:
        if "begun" in told:
            start_response("200 OK", stage.TEXT)
            yield b"begun"
        stage.record(key, "parking")
        yield stage.future(key)
        if "begun" not in told:
            start_response("200 OK", stage.TEXT)
        yield b"fine"

    return _Says(key, items())


def streams(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Blocks without end."""
    key = stage.key_of(environ)
    start_response("200 OK", stage.TEXT)

    def items() -> stage.Items:
        while True:
            stage.record(key, "asked")
            yield bytes(65536)

    return _Says(key, items())


def several_waits(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Waits for KEY-0, KEY-1 and KEY-2, with blocks between."""
    key = stage.key_of(environ)
    start_response("200 OK", stage.TEXT)
    for number in range(3):
        stage.record(key, f"parking {number}")
        yield stage.future(f"{key}-{number}")
        yield f"{number} ".encode()


def does_not_return(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """A step does not return, or close(), or (``neither``) there is only a future that is never done."""
    told = stage.arguments(environ)
    key, what = told["key"], told["what"]
    stage.record(key, "parking")
    try:
        if what == "step":
            stage.gate(key)
        yield stage.future(key)
    finally:
        if what == "close":
            stage.gate(key)
