"""The example of the WSGI+ RFC: an application that yields a future is suspended until the future is done.

    build/fermata --threads 1 --chdir examples rfc:application
    for i in $(seq 50); do curl -s http://127.0.0.1:8000/ & done; wait    # one second in all, on one thread

A thread completes each future one second later; DELAY=0.2 in the environment makes that 0.2 s.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

DELAY = float(os.environ.get("DELAY", "1"))


def defer_to_another_thread() -> Future[None]:
    """A future that a thread of its own completes after a while."""
    future: Future[None] = Future()
    threading.Timer(DELAY, future.set_result, [None]).start()
    return future


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes | Future[None]]:
    # going to be suspended
    fut = defer_to_another_thread()
    yield fut
    # is resumed
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"Hi!\n"
