"""wsgi_plus.testing: drives an application as a server does, and says so when it is driven wrongly."""

from __future__ import annotations

import contextvars
import doctest
import gc
import sys
import threading
import warnings
from concurrent.futures import CancelledError, Future

import pytest
import wsgi_plus.testing
from byhand import BOUND, Wrapper, at_once, cancelled, done, eventually, failed, running
from wsgi_plus import WSGIPlusError, blocking, gather, offload, sleep, validated, wait
from wsgi_plus.testing import (
    Block,
    Client,
    Closed,
    DeadlinePassed,
    Disconnected,
    Failed,
    Finished,
    MisuseError,
    Parked,
    Raised,
    Ready,
    Resumed,
    ShutDown,
    Started,
    Written,
)

pytestmark = pytest.mark.filterwarnings("error")

ROUNDS = 200  # of a race
PLAIN = [("Content-Type", "text/plain")]
STARTED = Started("200 OK", tuple(PLAIN))
SOON = 0.05  # seconds, of something that is to be too late


def test_documentation():
    failures, tests = doctest.testmod(wsgi_plus.testing, optionflags=doctest.ELLIPSIS)
    assert tests > 10
    assert failures == 0


# Applications


def hello(environ, start_response):
    start_response("200 OK", PLAIN)
    return [b"hello ", b"world"]


class Waits:
    """Waits for .first, sends a block, waits for .second, sends another; records what it sees in .seen."""

    def __init__(self):
        self.first, self.second = Future(), Future()
        self.seen = []

    def __call__(self, environ, start_response):
        try:
            yield self.first
            start_response("200 OK", PLAIN)
            yield b"one %s" % self.first.result()
            yield self.second
            yield b" two %s" % self.second.result()
        except BaseException as error:
            self.seen.append(error)
            raise
        finally:
            self.seen.append("finally")


@pytest.fixture
def app():
    return Waits()


@pytest.fixture
def client(app):
    with Client(app) as client:
        yield client


def answering(items, status="200 OK", headers=PLAIN):
    def application(environ, start_response):
        start_response(status, list(headers))
        return items

    return application


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
    """S8: GeneratorExit at the yield; the future is nobody's business."""
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
    assert seen == [], "it is closed, as nobody has the request"


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
    """Either comes first: the request ends once, is closed once, and nobody waits for ever."""
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
