"""Holds the GIL in C for as long as the test likes: ctypes.PyDLL calls read(2) without letting go of it."""

from __future__ import annotations

import ctypes
import os
import signal
from concurrent.futures import Future

from routes import TEXT, Routes, arguments, text

app = Routes()


def hold(environ):
    """Opens the FIFO, for which the test waits, and reads from it holding the GIL until the test closes its end."""
    fd = os.open(arguments(environ)["fifo"], os.O_RDONLY)
    ctypes.PyDLL(None).read(fd, ctypes.create_string_buffer(1), 1)
    os.close(fd)


@app.route
def hello(environ, start_response):
    return text(start_response, "hello")


@app.route
def hold_the_gil(environ, start_response):
    hold(environ)
    return text(start_response, "held")


@app.route
def hold_the_gil_in_close(environ, start_response):
    class Body(list):
        def close(self):
            hold(environ)

    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    return Body([b"held"])


@app.route
def hold_the_gil_after_parking(environ, start_response):
    fut = Future()
    fut.set_result(None)
    yield fut
    hold(environ)
    start_response("200 OK", TEXT)
    yield b"held"


@app.route
def hold_the_gil_and_block_signals(environ, start_response):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMAX - 2})
    hold(environ)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGRTMAX - 2})
    return text(start_response, "held")


@app.route
def take_the_signal(environ, start_response):
    """As an application does at its import; not signal.signal, which is for the main thread."""
    ctypes.CDLL(None).signal(signal.SIGRTMAX - 2, ctypes.c_void_p(1))  # SIG_IGN
    return text(start_response, "taken")


@app.route
def park(environ, start_response):
    yield Future()
    start_response("200 OK", TEXT)
    yield b"never"


@app.route
def blocks(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    for _ in range(500):
        yield b"x" * 65536
