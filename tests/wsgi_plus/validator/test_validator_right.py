"""wsgi_plus.validator: nothing is said where nothing is wrong, on plain servers, too."""

from __future__ import annotations

import contextvars
import io
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from wsgiref import validate
from wsgiref.handlers import SimpleHandler

import pytest
from byhand import at_once, done, failed
from validator_parts import (
    APPLICATIONS,
    MIDDLEWARE,
    PLAIN,
    Leaves,
    Server,
    an_environ,
    app_that,
    copying,
    delegating,
    headless,
    hello,
    looping,
    plain_environ,
    reads,
    replaces,
    serve,
    start,
    swapping,
    untouched,
    waits,
)
from wsgi_plus import WSGIPlusError, blocking, validated, validator

pytestmark = pytest.mark.filterwarnings("error")


# No false alarms


def as_body(app):
    """So that what is not behind a validator can be closed, too."""

    class Body:
        def __init__(self, iterable):
            self.iterable = iterable

        def __iter__(self):
            return iter(self.iterable)

        def close(self):
            getattr(self.iterable, "close", lambda: None)()

    return lambda environ, start_response: Body(app(environ, start_response))


def ending(call):
    """What it gives, or the exception as text."""
    try:
        return call()
    except (ValueError, CancelledError) as error:
        return repr(error)


@pytest.mark.parametrize("app", APPLICATIONS)
def test_right_application(app):
    assert serve(APPLICATIONS[app]) == ("200 OK", b"hello world")


@pytest.mark.parametrize("app", APPLICATIONS)
@pytest.mark.parametrize("middleware", MIDDLEWARE)
def test_right_middleware(app, middleware):
    """The same happens as without validators."""
    app, wrap = APPLICATIONS[app], MIDDLEWARE[middleware]
    assert ending(lambda: serve(app, wrap)) == ending(lambda: Server().run(as_body(wrap(as_body(app)))))


@pytest.mark.parametrize("outer", MIDDLEWARE)
@pytest.mark.parametrize("inner", MIDDLEWARE)
def test_right_middleware_around_middleware(outer, inner):
    status, body = serve(waits, MIDDLEWARE[outer], MIDDLEWARE[inner])
    assert (status, body.lower()) == ("200 OK", b"hello world")


@pytest.mark.parametrize("middleware", MIDDLEWARE)
def test_innermost_only(middleware):
    """Middleware outside of a validator may do what it may do inside."""
    status, body = Server().run(as_body(MIDDLEWARE[middleware](validator(waits))))
    assert (status, body.lower()) == ("200 OK", b"hello world")


@pytest.mark.parametrize("middleware", MIDDLEWARE)
def test_outermost_only(middleware):
    status, body = Server().run(validator(MIDDLEWARE[middleware](as_body(waits))))
    assert (status, body.lower()) == ("200 OK", b"hello world")


@pytest.mark.parametrize("middleware", MIDDLEWARE)
def test_client_leaves(middleware):
    """S8: after the first item, whether or not that was a future."""
    for app in (waits, hello, app_that(start(), b"x", Future())):
        serve(app, MIDDLEWARE[middleware], server=Leaves)


def test_other_right_applications():
    assert serve(replaces) == ("502 Bad Gateway", b"no upstream")
    assert serve(replaces, delegating, swapping) == ("502 Bad Gateway", b"NO UPSTREAM")
    assert serve(headless) == ("204 No Content", b"dropped")
    body = b"one\ntwo\nthree\nfour"
    environ = {"wsgi.input": io.BytesIO(body), "wsgi.errors": io.StringIO()}
    assert serve(reads, copying, **environ) == ("200 OK", body)
    assert environ["wsgi.errors"].getvalue() == f"read {body}\none\ntwo\n"


def test_head():
    short = app_that(start("200 OK", [*PLAIN, ("Content-Length", "5")]))
    assert serve(short, REQUEST_METHOD="HEAD") == ("200 OK", b"")
    with pytest.raises(WSGIPlusError):
        serve(short)


def waiting_last(app):
    """A future of its own fails, and it does not matter."""

    def wrapped(environ, start_response):
        iterable = app(environ, start_response)
        try:
            yield from iterable
        finally:
            iterable.close()
        try:
            yield failed(LookupError())
        except LookupError:
            pass

    return wrapped


def test_middleware_may_swallow_a_failure_of_its_own():
    for app in (hello, waits):
        assert serve(app, delegating, waiting_last, swapping) == ("200 OK", b"HELLO WORLD")


def test_same_future_again():
    """S20.1: that is two waits."""
    future = done()
    assert serve(app_that(start(), future, future, b"x", future), looping, delegating)[1] == b"x"


class Liar(Future):
    """Calls back, and is not done."""

    def add_done_callback(self, fn):
        fn(self)


def test_future_that_calls_back_and_is_not_done():
    """S5.9: the server takes it for failed with what exception() raises; if it does not, it has not waited."""

    class Impatient(Server):
        def outcome(self, future):
            try:
                return future.exception(timeout=0)
            except BaseException as error:
                return error

    class Credulous(Server):
        def outcome(self, future):
            return None

    app = app_that(start(), b"begun", Liar(), b"ended")
    with pytest.raises(FutureTimeout):
        serve(app, looping, server=Impatient)
    with pytest.raises(WSGIPlusError, match="^S1.1"):
        serve(app, looping, server=Credulous)


def test_one_application_after_the_other_in_one_request():
    """A cascade: neither knows of the other, and both run in the one context of the request (S9.5)."""

    def cascade(environ, start_response):
        first = validator(hello)(environ, lambda *_: lambda data: None)
        list(first)
        first.close()
        return validator(waits)(environ, start_response)

    assert Server().run(cascade) == ("200 OK", b"hello world")


def test_request_within_a_request():
    """An application that asks another one, in a context of its own."""

    def asking(environ, start_response):
        status, body = serve(waits, looping)
        start_response(status, PLAIN)
        yield body

    assert serve(asking, looping) == ("200 OK", b"hello world")


def test_two_inner_applications_behind_one_middleware():
    def both(app):
        def wrapped(environ, start_response):
            for each in (app, validator(waits, name="second")):
                iterable = each(environ, lambda *_: lambda data: None)
                try:
                    yield from looped(iterable)
                finally:
                    iterable.close()

        def looped(iterable):
            for item in iterable:
                if isinstance(item, Future):
                    yield item

        def starting(environ, start_response):
            start_response("200 OK", PLAIN)
            return wrapped(environ, start_response)

        return starting

    assert serve(waits, both) == ("200 OK", b"")


def test_requests_one_after_the_other_in_one_thread():
    app = validated(waits, looping)
    for _ in range(3):
        assert Server().run(app) == ("200 OK", b"hello world")


def test_at_once_in_many_threads():
    app = validated(waits, delegating, swapping, copying)

    def request():
        for _ in range(20):
            assert Server().run(app) == ("200 OK", b"HELLO WORLD")

    at_once(*[request] * 8)


# Plain WSGI servers


def test_plain_server():
    """wsgiref's handler: no version, one context for all requests of a thread, steps as it likes."""
    for app in (hello, blocking(waits), app_that(start(), b"hello world")):
        for _ in range(2):
            out = io.BytesIO()
            handler = SimpleHandler(io.BytesIO(), out, io.StringIO(), {"REQUEST_METHOD": "GET", "SERVER_NAME": "x"})
            handler.setup_environ = lambda handler=handler: setattr(handler, "environ", plain_environ())
            handler.run(validated(app, copying, untouched))
            assert out.getvalue().endswith(b"hello world"), handler.get_stderr().getvalue()


class PlainServer(Server):
    """No version, and contexts of all kinds."""

    def __init__(self, environ=None):
        super().__init__(plain_environ())

    def within(self, function, *args):
        return contextvars.Context().run(function, *args)


def test_plain_server_is_not_asked_for_what_it_has_not_promised():
    assert serve(hello, looping, server=PlainServer) == ("200 OK", b"hello world")


def test_plain_server_keeps_nothing():
    """Its context goes on for ever."""
    context = contextvars.Context()
    server = Server(plain_environ())
    server.context = context
    server.run(validated(waits, looping))
    assert not dict(context)


def test_wsgiref_validator_around_and_inside():
    """Theirs outside sees a plain application, and ours outside sees one of theirs."""
    plain = dict(QUERY_STRING="")
    assert Server(an_environ(**plain)).run(validate.validator(validator(hello))) == ("200 OK", b"hello world")
    assert Server(an_environ(**plain)).run(validator(validate.validator(hello))) == ("200 OK", b"hello world")
