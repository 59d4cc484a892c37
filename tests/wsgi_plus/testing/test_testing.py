"""wsgi_plus.testing: drives an application as a server does, and says so when it is driven wrongly."""

from __future__ import annotations

import doctest
import sys
from concurrent.futures import CancelledError, Future

import pytest
import wsgi_plus.testing
from byhand import BOUND, Wrapper, at_once, cancelled, done, failed
from testing_parts import PLAIN, STARTED, Waits, answering, app, client, hello
from wsgi_plus import gather, offload, sleep, wait
from wsgi_plus.testing import (
    Block,
    Client,
    Closed,
    DeadlinePassed,
    Disconnected,
    Failed,
    Finished,
    Parked,
    Raised,
    Ready,
    Resumed,
    ShutDown,
    Started,
    Written,
)

__all__ = ["app", "client"]  # fixtures

pytestmark = pytest.mark.filterwarnings("error")


def test_documentation():
    failures, tests = doctest.testmod(wsgi_plus.testing, optionflags=doctest.ELLIPSIS)
    assert tests > 10
    assert failures == 0


# The story of a request


def test_it_ends_at_once():
    request = Client(hello).get("/")
    assert (request.status, request.status_code, request.body, request.text) == (
        "200 OK",
        200,
        b"hello world",
        "hello world",
    )
    assert request.steps == [STARTED, Block(b"hello "), Block(b"world"), Finished(), Closed()]
    assert request.blocks == [b"hello ", b"world"]
    assert request.headers["content-type"] == "text/plain"
    assert request.headers.items() == PLAIN
    assert request.over
    assert request.begun
    assert not request.broken_off
    assert request.parked is request.error is request.close_error is None
    assert repr(request) == "<GET /: 200 OK, over>"


def test_it_waits_and_goes_on(app, client):
    request = client.get("/x?y=1")
    assert request.parked is app.first
    assert not request.over
    assert not request.begun
    assert request.status is request.status_code is None
    assert repr(request).startswith("<GET /x?y=1: not answered, parked on <Future")
    app.first.set_result(b"1")
    assert request.parked is app.first, "nothing happens before it is resumed"
    assert request.resume() is request
    assert request.parked is app.second
    assert (request.status, request.body, request.begun, request.over) == ("200 OK", b"one 1", True, False)
    assert request.complete(b"2") is request
    assert request.body == b"one 1 two 2"
    assert request.steps == [
        Parked(app.first),
        Resumed(app.first),
        STARTED,
        Block(b"one 1"),
        Parked(app.second),
        Resumed(app.second),
        Block(b" two 2"),
        Finished(),
        Closed(),
    ]
    assert app.seen == ["finally"]


def test_step_by_step(app, client):
    request = client.get("/", begin=False)
    assert (request.steps, request.parked, request.over) == ([], None, False)
    assert repr(request) == "<GET /: not answered, in progress>"
    assert request.step() == Parked(app.first)
    app.first.set_result(b"1")
    assert request.step() == Block(b"one 1")
    assert request.parked is None
    app.second.set_result(b"2")
    assert request.step() == Ready(app.second)
    assert request.parked is app.second
    assert request.step() == Block(b" two 2")
    assert request.step() == Closed()
    assert request.steps[-2:] == [Finished(), Closed()]
    assert request.over


def test_a_step_and_then_the_rest():
    request = Client(hello).get("/", begin=False)
    assert request.step() == Block(b"hello ")
    assert request.resume().text == "hello world"


def test_it_fails(app, client):
    """S5: the very exception is thrown at the yield."""
    error = OSError("refused")
    request = client.get("/")
    with pytest.raises(OSError) as caught:
        request.fail(error)
    assert caught.value is error
    assert app.seen == [error, "finally"]
    assert request.steps == [Parked(app.first), Failed(app.first, error), Raised(error), Closed()]
    assert (request.error, request.status, request.body) == (error, "500 Internal Server Error", b"")
    assert not request.broken_off


def test_it_fails_after_it_has_begun(app):
    """S5.8: what a client gets is half a response."""
    with Client(app, raise_errors=False) as client:
        request = client.get("/").complete(b"1").fail(ValueError("late"))
    assert isinstance(request.error, ValueError)
    assert (request.status, request.body, request.broken_off, request.over) == ("200 OK", b"one 1", True, True)


def test_it_is_cancelled(app, client):
    """S5.3"""
    request = client.get("/")
    with pytest.raises(CancelledError):
        request.cancel()
    assert [type(seen) for seen in app.seen[:1]] == [CancelledError]
    assert isinstance(request.steps[1], Failed)


def test_it_handles_a_failure():
    def application(environ, start_response):
        start_response("200 OK", PLAIN)
        try:
            yield failed()
        except ValueError:
            start_response("502 Bad Gateway", PLAIN, sys.exc_info())
        yield b"no upstream"

    request = Client(application).get("/")
    assert (request.status, request.body) == ("502 Bad Gateway", b"no upstream")
    assert [type(step) for step in request.steps] == [Started, Ready, Failed, Started, Block, Finished, Closed]


@pytest.mark.parametrize("future", [failed(), failed(SystemExit(3)), failed(StopIteration()), cancelled()])
@pytest.mark.parametrize("validate", [True, False])
def test_a_failure_without_throw_ends_it(future, validate):
    """S5.4, S5.5"""
    app = answering(Wrapper([b"begun", future, b"looks fine"]))
    request = Client(app, validate=validate, raise_errors=False).get("/")
    assert (request.body, request.broken_off) == (b"begun", True)
    assert isinstance(request.error, (ValueError, SystemExit, RuntimeError, CancelledError))


@pytest.mark.parametrize("validate", [True, False])
def test_stop_iteration_handed_back_is_no_end(validate):
    """S5.5: out of an iterator that is no generator."""

    class Handback(Wrapper):
        def throw(self, error):
            raise error

    app = answering(Handback([b"begun", failed(StopIteration()), b"looks fine"]))
    with pytest.raises(RuntimeError, match="failed with StopIteration"):
        Client(app, validate=validate).get("/")


def test_the_client_leaves(app, client):
    """S8: GeneratorExit at the yield; the future is left alone."""
    request = client.get("/")
    assert request.disconnect() is request
    assert [type(seen) for seen in app.seen] == [GeneratorExit, str]
    assert request.steps == [Parked(app.first), Disconnected(), Closed()]
    assert (request.over, request.broken_off, request.parked, request.status) == (True, True, None, None)
    assert not app.first.cancelled()
    app.first.set_result(b"too late")  # S8.4
    assert request.steps[-1] == Closed()


def test_the_client_leaves_between_two_blocks():
    app = Waits()
    app.first.set_result(b"1")
    with Client(app) as client:
        request = client.get("/", begin=False)
        while request.step() != Block(b"one 1"):
            pass
        request.disconnect()
    assert [type(seen) for seen in app.seen] == [GeneratorExit, str]


def test_wait_cancels_when_the_client_leaves():
    future = Future()

    def application(environ, start_response):
        yield from wait(future)

    Client(application).get("/").disconnect()
    assert future.cancelled()


@pytest.mark.parametrize(
    ("end", "record", "status"),
    [
        ("deadline", DeadlinePassed(), "504 Gateway Timeout"),
        ("shutdown", ShutDown(), "503 Service Unavailable"),
    ],
)
def test_the_server_ends_it(app, client, end, record, status):
    """S12, S18: answered while that can be, broken off later; not called if it has not been."""
    request = getattr(client.get("/"), end)()
    assert (request.status, request.body, request.broken_off) == (status, b"", False)
    assert request.steps == [Parked(app.first), record, Closed()]
    assert [type(seen) for seen in app.seen] == [GeneratorExit, str]

    request = getattr(client.get("/").complete(b"1"), end)()
    assert (request.status, request.body, request.broken_off) == ("200 OK", b"one 1", True)

    app.seen.clear()
    request = getattr(client.get("/", begin=False), end)()
    assert (request.status, request.steps, app.seen) == (status, [record, Closed()], [])


def test_run_waits_for_real_futures():
    def application(environ, start_response):
        one, two = yield from gather(offload(str.upper, "one"), offload(str.upper, "two"))
        yield from sleep(0.01)
        start_response("200 OK", PLAIN)
        yield f"{one} {two}".encode()

    assert Client(application).get("/").run().text == "ONE TWO"
    assert Client(application).fetch("/").text == "ONE TWO"
    assert Client(application).fetch("/", method="HEAD").body == b""
    assert Client(application).get("/", begin=False).run().text == "ONE TWO"


def test_run_goes_on_while_another_thread_completes(app, client):
    request = client.get("/")

    def complete():
        app.first.set_result(b"1")
        app.second.set_result(b"2")

    at_once(lambda: request.run(timeout=BOUND), complete)
    assert request.body == b"one 1 two 2"


def test_run_of_a_request_that_is_over():
    request = Client(hello).get("/")
    assert request.run() is request


# The response


def test_json_and_text():
    request = Client(answering(['{"ü": [1]}'.encode()])).get("/")
    assert request.json() == {"ü": [1]}
    assert request.text == '{"ü": [1]}'


def test_nothing_is_sent_without_a_body():
    """S19.1: it is iterated all the same."""
    for request in (Client(hello).head("/"), Client(answering([b"x"], "204 No Content", [])).get("/")):
        assert request.body == b""
        assert Finished() in request.steps
        assert request.blocks


def test_write():
    def application(environ, start_response):
        write = start_response("200 OK", PLAIN)
        write(b"written ")
        yield done()
        write(b"")
        yield b"yielded"

    request = Client(application).get("/")
    assert request.body == b"written yielded"
    assert [step for step in request.steps if isinstance(step, Written)] == [Written(b"written "), Written(b"")]
    assert request.blocks == [b"written ", b"yielded"]


def test_no_more_than_content_length():
    app = answering([b"12", b"34"], headers=[*PLAIN, ("Content-Length", "3")])
    assert Client(app, validate=False).get("/").body == b"123"


def test_no_less_than_content_length():
    app = answering([b"12"], headers=[*PLAIN, ("Content-Length", "3")])
    with pytest.raises(RuntimeError, match="Content-Length 3"):
        Client(app, validate=False).get("/")
    assert Client(app, validate=False).head("/").over


# The request


def asked(client_options=None, **options):
    """The environ that an application gets."""
    seen = {}

    def application(environ, start_response):
        seen.update(environ, body=environ["wsgi.input"].read())
        return hello(environ, start_response)

    request = Client(application, **(client_options or {})).request(**{"method": "GET", "path": "/", **options})
    assert request.status_code == 200
    return seen


def test_environ():
    environ = asked(path="/a%20b/%C3%BC/ü?x=%20ü&y")
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/a b/ü/ü"
    assert environ["QUERY_STRING"].encode("latin-1").decode() == "x=%20ü&y"
    assert environ["wsgi_plus.version"] == (1, 0)
    assert environ["SCRIPT_NAME"] == ""
    assert "CONTENT_LENGTH" not in environ
    assert "CONTENT_TYPE" not in environ
    assert environ["body"] == b""


def test_headers_and_bodies():
    environ = asked(method="POST", headers={"X-One": "1", "Content-Type": "a/b"}, body="ü")
    assert (environ["HTTP_X_ONE"], environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("1", "a/b", "2")
    assert environ["body"] == "ü".encode()
    environ = asked(method="PUT", json={"a": [1]})
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"], environ["body"]) == (
        "application/json",
        "10",
        b'{"a": [1]}',
    )
    assert asked(method="POST")["CONTENT_LENGTH"] == "0"
    environ = asked(headers=[("X", "1"), ("x", "2"), ("Cookie", "a=1"), ("Cookie", "b=2")])
    assert (environ["HTTP_X"], environ["HTTP_COOKIE"]) == ("1,2", "a=1; b=2")


def test_defaults_of_the_client():
    options = {"headers": {"X-All": "all"}, "environ": {"REMOTE_USER": "zoë", "a.b": 1}}
    environ = asked(options, headers={"X-One": "one"}, environ={"a.b": 2})
    assert (environ["HTTP_X_ALL"], environ["HTTP_X_ONE"]) == ("all", "one")
    assert (environ["REMOTE_USER"], environ["a.b"]) == ("zoë", 2)


def test_methods():
    def application(environ, start_response):
        start_response("200 OK", PLAIN)
        return [environ["REQUEST_METHOD"].encode()]

    client = Client(application)
    for method in ("get", "post", "put", "patch", "delete"):
        assert getattr(client, method)("/").text == method.upper()
    assert client.head("/").blocks == [b"HEAD"]
    assert client.request("BREW", "/").text == "BREW"


def test_log():
    def application(environ, start_response):
        print("to the log", file=environ["wsgi.errors"])
        return hello(environ, start_response)

    assert Client(application).get("/").log == "to the log\n"
