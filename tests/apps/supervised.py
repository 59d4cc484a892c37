"""Requests that hold threads, the GIL or memory, and streams that do not end: for what an arbiter watches."""

import ctypes
import os
import platform
import re
import signal
import threading
import time
from concurrent.futures import Future
from pathlib import Path

from routes import Routes, arguments, text

if Path(os.environ.get("SUPERVISED_BREAK", "/nonexistent")).exists():
    raise RuntimeError("this version is broken")

app = Routes()
TGKILL = {"x86_64": 234, "aarch64": 131}[platform.machine()]
kept = []


@app.route
def who(environ, start_response):
    return text(start_response, str(os.getpid()))


@app.route
def hold(environ, start_response):
    """Holds its thread."""
    time.sleep(float(arguments(environ)["seconds"]))
    return text(start_response, str(os.getpid()))


@app.route
def hold_gil(environ, start_response):
    """Holds the GIL: a call of a library that does not give it up."""
    ctypes.PyDLL(None).usleep(int(float(arguments(environ)["seconds"]) * 1e6))
    return text(start_response, str(os.getpid()))


@app.route
def freeze(environ, start_response):
    """Has every thread but the main one, and those that help it, wait in a signal's handler for another signal."""
    libc, number = ctypes.CDLL(None), signal.SIGRTMIN + 7
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(number, ctypes.cast(libc.pause, ctypes.c_void_p))
    own = threading.get_native_id()
    names = {int(task.name): (task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
    others = [thread for thread, name in names.items() if re.fullmatch(r"fermata-\d+", name) and thread != own]
    for thread in [*others, own]:
        libc.syscall(TGKILL, os.getpid(), thread, number)
    return text(start_response, str(os.getpid()))


@app.route
def grow(environ, start_response):
    """Keeps so many bytes, and touches them."""
    kept.append(b"x" * int(arguments(environ)["bytes"]))
    return text(start_response, str(os.getpid()))


@app.route
def park(environ, start_response):
    """Is never done, and holds no thread."""
    yield Future()


@app.route
def stream(environ, start_response):
    """Says who it is, and goes on without an end."""
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    yield f"data: {os.getpid()}\n\n".encode()
    yield Future()
