"""For a server without a GIL: steps that compute until they are told to stop, a library that turns the GIL on, lists and
a class that other threads change."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import probe  # noqa: F401 (the tests ask through it)
from routes import Routes, arguments, text

app = Routes()
computing = 0
may_end = False
lock = threading.Lock()


def release() -> None:
    global may_end
    may_end = True


def count() -> int:
    return computing


@app.route
def hello(environ, start_response):
    return text(start_response, "hello")


@app.route
def gil(environ, start_response):
    return text(start_response, str(sys._is_gil_enabled()))


@app.route
def compute(environ, start_response):
    """Until it is told that it may end; it never sleeps and never calls what gives the GIL up."""
    global computing
    with lock:
        computing += 1
    rounds = 0
    while not may_end:
        rounds += 1
    return text(start_response, threading.current_thread().name)


@app.route
def load(environ, start_response):
    importlib.import_module(arguments(environ)["module"])
    return text(start_response, str(sys._is_gil_enabled()))


headers: list[object] = [("Content-Length", "4"), ("X-Kept", "yes")]
body: list[bytes] = [b"body"]
changing = False


def change() -> None:
    """Threads that change both lists, the pairs in them being lists as well, until the server ends."""
    global changing
    changing = True

    def churn(i: int) -> None:
        pair = ["X-Changed", str(i)]
        while changing:
            headers.append(pair)
            headers.append((f"X-{i}", "a" * i))
            pair[1] = f"{i}{len(pair[1])}"
            del headers[2:]
            body[:] = [b"body"]
            body.append(b"")
            del body[1:]

    for i in range(3):
        threading.Thread(target=churn, args=(i,), daemon=True).start()


@app.route
def changed(environ, start_response):
    start_response("200 OK", headers)
    return body


class Renamed:
    """Hides its iterator behind a name that other threads change."""

    __wsgi_plus_inner__ = "inner0"

    def __init__(self, iterable):
        self.inner0 = self.inner1 = iterable

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.inner0)


def rename() -> None:
    """Threads that give the class another name, a new string each time, until the server ends."""

    def churn() -> None:
        i = 0
        while True:
            Renamed.__wsgi_plus_inner__ = f"inner{i % 2}"
            i += 1

    for _ in range(2):
        threading.Thread(target=churn, daemon=True).start()


pool = ThreadPoolExecutor(4)


def parks():
    for _ in range(20):
        yield pool.submit(time.sleep, 0.001)
    yield b"parked"


@app.route
def renamed(environ, start_response):
    start_response("200 OK", [("Content-Length", "6")])
    return Renamed(parks())
