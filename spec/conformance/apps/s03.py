"""S3: futures that are done already."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import stage


class _Unanswering(Future[Any]):
    """Done; and a callback that is registered all the same is never called."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.set_result(None)

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        stage.record(self.key, "registered")


def unanswering(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Yields a future that is done, and that one waits for in vain."""
    key = stage.key_of(environ)
    yield _Unanswering(key)
    stage.record(key, "resumed")
    start_response("200 OK", stage.TEXT)
    yield b"fine"


def first_in_line(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Holds its thread until the suite opens the gate, and then yields a future that is done."""
    key = stage.key_of(environ)
    stage.record(key, "at the gate")
    stage.gate(key)
    fut: Future[Any] = Future()
    fut.set_result(None)
    yield fut
    stage.record(key, "resumed")
    start_response("200 OK", stage.TEXT)
    yield b"fine"


def other(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    stage.record(stage.key_of(environ), "other")
    return stage.text(start_response, "fine")


# Futures without end


class _Registering(Future[Any]):
    """Not done before the server registers its callback, and done when it has."""

    def complete(self) -> None:
        self.set_result(None)


class _Before(_Registering):
    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        self.complete()
        super().add_done_callback(fn)


class _After(_Registering):
    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        super().add_done_callback(fn)
        self.complete()


class _Elsewhere(_Registering):
    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        super().add_done_callback(fn)
        thread = threading.Thread(target=self.complete)
        thread.start()
        thread.join()


def _done() -> Future[Any]:
    fut: Future[Any] = Future()
    fut.set_result(None)
    return fut


_ENDLESS: dict[str, Callable[[], Future[Any]]] = {
    "done": _done,
    "completed before the callback is there": _Before,
    "completed when it is": _After,
    "completed by another thread meanwhile": _Elsewhere,
}


def registering_kinds() -> list[str]:
    return [kind for kind in _ENDLESS if kind != "done"]


TURNS = 60
_turns: defaultdict[str, list[str]] = defaultdict(list)


def turns(key: str) -> list[str]:
    """Who has had the turn, one after the other: the first ones since the last one began."""
    return _turns[key]


def endless(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Yields futures that the server need not wait for, until the suite opens the gate; notes its turns by the key."""
    told = stage.arguments(environ)
    key, name = told["key"], told["name"]
    seen = _turns[key]
    seen.clear()  # those before it had no others to wait for
    stage.record(key, "began")
    end = time.monotonic() + stage.LIMIT
    while not stage.is_open(key) and time.monotonic() < end:
        yield _ENDLESS[told["kind"]]()
        if len(seen) < TURNS and seen[-1:] != [name]:
            seen.append(name)
    start_response("200 OK", stage.TEXT)
    yield b"stopped" if stage.is_open(key) else b"never stopped"
