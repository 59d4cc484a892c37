"""wsgi_plus.testing: what it says of mistakes, of the application's and of the test's."""

from __future__ import annotations

import gc
import threading
import warnings
from concurrent.futures import Future

import pytest
import wsgi_plus.testing
from byhand import BOUND, Wrapper, done, running
from testing_parts import PLAIN, SOON, Waits, answering, app, client, hello
from wsgi_plus import WSGIPlusError, offload
from wsgi_plus.testing import (
    Client,
    Closed,
    Disconnected,
    Finished,
    MisuseError,
    Raised,
)

__all__ = ["app", "client"]  # fixtures

pytestmark = pytest.mark.filterwarnings("error")


# Mistakes of the application


def test_errors_are_raised_when_it_is_closed():
    closed = []

    class Body:
        def __iter__(self):
            raise ValueError("in iter")

        def close(self):
            closed.append(True)

    with pytest.raises(ValueError, match="in iter"):
        Client(answering(Body())).get("/")
    assert closed == [True]


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), StopIteration()])
def test_error_in_the_call(error):
    def application(environ, start_response):
        raise error

    with pytest.raises(type(error)) as caught:
        Client(application).get("/")
    assert caught.value is error
    request = Client(application, raise_errors=False).get("/")
    assert (request.error, request.status, request.steps) == (
        error,
        "500 Internal Server Error",
        [Raised(error), Closed()],
    )


def test_error_in_close():
    """S7.5: the response is what it was."""

    class Body(Wrapper):
        def close(self):
            raise ValueError("in close")

    with pytest.raises(ValueError, match="in close"):
        Client(answering(Body([b"x"]))).get("/")
    request = Client(answering(Body([b"x"])), raise_errors=False).get("/")
    assert isinstance(request.close_error, ValueError)
    assert (request.error, request.status, request.body, request.broken_off) == (None, "200 OK", b"x", False)
    with pytest.raises(TypeError, match="S1.3"):  # the first of two
        Client(answering(Body([5])), validate=False).get("/")


def test_the_validator_is_there():
    def application(environ, start_response):
        yield "text"

    with pytest.raises(WSGIPlusError, match="^S1.3: the application test_the_validator_is_there"):
        Client(application).get("/")


def once(*args):
    return lambda environ, start_response: [start_response("200 OK", PLAIN, *args), b"x"][1:]


def twice(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b""
    start_response("200 OK", PLAIN)


def late(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"begun"
    start_response("500 Oops", PLAIN, (LookupError, LookupError("the reason"), None))


def from_elsewhere(environ, start_response):
    write = start_response("200 OK", PLAIN)
    call = offload(write, b"x")
    yield call


@pytest.mark.parametrize(
    ("app", "error", "message"),
    [
        (answering(["text"]), TypeError, "S1.3: yielded str.* Encode text"),
        (answering([[done()]]), TypeError, "S1.3: yielded list.* one after the other"),
        (lambda environ, start_response: [b"x"], RuntimeError, "S6.1"),
        (lambda environ, start_response: [b""], RuntimeError, "S6.5"),
        (lambda environ, start_response: [done()], RuntimeError, "S6.5"),
        (twice, RuntimeError, "S6.4"),
        (late, LookupError, "the reason"),
        (from_elsewhere, RuntimeError, "S6.6: write.* another thread"),
        (lambda environ, start_response: [start_response("200 OK", PLAIN)(done())], TypeError, "S1.8"),
        (lambda environ, start_response: None, TypeError, "not iterable"),
    ],
)
def test_it_is_a_strict_server_itself(app, error, message):
    client = Client(app, validate=False)
    with pytest.raises(error, match=message):
        client.get("/").run(timeout=BOUND)


def test_start_response_between_two_steps():
    """S6.6: in the thread of the steps, too."""
    kept = []

    def application(environ, start_response):
        kept.append(start_response)
        yield Future()

    with (
        Client(application, validate=False, threads=False).get("/"),
        pytest.raises(RuntimeError, match="outside of a step"),
    ):
        kept[0]("200 OK", PLAIN)


def test_start_response_when_it_is_over():
    """S6.6"""
    kept = []

    def application(environ, start_response):
        kept.append(start_response)
        return hello(environ, start_response)

    Client(application, validate=False).get("/")
    with pytest.raises(RuntimeError, match="S6.6"):
        kept[0]("200 OK", PLAIN, (ValueError, ValueError(), None))


def test_futures_that_misbehave():
    """S5.9, S10.4"""

    class Liar(Future):
        def add_done_callback(self, fn):
            fn(self)

    class Refuses(Future):
        def add_done_callback(self, fn):
            raise LookupError("no callbacks")

    seen = []

    def application(environ, start_response):
        try:
            yield environ["test.future"]()
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    for kind, name in ((Liar, "TimeoutError"), (Refuses, "LookupError")):
        request = Client(application, raise_errors=False, environ={"test.future": kind}).get("/")
        assert type(request.error).__name__ == name
    assert seen == ["TimeoutError", "GeneratorExit"]


@pytest.mark.parametrize("item", [b"", b"x", done()])
def test_an_application_without_an_end(monkeypatch, item):
    monkeypatch.setattr(wsgi_plus.testing._request, "MANY", 1000)

    def application(environ, start_response):
        start_response("200 OK", PLAIN)
        while True:
            yield item

    with pytest.raises(MisuseError, match="1000 items without an end"):
        Client(application).get("/")
    with Client(application).get("/", begin=False) as request:
        request.step()
        with pytest.raises(MisuseError, match="1000 items without an end"):
            request.run()


# Mistakes of the test


def test_it_cannot_go_on_before_the_future_is_done(app, client):
    request = client.get("/")
    for go_on in (request.resume, request.step):
        with pytest.raises(MisuseError, match="GET /: not answered, parked on .*complete the future"):
            go_on()
    with pytest.raises(TimeoutError, match="GET /: not answered, parked on .* after 0.05 s"):
        request.run(timeout=SOON)
    with pytest.raises(TimeoutError):
        client.fetch("/", timeout=SOON)
    assert request.complete(b"1").complete(b"2").over


def test_it_cannot_go_on_when_it_is_over():
    request = Client(hello).get("/")
    for go_on in (request.resume, request.step, request.complete, request.cancel, lambda: request.fail(ValueError())):
        with pytest.raises(MisuseError, match="GET /: 200 OK, over> (cannot go on|is not parked on a future)$"):
            go_on()
    for end in (request.disconnect, request.deadline, request.shutdown):
        with pytest.raises(MisuseError, match="it has ended"):
            end()


def test_a_future_is_completed_once(app, client):
    request = client.get("/")
    app.first.set_result(b"1")
    for complete in (request.complete, lambda: request.fail(ValueError()), request.cancel):
        with pytest.raises(MisuseError, match="is done already|cannot be cancelled"):
            complete()
    assert request.resume().body == b"one 1"


def test_a_future_that_cannot_be_cancelled():
    app = Waits()
    app.first = running()
    with Client(app) as client, pytest.raises(MisuseError, match="cannot be cancelled"):
        client.get("/").cancel()


def test_a_path():
    with pytest.raises(MisuseError, match="'http://x/' does not begin with"):
        Client(hello).get("http://x/")


def test_one_step_at_a_time(app):
    gate, inside = threading.Event(), threading.Event()

    def application(environ, start_response):
        inside.set()
        assert gate.wait(BOUND)
        return hello(environ, start_response)

    request = Client(application, timeout=BOUND).get("/", begin=False)
    step = threading.Thread(target=request.resume)
    step.start()
    assert inside.wait(BOUND)
    with pytest.raises(MisuseError, match="a step of it is running"):
        request.resume()
    gate.set()
    step.join(BOUND)
    assert request.text == "hello world"


# Ends that are not forgotten


def test_with(app):
    with Client(app).get("/") as request:
        assert request.parked is app.first
    assert request.steps[-2:] == [Disconnected(), Closed()]
    with Client(hello).get("/") as request:
        pass
    assert request.steps[-2:] == [Finished(), Closed()]
    with Client(app) as client:
        requests = [client.get("/") for _ in range(3)]
        requests[0].disconnect()
    assert all(request.over for request in requests)


def test_a_request_that_is_forgotten(app):
    """It is closed, and that is said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Client(app).get("/forgotten")
        gc.collect()
    assert [type(seen) for seen in app.seen] == [GeneratorExit, str]
    (warning,) = caught
    assert warning.category is ResourceWarning
    assert "<GET /forgotten: not answered, parked on" in str(warning.message)


def test_nobody_is_told_of_a_request_that_had_not_begun():
    Client(hello).get("/", begin=False)
    gc.collect()
