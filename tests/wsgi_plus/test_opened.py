"""Whatever a request has opened is closed, at whatever point it ends: AsyncBridge.open and iterate, and ``discard``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import pytest
from byhand import done, eventually, failed, finish, in_child, outcome, resume, running
from django_byhand import *  # noqa: F403  # sets Django up
from django_byhand import only

# ruff: isort: split
import flask
from django.http import StreamingHttpResponse
from django.test import override_settings
from wsgi_plus import AsyncBridge, first, gather, offload, settled, shield, suspends, timeout, wait
from wsgi_plus.django import SuspendingWSGIHandler
from wsgi_plus.flask import suspending
from wsgi_plus.testing import Client

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*fork:DeprecationWarning")


@pytest.fixture
def bridge():
    bridge = AsyncBridge()
    yield bridge
    bridge.close()


class Upstream:
    """A connection as clients of HTTP have it: a context manager, and asynchronous pieces that do not close it."""

    def __init__(self, pieces=3, waits=1):
        self.number, self.waits = pieces, waits
        self.opened = self.closed = 0
        self.told = []  # what __aexit__ was given

    async def pause(self):
        for _ in range(self.waits):
            await asyncio.sleep(0)

    async def __aenter__(self):
        await self.pause()
        self.opened += 1
        try:
            await self.pause()
        except BaseException:
            self.closed += 1
            raise
        return self

    async def __aexit__(self, kind, error, trace):
        await self.pause()
        self.told.append(kind)
        self.closed += 1

    async def aclose(self):
        await self.__aexit__(None, None, None)

    async def pieces(self):
        for number in range(self.number):
            await self.pause()
            yield b"%d" % number

    async def closing(self):
        """The same for one that a test has opened and that is to be closed at the end."""
        try:
            async for piece in self.pieces():
                yield piece
        finally:
            await asyncio.shield(self.aclose())  # clients see to it that closing is not cancelled half way


async def begin(upstream):
    await upstream.__aenter__()
    return upstream


def quiet(bridge):
    """Waits until nothing is going on in the bridge any more."""

    async def alone():
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    gc.collect(1)  # what is in a cycle with a traceback
    assert outcome(bridge.run(alone())) is None


# The property: whatever has been opened is closed


def by_with(bridge, upstream):
    def app(environ, start_response):
        with (yield from bridge.open(upstream)) as opened:
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield from bridge.iterate(opened.pieces())

    return app


def by_handle(bridge, upstream):
    def app(environ, start_response):
        opened = yield from bridge.open(upstream)
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield from bridge.iterate(upstream.pieces(), opened)

    return app


def by_discard(bridge, upstream):
    def app(environ, start_response):
        begun = yield from wait(bridge.run(begin(upstream)), discard=lambda begun: bridge.run(begun.aclose()))
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield from bridge.iterate(begun.closing())

    return app


def in_flask(bridge, upstream):
    app = suspending(flask.Flask("opened"))

    @app.get("/")
    @suspends
    def index():
        opened = yield from bridge.open(upstream)
        return flask.Response(bridge.iterate(upstream.pieces(), opened))

    return app


def in_flask_by_discard(bridge, upstream):
    app = suspending(flask.Flask("opened"))

    @app.get("/")
    @suspends
    def index():
        begun = yield from wait(bridge.run(begin(upstream)), discard=lambda begun: bridge.run(begun.aclose()))
        return flask.Response(bridge.iterate(begun.closing()))

    return app


def in_flask_with_an_error(bridge, upstream):
    app = in_flask(bridge, upstream)
    app.logger.disabled = True
    app.after_request(lambda response: 1 / 0)
    return app


def in_django(bridge, upstream):
    @suspends
    def index(request):
        opened = yield from bridge.open(upstream)
        return StreamingHttpResponse(bridge.iterate(upstream.pieces(), opened))

    with override_settings(MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"]):
        handler = SuspendingWSGIHandler()

    def app(environ, start_response):
        with only(index):  # the first step finds the view
            return handler(environ, start_response)

    return app


APPS = [by_with, by_handle, by_discard, in_flask, in_flask_by_discard, in_flask_with_an_error, in_django]


def left_after(app, method, steps, settle):
    """A request whose client leaves after so many steps; whether there were as many.

    ``settle``: not before the future that the request is parked on is done.
    """
    client = Client(app, validate=False, raise_errors=False)
    request = client.request(method, "/", begin=False)
    for _ in range(steps):
        if request.over:
            return False
        if request.parked is not None:
            outcome(request.parked)
        request.step()
    if request.over:
        return False
    if settle and request.parked is not None:
        outcome(request.parked)
    request.disconnect()
    return True


@pytest.mark.parametrize("waits", [0, 1, 3])
@pytest.mark.parametrize("settle", [False, True], ids=["at once", "when there is a result"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("make", APPS, ids=lambda make: make.__name__)
def test_whatever_was_opened_is_closed(bridge, make, method, settle, waits):
    """The client leaves after each step of a request in turn, until there are no more of them."""
    opened = 0
    for steps in itertools.count():
        upstream = Upstream(waits=waits)
        went = left_after(make(bridge, upstream), method, steps, settle)
        quiet(bridge)
        eventually(lambda upstream=upstream: upstream.closed == upstream.opened, f"it is closed, after {steps} steps")
        assert upstream.opened <= 1
        opened += upstream.opened
        if not went:
            break
    assert steps > 1 and opened > 0


@pytest.mark.parametrize("make", APPS, ids=lambda make: make.__name__)
def test_twenty_requests_for_heads(bridge, make):
    """What they have opened is closed when each is over: a pool of connections is not used up."""
    for _ in range(20):
        upstream = Upstream()
        request = Client(make(bridge, upstream), validate=False, raise_errors=False).fetch("/", method="HEAD")
        assert request.status is not None
        quiet(bridge)
        eventually(lambda upstream=upstream: upstream.closed == upstream.opened == 1, "it is closed")


# open


def test_open_gives_the_value(bridge):
    @contextlib.asynccontextmanager
    async def manager():
        yield "value"

    def app():
        opened = yield from bridge.open(manager())
        with opened as value:
            return value, opened.value

    assert finish(app()) == ("value", "value")


def test_open_and_close_in_one_task(bridge):
    """As managers that have a cancel scope or a context variable need it."""
    tasks = set()

    @contextlib.asynccontextmanager
    async def manager():
        tasks.add(asyncio.current_task())
        yield
        tasks.add(asyncio.current_task())

    finish(wait(finish(bridge.open(manager())).close()))
    assert len(tasks) == 1


def test_open_raises_what_aenter_raises(bridge):
    @contextlib.asynccontextmanager
    async def manager():
        raise KeyError("refused")
        yield

    with pytest.raises(KeyError, match="refused"):
        finish(bridge.open(manager()))


def test_open_is_cancelled_by_the_manager(bridge):
    @contextlib.asynccontextmanager
    async def manager():
        raise asyncio.CancelledError
        yield

    with pytest.raises(CancelledError):
        finish(bridge.open(manager()))


@pytest.mark.parametrize("wrong", [contextlib.nullcontext, lambda: open])
def test_open_of_something_else(bridge, wrong):
    if isinstance(wrong(), contextlib.AbstractAsyncContextManager):
        wrong = lambda: contextlib.closing(None)  # noqa: E731
    with pytest.raises(TypeError, match="asynchronous context manager is required"):
        bridge.open(wrong())


def test_the_manager_is_told_how_it_is_left(bridge):
    upstream = Upstream()
    with finish(bridge.open(upstream)):
        pass
    with pytest.raises(ValueError), finish(bridge.open(upstream)):
        raise ValueError
    quiet(bridge)
    assert upstream.told == [None, asyncio.CancelledError]


def test_close_waits_for_the_end_if_one_wants(bridge):
    upstream = Upstream(waits=5)
    opened = finish(bridge.open(upstream))
    ends = [opened.close(), opened.close()]
    assert [finish(wait(end)) for end in ends] == [None, None]
    assert upstream.closed == 1


def test_close_raises_what_aexit_raises(bridge):
    @contextlib.asynccontextmanager
    async def manager():
        yield
        raise OSError("reset")

    with pytest.raises(OSError, match="reset"):
        finish(wait(finish(bridge.open(manager())).close()))


def test_leaving_the_wait_for_close_does_not_break_it_off(bridge):
    upstream = Upstream(waits=50)
    gen = wait(finish(bridge.open(upstream)).close())
    next(gen)
    gen.close()
    quiet(bridge)
    assert upstream.closed == 1


def test_closed_with_the_bridge():
    bridge = AsyncBridge()
    upstream = Upstream()
    opened = finish(bridge.open(upstream))
    bridge.close()
    assert upstream.closed == 1
    assert outcome(opened.close()) is None  # nothing is left to do


def test_closed_when_it_is_forgotten(bridge):
    upstream = Upstream()
    finish(bridge.open(upstream))
    eventually(lambda: upstream.closed, "it is closed")


def test_opened_by_the_parent_of_a_fork(bridge):
    upstream = Upstream()
    opened = finish(bridge.open(upstream))

    def check():
        opened.close()
        assert finish(wait(bridge.run(asyncio.sleep(0, "child")))) == "child"
        assert upstream.closed == 0

    in_child(check)
    finish(wait(opened.close()))
    assert upstream.closed == 1


# iterate


def test_iterate_is_closed_by_one_that_has_aclose(bridge):
    class Pieces:
        asked = closed = 0

        def __aiter__(self):
            return self

        async def __anext__(self):
            self.asked += 1
            return b""

        async def aclose(self):
            self.closed += 1

    pieces = Pieces()
    bridge.iterate(pieces).close()
    quiet(bridge)
    assert (pieces.asked, pieces.closed) == (0, 1)


def test_iterate_that_is_never_begun_and_dropped(bridge):
    upstream = Upstream()
    opened = outcome_of(bridge.run(begin(upstream)))
    bridge.iterate(opened.closing())
    eventually(lambda: upstream.closed, "it is closed")


def outcome_of(fut):
    assert outcome(fut) is None
    return fut.result()


def test_iterate_of_what_nothing_needs_to_be_closed_of():
    bridge = AsyncBridge()

    class Pieces:
        def __aiter__(self):
            return self

        async def __anext__(self):
            raise StopAsyncIteration

    bridge.iterate(Pieces()).close()
    assert bridge._thread is None


def test_iterate_with_something_thrown_before_the_first_step(bridge):
    upstream = Upstream()
    opened = outcome_of(bridge.run(begin(upstream)))
    with pytest.raises(KeyError):
        bridge.iterate(opened.closing()).throw(KeyError())
    quiet(bridge)
    assert upstream.closed == 1


def test_iterate_closes_a_source_that_does_not_heed_that_it_is_cancelled(bridge):
    closed = threading.Event()

    async def stubborn():
        try:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.001)
                yield b""
        finally:
            closed.set()

    gen = bridge.iterate(stubborn())
    resume(gen, next(gen))
    gen.close()
    assert closed.wait(10)


def test_iterate_in_a_bridge_that_is_closed():
    bridge = AsyncBridge()
    bridge.close()
    bridge.iterate(Upstream().pieces()).close()


# discard

WAITS = {
    "wait": lambda one, two, discard: wait(one, discard=discard),
    "settled": lambda one, two, discard: settled(one, discard=discard),
    "gather": lambda one, two, discard: gather(two, one, discard=discard),
    "first": lambda one, two, discard: first(two, one, discard=discard),
    "timeout": lambda one, two, discard: timeout(100, one, discard=discard),
}


@pytest.mark.parametrize("name", WAITS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_result_that_nobody_gets(name, when):
    """The client leaves when it is there already, or too late to cancel what it comes from."""
    lost, one = [], running()
    gen = WAITS[name](one, running(), lost.append)
    next(gen)
    if when == "before":
        one.set_result("open")
    gen.close()
    if when == "after":
        assert lost == []
        one.set_result("open")
    assert lost == ["open"]


@pytest.mark.parametrize("name", WAITS)
@pytest.mark.parametrize("make", [Future, failed])
def test_nothing_to_discard(name, make):
    lost = []
    gen = WAITS[name](make(), Future(), lost.append)
    next(gen)
    gen.close()
    assert lost == []


@pytest.mark.parametrize("name", ["wait", "settled", "timeout"])
def test_a_result_that_somebody_gets(name):
    lost = []
    finish(WAITS[name](done("open"), None, lost.append))
    assert lost == []


def test_what_gather_has_besides_a_failure():
    lost, late = [], running()
    with pytest.raises(ValueError):
        finish(gather(done("one"), failed(), late, discard=lost.append))
    late.set_result("late")
    assert lost == ["one", "late"]
    assert finish(gather(done(1), done(2), discard=lost.append)) == (1, 2)
    assert lost == ["one", "late"]


def test_what_first_has_besides_the_winner():
    lost, late = [], running()
    assert finish(first(done("one"), done("two"), late, discard=lost.append)).result() == "one"
    late.set_result("late")
    assert lost == ["two", "late"]


def test_what_comes_after_the_timeout():
    lost, late = [], running()
    with pytest.raises(TimeoutError):
        finish(timeout(0, late, discard=lost.append))
    late.set_result("late")
    assert lost == ["late"]


def test_what_is_shielded_is_not_discarded():
    lost, shared = [], running()
    gen = wait(shield(shared), discard=lost.append)
    next(gen)
    gen.close()
    shared.set_result("for others")
    assert lost == []


def test_what_discard_raises_is_logged(log):
    one = done()
    gen = wait(one, discard=lambda value: 1 / 0)
    next(gen)
    gen.close()
    assert {record.name for record in log.records} == {"concurrent.futures"}
    log.clear()


def test_discard_of_a_call_that_runs():
    """offload: the connection that a thread makes for a client that has left is closed in that thread."""
    lost, begun, go = [], threading.Event(), threading.Event()

    def connect():
        begun.set()
        assert go.wait(10)
        return "open"

    with ThreadPoolExecutor(1) as pool:
        gen = wait(offload(connect, pool=pool), discard=lost.append)
        next(gen)
        assert begun.wait(10)
        gen.close()
        go.set()
    assert lost == ["open"]
