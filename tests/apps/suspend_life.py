"""WSGI+ applications that look at the life of a request: close(), contexts, cancelling, locks: S7 to S10."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import json
import threading
import time
from concurrent.futures import Future

import probe
from routes import TEXT, Routes, arguments
from suspend_futures import Loop, a_future, done, executor

app = Routes()


# S7, S9: close, context, overlap

tag = contextvars.ContextVar("tag", default="unset")
local = threading.local()


class Watched:
    """Wraps a generator and records, for every step and close, thread, context variable, and whether two overlap."""

    def __init__(self, inner, key):
        self.inner, self.key, self.busy = inner, key, threading.Lock()

    def __iter__(self):
        return self

    def _guarded(self, name, call):
        if not self.busy.acquire(blocking=False):
            probe.record(self.key, "overlap", name)
            self.busy.acquire()
        try:
            probe.record(self.key, name, [threading.current_thread().name, tag.get()])
            return call()
        finally:
            self.busy.release()

    def __next__(self):
        return self._guarded("next", self.inner.__next__)

    def throw(self, *error):
        return self._guarded("throw", functools.partial(self.inner.throw, *error))

    def close(self):
        return self._guarded("closed", self.inner.close)


@app.route
def watched(environ, start_response):
    """Sets the context variable, then does what is asked: a string of steps, one letter each:
    b block, p park until probe.future, t park on a timer, g wait at a gate in a step, f fail by a future, e raise, h headers only."""
    asked = arguments(environ)
    key = asked["key"]
    tag.set(key)

    def steps():
        started = False
        futures = itertools.count()
        for letter in asked["do"]:
            if letter == "b":
                if not started:
                    start_response("200 OK", TEXT)
                    started = True
                yield b"block "
            elif letter == "p":
                probe.record(key, "parking")
                yield probe.future(f"{key}{next(futures)}")
            elif letter == "t":
                yield probe.later(0.02, f"{key}-timer{next(futures)}")
            elif letter == "d":
                yield done()
            elif letter == "g":
                probe.record(key, "at the gate")
                probe.wait_gate(key)
                probe.record(key, "through the gate")
            elif letter == "f":
                yield a_future({"kind": "failed", "late": "1"})
            elif letter == "e":
                raise RuntimeError("raised on purpose")
        if not started:
            start_response("200 OK", TEXT)

    return Watched(steps(), key)


@app.route
def context(environ, start_response):
    """The context variable before, after several suspensions, and in close."""
    asked = arguments(environ)
    key = asked["key"]
    seen = [tag.get()]
    tag.set(key)
    local.value = key
    try:
        for i in range(int(asked.get("n", 5))):
            yield executor().submit(time.sleep, 0.001)
            seen.append(tag.get())
            tag.set(f"{key}-{i}")
        start_response("200 OK", TEXT)
        yield json.dumps(seen).encode()
    finally:
        probe.record(key, "in close", tag.get())


@app.route
def context_of_call(environ, start_response):
    """A context variable set in the call of the application is there in the steps."""
    asked = arguments(environ)
    before = tag.get()
    token = tag.set(asked["key"])

    def body():
        yield probe.later(0.02, asked["key"])
        tag.reset(token)  # only possible in the very same context
        start_response("200 OK", TEXT)
        yield f"{before} {tag.get()}".encode()

    return body()


@app.route
def threads_of_steps(environ, start_response):
    """Which threads ran the steps; futures are completed in threads of other names."""
    names = []
    for i in range(20):
        yield Loop.run(asyncio.sleep(0)) if i % 2 else executor().submit(int)
        names.append(threading.current_thread().name)
    start_response("200 OK", TEXT)
    yield json.dumps(names).encode()


@app.route
def race(environ, start_response):
    """n suspensions on futures that another thread completes at once, around the moment of parking; counts overlaps."""
    n = int(arguments(environ)["n"])
    busy = threading.Lock()
    counter = 0

    def body():
        nonlocal counter
        for _ in range(n):
            assert busy.acquire(blocking=False), "two steps of one request overlap"
            counter += 1
            fut = Future()
            busy.release()
            executor().submit(fut.set_result, None)
            yield fut
        start_response("200 OK", TEXT)
        yield b"%d" % counter

    return body()


# S8


@app.route
def cancels(environ, start_response):
    """Cancels its future when it is closed, as the wait() helper does."""
    key = arguments(environ)["key"]
    fut = probe.future(key)
    try:
        probe.record(key, "parking")
        yield fut
    except GeneratorExit:
        probe.record(key, "exit", fut.cancel())
        raise


@app.route
def close_parks(environ, start_response):
    """Yields a future when it is closed: an error of the application, which must not park it."""
    key = arguments(environ)["key"]
    try:
        probe.record(key, "parking")
        yield probe.future(key)
    finally:
        probe.record(key, "finally")
        yield done()


# S10

shared = threading.Lock()


@app.route
def needs_lock(environ, start_response):
    """Every step takes a lock that the completing thread holds while it completes: not to be run inside the callback."""
    key = arguments(environ)["key"]
    with shared:
        fut = probe.future(key)
    yield fut
    with shared:
        start_response("200 OK", TEXT)
        yield b"got the lock"


def complete_holding_the_lock(key):
    """Completes the future while it holds the lock; how long that took."""
    with shared:
        began = time.monotonic()
        probe.complete(key)
        return time.monotonic() - began


def complete_in_the_loop(prefix):
    """Completes all futures of the prefix in the asyncio loop's thread; how long the loop was held up."""

    async def complete():
        began = time.monotonic()
        number = probe.complete_all(prefix)
        return [number, time.monotonic() - began]

    return Loop.run(complete()).result(probe.LIMIT)
