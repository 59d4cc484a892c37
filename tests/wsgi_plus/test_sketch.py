"""The scheduler that the specification shows in "The server's side" is right: it is run here as it stands there."""

from __future__ import annotations

import collections
import contextvars
import queue
import re
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from harness.limits import ROOT

TEXT = (ROOT / "spec" / "wsgi-plus.md").read_text()
(CODE,) = (code for code in re.findall(r"```python\n(.*?)```", TEXT, re.S) if "RUN_QUEUE" in code)


class Request:
    """What the sketch takes from elsewhere: here it notes what becomes of it."""

    def __init__(self, scheduler: Scheduler, application: Callable[..., Any]) -> None:
        self.application, self.environ = application, {"request": self}
        self.context = contextvars.Context()
        self.iterable = self.iterator = self.future = self.wait = self.owner = None
        self.ended = self.no_more_data = False
        self.notes: list[Any] = []
        self._scheduler = scheduler

    def start_response(self, status: str) -> None:
        self._scheduler.code.check_step(self)
        self.notes.append(status)

    def send(self, block: bytes) -> None:
        self.notes.append(block)

    def flush(self) -> None:
        self.notes.append("flush")

    def complete(self) -> None:
        self.notes.append("complete")

    def fail(self) -> None:
        self.notes.append("fail")

    def close(self) -> None:
        self.notes.append("close")
        if hasattr(self.iterable, "close"):
            self.iterable.close()


class Scheduler:
    """The sketch, with a queue; ``run`` is what its pool threads do, until the queue is empty."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        names: dict[str, Any] = {
            "RUN_QUEUE": self.queue,
            "collections": collections,
            "threading": threading,
            "Future": Future,
        }
        exec(CODE, names)
        self.code = SimpleNamespace(**names)

    def begin(self, application: Callable[..., Any]) -> Request:
        request = Request(self, application)
        self.queue.put(request)
        return request

    def run(self) -> None:
        while not self.queue.empty():
            self.code.step(self.queue.get())


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler()


def parks(fut: Future[Any]) -> Callable[..., Iterator[Any]]:
    def application(environ: Any, start_response: Any) -> Iterator[Any]:
        try:
            yield b"first"
            yield fut
            start_response("200 OK")
            yield b"second"
        except GeneratorExit:
            environ["request"].notes.append("left")
            raise

    return application


def test_a_request_parks_and_goes_on(scheduler: Scheduler) -> None:
    fut: Future[None] = Future()
    request = scheduler.begin(parks(fut))
    scheduler.run()
    assert request.notes == [b"first", "flush"]
    fut.set_result(None)
    scheduler.run()
    assert request.notes == [b"first", "flush", "200 OK", b"second", "complete", "close"]


def test_a_failure_is_thrown(scheduler: Scheduler) -> None:
    fut: Future[None] = Future()
    request = scheduler.begin(parks(fut))
    scheduler.run()
    fut.set_exception(OSError())
    scheduler.run()
    assert request.notes == [b"first", "flush", "fail", "close"]


@pytest.mark.parametrize("how", ["end", "end_of_data"])
def test_a_parked_request_is_ended(scheduler: Scheduler, how: str) -> None:
    """Once, and the future that is done later finds nothing (S8.4)."""
    fut: Future[None] = Future()
    request = scheduler.begin(parks(fut))
    scheduler.run()
    getattr(scheduler.code, how)(request)
    getattr(scheduler.code, how)(request)
    scheduler.run()
    assert request.notes == [b"first", "flush", "close", "left"]
    fut.set_result(None)
    assert scheduler.queue.empty()


def test_the_end_of_data_does_not_end_what_is_queued(scheduler: Scheduler) -> None:
    """S8.6: it goes on, and gets its response."""

    def application(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK")
        return [b"block"]

    request = scheduler.begin(application)
    scheduler.code.end_of_data(request)
    scheduler.run()
    assert request.notes == ["200 OK", b"block", "complete", "close"]


@pytest.mark.parametrize("done", [False, True])
def test_the_end_of_data_while_a_step_runs(scheduler: Scheduler, done: bool) -> None:
    """S8.6: if it then parks on a future it is ended (S8.5), and not if that is done already."""
    fut: Future[None] = Future()
    if done:
        fut.set_result(None)

    def application(environ: Any, start_response: Any) -> Iterator[Any]:
        scheduler.code.end_of_data(environ["request"])
        yield from parks(fut)(environ, start_response)

    request = scheduler.begin(application)
    scheduler.run()
    ended = [b"first", "flush", "close", "left"]
    assert request.notes == ([b"first", "200 OK", b"second", "complete", "close"] if done else ended)


def test_the_end_of_data_between_resumes(scheduler: Scheduler) -> None:
    """A request that has been woken is not parked: its step runs."""
    fut: Future[None] = Future()
    request = scheduler.begin(parks(fut))
    scheduler.run()
    fut.set_result(None)
    scheduler.code.end_of_data(request)
    scheduler.run()
    assert request.notes[-2:] == ["complete", "close"]


def test_start_response_is_for_the_thread_of_the_step(scheduler: Scheduler) -> None:
    """S6.6: not for another while a step runs, nor for any when the request is parked, closed or over."""
    said: list[str] = []

    def attempt(request: Request) -> None:
        try:
            request.start_response("200 Stolen")
            said.append("taken")
        except RuntimeError:
            said.append("refused")

    class Body(Generator[Any, None, None]):
        def __init__(self, request: Request) -> None:
            self.request, self.items = request, iter([fut])

        def send(self, _: None) -> Any:
            other = threading.Thread(target=attempt, args=[self.request])
            other.start()
            other.join()
            return next(self.items)

        def throw(self, *_: Any) -> Any:
            raise StopIteration

        def close(self) -> None:
            attempt(self.request)

    fut: Future[None] = Future()
    request = scheduler.begin(lambda environ, _: Body(environ["request"]))
    scheduler.run()
    attempt(request)
    fut.set_result(None)
    scheduler.run()
    attempt(request)
    assert said == ["refused"] * 5 and request.notes == ["flush", "complete", "close"]
