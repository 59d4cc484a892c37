"""A chat by long polling: thousands of clients wait for the next message, on two threads.

    build/fermata --threads 2 --pythonpath ../../py --chdir examples/chat app:app

GET / is a page for browsers.  GET /poll?room=R&after=N gives the messages after number N, as soon as there are any, or
none after half a minute.  POST /say with room, name and text says something.  GET /stats tells who waits.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from wsgi_plus import timeout

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

POLL = float(os.environ.get("POLL", "30"))  # seconds that a poll waits
ROOMS = 1000  # that are remembered: the one that has been silent longest is forgotten
MESSAGES = 100  # that a room remembers
LENGTHS = {"room": 50, "name": 50, "text": 1000}  # characters, at most
BODY = 16 * 1024  # bytes, at most
PAGE = (Path(__file__).parent / "page.html").read_bytes()

Response = Generator[bytes | Future[Any], None, None]


class Room:
    """Messages, and those who wait for the next one: each with a future of its own, so that he can leave alone."""

    def __init__(self) -> None:
        self.messages: deque[dict[str, Any]] = deque(maxlen=MESSAGES)
        self.waiting: set[Future[None]] = set()

    def after(self, number: int) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["number"] > number]


class Chat:
    """All rooms.  Its methods may be called in any thread, and do not wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rooms: OrderedDict[str, Room] = OrderedDict()  # the one with the newest message last
        # One count for all rooms, which goes on after a restart: so no client waits for a number that has been before.
        self._numbers = itertools.count(int(time.time() * 1000))

    def say(self, room: str, **message: Any) -> int:
        """The message's number."""
        with self._lock:
            found = self._rooms.setdefault(room, Room())
            self._rooms.move_to_end(room)
            number = next(self._numbers)
            found.messages.append({"number": number, **message})
            woken, found.waiting = found.waiting, set()
            if len(self._rooms) > ROOMS:
                _, forgotten = self._rooms.popitem(last=False)
                woken |= forgotten.waiting
        for future in woken:  # without the lock: this resumes requests
            if future.set_running_or_notify_cancel():
                future.set_result(None)
        return number

    def read(self, room: str, after: int) -> list[dict[str, Any]]:
        with self._lock:
            found = self._rooms.get(room)
            return found.after(after) if found is not None else []

    @contextmanager
    def listening(self, room: str, after: int) -> Iterator[Future[None]]:
        """A future that is done when there is something to read.  A listener that leaves is forgotten at once."""
        future: Future[None] = Future()
        with self._lock:
            found = self._rooms.setdefault(room, Room())
            if found.after(after):
                future.set_result(None)
            else:
                found.waiting.add(future)
        try:
            yield future
        finally:
            with self._lock:
                found.waiting.discard(future)
                if not found.waiting and not found.messages and self._rooms.get(room) is found:
                    del self._rooms[room]

    def stats(self) -> dict[str, int]:
        with self._lock:
            return {"rooms": len(self._rooms), "waiting": sum(len(room.waiting) for room in self._rooms.values())}


chat = Chat()


# The application


class Refused(Exception):
    """The request cannot be answered; the message begins with the status."""


def poll(environ: WSGIEnvironment, start_response: StartResponse) -> Response:
    asked = fields(environ["QUERY_STRING"], "room")
    after = asked.get("after", "0")
    if not (after.isascii() and after.isdigit() and len(after) <= 15):
        raise Refused("400 Bad Request: after is the number of the last message")
    with chat.listening(asked["room"], int(after)) as future:
        try:
            yield from timeout(POLL, future)
        except TimeoutError:
            pass  # nothing has been said, or just now
    yield from answer(start_response, {"messages": chat.read(asked["room"], int(after))})


def say(environ: WSGIEnvironment, start_response: StartResponse) -> Response:
    body = environ["wsgi.input"].read(BODY + 1)
    if len(body) > BODY:
        raise Refused(f"413 Content Too Large: up to {BODY} bytes")
    said = fields(body.decode(errors="replace"), *LENGTHS)
    number = chat.say(said["room"], time=int(time.time()), name=said["name"], text=said["text"])
    yield from answer(start_response, {"number": number})


def stats(environ: WSGIEnvironment, start_response: StartResponse) -> Response:
    yield from answer(start_response, chat.stats())


def page(environ: WSGIEnvironment, start_response: StartResponse) -> Response:
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(PAGE)))])
    yield PAGE


def fields(form: str, *needed: str) -> dict[str, str]:
    """What a form says."""
    said = {name: values[0].strip() for name, values in parse_qs(form).items()}
    for name in needed:
        if not 0 < len(said.get(name, "")) <= LENGTHS[name]:
            raise Refused(f"400 Bad Request: {name} has 1 to {LENGTHS[name]} characters")
    return said


def answer(start_response: StartResponse, value: object, status: str = "200 OK") -> Iterable[bytes]:
    body = json.dumps(value).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    start_response(status, headers)
    return [body]


ROUTES: dict[tuple[str, str], Callable[[WSGIEnvironment, StartResponse], Response]] = {
    ("GET", "/"): page,
    ("GET", "/poll"): poll,
    ("POST", "/say"): say,
    ("GET", "/stats"): stats,
}


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Response:
    try:
        route = ROUTES.get((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if route is None:
            raise Refused("404 Not Found: " + ", ".join(" ".join(known) for known in ROUTES))
        yield from route(environ, start_response)
    except Refused as refused:
        status, _, why = str(refused).partition(": ")
        yield from answer(start_response, {"error": why}, status)
