"""Steps that sleep, compute, or are over at once: for who asks where they are."""

from __future__ import annotations

import builtins
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


def call_from(name):
    """A function `waiting` of a file of that name, which waits."""
    namespace = {"end": end}
    exec(compile("def waiting():\n    end.wait()\n", name, "exec"), namespace)
    return namespace["waiting"]


names = {
    "line-feed": '/srv/a\n  File "/etc/made-up", line 1 in up\x1b[2J.py',
    "surrogate": "/srv/\udcff.py",
    "long": "/srv/" + "folder/" * 200 + "last.py",
}


@app.route
def odd_name(environ, start_response):
    call_from(names[environ["QUERY_STRING"]])()
    return text(start_response, "waited")


def no_import(*arguments, **more):
    raise ImportError("no import on purpose")


@app.route
def without_import(environ, start_response):
    original, builtins.__import__ = builtins.__import__, no_import
    try:
        sleeping()
    finally:
        builtins.__import__ = original
    return text(start_response, "slept")
