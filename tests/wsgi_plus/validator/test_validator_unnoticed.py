"""wsgi_plus.validator: nothing is changed by it and nothing is kept, and threads that race find it as it should be."""

from __future__ import annotations

import gc
import io
import threading
import traceback
import weakref
from concurrent.futures import CancelledError, Future

import pytest
import test_validator_middleware
from byhand import at_once, cancelled, eventually, failed
from validator_parts import (
    PLAIN,
    SOON,
    Leaves,
    Separate,
    Server,
    an_environ,
    app_that,
    catching,
    copying,
    delegating,
    giving,
    hello,
    looping,
    plain_environ,
    serve,
    start,
    swapping,
    waits,
)
from wsgi_plus import WSGIPlusError, validated, validator

pytestmark = pytest.mark.filterwarnings("error")

ROUNDS = 200  # of a race


# Nothing is changed


def begun(app):
    environ = plain_environ()
    before = set(environ)
    body = validator(app)(environ, lambda *_: lambda data: None)
    assert set(environ) == before  # S16.3
    return body, iter(body)


@pytest.mark.parametrize(
    ("make", "has"),
    [
        (lambda: [b""], set()),
        (lambda: iter([b""]), set()),
        (lambda: map(bytes, [b""]), set()),
        (lambda: (x for x in [b""]), {"throw", "send", "close"}),
        (lambda: Separate([b""]), {"throw", "send", "close"}),
        (lambda: Throwing([]), {"throw"}),
    ],
)
def test_iterator_has_what_the_application_has(make, has):
    body, iterator = begun(giving(make))
    assert iter(iterator) is iterator
    assert {name for name in ("throw", "send", "close") if hasattr(iterator, name)} == has
    assert not hasattr(iterator, "other")
    body.close()


class Throwing:
    """An iterator that is no generator, and raises what is thrown in."""

    def __init__(self, items):
        self.items = iter(items)
        self.thrown = []

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.items)

    def throw(self, error):
        self.thrown.append(error)
        raise error


@pytest.mark.parametrize("error", [kind("x") for kind in (ValueError, StopIteration, SystemExit, KeyboardInterrupt)])
def test_throw_passes_the_very_exception_both_ways(error):
    inner = Throwing([failed(error)])
    body, iterator = begun(giving(lambda: inner))
    next(iterator)
    with pytest.raises(type(error)) as caught:
        iterator.throw(error)
    assert caught.value is error
    assert inner.thrown == [error]
    body.close()


def test_stop_iteration_of_a_future_is_no_end():
    """S5.5: so there is no complaint that start_response was not called."""
    error = StopIteration()
    body, iterator = begun(lambda environ, start_response: Throwing([failed(error)]))
    next(iterator)
    with pytest.raises(StopIteration) as caught:
        iterator.throw(error)
    assert caught.value is error
    body.close()


def test_cancelled_error_of_any_making():
    """S5.3: exception() raises a new one each time."""
    future = cancelled()
    inner = Throwing([future])
    body, iterator = begun(giving(lambda: inner))
    next(iterator)
    with pytest.raises(CancelledError):
        iterator.throw(CancelledError())
    body.close()


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["call", "iter", "next", "close"])
def test_exceptions_pass(error, place):
    class Body:
        def __iter__(self):
            fail("iter")
            return self

        def __next__(self):
            fail("next")

        def close(self):
            fail("close")

    def fail(where):
        if where == place:
            raise error

    def application(environ, start_response):
        start_response("200 OK", PLAIN)
        fail("call")
        return Body()

    steps = []

    def request():
        body = validator(application)(plain_environ(), lambda *_: print)
        try:
            if place != "close":
                steps.append(next(iter(body)))
        finally:
            body.close()

    with pytest.raises(type(error)) as caught:
        request()
    assert caught.value is error
    assert steps == []


def test_write_and_arguments_pass():
    wrote, said = [], []

    def start_response(*args):
        said.append(args)
        return wrote.append

    def application(environ, start):
        headers = [*PLAIN]
        start("200 OK", headers)(b"written")
        return [b""]

    validator(application)(plain_environ(), start_response).close()
    assert (wrote, said) == ([b"written"], [("200 OK", PLAIN)])


def test_streams_are_wrapped_once():
    raw, seen = io.BytesIO(b"body"), []

    def application(environ, start_response):
        seen.append(environ["wsgi.input"].stream)
        return hello(environ, start_response)

    serve(application, looping, copying, **{"wsgi.input": raw})
    assert seen == [raw]


def test_what_exc_info_holds_is_raised_by_the_server():
    """S6.4: after the response has begun."""
    error = ValueError("too late")

    def application(environ, start_response):
        start_response("200 OK", PLAIN)
        yield b"begun"
        start_response("500 Oops", PLAIN, (ValueError, error, None))

    with pytest.raises(ValueError) as caught:
        serve(application)
    assert caught.value is error


def test_iterator_may_be_closed_and_then_the_iterable():
    """As ``yield from`` does (S15.4): each close() reaches the application."""
    body, iterator = begun(waits)
    next(iterator)
    iterator.close()
    iterator.close()
    body.close()


def test_yield_from_and_close_close_it_once():
    """Middleware as the specification shows it, around a class that is its own iterator: that is closed once (S7.1)."""
    closed = []

    class Body:
        def __iter__(self):
            return self

        def __next__(self):
            return b"x"

        def close(self):
            closed.append(True)

    serve(giving(Body), delegating, server=Leaves)
    assert closed == [True]
    serve(giving(Body), delegating, swapping, delegating, swapping, server=Leaves)
    assert closed == [True, True]


def test_nothing_is_kept():
    """Body, generator and future are gone when the server has dropped them: no cycle has to be collected."""

    class Frame:
        pass

    frame, future = Frame(), Future()
    gone = weakref.ref(frame), weakref.ref(future)

    def application(environ, start_response, frame=frame, future=future):
        def steps(frame, future):
            start_response("200 OK", PLAIN)
            yield future

        return steps(frame, future)

    gc.collect()
    gc.disable()
    try:
        server = Leaves(an_environ())
        gone = *gone, weakref.ref(server)
        server.run(validated(application, looping))
        del server, frame, future
        application.__defaults__ = ()
        assert [ref() for ref in gone] == [None] * 3
    finally:
        gc.enable()


# Races


def test_steps_at_once_never_overlap():
    """The one that comes second is told, and the application notices nothing."""
    inside = threading.Lock()
    for _ in range(ROUNDS):

        def application(environ, start_response):
            start_response("200 OK", PLAIN)
            while True:
                assert inside.acquire(blocking=False)
                inside.release()
                yield b"x"

        body = validator(application)(plain_environ(), lambda *_: print)
        iterator = iter(body)
        results = []

        def step(iterator=iterator, results=results):
            try:
                results.append(next(iterator))
            except WSGIPlusError as error:
                results.append(error.number)

        at_once(*[step] * 3)
        assert len(results) == 3
        assert set(results) <= {b"x", "S9.2"}
        assert b"x" in results
        body.close()


def test_close_at_the_same_time_as_a_step():
    """Either comes first.  The application is closed once, and not in its step."""
    for _ in range(ROUNDS):
        closed = []

        def application(environ, start_response, closed=closed):
            start_response("200 OK", PLAIN)
            try:
                for _ in range(3):
                    yield b"x"
            finally:
                closed.append(True)

        body = validator(application)(plain_environ(), lambda *_: print)
        iterator = iter(body)
        assert next(iterator) == b"x"
        results = []

        def call(what, results=results):
            try:
                results.append(what())
            except WSGIPlusError as error:
                results.append(error.number)

        at_once(lambda: call(lambda: next(iterator)), lambda: call(body.close))
        assert sorted(map(str, results)) in (
            ["None", "b'x'"],  # one after the other
            ["None", "S7.1"],  # the step came after close()
            ["None", "S9.2"],  # the step came during close()
            ["S7.2", "b'x'"],  # close() came during the step
        )
        if "S7.2" in results:
            body.close()
        assert closed == [True]


def test_future_completed_at_any_moment():
    """Between the yield and the resumption: never taken for one that was waited for, or not waited for."""
    for _ in range(ROUNDS):
        future = Future()
        app = app_that(start(), future, b"hello")
        at_once(lambda: serve(app, looping, delegating), lambda: future.set_result(None))


def test_start_response_from_another_thread_at_any_moment():
    """Whenever it comes, it is refused, and does not get through to the server."""
    for _ in range(ROUNDS):
        kept, calls = [], []

        def application(environ, start_response):
            kept.append(start_response)
            start_response("200 OK", PLAIN)
            yield b"x"

        def late():
            eventually(lambda: kept, "the application was called")
            with pytest.raises(WSGIPlusError, match="^S6"):
                kept[0]("200 OK", PLAIN, (ValueError, ValueError(), None))

        class Counting(Server):
            def start_response(self, *args):
                calls.append(args)
                return super().start_response(*args)

        def request():
            try:
                Counting().run(validator(application))
            except WSGIPlusError:
                pass  # the thread came during a step, which tells it as well

        at_once(request, late)
        assert len(calls) == 1


def test_tracebacks_lead_to_the_breach():
    """The one who reads it finds the line of the application."""
    with pytest.raises(WSGIPlusError) as caught:
        serve(catching)
    assert "in catching" in "".join(traceback.format_exception(caught.value))
    with pytest.raises(WSGIPlusError) as caught:
        serve(SOON, test_validator_middleware.counts)
    assert "in counts" in "".join(traceback.format_exception(caught.value))
