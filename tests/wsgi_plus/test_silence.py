"""What is forgotten is told: nothing is lost in silence, and each message says what to write instead."""

from __future__ import annotations

import asyncio
import gc
import re
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import pytest
from byhand import done, eventually, failed, finish, outcome, running
from django_byhand import *  # noqa: F403  # sets Django up
from django_byhand import only

# ruff: isort: split
import flask
from django.http import StreamingHttpResponse
from django.test import override_settings
from flask_parts import Upstream, app, ask, plain
from wsgi_plus import (
    AsyncBridge,
    WSGIPlusError,
    blocking,
    first,
    gather,
    offload,
    settled,
    shield,
    sleep,
    suspends,
    timeout,
    validator,
    wait,
)
from wsgi_plus.flask import suspending
from wsgi_plus.simple_server import Server
from wsgi_plus.testing import Client

__all__ = ["app", "ask", "plain"]

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*fork:DeprecationWarning")


@pytest.fixture
def bridge():
    bridge = AsyncBridge()
    yield bridge
    bridge.close()


async def coroutine():
    return 1


async def pieces():
    yield b""


class Manager:
    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        raise OSError("reset")


# A wait without "yield from"

CALLS = {
    "sleep": lambda: sleep(5),
    "wait": lambda: wait(Future()),
    "settled": lambda: settled(Future()),
    "gather": lambda: gather(Future(), Future()),
    "first": lambda: first(Future(), Future()),
    "timeout": lambda: timeout(5, Future()),
    "bridge.open": lambda: AsyncBridge().open(Manager()),
}


@pytest.mark.parametrize("name", CALLS)
def test_never_waited(name):
    with pytest.warns(RuntimeWarning, match=rf"^{name}\(\) was never waited for.*write `yield from {name}\(") as warned:
        CALLS[name]()
    assert [warning.filename for warning in warned] == [__file__]  # where it was let go


@pytest.mark.parametrize("name", [name for name in CALLS if name != "bridge.open"])
def test_begun_is_not_forgotten(name):
    gen = CALLS[name]()
    next(gen)
    del gen
    gc.collect()


@pytest.mark.parametrize("around", [lambda app: app, validator], ids=["as it is", "in a validator"])
def test_never_waited_in_an_application(around):
    def application(environ, start_response):
        sleep(5)
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"at once"

    with pytest.warns(RuntimeWarning, match="yield from sleep"):
        assert Client(around(application), validate=False).fetch("/").text == "at once"


# What is no future

MISTAKES = {
    "an asyncio future": (lambda: asyncio.Future(loop=asyncio.new_event_loop()), "AsyncBridge.run"),
    "a coroutine": (coroutine, "AsyncBridge.run"),
    "a list": (lambda: [done()], r"gather\(\*futures\)"),
    "a generator": (lambda: waiting(), "`yield from` before it"),
    "an asynchronous iterable": (pieces, "AsyncBridge.iterate"),
    "a function": (lambda: coroutine, r"offload\(\)"),
    "a value": (lambda: 3, "Futures come from"),
    "nothing": (lambda: None, "Futures come from"),
}
WAITS = {
    "wait": wait,
    "settled": settled,
    "gather": lambda wrong: gather(done(), wrong),
    "first": first,
    "timeout": lambda wrong: timeout(1, wrong),
    "shield": shield,
}


def waiting():
    """A wait that has begun, so that it is not warned of."""
    made = wait(done())
    next(made)
    return made


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("name", WAITS)
def test_waiting_for_what_is_no_future(name, mistake):
    make, advice = MISTAKES[mistake]
    wrong = make()
    with pytest.raises(TypeError, match=rf"^{name}\(\) takes a concurrent.futures.Future, not a .*{advice}"):
        WAITS[name](wrong)
    tidy(wrong)


def tidy(wrong):
    if asyncio.iscoroutine(wrong):
        wrong.close()
    if asyncio.isfuture(wrong):
        wrong.get_loop().close()


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda: coroutine, r"Call it: run\(function\("),
        (pieces, r"iterate\(\)"),
        (done, "future already"),
        (lambda: asyncio.Future(loop=asyncio.new_event_loop()), "Await it in a coroutine"),
        (lambda: 3, r"int\.$"),
    ],
)
def test_running_what_is_no_coroutine(bridge, make, advice):
    wrong = make()
    with pytest.raises(TypeError, match=rf"^run\(\) takes a coroutine, not a .*{advice}"):
        bridge.run(wrong)
    tidy(wrong)


def test_offloading_what_is_no_function():
    with pytest.raises(TypeError, match="takes a function, and its arguments after it, not a int"):
        offload(len("called already"))
    with pytest.raises(TypeError, match="coroutine function coroutine: .*AsyncBridge.run"):
        offload(coroutine)


# Yielded without "from"

SERVERS = {
    "testing": lambda app: Client(app, validate=False).fetch("/"),
    "validator": lambda app: Client(app).fetch("/"),
    "blocking": lambda app: Client(blocking(app), validate=False).fetch("/"),
}


@pytest.mark.parametrize("server", SERVERS)
def test_yielding_a_generator(server):
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield waiting()

    with pytest.raises((TypeError, WSGIPlusError), match="write `yield from` in place of `yield`"):
        SERVERS[server](application)


def test_yielding_a_generator_to_the_simple_server(log):
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield waiting()

    import urllib.error
    import urllib.request

    with Server(application, threads=1) as server, pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(f"{server.url}/", timeout=10)
    raised.value.close()
    assert "write `yield from` in place of `yield`" in log.text
    log.clear()


STREAMED = {name: MISTAKES[name][0] for name in MISTAKES if name not in ("a function", "a value", "nothing")}


@pytest.mark.parametrize("mistake", STREAMED)
def test_yielding_it_in_a_stream_of_flask(app, mistake):
    """The error is raised at the yield, so that the traceback shows the line."""
    wrong, seen = STREAMED[mistake](), []

    def body():
        try:
            yield wrong
        except TypeError as error:
            seen.append(str(error))
            yield "caught"

    app.get("/")(lambda: flask.Response(body()))
    assert Client(app).fetch("/").text == "caught"
    assert app.test_client().get("/").text == "caught"
    assert len(seen) == 2 and re.match("yielded .*, neither a block nor a concurrent.futures.Future. ", seen[0])
    tidy(wrong)


@pytest.mark.parametrize("mistake", STREAMED)
def test_yielding_it_in_a_stream_of_django(ask_django, mistake):
    """Django would send the text of it."""
    wrong = STREAMED[mistake]()

    def body():
        try:
            yield wrong
        except TypeError as error:
            yield str(error)

    for plus in (True, False):
        said = ask_django(lambda request: StreamingHttpResponse(body()), plus)
        assert re.match("yielded .*, neither a block nor a concurrent.futures.Future. ", said)
    tidy(wrong)


@pytest.fixture
def ask_django():
    """ask_django(view, plus): the text of its response, on a server with or without WSGI+."""
    from wsgi_plus.django import SuspendingWSGIHandler

    def ask(view, plus=True):
        with only(view), override_settings(MIDDLEWARE=[]):
            handler = SuspendingWSGIHandler()

            def application(environ, start_response):
                if not plus:
                    del environ["wsgi_plus.version"]
                return handler(environ, start_response)

            return Client(application, validate=False).fetch("/").text

    return ask


# A view that is not marked


def forgotten():
    answer = yield from wait(done("answer"))
    return flask.Response(answer)


def swapped(app):
    suspends(app.get("/")(forgotten))


PLACES = {"forgotten": lambda app: app.get("/")(forgotten), "swapped": swapped}


@pytest.mark.parametrize("place", PLACES)
def test_a_view_of_flask_without_suspends(place):
    """On a server that suspends, and on a plain one."""
    app = suspending(flask.Flask("forgetful"))
    PLACES[place](app)
    for fetch in (lambda: Client(app, validate=False).fetch("/"), lambda: app.test_client().get("/")):
        with pytest.raises(TypeError, match="forgotten is a generator that returned a Response, .* with @suspends"):
            fetch()


def test_a_function_before_requests_without_suspends(app):
    app.testing = True
    app.get("/")(lambda: "not asked")

    @app.before_request
    def guard():
        yield done()

    with pytest.raises(TypeError, match="guard is a generator. .*mark it with @suspends"):
        Client(app, validate=False).fetch("/")


def test_a_stream_that_returns_nothing_is_a_stream(app):
    def body():
        yield "block"

    app.get("/")(lambda: body())
    assert Client(app).fetch("/").text == "block"


@pytest.mark.parametrize("plus", [True, False])
def test_a_view_of_django_without_suspends(ask_django, log, plus):
    def view(request):
        yield done()
        return 1

    ask_django(view, plus)
    assert "is a generator. If it is a view that waits, mark it with @suspends" in log.text
    log.clear()


def test_suspends_above_another_decorator():
    def logged_in(view):
        return lambda: "redirect"

    with pytest.raises(TypeError, match="it gave a str. @suspends belongs directly above the def"):
        suspends(logged_in(forgotten))()


@pytest.mark.parametrize("wrong", [[Future()], "text", b"block"])
def test_what_a_view_yields(wrong):
    @suspends
    def view():
        yield wrong

    with pytest.raises(TypeError, match=r"not a concurrent.futures.Future\. \w+ .*"):
        view()


def test_no_message_names_what_is_inside(app):
    """The names that a user may come to see speak for themselves."""
    from wsgi_plus._suspends import dispatching
    from wsgi_plus.django._rest import ResponseToCome

    with dispatching():
        view = suspends(forgotten)()
    assert type(view).__name__ == "ViewThatWaits"
    assert repr(view) == "<forgotten, which waits and has not returned its response yet>"
    view.wait()
    assert repr(ResponseToCome(None)) == "<a response that is not there yet: the view waits>"


# A failure that the application does not look at


async def fail():
    raise KeyError("on purpose")


def logged(log):
    eventually(lambda: gc.collect() is None or log.records, "it is logged")
    (record,) = log.records
    log.clear()
    return record


def test_a_task_whose_failure_nobody_looks_at(bridge, log):
    bridge.run(fail())
    record = logged(log)
    assert record.name == "wsgi_plus"
    assert record.getMessage() == "the application has not waited for fail, which has failed"
    assert isinstance(record.exc_info[1], KeyError)


def test_a_call_whose_failure_nobody_looks_at(log):
    offload(int, "no number")
    assert logged(log).getMessage() == "the application has not waited for int, which has failed"
    with ThreadPoolExecutor(1) as pool:
        offload(int, "no number", pool=pool)
    assert isinstance(logged(log).exc_info[1], ValueError)


def test_an_end_that_fails(bridge, log):
    """__aexit__, where no request waits for it."""
    with finish(bridge.open(Manager())):
        pass
    assert isinstance(logged(log).exc_info[1], OSError)
    finish(bridge.open(Manager())).close()
    assert isinstance(logged(log).exc_info[1], OSError)


@pytest.mark.parametrize(
    "look",
    [
        lambda fut: fut.exception(),
        lambda fut: pytest.raises(KeyError, fut.result),
        lambda fut: pytest.raises(KeyError, finish, wait(fut)),
        lambda fut: pytest.raises(KeyError, finish, gather(fut, running())),
        lambda fut: pytest.raises(KeyError, finish, wait(shield(fut))),
        lambda fut: finish(settled(fut)).exception(),
        lambda fut: fut.cancel(),
        lambda fut: leave(wait(fut)),
        lambda fut: leave(timeout(100, fut)),
    ],
)
def test_a_failure_that_somebody_looks_at_or_does_not_want(bridge, look):
    fut = bridge.run(fail())
    eventually(fut.done, "it has failed")
    look(fut)
    del fut
    gc.collect()


def leave(gen):
    next(gen)
    gen.close()


def test_what_does_not_fail_is_not_logged(bridge):
    assert outcome(bridge.run(coroutine())) is None
    bridge.run(coroutine())
    bridge.run(asyncio.sleep(100)).cancel()
    assert isinstance(outcome(bridge.run(cancels_itself())), CancelledError)
    gc.collect()


async def cancels_itself():
    raise asyncio.CancelledError


def test_the_future_of_a_pool_of_another_kind(log):
    """One of a class of its own stays as it is."""

    class Own(Future):
        pass

    class Pool:
        def submit(self, fn, *args):
            fut = Own()
            fut.set_exception(Upstream())
            return fut

    assert type(offload(len, "", pool=Pool())) is Own
    assert isinstance(outcome(failed(Upstream())), Upstream)
