"""simple_server where several threads are at one request: futures, clients, deadlines, the end (S7 to S12, S18).

Whatever the order, a request has one fate: its steps do not overlap, close() runs once and last, and nothing is left.
"""

from __future__ import annotations

import contextvars
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any

import pytest
from byhand import BOUND, at_once, eventually
from harness.client import Connection, Truncated
from wsgi_plus.simple_server import Connection as SimpleConnection
from wsgi_plus.simple_server import Server, Wait

TAG: contextvars.ContextVar[str] = contextvars.ContextVar("tag", default="")
TEXT = [("Content-Type", "text/plain")]


@pytest.fixture(autouse=True)
def quiet(log: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged that a test does not look at."""
    yield
    assert [record.getMessage() for record in log.get_records("call")] == []


class Completer:
    """Threads that complete futures as soon as they get them, or a moment later."""

    def __init__(self, number: int) -> None:
        self.queue: SimpleQueue[Future[Any] | None] = SimpleQueue()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(number)]

    def __enter__(self) -> Completer:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for _thread in self.threads:
            self.queue.put(None)
        for started in self.threads:
            started.join(BOUND)

    def run(self) -> None:
        dice = random.Random()
        while (future := self.queue.get()) is not None:
            if dice.random() < 0.3:
                time.sleep(dice.random() * 0.002)
            complete(future, dice)


def complete(future: Future[Any], dice: random.Random) -> None:
    if dice.random() < 0.2:
        future.set_exception(ValueError("failed on purpose"))
    elif dice.random() < 0.1:
        future.cancel()
    else:
        future.set_result(None)


class Restless(Future[Any]):
    """Done before, while or after its callback is registered, which is then called twice."""

    def __init__(self, dice: random.Random, queue: SimpleQueue[Any]) -> None:
        super().__init__()
        self.dice, self.queue = dice, queue

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        how = self.dice.randrange(4)
        if how == 0:
            complete(self, self.dice)
        if how == 1:
            self.queue.put(self)
        super().add_done_callback(fn)
        if how == 2:
            complete(self, self.dice)
            fn(self)
        if how == 3:
            self.queue.put(self)
            time.sleep(self.dice.random() * 0.0005)


class Watched:
    """The body of a request: it looks whether its steps overlap, whose context they run in, and how it ends."""

    def __init__(self, tag: str, items: Iterator[Any]) -> None:
        self.tag, self.items = tag, items
        self.inside = threading.Lock()
        self.wrong: list[str] = []
        self.fate = ""
        self.closed = 0
        TAG.set(tag)

    def __iter__(self) -> Watched:
        return self

    def __next__(self) -> Any:
        return self.step(lambda: next(self.items))

    def throw(self, error: BaseException) -> Any:
        return self.step(lambda: next(self.items))  # caught

    def step(self, run: Callable[[], Any]) -> Any:
        if not self.inside.acquire(blocking=False):
            self.wrong.append("steps overlap")
        try:
            if self.closed or TAG.get() != self.tag:
                self.wrong.append(f"closed {self.closed}, in the context of {TAG.get()}")
            return run()
        except StopIteration:
            self.fate = "ended"
            raise
        finally:
            self.inside.release()

    def close(self) -> None:
        if not self.inside.acquire(blocking=False) or TAG.get() != self.tag:
            self.wrong.append("close() overlaps a step, or is in another context")
        self.closed += 1
        self.fate = self.fate or "left"
        self.inside.release()


class Crowd:
    """An application whose requests wait for many futures, and an account of what has become of them."""

    def __init__(self, queue: SimpleQueue[Any]) -> None:
        self.queue = queue
        self.bodies: list[Watched] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Watched:
        tag = environ["PATH_INFO"] + environ["QUERY_STRING"]
        body = Watched(tag, self.items(random.Random(tag), start_response))
        self.bodies.append(body)
        return body

    def items(self, dice: random.Random, start_response: Callable[..., Any]) -> Iterator[Any]:
        start_response("200 OK", TEXT)
        for number in range(30):
            future = Restless(dice, self.queue) if dice.random() < 0.7 else Future()
            if not isinstance(future, Restless):
                self.queue.put(future)
            yield future
            if number % 10 == 9:
                yield b"%d " % number

    def check(self, server: Server) -> Counter[str]:
        """Waits until nothing is left, and looks at all."""
        eventually(lambda: not server.requests, "all requests are over")
        assert [wrong for body in self.bodies for wrong in body.wrong] == []
        assert [body.closed for body in self.bodies] == [1] * len(self.bodies)
        assert server.parked() == []
        return Counter(body.fate for body in self.bodies)


WHOLE = b"9 19 29 "


@pytest.fixture
def server() -> Iterator[Server]:
    with Completer(3) as completer:
        app = Crowd(completer.queue)
        with Server(app, threads=3) as server:
            yield server
            app.check(server)


def crowd(server: Server) -> Crowd:
    assert isinstance(server.app, Crowd)
    return server.app


def in_threads(number: int, run: Callable[[int], object]) -> None:
    at_once(*(partial(run, n) for n in range(number)))


def test_each_future_resumes_once(server: Server) -> None:
    """S3, S10: whenever and wherever futures are done, each response is whole."""

    def client(number: int) -> None:
        with Connection(server.address, timeout=BOUND) as c:
            for n in range(15):
                assert c.request("GET", f"/{number}?{n}").body == WHOLE

    in_threads(6, client)
    assert crowd(server).check(server) == {"ended": 90}


def test_clients_that_leave_at_any_moment(server: Server) -> None:
    """S8, S10: half of the clients leave, by a reset or an orderly end, while futures are completed."""

    def client(number: int) -> None:
        dice = random.Random(number)
        for n in range(20):
            with Connection(server.address, timeout=BOUND) as c:
                c.send_request("GET", f"/{number}?{n}")
                if dice.random() < 0.5:
                    assert c.read_response().body == WHOLE
                    continue
                time.sleep(dice.random() * 0.02)
                c.reset() if dice.random() < 0.5 else c.close()

    in_threads(6, client)
    fates = crowd(server).check(server)
    assert fates["ended"] >= 40 and set(fates) <= {"ended", "left"}


def test_deadlines_at_any_moment(log: pytest.LogCaptureFixture) -> None:
    """S12: futures that are done about when the deadline is: the response is whole, or 504, or broken off."""
    with Completer(3) as completer:
        app = Crowd(completer.queue)
        with Server(app, threads=3, request_timeout=0.05) as server:
            seen: SimpleQueue[str] = SimpleQueue()

            def client(number: int) -> None:
                for n in range(15):
                    with Connection(server.address, timeout=BOUND) as c:
                        c.send_request("GET", f"/{number}?{n}")
                        seen.put(outcome(c))

            in_threads(8, client)
            app.check(server)
    assert {record.msg for record in log.records} <= {"%s is still running at its deadline:\n%s"}
    log.clear()
    outcomes = Counter(seen.get() for _ in range(seen.qsize()))
    assert sum(outcomes.values()) == 120 and set(outcomes) <= {"whole", "504", "broken off"}


def outcome(c: Connection) -> str:
    try:
        answer = c.read_response()
    except (Truncated, ConnectionResetError):
        return "broken off"
    if answer.status == 200:
        assert answer.body == WHOLE
        return "whole"
    assert answer.status == 504
    return "504"


class Brisk(SimpleConnection):
    LINGER = 0.05


class BriskServer(Server):
    connection_class = Brisk


def test_shutdown_at_any_moment(log: pytest.LogCaptureFixture) -> None:
    """S18: requests that are in every state when the time for the drain is over."""
    with Completer(2) as completer:
        app = Crowd(completer.queue)
        for round_ in range(5):
            server = BriskServer(app, threads=2, graceful_timeout=0.01 * round_)
            held = []
            with server:
                for n in range(30):
                    held.append(Connection(server.address, timeout=BOUND))
                    held[-1].send_request("GET", f"/{round_}?{n}")
            for c in held:
                c.close()
            app.check(server)
    assert {record.msg for record in log.records} <= {"%s is left behind, still running:\n%s"}
    log.clear()


def test_futures_shared_by_requests_that_leave() -> None:
    """S8.4, S20: a future that many wait for: those that have left are not resumed, the others are, each once."""
    bodies: list[Watched] = []
    shared = [Future[Any]() for _ in range(10)]

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Watched:
        def items() -> Iterator[Any]:
            yield shared[int(environ["QUERY_STRING"])]
            start_response("200 OK", TEXT)
            yield b"done"

        bodies.append(Watched(environ["PATH_INFO"], items()))
        return bodies[-1]

    with Server(app, threads=2) as server:
        for number, future in enumerate(shared):
            held = [Connection(server.address, timeout=BOUND) for _ in range(20)]
            for n, c in enumerate(held):
                c.send_request("GET", f"/{number}-{n}?{number}")
            eventually(lambda: len(server.parked()) == 20, "all are parked")
            assert {one for _, one in server.parked()} == {future}
            at_once(partial(future.set_result, None), *(c.close for c in held[::2]))
            for c in held[1::2]:
                assert c.read_response().body == b"done"
                c.close()
        eventually(lambda: not server.requests, "all requests are over")
    assert [body.wrong for body in bodies] == [[]] * 200
    assert [body.closed for body in bodies] == [1] * 200


class Queue:
    """A run queue that counts."""

    def __init__(self) -> None:
        self.run_queue = self
        self.got: list[object] = []

    def put(self, request: object) -> None:
        self.got.append(request)


class Parking:
    def __init__(self) -> None:
        self.server = Queue()


def test_wait_gives_the_request_to_one() -> None:
    """S10.3: three that wake it and the thread that parks it, all at once: it is resumed once."""
    for _ in range(500):
        request: Any = Parking()
        wait = Wait(request, for_client=False)
        stays: list[bool] = []
        at_once(wait, wait, wait, lambda: stays.append(wait.let_go()))  # noqa: B023
        assert len(request.server.got) == (1 if stays == [True] else 0)
        assert not wait.parked


@pytest.mark.parametrize("first", ["wakes", "lets go"])
def test_wait_in_either_order(first: str) -> None:
    """S10.1: who comes last has the request."""
    request: Any = Parking()
    wait = Wait(request, for_client=False)
    if first == "wakes":
        wait()
        assert request.server.got == [] and wait.let_go() is False
    else:
        assert wait.let_go() is True and wait.parked
        wait()
        assert request.server.got == [request]
    wait()
    assert len(request.server.got) == (first == "lets go")
