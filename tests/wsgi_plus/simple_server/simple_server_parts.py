"""What the tests of simple_server in the process of the test share: applications, clients, a watched log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from byhand import BOUND, eventually
from harness.client import Connection
from wsgi_plus.simple_server import Server

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

TEXT = [("Content-Type", "text/plain")]


class Parks:
    """Waits for ``future``; notes what happens to it."""

    def __init__(self, *, first: bytes = b"") -> None:
        self.future: Future[Any] = Future()
        self.first = first
        self.notes: list[str] = []

    def __call__(self, _: Environ, start_response: StartResponse) -> Iterator[Any]:
        self.notes.append("called")
        try:
            start_response("200 OK", TEXT)
            if self.first:
                yield self.first
            yield self.future
            yield b"done"
        except GeneratorExit:
            self.notes.append("left")
            raise
        finally:
            self.notes.append("closed")

    def closed(self) -> bool:
        return "closed" in self.notes


def hello(_: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", TEXT)
    return [b"hello"]


def parked(server: Server, number: int = 1) -> None:
    eventually(lambda: len(server.parked()) == number, f"{number} requests are parked")


def connect(server: Server, **how: Any) -> Connection:
    return Connection(server.address, timeout=BOUND, **how)


def begin(server: Server, target: str = "/", **how: Any) -> Connection:
    c = connect(server, **how)
    c.send_request("GET", target)
    return c


@pytest.fixture(autouse=True)
def quiet(log: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged that a test does not look at."""
    yield
    assert [record.getMessage() for record in log.get_records("call")] == []
