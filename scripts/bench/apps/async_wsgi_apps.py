"""The WSGI+ applications that are measured: generators that yield futures.  No dependency, except that `proxy` has one.

    futures   answers after 100 ms
    proxy     answers with what the upstream UPSTREAM=HOST:PORT says
    park      /park waits until a client asks for /release; /parked says how many wait; anything else says hello
    sse       a stream of events, one a second
    queue     /compute/N waits as at /park and then computes for N microseconds, /nap/N sleeps for them; /worked says how many
              have ended; the rest as with park
    hog       /burn computes for BURN_SECONDS (2); anything else says hello

starlette_app.py is the same for an ASGI server.
"""

import asyncio
import functools
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
T = TypeVar("T")

TEXT = ("Content-Type", "text/plain")
HELLO = b"Hello, world!\n"


def once(make: Callable[[], T]) -> Callable[[], T]:
    """Make it when it is first asked for, and not twice if two threads ask at the same time."""
    lock = threading.Lock()
    made: list[T] = []

    @functools.wraps(make)
    def get() -> T:
        if not made:
            with lock:
                if not made:
                    made.append(make())
        return made[0]

    return get


def start_thread(run: Callable[[], None]) -> None:
    threading.Thread(target=run, name=run.__qualname__, daemon=True).start()


def answer(start_response: StartResponse, body: bytes) -> Iterable[bytes]:
    start_response("200 OK", [TEXT, ("Content-Length", str(len(body)))])
    return [body]


# ---- futures ----


class Timer:
    """Completes futures after a delay that is the same for all, so that the first to come is the first to go."""

    DELAY = 0.1
    TURN = 0.001  # asyncio does not wait for less than a millisecond either

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[float, Future[None]]] = queue.SimpleQueue()
        start_thread(self._run)

    def sleep(self) -> "Future[None]":
        future: Future[None] = Future()
        self._queue.put((time.monotonic() + self.DELAY, future))
        return future

    def _run(self) -> None:
        while True:
            due, future = self._queue.get()
            left = due - time.monotonic()
            if left > 0:
                time.sleep(max(left, self.TURN))
            future.set_result(None)


timer = once(Timer)


def futures(environ: Environ, start_response: StartResponse) -> Iterator["bytes | Future[None]"]:
    yield timer().sleep()
    start_response("200 OK", [TEXT, ("Content-Length", "14")])
    yield HELLO


# ---- proxy ----

Fetched = tuple[int, str, bytes]


class Fetcher:
    """An HTTP client in the thread of an event loop.

    What the application's threads ask for is put on a list.  The loop is woken for the first and takes all that there
    is: under load far fewer wake-ups than requests, which run_coroutine_threadsafe() would have one each of.
    """

    def __init__(self) -> None:
        from http_client import new_event_loop

        self._asked: deque[tuple[str, Future[Fetched]]] = deque()
        self._woken = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = new_event_loop()
        start_thread(self._run)

    def fetch(self, path: str) -> "Future[Fetched]":
        """In any thread."""
        future: Future[Fetched] = Future()
        self._asked.append((path, future))
        # Set by two threads at the same time it wakes twice, which is harmless.  The loop takes it back before it
        # looks at the list, so what was put there while it was set is seen.
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._take)
        return future

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._open())
        self._loop.run_forever()

    async def _open(self) -> None:
        from http_client import new_client

        self._client = new_client()

    def _take(self) -> None:
        self._woken = False
        while self._asked:
            task = self._loop.create_task(self._fetch(*self._asked.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _fetch(self, path: str, future: "Future[Fetched]") -> None:
        try:
            fetched = await self._client.fetch(path)
        except Exception as error:  # noqa: BLE001 - whatever it is, who asked is told
            future.set_exception(error)
        else:
            future.set_result(fetched)


fetcher = once(Fetcher)


def proxy(environ: Environ, start_response: StartResponse) -> Iterator["bytes | Future[Fetched]"]:
    future = fetcher().fetch(environ["PATH_INFO"])
    try:
        yield future
    except Exception as error:  # noqa: BLE001
        start_response("502 Bad Gateway", [TEXT])
        yield f"{error!r}\n".encode()
        return
    status, content_type, body = future.result()
    start_response(f"{status} Upstream", [("Content-Type", content_type), ("Content-Length", str(len(body)))])
    yield body


# ---- park ----


class Gate:
    """All wait for one future until it is opened; then there is a new one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: Future[None] = Future()
        self.waiting = 0
        self.worked: list[None] = []

    def enter(self) -> "Future[None]":
        with self._lock:
            self.waiting += 1
            return self._opened

    def leave(self) -> None:
        with self._lock:
            self.waiting -= 1

    def open(self) -> None:
        with self._lock:
            opened, self._opened = self._opened, Future()
        opened.set_result(None)


gate = Gate()


def wait_at_gate(start_response: StartResponse) -> Iterator["bytes | Future[None]"]:
    future = gate.enter()
    try:
        yield future
    finally:
        gate.leave()
    start_response("200 OK", [TEXT, ("Content-Length", "14")])
    yield HELLO


def park(environ: Environ, start_response: StartResponse) -> Iterable["bytes | Future[None]"]:
    path = environ["PATH_INFO"]
    if path == "/park":
        return wait_at_gate(start_response)
    if path == "/parked":
        return answer(start_response, b"%d" % gate.waiting)
    if path == "/release":
        gate.open()
    return answer(start_response, HELLO)


# ---- queue ----


def work(start_response: StartResponse, how: str, seconds: float) -> Iterator["bytes | Future[None]"]:
    """Waits with all others, and then has something to do."""
    future = gate.enter()
    try:
        yield future
    finally:
        gate.leave()
    if how == "nap":
        time.sleep(seconds)
    else:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass
    start_response("200 OK", [TEXT, ("Content-Length", "14")])
    gate.worked.append(None)  # append is atomic
    yield HELLO


def queue_app(environ: Environ, start_response: StartResponse) -> Iterable["bytes | Future[None]"]:
    path = environ["PATH_INFO"]
    if path.startswith(("/compute/", "/nap/")):
        _, how, microseconds = path.split("/")
        return work(start_response, how, int(microseconds) / 1e6)
    if path == "/worked":
        return answer(start_response, b"%d" % len(gate.worked))
    return park(environ, start_response)


# ---- sse ----


class Ticker:
    """Makes an event every second, which says when that was.  An event has the future of the next."""

    def __init__(self) -> None:
        self.next: Future[Tick] = Future()
        start_thread(self._run)

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            due += 1
            time.sleep(max(0, due - time.monotonic()))
            this, self.next = self.next, Future()
            this.set_result((b"data: %d\n\n" % time.monotonic_ns(), self.next))


Tick = tuple[bytes, "Future[Tick]"]

ticker = once(Ticker)


def sse(environ: Environ, start_response: StartResponse) -> Iterator["bytes | Future[Tick]"]:
    future = ticker().next
    start_response("200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")])
    yield b": welcome\n\n"
    while True:
        yield future
        event, future = future.result()
        yield event


# ---- hog ----


def hog(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/burn":
        end = time.monotonic() + float(os.environ.get("BURN_SECONDS", "2"))
        n = 0
        while time.monotonic() < end:
            n += 1
    return answer(start_response, HELLO)
