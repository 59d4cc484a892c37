"""What more than waits: Topic, retry, TaskGroup, background and RequestBody, for servers/test_wider.py."""

from __future__ import annotations

import asyncio
import hashlib
import time

import probe
from routes import Routes, arguments, text
from wsgi_plus import (
    AsyncBridge,
    ChannelClosed,
    RequestBody,
    TaskGroup,
    Topic,
    background,
    backoff,
    offload,
    retry,
    wait,
)

app = Routes()
bridge = AsyncBridge()
topics = {"drop": Topic(8), "mark": Topic(8, slow="mark")}

EVENTS = [("Content-Type", "text/event-stream")]
BLOCK = b"." * 65536


def publish(item: str, topic: str = "drop") -> int:
    """For the test: called in a thread that knows nothing of the server."""
    return topics[topic].publish(item.encode())


def publish_blocks(count: int, topic: str) -> list[int]:
    return [topics[topic].publish(BLOCK) for _ in range(count)]


def subscribers(topic: str = "drop") -> int:
    return len(topics[topic])


@app.route
def events(environ, start_response):
    asked = arguments(environ)
    start_response("200 OK", EVENTS)
    missed = 0
    with topics[asked.get("topic", "drop")].subscribe() as messages:
        try:
            while True:
                message = yield from messages.get()
                if messages.missed > missed:
                    missed = messages.missed
                    probe.record(asked["key"], "missed", missed)
                yield message + b"\n"
                if message == b"end":
                    return
        except ChannelClosed as error:
            probe.record(asked["key"], type(error).__name__)


@app.route
def tried(environ, start_response):
    """Fails as often as it is told to."""
    asked = arguments(environ)

    def ask():
        probe.record(asked["key"], "asked")
        if probe.count(asked["key"], "asked") <= int(asked["failures"]):
            raise OSError("refused")
        return "answered"

    try:
        answer = yield from retry(lambda: offload(ask), on=OSError, pause=backoff(float(asked["pause"])))
    except OSError:
        yield from text(start_response, "no upstream", "502 Bad Gateway")
    else:
        yield from text(start_response, answer)


@app.route
def children(environ, start_response):
    """A child of each kind beside a future that the test completes."""
    key = arguments(environ)["key"]

    async def child():
        try:
            await asyncio.sleep(3600)
        finally:
            probe.record(key, "child ended")

    with TaskGroup() as tasks:
        tasks.add(bridge.run(child()))
        tasks.add(probe.future(f"{key}-child"))
        yield from wait(bridge.run(asyncio.sleep(0.01)))
        probe.record(key, "parking")
        yield from wait(probe.future(key))
        yield from text(start_response, "done")


@app.route
def afterwards(environ, start_response):
    key = arguments(environ)["key"]
    try:
        yield from text(start_response, "accepted", "202 Accepted")
    finally:
        background(work, key)
        background(lose, key)


def work(key):
    probe.future(f"{key}-work").result(probe.LIMIT)
    probe.record(key, "worked")


def lose(key):
    raise ValueError(f"{key} is lost")


@app.route
def slow_work(environ, start_response):
    """More than begins at once: so some of it has not, when the server is told to end."""
    key = arguments(environ)["key"]
    try:
        yield from text(start_response, "accepted", "202 Accepted")
    finally:
        for _ in range(15):
            background(time.sleep, 0.2)
        background(probe.record, key, "worked")


@app.route
def upload(environ, start_response):
    """The digest of the body, which is read piece by piece in another thread and in an event loop."""
    with RequestBody(environ) as body:
        one = yield from wait(offload(digest, body))
        body.seek(0)
        two = yield from wait(bridge.run(digest_async(body)))
        yield from text(start_response, f"{body.length} {one} {two}")


def digest(body):
    found = hashlib.sha256()
    for piece in body:
        found.update(piece)
    return found.hexdigest()


async def digest_async(body):
    found = hashlib.sha256()
    async for piece in body.pieces():
        found.update(piece)
    return found.hexdigest()


@app.route
def upload_left(environ, start_response):
    """Reads on when the request is over: the test says when."""
    key = arguments(environ)["key"]
    try:
        with RequestBody(environ) as body:
            yield from wait(offload(read_late, key, body))
    finally:
        probe.record(key, "closed")


def read_late(key, body):
    body.read(10)
    probe.record(key, "reading")
    probe.future(key).result(probe.LIMIT)
    try:
        probe.record(key, "read", len(body.read()))
    except ValueError as error:
        probe.record(key, "refused", str(error))
