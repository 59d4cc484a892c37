"""Steps that sleep, compute, or are over at once: for who asks where they are."""

from __future__ import annotations

import threading

import probe  # noqa: F401
from routes import Routes, text

app = Routes()

end = threading.Event()


def end_all():
    end.set()


def sleeping():
    end.wait()


def computing():
    while not end.is_set():
        sum(range(1000))


@app.route
def sleeps(environ, start_response):
    sleeping()
    return text(start_response, "slept")


@app.route
def computes(environ, start_response):
    computing()
    return text(start_response, "computed")


@app.route
def short(environ, start_response):
    sum(range(20_000))
    return text(start_response, "short")
