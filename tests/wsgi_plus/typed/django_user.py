"""What a type checker makes of the integration with Django.  Checked by test_types.py, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import Future
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.handlers.wsgi import WSGIHandler
from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import TestCase
from django.urls import path
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from typing_extensions import assert_type
from wsgi_plus import AsyncBridge, gather, offload, wait
from wsgi_plus.django import SuspendingWSGIHandler, get_wsgi_application, suspends
from wsgi_plus.django import offload as django_offload
from wsgi_plus.django.test import Client
from wsgi_plus.testing import Request

bridge = AsyncBridge()


@suspends
def index(request: HttpRequest, number: int = 0) -> Generator[Future[Any], None, HttpResponse]:
    one, two = yield from gather(offload(str, number), offload(len, "two"))
    assert_type(one, str)
    assert_type(two, int)
    return HttpResponse(one)


@login_required
@require_POST
@csrf_exempt
@non_atomic_requests
@suspends
def guarded(request: HttpRequest) -> Generator[Future[Any], None, StreamingHttpResponse]:
    yield from wait(offload(len, "two"))
    return StreamingHttpResponse(blocks())


def blocks() -> Generator[bytes | Future[Any], None, None]:
    yield b"block"
    text = yield from wait(offload(str, 3))
    yield text.encode()


async def pieces() -> AsyncIterator[bytes]:
    yield b"piece"


def upstream(request: HttpRequest) -> StreamingHttpResponse:
    assert_type(django_offload(divmod, 7, 2), Future[tuple[int, int]])
    return StreamingHttpResponse(bridge.iterate(pieces()))


class Page(View):
    @suspends
    def get(self, request: HttpRequest, name: str) -> Generator[Future[Any], None, HttpResponse]:
        text = yield from wait(offload(str, name))
        return HttpResponse(text)


urlpatterns = [path("", index), path("guarded", guarded), path("<name>", Page.as_view())]

application = get_wsgi_application()
assert_type(application, SuspendingWSGIHandler)
a_handler_of_django: WSGIHandler = application
assert_type(index(HttpRequest(), 3), HttpResponse)
a_view: Callable[[HttpRequest], HttpResponse] = index


class Tests(TestCase):
    client_class = Client

    def test_page(self) -> None:
        client = Client(threads=True, timeout=1)
        request = client.begin("get", "/page", {"a": "b"})
        assert_type(request, Request)
        assert_type(request.complete(3).parked, Future[Any] | None)
        self.assertContains(client.finish(request), "word")
        self.assertContains(client.get("/page"), "word")


class Timing:
    """Middleware that says how it is crossed."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def wsgi_plus_crossable(self, request: HttpRequest) -> Generator[None, HttpResponse, HttpResponse]:
        response = yield
        response["X-Took"] = "1"
        return response
