"""WSGI+ applications for the tests of S1 to S20.  `key` in the query string names what is recorded and the futures: the
test completes probe.future(key) when it wants to."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import itertools
import threading
import time
from concurrent.futures import Future

import probe
import suspend_failures
import suspend_life
import suspend_many
from routes import TEXT, Routes, arguments, text
from suspend_futures import Iterator, Loop, a_future, caught, done, executor

app = Routes()

for part in (suspend_many, suspend_failures, suspend_life):
    app.include(part.app)


# Plain parking


@app.route
def hello(environ, start_response):
    return text(start_response, "hello")


@app.route
def park(environ, start_response):
    """Parks on probe.future(key), then answers with its result."""
    key = arguments(environ)["key"]
    probe.record(key, "called", threading.current_thread().name)
    fut = probe.future(key)
    try:
        probe.record(key, "parking")
        got = yield fut
        probe.record(key, "resumed", [threading.current_thread().name, repr(got)])
        start_response("200 OK", TEXT)
        yield f"result {fut.result()}".encode()
    except GeneratorExit:
        probe.record(key, "exit", [probe.state(key), threading.current_thread().name])
        raise
    except BaseException as error:
        probe.record(key, "raised", repr(error))
        raise
    finally:
        probe.record(key, "finally")


@app.route
def park_after(environ, start_response):
    """Sends a block, parks, sends another."""
    key = arguments(environ)["key"]
    start_response("200 OK", TEXT)
    try:
        yield b"before "
        probe.record(key, "parking")
        yield probe.future(key)
        yield b"after"
    finally:
        probe.record(key, "finally")


@app.route
def park_after_write(environ, start_response):
    """Writes a block with write(), parks, sends another."""
    key = arguments(environ)["key"]
    start_response("200 OK", TEXT)(b"written ")
    yield probe.future(key)
    yield b"after"


@app.route
def park_after_empty(environ, start_response):
    """An empty block before parking sends nothing: the status can still change."""
    key = arguments(environ)["key"]
    start_response("200 OK", TEXT)
    yield b""
    yield probe.future(key)
    start_response("503 Changed", TEXT, caught())
    yield b"changed"


@app.route
def park_file(environ, start_response):
    """Reads its request body only after the resume."""
    key = arguments(environ)["key"]
    yield probe.future(key)
    start_response("200 OK", TEXT)
    yield environ["wsgi.input"].read()


@app.route
def many_parks(environ, start_response):
    """n suspensions, each on a future that a pool of threads completes, with a block between each two."""
    n = int(arguments(environ)["n"])
    start_response("200 OK", TEXT)
    for i in range(n):
        fut = executor().submit(lambda i=i: i)
        yield fut
        yield b"%d " % fut.result()


@app.route
def park_many_futures(environ, start_response):
    """Parks on key0, key1, ... in turn."""
    asked = arguments(environ)
    for i in range(int(asked["n"])):
        yield probe.future(f"{asked['key']}{i}")
    start_response("200 OK", TEXT)
    yield b"all"


@app.route
def timer(environ, start_response):
    """Parks until a timer completes the future."""
    asked = arguments(environ)
    fut = Future()
    t = threading.Timer(float(asked["s"]), fut.set_result, ["rang"])
    t.daemon = True
    t.start()
    yield fut
    start_response("200 OK", TEXT)
    yield fut.result().encode()


# S1: what suspends


class MyFuture(Future):
    """A subclass, with a __bool__ and __len__ that must not matter."""

    def __bool__(self):
        return False

    def __len__(self):
        return 0


@app.route
def iterables(environ, start_response):
    """A future from iterables of many kinds, around two blocks."""
    asked = arguments(environ)
    start_response("200 OK", TEXT)
    fut = probe.later(0.05, asked["key"]) if "later" in asked else done()
    items = [b"before ", fut, b"after"]
    return {
        "list": lambda: items,
        "tuple": lambda: tuple(items),
        "iterator": lambda: Iterator(items),
        "map": lambda: map(lambda x: x, items),
        "chain": lambda: itertools.chain(items[:1], items[1:]),
        "generator": lambda: (x for x in items),
        "deque": lambda: __import__("collections").deque(items),
        "futures-only-last": lambda: [b"before ", b"after", fut],
        "future-first": lambda: [fut, b"before ", b"after"],
        "getitem": lambda: type("Old", (), {"__getitem__": lambda self, i: items[i]})(),
    }[asked["kind"]]()


@app.route
def subclass(environ, start_response):
    fut = MyFuture()
    threading.Timer(0.05, fut.set_result, ["of a subclass"]).start()
    yield fut
    start_response("200 OK", TEXT)
    yield fut.result().encode()


@app.route
def asyncio_wrapped(environ, start_response):
    """What run_coroutine_threadsafe gives is a concurrent.futures.Future."""
    fut = Loop.run(asyncio.sleep(0.05, "from asyncio"))
    assert isinstance(fut, concurrent.futures.Future)
    yield fut
    start_response("200 OK", TEXT)
    yield fut.result().encode()


@app.route
def wrong(environ, start_response):
    """Yields what is neither bytes nor a Future."""
    asked = arguments(environ)
    key = asked["key"]
    start_response("200 OK", TEXT)
    if "after" in asked:
        yield b"sent"

    async def coroutine():
        return None

    coro = None
    if asked["kind"] == "coroutine":
        coro = coroutine()
    made = {
        "str": lambda: "text",
        "int": lambda: 5,
        "none": lambda: None,
        "bytearray": lambda: bytearray(b"x"),
        "memoryview": lambda: memoryview(b"x"),
        "list-of-futures": lambda: [done(), done()],
        "tuple-of-futures": lambda: (done(), done()),
        "asyncio-future": lambda: asyncio.Future(loop=Loop.loop or asyncio.new_event_loop()),
        "coroutine": lambda: coro,
        "future-class": lambda: Future,
        "duck": lambda: type("Duck", (), {"add_done_callback": print, "done": lambda self: True, "result": print})(),
        "lambda": lambda: lambda: None,
    }[asked["kind"]]()
    try:
        yield made
        probe.record(key, "went on")
    finally:
        probe.record(key, "finally")
        if coro is not None:
            coro.close()


# S13, S14


@app.route
def blocks(environ, start_response):
    """mb megabytes in blocks of size, recording how far it has come."""
    asked = arguments(environ)
    key, size = asked["key"], int(asked.get("size", 65536))
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    left = int(asked["mb"]) << 20
    serial = 0
    progress[key] = 0
    try:
        while left:
            block = (b"%015d\n" % serial) * (size // 16)
            yield block[:left]
            left -= len(block[:left])
            serial += 1
            progress[key] = serial
    finally:
        probe.record(key, "finally", serial)


progress: dict = {}


def progress_of(key):
    return progress.get(key, -1)


@app.route
def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    probe.record(arguments(environ).get("key", "-"), "called", len(body))
    return text(start_response, body)


@app.route
def sleep(environ, start_response):
    time.sleep(float(arguments(environ)["s"]))
    return text(start_response, "slept")


@app.route
def gate(environ, start_response):
    """Blocks its thread in a step until the test opens the gate."""
    key = arguments(environ)["key"]
    probe.record(key, "entered")
    probe.wait_gate(key)
    probe.record(key, "left")
    return Iterator([lambda: text(start_response, "opened")[0]], key)


# S15: middleware


def upper(inner, environ, start_response):
    """As PEP 3333's middleware, with yield from: what is a Future passes, what is bytes is changed."""
    result = inner(environ, start_response)

    def body():
        yield from result

    return body()


def pass_through(inner, environ, start_response):
    """A for loop that passes items on: futures pass, throw does not reach the application."""
    result = inner(environ, start_response)
    try:
        for item in result:
            yield item
    finally:
        if hasattr(result, "close"):
            result.close()


def transforming(inner, environ, start_response):
    for item in inner(environ, start_response):
        yield item if isinstance(item, Future) else item.upper()


MIDDLEWARE = {"yield-from": upper, "for": pass_through, "transforming": transforming}


def proxying(environ, start_response):
    """Parks, answers; turns a failure into a 502."""
    asked = arguments(environ)
    key = asked["key"]
    try:
        try:
            yield a_future(asked) if asked["kind"] != "fine" else probe.later(0.02, key + "-future")
        except ValueError:
            start_response("502 Bad Gateway", TEXT)
            yield b"bad gateway"
            return
        start_response("200 OK", TEXT)
        yield b"fine"
        probe.record(key, "parking")
        if "park" in asked:
            yield probe.future(key)
    finally:
        probe.record(key, "finally")


@app.route
def middleware(environ, start_response):
    inner = proxying
    for name in arguments(environ)["through"].split(","):
        inner = functools.partial(MIDDLEWARE[name], inner)
    return inner(environ, start_response)


@app.route
def version(environ, start_response):
    return text(start_response, repr(environ.get("wsgi_plus.version")))


# S19


@app.route
def effects(environ, start_response):
    """Has effects around suspensions, whatever the method and status."""
    asked = arguments(environ)
    key = asked["key"]
    try:
        probe.record(key, "one")
        yield probe.later(0.02, key + "-a")
        start_response(asked.get("status", "200 OK"), TEXT)
        yield b"dropped "
        probe.record(key, "two")
        yield probe.later(0.02, key + "-b")
        yield b"as well"
        probe.record(key, "three")
    finally:
        probe.record(key, "finally")


@app.route
def ticks(environ, start_response):
    """A short block every so many seconds, until it is closed."""
    asked = arguments(environ)
    key, every = asked["key"], float(asked["every"])
    start_response("200 OK", TEXT)
    try:
        for i in itertools.count():
            yield b"tick\n"
            yield probe.later(every, f"{key}-{i}")
    finally:
        probe.record(key, "closed")
