"""What the suite asks first: whether the server suspends at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import stage


def _soon() -> Future[Any]:
    fut: Future[Any] = Future()
    threading.Timer(0.01, fut.set_result, [None]).start()
    return fut


def suspends(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[Any]:
    fut = _soon()
    yield fut
    start_response("200 OK", stage.TEXT)
    yield b"suspends" if fut.done() else b"does not wait"


def suspends_within(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[Any]:
    """For a server that has got only the other one wrong."""
    start_response("200 OK", stage.TEXT)
    fut = _soon()
    yield fut
    yield b"suspends" if fut.done() else b"does not wait"


def version(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    return stage.text(start_response, repr(environ.get("wsgi_plus.version")))
