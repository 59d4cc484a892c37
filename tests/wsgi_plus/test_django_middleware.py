"""Which middleware a view can wait inside of without a thread, and what becomes of it inside of other middleware."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "apps"))

from byhand import at_once, done
from django_byhand import *  # noqa: F403  # sets Django up
from django_byhand import environ, only

# ruff: isort: split
from asgiref.sync import iscoroutinefunction
from django.core.exceptions import MiddlewareNotUsed, PermissionDenied
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from django.utils.decorators import async_only_middleware, sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin
from wsgi_plus import suspends, wait
from wsgi_plus.django import SuspendingWSGIHandler


@suspends
def slow(request):
    for fut in request.META["futures"]:
        yield from wait(fut)
    return HttpResponse("fine")


def quick(request):
    return HttpResponse("quick")


urlpatterns = [path("slow", slow), path("quick", quick)]


# What there may be in MIDDLEWARE


class Mixin(MiddlewareMixin):
    def process_response(self, request, response):
        response["X-Mixin"] = "1"
        return response


class Calling(Mixin):
    """A mixin with a __call__ of its own."""

    def __call__(self, request):
        response = super().__call__(request)
        response["X-Calling"] = response.status_code
        return response


class Plain:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        response["X-Plain"] = response.status_code
        return response


def function(get_response):
    def middleware(request):
        response = get_response(request)
        response["X-Function"] = response.status_code
        return response

    return middleware


def made(get_response):
    """A function that makes a mixin is as good as the mixin."""
    return Mixin(get_response)


def wrapped(get_response):
    """Unless the mixin calls something else than what it has been given."""

    def counted(request):
        response = get_response(request)
        response["X-Counted"] = response.status_code
        return response

    return Mixin(counted)


def unused(get_response):
    raise MiddlewareNotUsed("today")


@sync_and_async_middleware
def both(get_response):
    return asynchronous(get_response) if iscoroutinefunction(get_response) else function(get_response)


@async_only_middleware
def asynchronous(get_response):
    async def middleware(request):
        response = await get_response(request)
        response["X-Asynchronous"] = response.status_code
        return response

    return middleware


class Asynchronous(Mixin):
    sync_capable = False


class Refusing(MiddlewareMixin):
    """Its view hook looks at what the view returns, which is for it to ask."""

    def process_view(self, request, view, args, kwargs):
        response = view(request, *args, **kwargs)
        assert response.status_code == 200
        return response


CROSSED = ["Mixin", "made", "unused", "Refusing"]
NOT_CROSSED = {
    "Calling": "X-Calling",
    "Plain": "X-Plain",
    "function": "X-Function",
    "wrapped": "X-Counted",
    "both": "X-Function",
    "asynchronous": "X-Asynchronous",
    "Asynchronous": "X-Mixin",
}


def named(*names):
    return {"MIDDLEWARE": [f"{__name__}.{name}" for name in names]}


@pytest.mark.parametrize("name", ["Mixin", "made", "unused"])
def test_crossed(ask, name):
    fut = Future()
    exchange = ask("/slow", on="ab", settings=named("Mixin", name, "Mixin"), futures=[fut]).step()
    assert exchange.parked is fut
    fut.set_result(None)
    assert exchange.finish().header("X-Mixin") == "1"


@pytest.mark.parametrize("name", NOT_CROSSED)
@pytest.mark.parametrize("around", [[], ["Mixin", "unused"]])
def test_not_crossed(ask, log, name, around):
    """The view waits in the thread, and the middleware has the response.  That is said once, with its name."""
    with override_settings(**named(*around, name, *around)):
        app = SuspendingWSGIHandler()
    for _ in range(2):
        exchange = ask("/slow", on="ab", handler=lambda: app, futures=[done(), done()]).finish()
        assert (exchange.steps, exchange.body) == (2, b"fine")
        assert exchange.header(NOT_CROSSED[name]) in ("200", "1")
    (record,) = log.records
    assert record.getMessage().startswith(f"{__name__}.{name} cannot be suspended")
    log.clear()


def test_each_that_is_not_crossed_is_named(ask, log):
    exchange = ask("/slow", settings=named("function", "unused", "Mixin", "Plain", "both"), futures=[done()]).finish()
    assert exchange.body == b"fine"
    assert [record.args[0].rpartition(".")[2] for record in log.records] == ["function", "Plain", "both"]
    log.clear()


def test_said_once_by_many_at_once(log):
    with override_settings(ROOT_URLCONF=__name__, **named("function")):
        app = SuspendingWSGIHandler()
        asked = [environ("/slow", futures=[done()]) for _ in range(8)]
        at_once(*(lambda each=each: app(each, lambda *_: None).close() for each in asked))
    assert len(log.records) == 1
    log.clear()


@pytest.mark.parametrize(("target", "version"), [("/quick", (1, 0)), ("/slow", None)])
def test_nothing_is_said_where_nobody_could_do_better(ask, target, version):
    """Of views that do not wait, and on plain servers."""
    exchange = ask(target, settings=named("function", "Plain"), futures=[done()], wsgi_plus__version=version).finish()
    assert exchange.status == 200


def test_errors_inside_of_what_is_not_crossed(ask, signals, log):
    """They are responses when they reach it, before a wait and after."""

    @suspends
    def view(request):
        yield done()
        raise PermissionDenied

    with only(view):
        exchange = ask(settings=named("Mixin", "function", "Mixin")).finish()
    assert (exchange.status, exchange.header("X-Function")) == (403, "403")
    assert signals == ["started", "finished"]
    log.clear()


def test_a_view_that_middleware_calls(ask):
    """In process_view: it is given the response."""
    exchange = ask("/slow", on="ab", settings=named("Mixin", "Refusing"), futures=[done(), done()]).finish()
    assert (exchange.steps, exchange.body) == (2, b"fine")


def test_remote_user(ask):
    """Django's only middleware that is not made of the mixin, since 5.2."""
    auth = "django.contrib.auth.middleware"
    settings = {
        "MIDDLEWARE": [
            "django.contrib.sessions.middleware.SessionMiddleware",
            f"{auth}.AuthenticationMiddleware",
            f"{auth}.RemoteUserMiddleware",
        ],
    }

    @suspends
    def view(request):
        yield done()
        return HttpResponse(request.user.get_username())

    with only(view), override_settings(AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.RemoteUserBackend"]):
        exchange = ask(on="ab", settings=settings, REMOTE_USER="anna").finish()
    assert (exchange.steps, exchange.body) == (3, b"anna")
