"""What scripts/abuse attacks: answers at once, never, for ever, slowly, and reads uploads."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from concurrent.futures import Future

import probe  # noqa: F401 (the script asks through it)
from routes import TEXT, Routes, arguments, text

app = Routes()
closed = 0
lock = threading.Lock()


def closes() -> int:
    return closed


@app.route
def hello(environ, start_response):
    return text(start_response, "hello")


@app.route
def never(environ, start_response):
    """Parks on a future that is never completed."""
    global closed
    try:
        yield Future()
        start_response("200 OK", TEXT)
        yield b"never"
    finally:
        with lock:
            closed += 1


@app.route
def sleeps(environ, start_response):
    time.sleep(float(arguments(environ)["s"]))
    return text(start_response, "slept")


@app.route
def upload(environ, start_response):
    while environ["wsgi.input"].read(65536):
        pass
    return text(start_response, "read")


@app.route
def endless(environ, start_response):
    """`gb` gigabytes in blocks."""
    size = int(arguments(environ)["gb"]) << 30
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    block = bytes(1 << 20)
    for _ in range(size >> 20):
        yield block


@app.route
def sparse(environ, start_response):
    """The same as a file."""
    size = int(arguments(environ)["gb"]) << 30
    f = tempfile.TemporaryFile()
    os.truncate(f.fileno(), size)
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    return environ["wsgi.file_wrapper"](f)


@app.route
def page(environ, start_response):
    """A megabyte in blocks of 64 KiB, or (?whole) in one."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(1 << 20))])
    return [b"x" * (1 << 20)] if environ["QUERY_STRING"] == "whole" else (b"x" * 65536 for _ in range(16))
