"""What the applications of the suite record and wait for, by key, and how the suite looks at it from outside.

A thread of this module answers on the address that CONFORMANCE_CONTROL names, HOST:PORT or the path of a Unix socket: one
JSON line ["function", [arguments]] in, one [true, result] or [false, "error"] out.  It takes no thread of the server.
"""

from __future__ import annotations

import contextvars
import gc
import json
import os
import socket
import sys
import threading
import traceback
from collections import defaultdict
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import parse_qsl

LIMIT = 30.0  # seconds: no wait of an application is longer
TEXT: list[tuple[str, str]]
"""Headers for text.  Another list each time that it is asked for: a server may change the one that it is given."""

F = TypeVar("F", bound="Future[Any]")

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Items = Generator[Any, None, None]
"""What an application that is a generator gives."""

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("conformance", default="nothing")

_lock = threading.Lock()
_events: defaultdict[str, list[list[Any]]] = defaultdict(list)
_futures: dict[str, Future[Any]] = {}
_gates: dict[str, threading.Event] = {}


_TEXT = (("Content-Type", "text/plain; charset=utf-8"),)


def __getattr__(name: str) -> Any:
    if name == "TEXT":
        return list(_TEXT)
    raise AttributeError(name)


def arguments(environ: Environ) -> dict[str, str]:
    return dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))


def key_of(environ: Environ) -> str:
    return arguments(environ)["key"]


def text(start_response: StartResponse, body: str, status: str = "200 OK") -> list[bytes]:
    """A whole response."""
    data = body.encode()
    start_response(status, [*_TEXT, ("Content-Length", str(len(data)))])
    return [data]


# What the suite may call, and the applications too


def record(key: str, event: str, detail: Any = None) -> None:
    """Notes that something has happened."""
    with _lock:
        _events[key].append([event, detail])


def events(key: str) -> list[list[Any]]:
    with _lock:
        return list(_events[key])


def future(key: str) -> Future[Any]:
    """The future that goes by this key, made when first asked for."""
    with _lock:
        if key not in _futures:
            _futures[key] = Future()
        return _futures[key]


def adopt(key: str, fut: F) -> F:
    """From here on it is this future that goes by the key."""
    with _lock:
        _futures[key] = fut
    return fut


def complete(key: str, value: Any = None) -> None:
    future(key).set_result(value)


def fail(key: str, message: str = "failed on purpose") -> None:
    future(key).set_exception(ValueError(message))


def cancel(key: str) -> None:
    """As an executor does it: cancelled, and those who wait are told."""
    fut = future(key)
    fut.cancel()
    fut.set_running_or_notify_cancel()


def state(key: str) -> str:
    fut = future(key)
    return "cancelled" if fut.cancelled() else "done" if fut.done() else "running" if fut.running() else "pending"


def later(seconds: float, key: str, value: Any = None) -> Future[Any]:
    """The future by this key, which a timer's thread completes."""
    fut = future(key)
    timer = threading.Timer(seconds, _complete, [fut, value])
    timer.daemon = True
    timer.start()
    return fut


def _complete(fut: Future[Any], value: Any) -> None:
    if not fut.done():
        fut.set_result(value)


def gate(key: str) -> None:
    """Blocks the calling thread until the suite opens the gate."""
    if not os.environ.get("CONFORMANCE_CONTROL"):
        raise RuntimeError("the suite could not open the gate: CONFORMANCE_CONTROL is not set")
    with _lock:
        event = _gates.setdefault(key, threading.Event())
    if not event.wait(LIMIT):
        raise TimeoutError(f"the gate {key} was never opened")


def open_gate(key: str) -> None:
    with _lock:
        event = _gates.setdefault(key, threading.Event())
    event.set()


def is_open(key: str) -> bool:
    with _lock:
        return key in _gates and _gates[key].is_set()


def references(key: str) -> int:
    """How many hold the future by this key, beside this module."""
    gc.collect()
    with _lock:
        return sys.getrefcount(_futures[key]) - 2


def forget(key: str) -> None:
    """From here on only those who were given the future have it."""
    with _lock:
        _futures.pop(key, None)


class Steps:
    """The iterator of a generator, with its throw and close: a subclass stands around each of its steps."""

    def __init__(self, items: Items) -> None:
        self._items = items

    def step(self, name: str, run: Callable[[], Any]) -> Any:
        """``next``, ``throw`` or ``close``: to be run, once."""
        return run()

    def __iter__(self) -> Steps:
        return self

    def __next__(self) -> Any:
        return self.step("next", lambda: next(self._items))

    def throw(self, error: BaseException) -> Any:
        return self.step("throw", lambda: self._items.throw(error))

    def close(self) -> None:
        self.step("close", self._items.close)


def ident() -> int:
    """Of the calling thread: called by the suite, of the one that answers here."""
    return threading.get_ident()


# The thread that answers


def _answer(line: bytes) -> bytes:
    try:
        name, values = json.loads(line)
        module, _, function = name.rpartition(".")
        found = sys.modules[module] if module else sys.modules[__name__]
        return json.dumps([True, getattr(found, function)(*values)], default=repr).encode()
    except BaseException as error:
        return json.dumps([False, "".join(traceback.format_exception_only(type(error), error)).strip()]).encode()


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with peer, peer.makefile("rb") as lines:
            peer.settimeout(LIMIT)
            try:
                peer.sendall(_answer(lines.readline()) + b"\n")
            except OSError:
                pass


def start() -> None:
    """Called once, by the process that runs the applications."""
    where = os.environ.get("CONFORMANCE_CONTROL")
    if not where:
        return
    if "/" in where:
        if os.path.exists(where):
            os.unlink(where)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(where)
    else:
        host, _, port = where.rpartition(":")
        listener = socket.create_server((host, int(port)))
    listener.listen(64)
    threading.Thread(target=_serve, args=(listener,), name="conformance", daemon=True).start()
