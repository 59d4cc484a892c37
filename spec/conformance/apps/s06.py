"""S6: start_response across suspensions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import stage

_Lent = tuple[stage.StartResponse, Callable[[bytes], object]]

_lent: dict[str, _Lent] = {}


class _Lending(stage.Steps):
    """Records when it is closed."""

    def __init__(self, key: str, items: stage.Items) -> None:
        super().__init__(items)
        self.key = key

    def step(self, name: str, run: Callable[[], Any]) -> Any:
        try:
            return run()
        finally:
            if name == "close":
                stage.record(self.key, "close")


def lends(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Lends start_response and write to others while it waits for the future by the key, and after.

    If ``unused`` is said it does not call start_response itself, so that another call would be the first.
    """
    told = stage.arguments(environ)
    key = told["key"]
    _lent[key] = (start_response, _no_write if "unused" in told else start_response("200 OK", stage.TEXT))

    def items() -> stage.Items:
        stage.record(key, "parking")
        yield stage.future(key)
        yield b"fine"

    return _Lending(key, items())


def use(key: str, what: str) -> str:
    """Calls what the application has lent, in the calling thread: ``accepted``, or what was raised."""
    start_response, write = _lent[key]
    try:
        if what == "write":
            write(b"not of this response")
        else:
            start_response("200 Stolen", [("X-Stolen", "1")])
        return "accepted"
    except Exception as error:
        return type(error).__name__


def borrows(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Calls in a step of its own what another request has lent."""
    told = stage.arguments(environ)
    said = use(told["key"], told["what"])
    return stage.text(start_response, said)


def in_a_thread(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Has another thread call start_response or write while its step runs, and waits for that."""
    told = stage.arguments(environ)
    key = told["key"]
    _lent[key] = (start_response, start_response("200 OK", stage.TEXT) if told["what"] == "write" else _no_write)
    thread = threading.Thread(target=lambda: stage.record(key, "said", use(key, told["what"])))
    thread.start()
    thread.join()
    if told["what"] != "write":
        start_response("200 OK", stage.TEXT)
    yield b"fine"


def _no_write(data: bytes) -> None:
    raise RuntimeError("start_response has not been called")
