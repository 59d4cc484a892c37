"""Server-sent events: thousands of clients, each told the time at every tick, on four threads.

    build/fermata --threads 4 --worker-connections 20000 --chdir examples sse:app
    curl -N http://127.0.0.1:8000/events              # until you leave
    curl -N "http://127.0.0.1:8000/events?count=3"    # three events
    open http://127.0.0.1:8000/ in a browser

A client that waits for the next tick is a parked request and holds no thread. All of them wait for the same
future, which one thread completes at each tick (every second, or every SSE_INTERVAL seconds).
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

INTERVAL = float(os.environ.get("SSE_INTERVAL", "1"))

PAGE = b"""<!DOCTYPE html>
<title>Server-sent events</title>
<p>Tick <b id="tick">none yet</b>, <b id="clients">no</b> clients.
<script>
  new EventSource("/events").onmessage = (event) => {
    for (const [name, value] of Object.entries(JSON.parse(event.data)))
      document.getElementById(name).textContent = value;
  };
</script>
"""


class Tick(NamedTuple):
    number: int
    clients: int
    next: Future[Tick]
    """The tick after this one: a client that holds a tick can follow the chain and misses none."""


class Ticker:
    """A thread that makes a tick every INTERVAL seconds, from the first client on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: Future[Tick] = Future()
        self._clients = 0
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def join(self) -> Future[Tick]:
        """Count one more client, and return the tick to wait for."""
        with self._lock:
            self._clients += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)
                self._thread.start()
                atexit.register(self._stop)
            return self._next

    def leave(self) -> None:
        with self._lock:
            self._clients -= 1

    def _run(self) -> None:
        started = time.monotonic()
        for number in itertools.count(1):
            if self._stopped.wait(max(0.0, started + number * INTERVAL - time.monotonic())):
                return
            with self._lock:
                due, self._next = self._next, Future()
                tick = Tick(number, self._clients, self._next)
            due.set_result(tick)  # resumes every client that waits for it

    def _stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()


ticker = Ticker()


def events(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes | Future[Tick]]:
    """The stream: `count` events if the query says so, else as many as the client stays for."""
    count = parse_qs(environ.get("QUERY_STRING", "")).get("count")
    start_response("200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")])
    future = ticker.join()
    try:
        yield b"retry: 1000\n\n"
        for _ in range(int(count[0])) if count else itertools.count():
            yield future
            tick = future.result()
            data = json.dumps({"tick": tick.number, "clients": tick.clients})
            yield f"id: {tick.number}\ndata: {data}\n\n".encode()
            future = tick.next
    finally:
        # A client that leaves ends its request at once: GeneratorExit is raised at the yield above. The future
        # belongs to all clients, so no request cancels it.
        ticker.leave()


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes | Future[Tick]]:
    if environ["PATH_INFO"] == "/events":
        return events(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return iter([PAGE])
