"""Which middleware a view can wait inside of without a thread, and what becomes of it inside of other middleware."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from byhand import at_once, done
from django_byhand import *  # noqa: F403  # sets Django up
from django_byhand import environ, only

# ruff: isort: split
from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed, PermissionDenied
from django.http import HttpResponse
from django.http.response import HttpResponseBase
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


# Middleware that is said to be crossable


class Hooked:
    """Its __call__ does what MiddlewareMixin's does, in its own words."""

    wsgi_plus_crossable = True

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        self.process_request(request)
        return self.process_response(request, self.get_response(request))

    def process_request(self, request):
        request.META.setdefault("heard", []).append("request")

    def process_response(self, request, response):
        request.META["heard"].append("response")
        response["X-Hooked"] = response.status_code
        return response


class Around(Plain):
    def wsgi_plus_crossable(self, request):
        request.META.setdefault("heard", []).append("before")
        try:
            response = yield
        except GeneratorExit:
            request.META["heard"].append("left")
            raise
        request.META["heard"].append("after")
        response["X-Plain"] = response.status_code
        return response


def setting(get_response):
    """Sets what is noted for the response that is not there yet."""

    def middleware(request):
        response = get_response(request)
        assert isinstance(response, HttpResponseBase)
        response["X-Set"] = "1"
        response.headers["X-Too"] = "2"
        response.setdefault("X-Set", "not this")
        response.headers.setdefault("X-Third", "3")
        del response["X-Gone"]
        response.set_cookie("taste", "sweet")
        response.delete_cookie("old")
        response.reason_phrase = "Fine"
        return response

    return middleware


setting.wsgi_plus_crossable = True


def reading(get_response):
    """Sets, and reads what it must be given for that."""

    def middleware(request):
        response = get_response(request)
        response["X-Before"] = "1"
        response["X-Status"] = response.status_code
        response["X-Length"] = len(response.content)
        response["X-Has"] = "X-Before" in response and response["X-Before"] == "1" and "X-No" not in response.headers
        return response

    return middleware


reading.wsgi_plus_crossable = True


def answering(get_response):
    """Answers itself, before the view or in the place of what comes of it."""

    def middleware(request):
        if request.META["answers"] == "before":
            return HttpResponse("mine")
        get_response(request)
        return HttpResponse("mine")

    return middleware


answering.wsgi_plus_crossable = True


def two_yields(get_response):
    return lambda request: get_response(request)


def twice(middleware, request):
    yield
    return (yield)


@pytest.mark.parametrize("around", [[], ["Mixin", "Hooked"]])
def test_declared_by_attribute_with_hooks(ask, around):
    fut = Future()
    asked = ask("/slow", on="ab", settings=named(*around, "Hooked"), futures=[fut])
    assert asked.step().parked is fut
    fut.set_result(None)
    assert asked.finish().header("X-Hooked") == "200"
    times = 1 + len(around) // 2
    assert asked._environ["heard"] == ["request"] * times + ["response"] * times


def test_declared_by_attribute_with_a_generator(ask):
    fut = Future()
    asked = ask("/slow", on="ab", settings=named("Around", "Mixin"), futures=[fut])
    assert asked.step().parked is fut
    fut.set_result(None)
    assert (asked.finish().header("X-Plain"), asked._environ["heard"]) == ("200", ["before", "after"])


def test_such_a_generator_is_closed_when_the_client_leaves(ask):
    asked = ask("/slow", on="ab", settings=named("Around", "Mixin"), futures=[Future()]).step()
    asked.close()
    assert asked._environ["heard"] == ["before", "left"]


SET = {"X-Set": "1", "X-Too": "2", "X-Third": "3"}


@pytest.mark.parametrize("waits", [0, 1, 2])
@pytest.mark.parametrize("around", [[], ["Mixin", "setting"]])
def test_declared_what_is_set_is_noted(ask, waits, around):
    futures = [Future() for _ in range(waits)]
    asked = ask("/slow", on="ab", settings=named(*around, "setting", *around), futures=futures)
    for fut in futures:
        assert asked.step().parked is fut
        fut.set_result(None)
    asked.finish()
    assert {name: asked.header(name) for name in SET} == SET
    cookies = [value.partition(";")[0].strip() for name, value in asked.headers if name == "Set-Cookie"]
    assert sorted(cookies) == ['old=""', "taste=sweet"]
    assert asked.body == b"fine"


@pytest.mark.parametrize("where", [["reading"], ["setting", "reading"], ["reading", "setting"]])
def test_declared_and_what_is_read_is_waited_for(ask, log, where):
    """In the thread, which is said."""
    asked = ask("/slow", on="ab", settings=named(*where), futures=[done(), done()]).finish()
    assert asked.body == b"fine"
    assert [asked.header(f"X-{name}") for name in ("Before", "Status", "Length", "Has")] == ["1", "200", "4", "True"]
    (record,) = log.records
    assert record.getMessage().startswith(f"{__name__}.reading cannot be suspended")
    log.clear()


@pytest.mark.parametrize("answers", ["before", "after"])
def test_declared_and_answers_itself(ask, answers):
    fut = Future()
    ended = []

    @suspends
    def view(request):
        try:
            yield from wait(fut)
        finally:
            ended.append(request)

    with only(view):
        asked = ask(on="ab", settings=named("answering", "Mixin"), answers=answers).finish()
    assert (asked.body, len(ended)) == (b"mine", 0 if answers == "before" else 1)


def test_declared_and_the_view_fails(ask, log):
    @suspends
    def view(request):
        yield done()
        raise PermissionDenied

    with only(view):
        asked = ask(on="ab", settings=named("setting", "Around", "Hooked")).finish()
    assert (asked.status, asked.header("X-Hooked"), asked.header("X-Set")) == (403, "403", "1")
    log.clear()


def handing_on(get_response):
    def middleware(request):
        response = get_response(request)
        response["X-Function"] = "200"
        return response

    return middleware


HANDING_ON = f"{__name__}.handing_on"
FUNCTION = f"{__name__}.function"


@pytest.mark.parametrize(
    "crossable",
    [[HANDING_ON], (HANDING_ON,), {HANDING_ON}, {HANDING_ON: True}, {FUNCTION: f"{__name__}.around_function"}],
)
def test_declared_in_the_settings(ask, crossable):
    fut = Future()
    how = {"MIDDLEWARE": list(crossable), "WSGI_PLUS_CROSSABLE": crossable}
    asked = ask("/slow", on="ab", settings=how, futures=[fut])
    assert asked.step().parked is fut
    fut.set_result(None)
    assert asked.finish().header("X-Function") == "200"


def around_function(middleware, request):
    response = yield
    response["X-Function"] = response.status_code
    return response


def test_the_setting_wins(ask, log):
    how = {**named("Around"), "WSGI_PLUS_CROSSABLE": {f"{__name__}.Around": False}}
    asked = ask("/slow", on="ab", settings=how, futures=[done()]).finish()
    assert (asked.header("X-Plain"), len(log.records)) == ("200", 1)
    log.clear()


class Bound(Mixin):
    """It has something on its thread in the meantime."""

    wsgi_plus_crossable = False


@pytest.mark.parametrize(
    ("name", "crossable"),
    [
        (f"{__name__}.Bound", {}),
        (f"{__name__}.Mixin", {f"{__name__}.Mixin": False}),
        ("corsheaders.middleware.CorsMiddleware", {"corsheaders.middleware.CorsMiddleware": False}),
        ("django_htmx.middleware.HtmxMiddleware", {"django_htmx.middleware.HtmxMiddleware": False}),
    ],
)
def test_declared_not_to_be_crossable(ask, log, name, crossable):
    how = {"MIDDLEWARE": [name], "WSGI_PLUS_CROSSABLE": crossable}
    assert ask("/slow", on="ab", settings=how, futures=[done()]).finish().steps == 2
    assert [record.args[0] for record in log.records] == [name]
    log.clear()


@pytest.mark.parametrize(
    "wrong",
    ["a.path", {f"{__name__}.function": f"{__name__}.quick"}, {f"{__name__}.function": 3}],
)
def test_declared_wrongly(wrong):
    with (
        override_settings(**named("function"), WSGI_PLUS_CROSSABLE=wrong),
        pytest.raises(ImproperlyConfigured, match="WSGI_PLUS_CROSSABLE is a list|which is no generator function"),
    ):
        SuspendingWSGIHandler()


def test_a_generator_that_yields_twice(ask, log):
    how = {**named("two_yields"), "WSGI_PLUS_CROSSABLE": {f"{__name__}.two_yields": f"{__name__}.twice"}}
    assert ask("/quick", settings=how).finish().status == 500
    assert "yields twice" in str(log.records[0].exc_info[1])
    log.clear()


def test_a_middleware_that_calls_for_another_request(ask):
    """What comes of that is a response, as ever."""
    asked = ask("/slow", on="ab", settings=named("asking_twice"), futures=[done()]).finish()
    assert (asked.body, asked.header("X-Other")) == (b"fine", "quick")


def asking_twice(get_response):
    def middleware(request):
        other = type(request)({**request.META, "PATH_INFO": "/quick"})
        found = get_response(other).content.decode()
        response = get_response(request)
        response["X-Other"] = found
        return response

    return middleware


asking_twice.wsgi_plus_crossable = True
