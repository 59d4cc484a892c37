"""An application for the worker of gunicorn: what it sees of the server, and requests that park."""

from __future__ import annotations

import json
import os
import time

import probe
from routes import TEXT, Routes, arguments, text

app = Routes()


@app.route
def environment(environ, start_response):
    seen = {key: value for key, value in environ.items() if isinstance(value, (str, bool, tuple))}
    return text(start_response, json.dumps({**seen, "pid": os.getpid()}))


@app.route
def parks(environ, start_response):
    key = arguments(environ)["key"]
    try:
        probe.record(key, "parking")
        yield probe.future(key)
        start_response("200 OK", TEXT)
        yield b"went on"
    finally:
        probe.record(key, "closed")


@app.route
def within(environ, start_response):
    key = arguments(environ)["key"]
    try:
        start_response("200 OK", TEXT)
        yield b"first"
        probe.record(key, "parking")
        yield probe.future(key)
        yield b"second"
    finally:
        probe.record(key, "closed")


@app.route
def fails(environ, start_response):
    raise ValueError("on purpose")


@app.route
def printed(environ, start_response):
    environ["wsgi.errors"].write("to wsgi.errors\n")
    environ["wsgi.errors"].flush()
    return text(start_response, "printed")


@app.route
def refused_by_hook(environ, start_response):
    raise AssertionError("it is not called")


@app.route
def broken_hook(environ, start_response):
    return text(start_response, "fine")


@app.route
def sleeps(environ, start_response):
    time.sleep(2.5)
    return text(start_response, "slept")
