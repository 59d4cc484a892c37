"""An application of the helpers, for tests/system/test_helpers.py.  `key` names what is recorded and the futures."""

from __future__ import annotations

import asyncio
import time

import probe
from routes import TEXT, Routes, arguments, text
from wsgi_plus import (
    AsyncBridge,
    Semaphore,
    deadline,
    first,
    gather,
    offload,
    settled,
    shield,
    single_flight,
    sleep,
    timeout,
    wait,
)

app = Routes()
bridge = AsyncBridge()
places = Semaphore(1)


@app.route
def nap(environ, start_response):
    yield from sleep(float(arguments(environ)["s"]))
    yield from text(start_response, "rested")


@app.route
def one(environ, start_response):
    """Parks on probe.future(key), in the way asked for."""
    asked = arguments(environ)
    fut = probe.future(asked["key"])
    ways = {
        "wait": wait,
        "settled": settled,
        "gather": gather,
        "first": first,
        "shield": lambda f: wait(shield(f)),
        "deadline": lambda f: deadline(3600, wait(f)),
        "flight": lambda f: single_flight(asked["key"], lambda: f),
        "place": in_a_place,
    }
    probe.record(asked["key"], "parking")
    try:
        yield from ways[asked["way"]](fut)
    except ValueError as error:
        yield from text(start_response, f"caught {error}", "502 Bad Gateway")
    else:
        yield from text(start_response, "failed" if fut.exception() else f"result {fut.result()}")
    finally:
        probe.record(asked["key"], "finally")


def in_a_place(fut):
    with (yield from places.acquire()):
        return (yield from wait(fut))


@app.route
def in_turn(environ, start_response):
    """So many seconds in the one place that there is."""
    with (yield from places.acquire()):
        yield from sleep(float(arguments(environ)["s"]))
    yield from text(start_response, "had a turn")


@app.route
def behind_map(environ, start_response):
    """The same behind an iterable that has no throw."""
    return map(lambda item: item, one(environ, start_response))


@app.route
def several(environ, start_response):
    """A blocking call, a coroutine and a task that are all waited for, then two of which one wins."""
    results = yield from gather(offload(slow, "blocking"), bridge.run(asyncio.sleep(0.05, "asynchronous")))
    hour = bridge.run(asyncio.sleep(3600))
    winner = yield from first(hour, bridge.run(asyncio.sleep(0.01, "quick")))
    yield from text(start_response, f"{' '.join(results)} {winner.result()} {hour.cancelled()}")


def slow(value):
    time.sleep(0.05)
    return value


@app.route
def late(environ, start_response):
    try:
        yield from timeout(0.05, bridge.run(asyncio.sleep(3600)))
    except TimeoutError:
        yield from text(start_response, "upstream is late", "504 Gateway Timeout")


@app.route
def stream(environ, start_response):
    asked = arguments(environ)
    start_response("200 OK", TEXT)
    yield from bridge.iterate(pieces(asked["key"], int(asked["n"]), int(asked["size"]), "hang" in asked))


async def pieces(key, n, size, hang):
    try:
        for _ in range(n):
            probe.record(key, "asked")
            yield b"." * size
        if hang:
            probe.record(key, "hanging")
            await asyncio.sleep(3600)
    finally:
        probe.record(key, "closed")
