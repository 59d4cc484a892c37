"""WSGI+ applications with many futures, and what they send into generators: S3, S4, S10, S11, S20."""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from concurrent.futures import Future

import probe
from routes import TEXT, Routes, arguments, text
from suspend_futures import done

app = Routes()


# S3, S10, S11, S20: many futures


@app.route
def done_many(environ, start_response):
    """n futures that are done already."""
    n = int(arguments(environ)["n"])
    depth = len(_stack())
    for i in range(n):
        yield done(i)
    start_response("200 OK", TEXT)
    yield f"{n} {len(_stack()) - depth}".encode()


def _stack():
    frame, frames = sys._getframe(), []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


class Hasty(Future):
    """Is completed by the first who registers a callback, before that returns."""

    def add_done_callback(self, fn):
        super().add_done_callback(fn)
        self.set_result(None)


@app.route
def done_meanwhile_then_block(environ, start_response):
    """A future that completes while the server registers with it, then a step that does not come back for long."""
    yield Hasty()
    probe.wait_gate(arguments(environ)["key"])
    start_response("200 OK", TEXT)
    yield b"late"


shared_failures: dict = {}


def _length(error):
    tb, n = error.__traceback__, 0
    while tb is not None:
        tb, n = tb.tb_next, n + 1
    return n


def _raised():
    try:
        raise ValueError("a failure that is shared")
    except ValueError as error:
        return error


@app.route
def shares_a_failure(environ, start_response):
    """One failed future for all who ask with this key; how: what they do about the failure.  The answer is how long its
    traceback was when it came, and the frames in it of another request."""
    asked = arguments(environ)
    future = shared_failures.get(asked["key"])
    if future is None:
        future = shared_failures[asked["key"]] = Future()
        future.set_exception(_raised())
    return _SHARING[asked["how"]](future, start_response)


def share_length(key):
    return _length(shared_failures[key].exception())


def _caught(future, start_response):
    try:
        yield future
    except ValueError as error:
        start_response("200 OK", TEXT)
        yield str(_length(error)).encode()


def _caught_and_parked(future, start_response):
    """And raises it again later, where it is not caught."""
    try:
        yield future
    except ValueError as error:
        length = _length(error)
        parked = Future()
        threading.Timer(0.01, parked.set_result, [None]).start()
        yield parked
        start_response(f"500 {length}", TEXT)
        raise


def _uncaught(future, start_response):
    yield from _delegated(future)


def _delegated(future):
    yield future


_SHARING = {
    "caught": _caught,
    "parked": _caught_and_parked,
    "uncaught": _uncaught,
    "no-throw": lambda future, start_response: iter([future]),
}


@app.route
def done_many_then_block(environ, start_response):
    """A block, then more done futures than are resumed in one go, then a step that does not come back for long."""
    start_response("200 OK", TEXT)
    yield b"first"
    for i in range(100):
        yield done(i)
    probe.wait_gate(arguments(environ)["key"])
    yield b" and last"


@app.route
def done_until(environ, start_response):
    """Done futures until the gate is open: what other request could open it if this one held its thread?"""
    key = arguments(environ)["key"]
    probe.record(key, "began")
    deadline = time.monotonic() + probe.LIMIT
    steps = 0
    while not probe._gate(key).is_set() and time.monotonic() < deadline:
        yield done()
        steps += 1
    start_response("200 OK", TEXT)
    yield b"stopped"


@app.route
def open_gate(environ, start_response):
    probe.open_gate(arguments(environ)["key"])
    return text(start_response, "open")


class AtOnce(Future):
    """Not done when looked at, done while add_done_callback runs: in the calling thread, before or after registering."""

    def __init__(self, when):
        super().__init__()
        self.when = when

    def add_done_callback(self, fn):
        if self.when == "before":
            self.set_result(None)
            super().add_done_callback(fn)
        elif self.when == "after":
            super().add_done_callback(fn)
            self.set_result(None)
        elif self.when == "other-thread":
            super().add_done_callback(fn)
            t = threading.Thread(target=self.set_result, args=(None,))
            t.start()
            t.join()
        elif self.when == "other-thread-running":  # completes it now and then, beside what follows
            super().add_done_callback(fn)
            threading.Thread(target=self.set_result, args=(None,)).start()
        elif self.when == "fails":
            super().add_done_callback(fn)
            self.set_exception(ValueError("failed in add_done_callback"))
        elif self.when == "raises":
            raise RuntimeError("add_done_callback raised")


@app.route
def at_once(environ, start_response):
    """n futures that become done within add_done_callback."""
    asked = arguments(environ)
    for _ in range(int(asked["n"])):
        yield AtOnce(asked["when"])
    start_response("200 OK", TEXT)
    yield b"all"


@app.route
def ping_pong(environ, start_response):
    """Two requests (side=0, side=1) that complete each other's futures, n times."""
    asked = arguments(environ)
    key, side, n = asked["key"], int(asked["side"]), int(asked["n"])
    for i in range(n):
        if side == 0:
            yield turn(key, i, 0)
            turn(key, i, 1).set_result(None)
        else:
            turn(key, i, 0).set_result(None)
            yield turn(key, i, 1)
    start_response("200 OK", TEXT)
    yield b"played"


_turns: dict = {}
_turns_lock = threading.Lock()


def turn(key, i, side):
    with _turns_lock:
        return _turns.setdefault((key, i, side), Future())


@app.route
def chain(environ, start_response):
    """Request i of n waits for future i and then completes future i + 1."""
    asked = arguments(environ)
    i = int(asked["i"])
    yield probe.future(f"{asked['key']}{i}")
    probe.complete(f"{asked['key']}{i + 1}")
    start_response("200 OK", TEXT)
    yield b"%d" % i


@app.route
def same_again(environ, start_response):
    """One request yields the same future n times: first pending, then done."""
    asked = arguments(environ)
    fut = probe.future(asked["key"])
    for i in range(int(asked["n"])):
        yield fut
        probe.record(asked["key"], "resumed", i)
    start_response("200 OK", TEXT)
    yield str(fut.result()).encode()


# S4


class Sender:
    """Delegates to a generator, and records what is used of it."""

    def __init__(self, inner, key, methods=("throw", "close")):
        self.inner, self.key = inner, key
        for name in methods:
            setattr(self, name, functools.partial(self._call, name))

    def _call(self, name, *args):
        probe.record(self.key, name, [repr(a) for a in args])
        return getattr(self.inner, name)(*args)

    def __iter__(self):
        return self

    def __next__(self):
        probe.record(self.key, "next")
        return next(self.inner)

    def send(self, value):
        probe.record(self.key, "send", repr(value))
        return self.inner.send(value)


@app.route
def value_of_yield(environ, start_response):
    """The values of the yields of a future, of a done future and of a block."""
    fut = probe.later(0.05, arguments(environ)["key"], "result")
    values = [(yield fut), (yield done("x"))]
    start_response("200 OK", TEXT)
    values.append((yield b""))
    yield json.dumps([*values, fut.result()]).encode()


@app.route
def sender(environ, start_response):
    """A wrapper that has send: it is never called."""
    key = arguments(environ)["key"]

    def inner():
        yield done()
        yield probe.later(0.05, key + "-future")
        start_response("200 OK", TEXT)
        yield b"sent"

    return Sender(inner(), key)
