"""The end of a request whose view waits in Django: client, view and response; and what is left in memory."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from types import SimpleNamespace

import pytest
from byhand import done, failed
from django_byhand import *  # noqa: F403  # sets Django up
from django_byhand import only

# ruff: isort: split
import django
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from django.utils.datastructures import MultiValueDict
from test_django import raises, slow
from wsgi_plus import suspends, wait

urlpatterns = [path("slow", slow)]


def test_the_client_leaves(ask, signals):
    """S8.2: the view is closed, its future cancelled, the request closed with its files; once, even if asked twice."""
    ended = []

    @suspends
    def view(request):
        request._files = MultiValueDict({"file": [SimpleNamespace(close=lambda: ended.append("file"))]})
        try:
            yield from wait(request.META["future"])
        finally:
            ended.append("view")

    with only(view):
        exchange = ask(future=Future(), on="ab").step()
        assert (ended, signals) == ([], ["started"])
        rest = exchange._iterable
        exchange.close()
        rest.close()  # S15.4: middleware that delegates with yield from closes the iterator, and the iterable
    assert exchange.parked.cancelled()
    assert (ended, signals) == (["view", "file"], ["started", "finished"])


def test_closed_before_it_is_iterated(ask, signals):
    """S7.2: the request has been ended while the application was being called."""
    exchange = ask("/slow", future=Future())
    exchange._app(exchange._environ, exchange._start).close()
    assert exchange._environ["future"].cancelled()
    assert signals == ["started", "finished"]


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_the_view_fails_when_it_is_closed(ask, signals, log, error):
    """An exception is logged by Django; what is none by the server (S7.5).  The request ends."""

    @suspends
    def view(request):
        try:
            yield Future()
        finally:
            raise error("in finally")

    with only(view):
        exchange = ask(on="ab").step()
        with pytest.raises(SystemExit) if error is SystemExit else nullcontext():
            exchange.close()
    assert (signals[0], signals[-1], signals.count("finished")) == ("started", "finished", 1)
    assert [type(record.exc_info[1]) for record in log.records] == [ValueError] * (error is ValueError)
    log.clear()


def test_a_view_that_goes_on_when_it_is_closed(ask, signals, log):
    """S7.6."""

    @suspends
    def view(request):
        try:
            yield Future()
        except GeneratorExit:
            yield Future()

    with only(view):
        ask(on="ab").step().close()
    assert signals[-1] == "finished"
    assert "ignored GeneratorExit" in str(log.records[0].exc_info[1])
    log.clear()


def test_the_response_is_closed_once(ask, signals):
    """With the request and its files."""
    ended = []

    @suspends
    def view(request):
        yield done()
        request._files = MultiValueDict({"file": [SimpleNamespace(close=lambda: ended.append("file"))]})
        response = HttpResponse("fine")
        response._resource_closers.append(lambda: ended.append(signals[:]))
        return response

    with only(view):
        assert ask(on="ab", settings={"MIDDLEWARE": []}).finish().body == b"fine"
    assert (ended, signals) == ([["started"], "file"], ["started", "finished"])


def test_start_response_fails(ask, signals):
    """The response is closed, not only the request."""
    ended = []

    class Stream:
        def __iter__(self):
            yield b"never"

        def close(self):
            ended.append("stream")

    @suspends
    def view(request):
        yield done()
        return StreamingHttpResponse(Stream())

    with only(view):
        exchange = ask(on="ab")
        exchange._start = raises(ValueError("no such status"))
        with pytest.raises(ValueError, match="no such status"):
            exchange.finish()
    assert (ended, signals) == (["stream"], ["started", "finished"])


# Memory


@suspends
def waits(request):
    yield from wait(request.META.pop("future"))
    return HttpResponse("fine")


def streams(request):
    def blocks():
        yield b"block"
        try:
            yield from wait(request.META.pop("future"))
        except ValueError:
            if request.META["then"] == "uncaught":
                raise

    return StreamingHttpResponse(blocks())


@pytest.mark.skipif(django.VERSION < (5,), reason="it is in a cycle without us, too")
@pytest.mark.parametrize("middleware", [[], ["django.middleware.gzip.GZipMiddleware"]])
@pytest.mark.parametrize(
    ("view", "then"),
    [
        (waits, "fine"),
        (waits, "left"),
        (streams, "fine"),
        (streams, "left"),
        (streams, "caught"),
        (streams, "uncaught"),
    ],
)
def test_nothing_is_left_in_memory(ask, threads, log, view, middleware, then):
    """When a request is over all that belonged to it goes, without the garbage collector."""
    fut = failed() if "caught" in then else Future() if then == "left" else done()
    gc.collect()
    gc.disable()
    try:
        with only(view):
            how = {"settings": {"MIDDLEWARE": middleware}, "HTTP_ACCEPT_ENCODING": "gzip"}
            exchange = ask(on="ab", future=fut, then=then, **how)
            gone = weakref.ref(exchange._environ["wsgi.input"])
            with suppress(ValueError):
                exchange.step() if then == "left" else exchange.finish()
            exchange.close()
        log.clear()
        exchange._environ = exchange._iterator = exchange._context = exchange.parked = fut = None
        for name in "ab":
            threads.run(name, lambda: None)  # or it has the last step's result
        assert gone() is None
    finally:
        gc.enable()
