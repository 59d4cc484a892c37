"""What the suite asks first: whether the server suspends at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import stage


def suspends(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[Any]:
    start_response("200 OK", stage.TEXT)  # a server that cannot do it later suspends all the same
    fut: Future[Any] = Future()
    threading.Timer(0.01, fut.set_result, [None]).start()
    yield fut
    yield b"suspends" if fut.done() else b"does not wait"


def version(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    return stage.text(start_response, repr(environ.get("wsgi_plus.version")))
