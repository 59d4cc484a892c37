"""What applications see of the threads that run them."""

from __future__ import annotations

import contextvars
import json
import logging
import os
import sys
import threading
import time

import probe
from routes import Routes, arguments, text

app = Routes()
local = threading.local()
tag = contextvars.ContextVar("tag", default="unset")


@app.route
def hello(environ, start_response):
    return text(start_response, "hello")


@app.route
def me(environ, start_response):
    """The current thread as several parts of the standard library see it."""
    t = threading.current_thread()
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "x", (), None)
    facts = {
        "name": t.name,
        "type": type(t).__name__,
        "ident": t.ident == threading.get_ident(),
        "native": t.native_id == threading.get_native_id(),
        "native_id": t.native_id,
        "alive": t.is_alive(),
        "main": t is threading.main_thread(),
        "main_name": threading.main_thread().name,
        "logged": record.threadName,
        "enumerated": t in threading.enumerate(),
        "all": sorted(x.name for x in threading.enumerate()),
        "frames": t.ident in sys._current_frames(),
        "pid": os.getpid(),
    }
    return text(start_response, json.dumps(facts))


@app.route
def sleep(environ, start_response):
    """Sleeps; who, and from when to when."""
    began = time.monotonic()
    time.sleep(float(arguments(environ)["s"]))
    return text(start_response, json.dumps([threading.current_thread().name, began, time.monotonic()]))


@app.route
def barrier(environ, start_response):
    """Waits until n requests are here at the same time."""
    n = int(arguments(environ)["n"])
    with _lock:
        b = _barriers.setdefault(arguments(environ)["key"], threading.Barrier(n))
    b.wait(60)
    return text(start_response, threading.current_thread().name)


_lock = threading.Lock()
_barriers: dict[str, threading.Barrier] = {}


@app.route
def thread_local(environ, start_response):
    """Thread-locals stay with the thread: counts requests of this thread."""
    local.count = getattr(local, "count", 0) + 1
    return text(start_response, json.dumps([threading.current_thread().name, local.count]))


@app.route
def context(environ, start_response):
    """The context variable as this request finds it; sets it."""
    found = tag.get()
    tag.set(arguments(environ)["key"])
    return text(start_response, found)


@app.route
def spawn(environ, start_response):
    """A thread of the application's own, and what it sees of the context."""
    tag.set("of the request")
    seen = []
    t = threading.Thread(target=lambda: seen.append(tag.get()), name="own")
    t.start()
    t.join()
    return text(start_response, seen[0])


@app.route
def burn(environ, start_response):
    """Burns the GIL in Python."""
    deadline = time.monotonic() + float(arguments(environ)["s"])
    n = 0
    while time.monotonic() < deadline:
        n += 1
    return text(start_response, str(n))


@app.route
def gate(environ, start_response):
    key = arguments(environ)["key"]
    probe.record(key, "entered", threading.current_thread().name)
    probe.wait_gate(key)
    return text(start_response, "opened")
