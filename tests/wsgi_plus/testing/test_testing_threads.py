"""wsgi_plus.testing: threads and contexts of steps, what is behind middleware and frameworks, and races."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import Future

import pytest
from byhand import BOUND, Wrapper, at_once, done, eventually
from testing_parts import PLAIN, SOON, STARTED, Waits, answering, app, client
from wsgi_plus import WSGIPlusError, blocking, offload, validated, wait
from wsgi_plus.testing import (
    Block,
    Client,
    Closed,
    DeadlinePassed,
    Disconnected,
    Finished,
    MisuseError,
    Parked,
    Raised,
    Ready,
)

__all__ = ["app", "client"]  # fixtures

pytestmark = pytest.mark.filterwarnings("error")

ROUNDS = 200  # of a race


# Threads and contexts


number = contextvars.ContextVar("number", default=0)


def counting(environ, start_response):
    """S9.4: what a step has set the next one sees."""
    start_response("200 OK", PLAIN)
    number.set(number.get() + 1)
    try:
        yield done()
        number.set(number.get() + 1)
        yield Future()
    finally:
        environ["test.seen"].append(number.get())


@pytest.mark.parametrize("threads", [True, False])
def test_one_context_for_each_request(threads):
    """S9.4, S9.5: and close() is in it, too."""
    seen = []
    client = Client(counting, threads=threads, environ={"test.seen": seen})
    one, two = client.get("/"), client.get("/")
    one.disconnect()
    two.disconnect()
    assert seen == [2, 2]
    assert number.get() == 0


def where(environ, start_response):
    """The threads of its steps."""
    environ["test.seen"].append(threading.get_ident())
    yield Future()
    environ["test.seen"].append(threading.get_ident())
    start_response("200 OK", PLAIN)
    yield b""


def test_steps_run_in_threads_of_their_own():
    seen = []
    Client(where, environ={"test.seen": seen}).get("/").complete()
    assert len(seen) == 2
    assert threading.get_ident() not in seen


def test_steps_run_in_the_thread_of_the_test():
    seen = []
    Client(where, environ={"test.seen": seen}, threads=False).get("/").complete()
    assert seen == [threading.get_ident()] * 2


def test_a_step_that_blocks():
    """The mistake of mistakes, and where it is made."""
    future = Future()

    def application(environ, start_response):
        start_response("200 OK", PLAIN)
        future.result(BOUND)  # instead of a yield
        yield b"in vain"
        environ["test.seen"].append("went on")

    seen = []
    with pytest.raises(TimeoutError, match="(?s)GET /slow.* a step has not returned.*future.result"):
        Client(application, timeout=SOON, environ={"test.seen": seen}).get("/slow")
    future.set_result(None)
    eventually(lambda: not byname("wsgi_plus-testing"), "the step ends")
    assert seen == [], "it is closed, as the test does not have the request"


def byname(name):
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_a_close_that_blocks():
    """It is not asked for again."""
    gate, closed = threading.Event(), []

    class Body(Wrapper):
        def close(self):
            closed.append(True)
            assert gate.wait(BOUND)

    with pytest.raises(TimeoutError, match="(?s)a step has not returned.*gate.wait"):
        Client(answering(Body([b"x"])), timeout=SOON).get("/")
    with Client(answering(Body([Future()])), timeout=SOON) as client:
        request = client.get("/")
        with pytest.raises(TimeoutError):
            request.disconnect()
        assert not request.over
        gate.set()
        request.run(timeout=BOUND)
    assert closed == [True, True]


@pytest.mark.parametrize("then", ["yields", "ends", "raises"])
def test_the_server_ends_it_while_a_step_runs(then):
    """S12.4: the answer is there at once, what comes later is dropped, and close() follows."""
    gate, seen = threading.Event(), []
    error = ValueError("too late")

    def application(environ, start_response):
        write = start_response("200 OK", PLAIN)
        try:
            yield b""
            assert gate.wait(BOUND)
            with pytest.raises(RuntimeError, match="had been ended"):
                write(b"too late")
            if then == "raises":
                raise error
            if then == "yields":
                yield b"dropped"
                seen.append("went on")
        finally:
            seen.append("closed")

    request = Client(application, timeout=SOON, validate=False, raise_errors=False).get("/", begin=False)
    with pytest.raises(TimeoutError):
        request.resume()
    request.deadline()
    assert (request.status, request.over, seen) == ("504 Gateway Timeout", False, [])
    with pytest.raises(MisuseError, match="cannot go on$"):
        request.resume()
    gate.set()
    request.run(timeout=BOUND)
    assert (request.status, request.body, seen) == ("504 Gateway Timeout", b"", ["closed"])
    raised = [Raised(error)] if then == "raises" else []
    assert request.steps == [STARTED, Block(b""), DeadlinePassed(), *raised, Closed()]
    assert request.error is (error if raised else None)


def test_ended_during_the_call():
    """S7.2: what the call returns is closed and not iterated."""
    gate, seen = threading.Event(), []

    class Body:
        def __iter__(self):
            seen.append("iterated")
            return iter([b"x"])

        def close(self):
            seen.append("closed")

    def application(environ, start_response):
        assert gate.wait(BOUND)
        start_response_or_not(start_response)
        return Body()

    def start_response_or_not(start_response):
        with pytest.raises(RuntimeError):
            start_response("200 OK", PLAIN)

    request = Client(application, timeout=SOON, validate=False).get("/", begin=False)
    with pytest.raises(TimeoutError):
        request.resume()
    request.disconnect()
    gate.set()
    request.run(timeout=BOUND)
    assert seen == ["closed"]


def test_ended_from_within_a_step():
    """By something that the application calls: it takes effect when the step returns."""
    requests = []

    def application(environ, start_response):
        start_response("200 OK", PLAIN)
        requests[0].disconnect()
        yield b"dropped"
        requests.append("went on")

    client = Client(application)
    requests.append(client.get("/", begin=False))
    assert requests[0].resume().steps == [STARTED, Disconnected(), Closed()]
    assert len(requests) == 1


# Middleware and frameworks


def test_middleware(app):
    def shouting(app):
        class Body:
            def __init__(self, iterable):
                self.iterable, self.iterator = iterable, iter(iterable)

            def __iter__(self):
                return self

            def __next__(self):
                item = next(self.iterator)
                return item.upper() if isinstance(item, bytes) else item

            def close(self):
                self.iterable.close()

        return lambda environ, start_response: Body(app(environ, start_response))

    def joining(app):
        def wrapped(environ, start_response):
            yield b"".join(app(environ, start_response))

        return wrapped

    client = Client(validated(app, shouting))
    assert client.get("/").complete(b"1").complete(b"2").text == "ONE 1 TWO 2"
    with pytest.raises(WSGIPlusError, match="^S15.1: the middleware test_middleware.<locals>.joining"):
        Client(validated(Waits(), joining)).get("/")


def test_blocking_behind_it():
    def application(environ, start_response):
        answer = yield from wait(offload(str.upper, "answer"))
        start_response("200 OK", PLAIN)
        yield answer.encode()

    request = Client(blocking(application)).get("/")
    assert request.text == "ANSWER"
    assert not [step for step in request.steps if isinstance(step, (Parked, Ready))]


def test_flask():
    flask = pytest.importorskip("flask")
    app = flask.Flask("app")
    future = Future()

    @app.post("/echo/<name>")
    def echo(name):
        return {"name": name, "said": flask.request.get_json(), "query": flask.request.args["x"]}

    @app.get("/stream")
    def stream():
        def blocks():
            yield b"before "
            yield future
            yield future.result()

        return flask.Response(blocks(), mimetype="text/plain")

    client = Client(app)
    request = client.post("/echo/zoë?x=ü", json=[1])
    assert (request.status_code, request.json()) == (200, {"name": "zoë", "said": [1], "query": "ü"})
    assert request.headers["Content-Type"] == "application/json"
    request = client.get("/stream")
    assert (request.parked, request.body) == (future, b"before ")
    assert request.complete(b"after").body == b"before after"
    assert client.get("/no-such").status_code == 404


# Races


def test_disconnect_while_another_thread_runs_it():
    """Either comes first: the request ends once, is closed once, and no thread waits for ever."""
    for _ in range(ROUNDS):
        app = Waits()
        request = Client(app, threads=False).get("/")

        def complete(app=app):
            app.first.set_result(b"1")
            app.second.set_result(b"2")

        def end(request=request):
            try:
                request.disconnect()
            except MisuseError as error:
                assert "has ended" in str(error)

        at_once(lambda request=request: request.run(timeout=BOUND), complete, end)
        assert request.over
        assert request.steps.count(Closed()) == 1
        assert (Disconnected() in request.steps) != (Finished() in request.steps)
        assert app.seen.count("finally") == 1


def test_two_threads_go_on_at_once():
    for _ in range(ROUNDS):
        app = Waits()
        request = Client(app, threads=False).get("/")
        app.first.set_result(b"1")
        refused = []

        def go_on(request=request, refused=refused):
            try:
                request.resume()
            except MisuseError as error:
                refused.append(error)

        at_once(go_on, go_on)
        assert len(refused) == 1
        assert request.body == b"one 1"
        request.disconnect()


def test_two_threads_end_it_at_once():
    for _ in range(ROUNDS):
        app = Waits()
        request = Client(app, threads=False).get("/")
        refused = []

        def end(how, request=request, refused=refused):
            try:
                how()
            except MisuseError as error:
                refused.append(error)

        at_once(lambda: end(request.disconnect), lambda: end(request.deadline), lambda: end(request.shutdown))
        assert len(refused) == 2
        assert [type(seen) for seen in app.seen] == [GeneratorExit, str]
        assert len(request.steps) == 3


def test_many_requests_at_once():
    app = answering([b"x", done(), b"y"])
    client = Client(app)

    def requests():
        for _ in range(20):
            assert client.fetch("/").body == b"xy"

    at_once(*[requests] * 8)
