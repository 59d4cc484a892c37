"""Lets a test look into the application and steer it while it is served.

A thread of its own answers on the unix socket that FERMATA_TEST_PROBE names: one JSON line ["module.function", [args]] in,
one [true, result] or [false, "error"] out.  It needs no thread of the server, so it works while all of them are busy.
Importing this module starts it.  Everything else here is what applications record and wait for, by key: a test makes a key
up, gives it to the application in the request, and asks for what happened under it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import socket
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import Future
from typing import Any

LIMIT = 120.0  # no wait of an application is longer

_changed = threading.Lock()
_events: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)
_futures: dict[str, Future[Any]] = {}
_gates: dict[str, threading.Event] = {}

# What is recorded goes to this file as well: it can be read when the server has ended.
_journal = open(os.environ["FERMATA_TEST_EVENTS"], "a") if "FERMATA_TEST_EVENTS" in os.environ else None


def record(key: str, event: str, detail: Any = None) -> None:
    """Notes that something has happened."""
    with _changed:
        _events[key].append((event, detail))
        if _journal is not None:
            _journal.write(json.dumps([key, event, detail], default=repr) + "\n")
            _journal.flush()


def events(key: str) -> list[tuple[str, Any]]:
    with _changed:
        return list(_events[key])


def clear(key: str) -> None:
    with _changed:
        _events.pop(key, None)


def has_module(name: str) -> bool:
    """Has anything imported it?"""
    return name in sys.modules


def count(key: str, event: str) -> int:
    return sum(name == event for name, _ in events(key))


def future(key: str) -> Future[Any]:
    """The future that goes by this key, made when first asked for."""
    with _changed:
        if key not in _futures:
            _futures[key] = Future()
        return _futures[key]


def complete(key: str, value: Any = None) -> None:
    future(key).set_result(value)


def fail(key: str, message: str = "failed on purpose") -> None:
    future(key).set_exception(ValueError(message))


def cancel(key: str) -> bool:
    """As an executor does it: cancelled, and those who wait are told."""
    f = future(key)
    return f.cancel() and (f.set_running_or_notify_cancel() or True)


def state(key: str) -> str:
    f = future(key)
    return "cancelled" if f.cancelled() else "done" if f.done() else "running" if f.running() else "pending"


def complete_all(prefix: str) -> int:
    """Completes every pending future whose key starts so, one after the other; how many there were."""
    with _changed:
        found = [f for key, f in _futures.items() if key.startswith(prefix) and not f.done()]
    for f in found:
        f.set_result(None)
    return len(found)


def _gate(key: str) -> threading.Event:
    return _gates.setdefault(key, threading.Event())  # one for all: a defaultdict would race to make it


def wait_gate(key: str) -> None:
    """Blocks the calling thread until the test opens the gate."""
    if not _gate(key).wait(LIMIT):
        raise TimeoutError(f"gate {key} was never opened")


def open_gate(key: str) -> None:
    _gate(key).set()


def threads() -> list[str]:
    """Names of the threads that the threading module knows."""
    return sorted(t.name for t in threading.enumerate())


def collect() -> int:
    """Objects alive after a full collection."""
    gc.collect()
    return len(gc.get_objects())


def later(seconds: float, key: str, value: Any = None) -> Future[Any]:
    """A future by this key that a timer thread completes."""
    f = future(key)
    timer = threading.Timer(seconds, lambda: f.done() or f.set_result(value))
    timer.daemon = True
    timer.start()
    return f


def _answer(line: bytes) -> bytes:
    try:
        name, arguments = json.loads(line)
        module, _, function = name.rpartition(".")
        value = getattr(importlib.import_module(module), function)(*arguments)
        return json.dumps([True, value], default=repr).encode()
    except BaseException as error:
        return json.dumps([False, f"{type(error).__name__}: {error}"]).encode()


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with peer, peer.makefile("rb") as lines:
            peer.settimeout(5)
            try:
                peer.sendall(_answer(lines.readline()) + b"\n")
            except OSError:
                pass


def _start(path: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    new = f"{path}.{os.getpid()}"  # of two workers that load at once the last one has the path
    listener.bind(new)
    listener.listen(64)
    os.rename(new, path)
    thread = threading.Thread(target=_serve, args=(listener,), name="probe", daemon=True)
    thread.start()

    def stop() -> None:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        listener.close()

    atexit.register(stop)


def pause(seconds: float) -> None:
    time.sleep(seconds)


if "FERMATA_TEST_PROBE" in os.environ:
    _start(os.environ["FERMATA_TEST_PROBE"])
