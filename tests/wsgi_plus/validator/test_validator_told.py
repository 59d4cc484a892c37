"""wsgi_plus.validator: what is wrong is told, once, and cannot be swallowed."""

from __future__ import annotations

import gc
import threading
import warnings

import pytest
import test_validator_middleware
import test_validator_steps
import test_validator_wsgi
from byhand import BOUND, done
from harness.limits import ROOT
from validator_parts import (
    PLAIN,
    Separate,
    Server,
    app_that,
    catching,
    copying,
    delegating,
    giving,
    hello,
    looping,
    plain_environ,
    raises_then_goes_on,
    serve,
    start,
    swapping,
    waits,
)
from wsgi_plus import WSGIPlusError, WSGIPlusWarning, validated, validator, wait
from wsgi_plus._validator._rules import OUTSIDE, RULES

pytestmark = pytest.mark.filterwarnings("error")


def test_every_rule_has_a_row():
    rows = [*test_validator_wsgi.ROWS, *test_validator_steps.ROWS, *test_validator_middleware.ROWS]
    assert {row.rule for row in rows} == set(RULES) - {"content-type"}  # a warning: below


def test_numbers_are_those_of_the_specification():
    text = (ROOT / "spec" / "wsgi-plus.md").read_text()
    for name, rule in RULES.items():
        for number in filter(None, (rule.number, rule.of_middleware)):
            assert number in ("PEP 3333", "PEP 380", "RFC 9110 8.3") or f"- **{number}** " in text, name
        assert rule.by == OUTSIDE or not rule.of_middleware, name


def warned(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
        gc.collect()
    assert {warning.category for warning in caught} <= {WSGIPlusWarning}
    return [str(warning.message) for warning in caught]


class Forgets(Server):
    def close(self):
        del self.body


class ClosesTheIterator(Server):
    """S7.4: it is the iterable's that is owed."""

    def iterator(self):
        self.first = super().iterator()
        return self.first

    def close(self):
        self.first.close()
        del self.body, self.first


@pytest.mark.parametrize("server", [Forgets, ClosesTheIterator])
def test_never_closed(server):
    (message,) = warned(lambda: serve(waits, server=server))
    assert message.startswith("S7.1: the server")


def test_never_closed_is_told_of_the_outermost_only():
    for middleware in ((looping, delegating), (swapping, swapping)):
        (message,) = warned(lambda middleware=middleware: serve(waits, *middleware, server=Forgets))
        assert message.startswith("S7.1: the server")


def test_never_closed_is_not_told_again():
    """A server that has been told of something worse need not get to close()."""

    class Offended(Forgets):
        def iterate(self, iterator):
            next(iterator)  # in another context
            pytest.fail("no error")

    def request():
        with pytest.raises(WSGIPlusError):
            serve(hello, server=Offended)

    assert warned(request) == []


def test_content_without_a_type():
    bare = app_that(start("200 OK", []), b"x")
    (message,) = warned(lambda: serve(bare, looping, copying))
    assert message.startswith("RFC 9110 8.3: the application app_that")
    for quiet in (app_that(start("200 OK", []), b""), app_that(start("304 Not Modified", []), b"x"), hello):
        assert warned(lambda quiet=quiet: serve(quiet)) == []


def test_messages_name_what_is_there():
    def application(environ, start_response):
        yield "text"

    class Class:
        def __call__(self, environ, start_response):
            yield "text"

    for app, name in (
        (application, "test_messages_name_what_is_there.<locals>.application"),
        (Class(), "test_messages_name_what_is_there.<locals>.Class"),
    ):
        with pytest.raises(WSGIPlusError, match=f"^S1.3: the application {name} yielded a str, .* Encode text.$"):
            serve(app)
    with pytest.raises(WSGIPlusError, match="the application shop "):
        Server().run(validator(application, name="shop"))
    with pytest.raises(WSGIPlusError, match="the application shop "):
        Server().run(validated(application, looping, name="shop"))


async def coroutine():
    pass


async def an_asynchronous_generator():
    yield b""


def an_asyncio_future():
    import asyncio

    loop = asyncio.new_event_loop()
    try:
        return loop.create_future()
    finally:
        loop.close()


def test_hints():
    """S1.4"""
    made = coroutine()
    made.close()  # so that Python does not warn of it
    waiting = wait(done())
    next(waiting)  # so that it is not warned of
    for item, advice in (
        (made, "run_coroutine_threadsafe"),
        (an_asyncio_future(), "run_coroutine_threadsafe"),
        ([done()], "one after the other"),
        ((), "one after the other"),
        (waiting, "write `yield from` in place of `yield`"),
        (an_asynchronous_generator(), "AsyncBridge.iterate"),
        ("x", "Encode"),
        (bytearray(), "bytes()"),
        (5, "Nothing else"),
    ):
        with pytest.raises(WSGIPlusError, match=advice):
            serve(app_that(start(), item))


def swallowing(app):
    """Whatever is raised inside is answered in a friendly way."""

    def wrapped(environ, start_response):
        try:
            iterable = app(environ, start_response)
            yield from iterable
            iterable.close()
        except Exception:
            start_response("200 OK", PLAIN)
            yield b"fine"

    return wrapped


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_nobody_can_swallow_it(layers):
    with pytest.raises(WSGIPlusError, match="PEP 3333: the application catching passed a status 'OK'"):
        serve(catching, *[looping] * layers)


def test_middleware_cannot_swallow_it():
    with pytest.raises(WSGIPlusError, match="S1.3: the application"):
        serve(app_that(start(), "text"), swallowing)


def test_what_was_to_come_out_is_its_cause():
    def translating(environ, start_response):
        try:
            start_response("OK", PLAIN)
        except AssertionError as error:
            raise LookupError("translated") from error
        yield b""

    with pytest.raises(WSGIPlusError) as caught:
        serve(translating)
    assert isinstance(caught.value.__cause__, LookupError)


def test_it_is_told_once():
    """close() after it is in order, and the next request as well."""
    app = validator(catching)
    for _ in range(2):
        with pytest.raises(WSGIPlusError):
            Server().run(app)
    assert Server().run(validator(hello))[1] == b"hello world"


def test_what_the_application_returned_is_closed_if_nobody_gets_it():
    body = Separate([])

    def application(environ, start_response):
        try:
            start_response("OK", PLAIN)
        except AssertionError:
            return body

    with pytest.raises(WSGIPlusError):
        validator(application)(plain_environ(), lambda *_: print)
    assert body.closed == 1


def test_what_has_failed_is_not_run_again():
    """Whatever its server does."""
    body = validator(raises_then_goes_on)(plain_environ(), lambda *_: print)
    iterator = iter(body)
    assert next(iterator) == b"hello "
    with pytest.raises(ValueError, match="on purpose"):
        next(iterator)
    with pytest.raises(WSGIPlusError, match="^S5.7"):
        next(iterator)
    assert list(iterator) == []
    body.close()


def test_refused_close_can_be_repeated():
    """S7.2: a server that was too early does it when the step has returned, and the application is closed once."""
    running, gate = threading.Event(), threading.Event()

    def items():
        running.set()
        assert gate.wait(BOUND)
        yield b"x"

    inner = Separate(items())
    body = validator(giving(lambda: inner))(plain_environ(), lambda *_: print)
    iterator = iter(body)
    step = threading.Thread(target=next, args=[iterator])
    step.start()
    assert running.wait(BOUND)
    with pytest.raises(WSGIPlusError, match="^S7.2"):
        body.close()
    assert inner.closed == 0
    gate.set()
    step.join(BOUND)
    body.close()
    assert inner.closed == 1
