"""Tools that wrap what Django's handler returns, around views that wait."""

from __future__ import annotations

import gc
import sys
import weakref
from concurrent.futures import Future
from contextlib import nullcontext

import pytest
from django_byhand import *  # noqa: F403  # sets Django up
from django_byhand import environ, only

# ruff: isort: split
from django import VERSION
from django.core.exceptions import PermissionDenied
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, StreamingHttpResponse
from django.test import override_settings
from test_django_middleware import named
from wsgi_plus import suspends, wait
from wsgi_plus.django import SuspendingWSGIHandler


class Scoped:
    """As Sentry's SDK does it: what it hands on is the items, and nothing that is thrown."""

    def __init__(self, response):
        self._response = response

    def __iter__(self):
        for item in self._response:  # noqa: UP028  # yield from would hand on what is thrown
            yield item

    def close(self):
        self._response.close()


@pytest.fixture
def wrapped_handler(monkeypatch):
    djangos = WSGIHandler.__call__
    monkeypatch.setattr(WSGIHandler, "__call__", lambda self, *args: Scoped(djangos(self, *args)))


@pytest.fixture
def views():
    """Of the tests below, and what they have seen."""
    seen = []

    @suspends
    def waits(request):
        try:
            yield from wait(request.META["futures"][0])
        except BaseException as error:
            seen.append(type(error))
            raise
        return HttpResponse("fine", headers={"X-Mine": "1"})

    def streams(request):
        def blocks():
            yield "fi"
            try:
                yield from wait(request.META["futures"][0])
            except BaseException as error:
                seen.append(type(error))
                raise
            yield "ne"

        return StreamingHttpResponse(blocks(), headers={"X-Mine": "1"})

    return {"waits": waits, "streams": streams, "seen": seen}


@pytest.mark.usefixtures("wrapped_handler")
@pytest.mark.parametrize("name", ["waits", "streams"])
def test_what_a_tool_has_wrapped_is_suspended(ask, signals, views, name):
    fut = Future()
    with only(views[name]):
        asked = ask(on="ab", settings=named("Mixin", "Around"), futures=[fut]).step()
        assert asked.parked is not None and not asked.parked.done()
        assert signals == ["started"]
        fut.set_result(None)
        assert (asked.finish().body, asked.header("X-Mine"), asked.header("X-Mixin")) == (b"fine", "1", "1")
    assert signals == ["started", "finished"]


@pytest.mark.usefixtures("wrapped_handler")
@pytest.mark.parametrize("name", ["waits", "streams"])
def test_what_fails_in_a_tools_wrapper(ask, signals, log, views, name):
    """It is thrown into the view, and not into the wrapper."""
    fut = Future()
    with only(views[name]):
        asked = ask(on="ab", settings=named("Mixin"), futures=[fut]).step()
        fut.set_exception(PermissionDenied())
        with pytest.raises(PermissionDenied) if name == "streams" else nullcontext():
            asked.finish()
    assert (views["seen"], asked.status) == ([PermissionDenied], 403 if name == "waits" else 200)
    assert signals == ["started", "finished"]
    log.clear()


@pytest.mark.usefixtures("wrapped_handler")
@pytest.mark.parametrize("name", ["waits", "streams"])
def test_the_client_leaves_a_tools_wrapper(ask, signals, views, name):
    with only(views[name]):
        ask(on="ab", settings=named("Mixin"), futures=[Future()]).step().close()
    assert views["seen"] == [GeneratorExit]
    assert signals == ["started", "finished"]


@pytest.mark.usefixtures("wrapped_handler")
def test_a_stream_that_is_never_begun_in_a_tools_wrapper(ask, views, signals):
    """As after HEAD."""
    with only(views["streams"]), override_settings(**named("Mixin")):
        app = SuspendingWSGIHandler()
        app(environ("/", futures=[Future()]), lambda *_: None).close()
    assert (views["seen"], signals) == ([], ["started", "finished"])


@pytest.mark.skipif(sys.version_info < (3, 11) or VERSION < (5,), reason="it is in a cycle without us, too")
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("middleware", ["Mixin", "Hooked", "Around", "setting"])
@pytest.mark.parametrize("name", ["waits", "streams"])
def test_nothing_is_left_in_memory(request, ask, threads, views, name, middleware, left, wrapped):
    """When a request is over all that belonged to it goes, without the garbage collector."""
    if wrapped:
        request.getfixturevalue("wrapped_handler")
    fut = Future()
    gc.collect()
    gc.disable()
    try:
        with only(views[name]):
            asked = ask(on="ab", settings=named(middleware), futures=[fut]).step()
            gone = weakref.ref(asked._environ["wsgi.input"])
            if not left:
                fut.set_result(None)
                asked.finish()
            asked.close()
        asked._environ = asked._iterator = asked._context = asked.parked = fut = None
        for each in "ab":
            threads.run(each, lambda: None)  # or it has the last step's result
        assert gone() is None
    finally:
        gc.enable()
