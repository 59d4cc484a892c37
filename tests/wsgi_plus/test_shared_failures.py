"""A failed future that many wait for: none of them adds to the traceback that the others find (S5)."""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http.client import HTTPConnection
from typing import Any

import pytest
from flask import Flask
from wsgi_plus import _outcome as outcomes
from wsgi_plus import blocking, first, gather, settled, shield, suspends, timeout, wait
from wsgi_plus.flask import suspending
from wsgi_plus.simple_server import Server
from wsgi_plus.testing import Client

MANY = 50


def shared() -> Future[Any]:
    future: Future[Any] = Future()
    try:
        raise LookupError("shared")
    except LookupError as error:
        future.set_exception(error)
    return future


def length(error: BaseException) -> int:
    return len(traceback.extract_tb(error.__traceback__))


WAITS: dict[str, Callable[[Future[Any]], Any]] = {
    "wait": wait,
    "gather": lambda fut: gather(Future(), fut),
    "timeout": lambda fut: timeout(100, fut),
    "of settled": lambda fut: wait_for_result(settled(fut)),
    "of first": lambda fut: wait_for_result(first(fut)),
    "shielded": lambda fut: wait(shield(fut)),
    "gather of shields": lambda fut: gather(shield(fut), Future()),
    "timeout of a shield": lambda fut: timeout(100, shield(fut)),
}


def wait_for_result(waits: Any) -> Iterator[Any]:
    fut = yield from waits
    yield from wait(fut)


def by_a_server(waits: Iterator[Any]) -> None:
    """One that throws."""
    for _ in blocking(lambda *_: waits)({}, lambda *_: None):
        pass


def by_next(waits: Iterator[Any]) -> None:
    """One that knows nothing of futures: the helpers wait themselves."""
    for _ in waits:
        pass


@pytest.mark.parametrize("run", [by_a_server, by_next])
@pytest.mark.parametrize("name", WAITS)
def test_each_helper(name: str, run: Callable[[Iterator[Any]], None]) -> None:
    """Whichever helper raises it, in whichever request: it is as long for the last one as for the first."""
    fut, found = shared(), []
    for _ in range(MANY):
        with pytest.raises(LookupError) as raised:
            run(WAITS[name](fut))
        found.append(length(raised.value))
    assert found == found[:1] * MANY


def application(fut: Future[Any], found: list[int]) -> Any:
    def app(environ: Any, start_response: Any) -> Iterator[Any]:
        try:
            yield fut
        except LookupError as error:
            found.append(length(error))
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"done"

    return app


def plainly(app: Any) -> None:
    assert b"".join(blocking(app)({}, lambda *_: None)) == b"done"


def test_blocking() -> None:
    fut, found = shared(), []  # type: ignore[var-annotated]
    app = application(fut, found)
    for _ in range(MANY):
        plainly(app)
    assert found == found[:1] * MANY


def test_testing() -> None:
    fut, found = shared(), []  # type: ignore[var-annotated]
    client = Client(application(fut, found))
    for _ in range(MANY):
        assert client.get("/").text == "done"
    assert found == found[:1] * MANY


def test_simple_server() -> None:
    fut, found = shared(), []  # type: ignore[var-annotated]
    with Server(application(fut, found)) as server:
        connection = HTTPConnection(*server.address)
        for _ in range(MANY):
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"done"
        connection.close()
    assert found == found[:1] * MANY
    assert length(fut.exception()) == 1  # type: ignore[arg-type]  # as it was


def test_throws_of_several_threads() -> None:
    """In whatever order they end, the exception has what it had before the first of them."""
    error = shared().exception()
    assert error is not None

    def grow() -> None:
        with pytest.raises(LookupError):
            raise error

    for order in itertools.permutations(range(3)):
        throws = []
        for _ in range(3):
            throws.append(outcomes.Throw(error))
            assert length(error) == 1
            grow()
        for number in order:
            throws[number].over()
            assert length(error) == 1
            grow()
        error.with_traceback(error.__traceback__.tb_next)  # type: ignore[union-attr]  # what grow() has added
        outcomes.Throw(error).over()
        assert length(error) == 1
    assert not outcomes.Throw._under_way


def test_suspends() -> None:
    """Called by code that does not know futures, a view waits in the thread."""
    fut, found = shared(), []  # type: ignore[var-annotated]

    @suspends
    def view() -> Iterator[Any]:
        try:
            yield fut
        except LookupError as error:
            found.append(length(error))

    for _ in range(MANY):
        view()
    assert found == found[:1] * MANY


def test_streams_of_flask() -> None:
    fut, found = shared(), []  # type: ignore[var-annotated]
    app = Flask(__name__)

    @app.get("/")
    def stream() -> Any:
        return application(fut, found)({}, lambda *_: None), {"Content-Type": "text/plain"}

    client = Client(suspending(app))
    for _ in range(MANY):
        assert client.get("/").text == "done"
    assert found == found[:1] * MANY


def test_future_that_makes_its_exceptions() -> None:
    """A note of one exception says nothing about another one."""

    class Making(Future[Any]):
        def exception(self, timeout: float | None = None) -> BaseException:
            return LookupError("made")

    fut = Making()
    fut.set_result(None)
    one, two = outcomes.failure(fut), outcomes.failure(fut)
    assert one is not two
    for error in (one, two):
        with pytest.raises(LookupError):
            raise error  # type: ignore[misc]
    assert outcomes.failure(fut).__traceback__ is None  # type: ignore[union-attr]


def test_note_is_the_first_one() -> None:
    """What has been raised elsewhere afterwards does not count."""
    fut = shared()
    error = outcomes.failure(fut)
    before = length(error)  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(LookupError):
            fut.result()
    assert length(error) > before  # type: ignore[arg-type]
    assert length(outcomes.failure(fut)) == before  # type: ignore[arg-type]
