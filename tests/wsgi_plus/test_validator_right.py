"""wsgi_plus.validator: nothing is said where nothing is wrong, nothing is changed, and nothing is lost."""

from __future__ import annotations

import contextvars
import gc
import io
import threading
import traceback
import warnings
import weakref
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from wsgiref import validate
from wsgiref.handlers import SimpleHandler

import pytest
import test_validator_middleware
import test_validator_steps
import test_validator_wsgi
from byhand import BOUND, at_once, cancelled, done, eventually, failed
from harness.limits import ROOT
from validator_parts import (
    APPLICATIONS,
    MIDDLEWARE,
    PLAIN,
    SOON,
    Leaves,
    Separate,
    Server,
    an_environ,
    app_that,
    copying,
    delegating,
    giving,
    headless,
    hello,
    looping,
    plain_environ,
    raises_then_goes_on,
    reads,
    replaces,
    serve,
    start,
    swapping,
    untouched,
    waits,
)
from wsgi_plus import WSGIPlusError, WSGIPlusWarning, blocking, validated, validator, wait
from wsgi_plus._validator._rules import OUTSIDE, RULES

pytestmark = pytest.mark.filterwarnings("error")

ROUNDS = 200  # of a race


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


# What is wrong is told


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
    """Whoever has been told of something worse need not get to close()."""

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
    next(waiting)  # so that nobody warns of it
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


def catching(environ, start_response):
    """An application that catches what start_response raises."""
    try:
        start_response("OK", PLAIN)
    except Exception:
        start_response("200 OK", PLAIN)
    yield b"fine"


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
    """S5.5: so nobody complains that start_response was not called."""
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
    """Whoever comes second is told, and the application notices nothing."""
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
