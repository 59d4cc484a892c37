"""wsgi_plus.django.test: Django's test client, and what it finds out that Django's own does not."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

import pytest
from byhand import done, failed
from django_byhand import *  # noqa: F403  # sets Django up
from django_byhand import fresh

# ruff: isort: split
from django import test
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.http import FileResponse, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.test import override_settings
from django.test.utils import setup_test_environment, teardown_test_environment
from django.urls import path
from django.views.decorators.cache import never_cache
from django_config import MIDDLEWARE
from rest_framework.decorators import api_view
from rest_framework.response import Response
from wsgi_plus import offload, sleep, suspends, wait
from wsgi_plus.django.test import Client
from wsgi_plus.testing import Disconnected, MisuseError, Parked

__all__ = ["fresh"]

waiting: dict[str, Future] = {}


def soon(value=None):
    return offload(lambda: value)


@suspends
def page(request):
    word = yield from wait(soon("word"))
    return TemplateResponse(request, "page.html", {"word": word})


@suspends
def data(request):
    yield from wait(soon())
    found = {"method": request.method, "posted": request.POST.get("n"), "user": str(request.user)}
    return JsonResponse({**found, "secure": request.is_secure()})


@suspends
def moved(request):
    yield from wait(soon())
    response = HttpResponseRedirect("/page")
    response.set_cookie("seen", "yes")
    return response


@suspends
def asks(request):
    waiting["asks"] = Future()
    try:
        return HttpResponse((yield from wait(waiting["asks"])))
    except OSError:
        return HttpResponse("no upstream", status=502)


def stream(request):
    def blocks():
        yield "a"
        yield from wait(soon())
        yield "b"

    return StreamingHttpResponse(blocks())


def file(request):
    return FileResponse(open(__file__, "rb"))


def quick(request):
    return HttpResponse("quick")


@suspends
def fails(request):
    yield from wait(failed(LookupError("on purpose")))


@suspends
def in_atomic(request):
    with transaction.atomic():
        yield from wait(soon())
    return HttpResponse("never")


@transaction.atomic
@suspends
def under_atomic(request):
    yield from wait(soon())
    return HttpResponse("never")


def unmarked(request):
    yield from wait(soon())
    return HttpResponse("never")


@never_cache
@suspends
def under_never_cache(request):
    yield from wait(soon())
    return HttpResponse("never")


def stream_in_atomic(request):
    def blocks():
        yield "a"
        with transaction.atomic():
            yield from wait(soon())

    return StreamingHttpResponse(blocks())


@api_view(["GET"])
@suspends
def rest(request):
    return Response({"word": (yield from wait(soon("word")))})


@api_view(["GET"])
def rest_unmarked(request):
    yield from wait(soon())


@suspends
def users(request):
    """What it sees before a wait and after, and what is to be undone with the test."""
    before = User.objects.count()
    User.objects.create_user("made")
    yield from wait(soon())
    return JsonResponse({"before": before, "after": User.objects.count()})


@suspends
def where(request):
    found = [threading.get_ident()]
    yield from wait(soon())
    return JsonResponse({"threads": [*found, threading.get_ident()]})


@suspends
def slow(request):
    yield from sleep(3600)


VIEWS = [page, data, moved, asks, stream, file, quick, fails, in_atomic, under_atomic, unmarked, under_never_cache]
VIEWS += [stream_in_atomic, users, where, slow]
urlpatterns = [path(view.__name__, view) for view in VIEWS]
urlpatterns += [path("rest", rest), path("rest_unmarked", rest_unmarked)]

pytestmark = pytest.mark.usefixtures("site")


@pytest.fixture(scope="module")
def site():
    setup_test_environment()
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[name for name in MIDDLEWARE if "cache" not in name]):
        yield
    teardown_test_environment()


@pytest.fixture(params=["one thread", "threads"])
def client(request, fresh):
    return Client(threads=request.param == "threads")


# It is Django's


def test_a_view_that_waits(client):
    response = client.get("/page")
    assert (response.status_code, response.content) == (200, b"word ")
    assert response.context["word"] == "word"
    assert [template.name for template in response.templates] == ["page.html"]
    assert (response.resolver_match.func, response.wsgi_request.path) == (page, "/page")
    assert response.client is client and response.request["PATH_INFO"] == "/page"


def test_requests(client):
    assert client.post("/data", {"n": 3}).json()["posted"] == "3"
    assert client.get("/data", secure=True).json()["secure"]
    assert client.put("/data").json()["method"] == "PUT"
    assert client.head("/data").content == b""
    assert client.get("/quick").content == b"quick"


def test_users_and_cookies(client):
    client.force_login(User.objects.create_user("ada"))
    assert client.get("/data").json()["user"] == "ada"
    response = client.get("/moved", follow=True)
    assert (response.redirect_chain, response.content) == ([("/page", 302)], b"word ")
    assert client.cookies["seen"].value == "yes"


def test_csrf(log):
    assert Client().post("/data").status_code == 200
    assert Client(enforce_csrf_checks=True).post("/data").status_code == 403
    log.clear()


def test_streams(client):
    response = client.get("/stream")
    assert (response.streaming, list(response.streaming_content)) == (True, [b"a", b"b"])
    assert client.get("/file").getvalue() == Path(__file__).read_bytes()
    assert client.head("/stream").getvalue() == b""


def test_what_a_view_raises(client, log):
    with pytest.raises(LookupError, match="on purpose"):
        client.get("/fails")
    client.raise_request_exception = False
    assert client.get("/fails").status_code == 500
    log.clear()


def test_what_never_comes():
    with pytest.raises(TimeoutError, match=r"GET /slow\?a=b: not answered, parked on .* after 0.1 s"):
        Client(timeout=0.1).get("/slow?a=b")


# It has the rules of a server


WRONG = {
    "in_atomic": (transaction.TransactionManagementError, "waiting within a transaction"),
    "under_atomic": (ImproperlyConfigured, "called within a transaction"),
    "unmarked": (TypeError, "unmarked is a generator. If it is a view that waits, mark it with @suspends"),
    "under_never_cache": (AttributeError, "a decorator around @suspends asked for"),
    "stream_in_atomic": (transaction.TransactionManagementError, "waiting within a transaction"),
    "rest_unmarked": (TypeError, "rest_unmarked is a generator"),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes(client, name, log):
    with pytest.raises(WRONG[name][0], match=WRONG[name][1]):
        client.get(f"/{name}")
    log.clear()


@pytest.mark.parametrize("name", ["in_atomic", "under_atomic", "under_never_cache"])
def test_mistakes_that_djangos_client_does_not_find(name):
    """The reason for this one."""
    assert test.Client().get(f"/{name}").content == b"never"


def test_rest_framework(client):
    assert client.get("/rest").json() == {"word": "word"}


def holding(get_response):
    return lambda request: get_response(request)


def test_middleware_that_holds_threads(log):
    with override_settings(MIDDLEWARE=[f"{__name__}.holding"]):
        assert Client().get("/page").status_code == 200
    assert log.records[0].getMessage().startswith(f"{__name__}.holding cannot be suspended")
    log.clear()


class InATestCase(test.TestCase):
    """Its transaction is not taken for one of the view, which sees what is in it."""

    client_class = Client

    def setUp(self):
        User.objects.all().delete()

    def test_a_view_that_waits(self):
        User.objects.create_user("mine")
        self.assertEqual(self.client.get("/users").json(), {"before": 1, "after": 2})
        self.assertContains(self.client.get("/page"), "word")

    def test_again(self):
        self.assertEqual(self.client.get("/users").json(), {"before": 0, "after": 1})

    def test_a_transaction_of_the_view(self):
        with self.assertLogs("django.request"), self.assertRaises(transaction.TransactionManagementError):
            self.client.get("/in_atomic")
        with self.assertLogs("django.request"), self.assertRaises(ImproperlyConfigured):
            self.client.get("/under_atomic")

    def test_steps(self):
        request = self.client.begin("get", "/asks")
        request.complete("hot")
        self.assertContains(self.client.finish(request), "hot")


def test_threads(fresh):
    here = threading.get_ident()
    assert Client().get("/where").json() == {"threads": [here, here]}
    assert here not in Client(threads=True).get("/where").json()["threads"]


# Step by step


def test_begin_and_finish(client):
    request = client.begin("get", "/asks?a=b", headers={"Accept": "text/plain"})
    assert (request.parked, request.status) == (waiting["asks"], None)
    assert repr(request).startswith("<GET /asks?a=b: not answered, parked on ")
    request.complete("hot")
    response = client.finish(request)
    assert (response.status_code, response.content, request.body) == (200, b"hot", b"hot")
    assert response.wsgi_request.headers["Accept"] == "text/plain"
    assert (response.client, response.request["QUERY_STRING"]) == (client, "a=b")
    assert response.resolver_match.func is asks


def test_two_at_once(client):
    first = client.begin("get", "/asks")
    asked = waiting["asks"]
    second = client.begin("get", "/asks")
    second.complete("second")
    assert first.parked is asked
    first.complete("first")
    assert [client.finish(each).content for each in (first, second)] == [b"first", b"second"]


def test_a_future_that_fails_by_hand(client, log):
    assert client.finish(client.begin("get", "/asks").fail(OSError("refused"))).status_code == 502
    log.clear()


def test_a_view_that_raises_after_a_step(client, log):
    request = client.begin("get", "/asks").fail(KeyError("on purpose"))
    assert request.status_code == 500
    with pytest.raises(KeyError, match="on purpose"):
        client.finish(request)
    client.raise_request_exception = False
    assert client.finish(request).status_code == 500
    log.clear()


def test_the_client_leaves(client):
    request = client.begin("get", "/asks")
    request.disconnect()
    assert [type(step) for step in request.steps[:2]] == [Parked, Disconnected]
    with pytest.raises(MisuseError, match="has no response"):
        client.finish(request)


def test_what_begin_takes(client):
    request = client.begin("post", "/data", {"n": 4})
    assert client.finish(request).json()["posted"] == "4"
    with pytest.raises(MisuseError, match="not with begin"):
        client.begin("get", "/moved", follow=True)
    response = client.finish(client.begin("get", "/moved"))
    assert (response.status_code, client.cookies["seen"].value) == (302, "yes")
    assert client.get("/quick").content == b"quick"


def test_done_at_once(client):
    request = client.begin("get", "/quick")
    assert request.over
    assert client.finish(request).content == b"quick"
    assert done().done()
