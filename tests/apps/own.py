"""Is each request's environ, body, id and context its own?  Each says its number everywhere, and looks at all of it in
each step, of which some run in other threads at the same time as those of others."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

import probe  # noqa: F401 (the tests ask through it)

number_here: ContextVar[str] = ContextVar("number_here")
lock = threading.Lock()  # for what follows
wrong: list[str] = []
environs: set[int] = set()  # of requests that have not ended
inputs: set[int] = set()
ids: set[str] = set()
served = 0
threads: set[str] = set()

waiting: queue.SimpleQueue[Future[None]] = queue.SimpleQueue()


def complete() -> None:
    while True:
        waiting.get().set_result(None)


for i in range(2):
    threading.Thread(target=complete, name=f"completer-{i}", daemon=True).start()


def report() -> dict[str, Any]:
    with lock:
        return {"wrong": wrong[:20], "served": served, "open": len(environs), "threads": sorted(threads)}


class Seen:
    """What a request saw at first, copied character by character: a text that is changed in place would change as well."""

    def __init__(self, environ: dict[str, Any], number: str) -> None:
        self.environ, self.number = environ, number
        self.id = "".join(list(environ["fermata.request_id"]))
        self.input = environ["wsgi.input"]
        number_here.set(number)
        with lock:
            for kept, what, one in ((environs, "environ", environ), (inputs, "wsgi.input", self.input)):
                if id(one) in kept:
                    wrong.append(f"{number} has the {what} of another request")
                kept.add(id(one))
            if self.id in ids:
                wrong.append(f"{number} has the id of another request")
            ids.add(self.id)
            threads.add(threading.current_thread().name)

    def look(self, when: str) -> None:
        environ, number = self.environ, self.number
        shown = {
            "PATH_INFO": f"/own/{number}",
            "QUERY_STRING": f"n={number}",
            "REQUEST_URI": f"/own/{number}?n={number}",
            "HTTP_X_NUMBER": number,
            "HTTP_USER_AGENT": f"client {int(number) % 4}",
            "HTTP_X_N" + number: number,
            "REQUEST_METHOD": "POST" if int(number) % 2 else "GET",
            "fermata.request_id": self.id,
        }
        for key, value in shown.items():
            if environ.get(key) != value:
                with lock:
                    wrong.append(f"{when} {number} has {environ.get(key)!r} as its {key}")
        if number_here.get("none") != number:
            with lock:
                wrong.append(f"{when} {number} runs in the context of {number_here.get('none')}")

    def read(self) -> bytes:
        body: bytes = self.input.read()
        expected = f"body of {self.number}.".encode() * 20 if int(self.number) % 2 else b""
        if body != expected:
            with lock:
                wrong.append(f"{self.number} has another body: {body[:40]!r}")
        return f"own {self.number}".encode()

    def end(self) -> None:
        global served
        with lock:
            served += 1
            environs.discard(id(self.environ))
            inputs.discard(id(self.input))
            threads.add(threading.current_thread().name)


def steps(seen: Seen) -> Iterator[Any]:
    try:
        future: Future[None] = Future()
        waiting.put(future)
        yield future
        seen.look("resumed")
        answer = seen.read()
        yield answer[:2]
        seen.look("after a block")
        yield answer[2:]
    finally:
        seen.look("at the end")
        seen.end()


def app(environ: dict[str, Any], start_response: Any) -> Iterable[Any]:
    number = environ["PATH_INFO"].rpartition("/")[2]
    seen = Seen(environ, number)
    seen.look("at first")
    if int(number) % 200 == 7:
        time.sleep(0.02)  # with a GIL too, others go on in other threads
    start_response("200 OK", [("Content-Length", str(len(f"own {number}"))), ("X-Number", number)])
    if int(number) % 3 == 0:
        return steps(seen)
    answer = seen.read()
    seen.look("before it answers")
    seen.end()
    return [answer]
