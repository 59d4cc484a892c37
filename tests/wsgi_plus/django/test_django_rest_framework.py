"""Django REST framework: what it does around a handler is the same around one that waits.  With the real package."""

from __future__ import annotations

import json
from concurrent.futures import Future

import pytest
from byhand import done, failed
from django_byhand import *  # noqa: F403  # sets Django up
from django_byhand import only

# ruff: isort: split
from django.core.cache import cache
from django.db import transaction
from django.http import HttpResponse
from django.urls import include, path
from rest_framework import exceptions, renderers, routers, serializers, viewsets
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import action, api_view, permission_classes, renderer_classes, throttle_classes
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.throttling import AnonRateThrottle
from rest_framework.views import APIView
from wsgi_plus import suspends, wait


class Token(BaseAuthentication):
    """The user is the token."""

    def authenticate(self, request):
        token = request.headers.get("Token")
        if token == "bad":
            raise exceptions.AuthenticationFailed("bad token")
        return (type("User", (), {"is_authenticated": True, "name": token, "pk": token})(), None) if token else None

    def authenticate_header(self, request):
        return "Token"


class Once(AnonRateThrottle):
    rate = "1/hour"


class Text(renderers.BaseRenderer):
    media_type, format = "text/plain", "txt"

    def render(self, data, accepted_media_type=None, renderer_context=None):
        return f"text: {data} {renderer_context['response'].status_code}".encode()


class Number(serializers.Serializer):
    n = serializers.IntegerField(max_value=9)


def ending(request):
    """What a handler does at its end, by what it is asked for."""
    how = request.query_params.get("how", "fine")
    if how == "missing":
        raise exceptions.NotFound("none")
    if how == "error":
        raise ValueError("on purpose")
    if how == "plain":
        return HttpResponse("plain")
    if how == "created":
        return Response({"made": True}, status=201, headers={"X-Mine": "1"})
    if how == "invalid":
        Number(data={"n": 10}).is_valid(raise_exception=True)
    return Response({"user": getattr(request.user, "name", None), "data": request.data})


class Plain(APIView):
    name = "View"
    authentication_classes = [Token]
    renderer_classes = [renderers.JSONRenderer, Text]

    def get(self, request, **kwargs):
        return ending(request)

    post = get


class Slow(Plain):
    @suspends
    def get(self, request, **kwargs):
        assert (yield from wait(request.META["futures"][0])) == 3
        yield from wait(request.META["futures"][1])
        return ending(request)

    post = get


class PlainPrivate(Plain):
    permission_classes = [IsAuthenticated]


class SlowPrivate(Slow):
    permission_classes = [IsAuthenticated]


class PlainThrottled(Plain):
    throttle_classes = [Once]


class SlowThrottled(Slow):
    throttle_classes = [Once]


class Own:
    """Its own handling of what comes out of a handler."""

    def handle_exception(self, exc):
        return Response({"mine": str(exc)}, status=418)

    def finalize_response(self, request, response, *args, **kwargs):
        response = super().finalize_response(request, response, *args, **kwargs)
        response["X-Own"] = "1"
        return response


class PlainOwn(Own, Plain):
    pass


class SlowOwn(Own, Slow):
    pass


def slowly(request):
    for fut in request.META["futures"]:
        yield from wait(fut)
    return ending(request)


@api_view(["GET", "POST"])
@renderer_classes([renderers.JSONRenderer, Text])
def plain_function(request):
    return ending(request)


@api_view(["GET", "POST"])
@renderer_classes([renderers.JSONRenderer, Text])
@suspends
def slow_function(request):
    return (yield from slowly(request))


@api_view(["GET"])
@permission_classes([IsAuthenticated])
@throttle_classes([Once])
@suspends
def slow_private_function(request):
    return (yield from slowly(request))


class PlainSet(viewsets.ViewSet):
    renderer_classes = [renderers.JSONRenderer, Text]

    def list(self, request):
        return ending(request)

    create = list

    def retrieve(self, request, pk=None):
        ending(request)
        return Response({"pk": pk})

    @action(detail=True, methods=["get", "post"])
    def more(self, request, pk=None):
        return ending(request)


class SlowSet(viewsets.ViewSet):
    renderer_classes = [renderers.JSONRenderer, Text]

    @suspends
    def list(self, request):
        return (yield from slowly(request))

    create = list

    @suspends
    def retrieve(self, request, pk=None):
        yield from slowly(request)
        return Response({"pk": pk})

    @action(detail=True, methods=["get", "post"])
    @suspends
    def more(self, request, pk=None):
        return (yield from slowly(request))


router = routers.SimpleRouter(trailing_slash=False)
router.register("plain/set", PlainSet, basename="plain")
router.register("slow/set", SlowSet, basename="slow")

urlpatterns = [
    path("plain/view", Plain.as_view()),
    path("slow/view", Slow.as_view()),
    path("plain/private", PlainPrivate.as_view()),
    path("slow/private", SlowPrivate.as_view()),
    path("plain/throttled", PlainThrottled.as_view()),
    path("slow/throttled", SlowThrottled.as_view()),
    path("plain/own", PlainOwn.as_view()),
    path("slow/own", SlowOwn.as_view()),
    path("plain/function", plain_function),
    path("slow/function", slow_function),
    path("", include(router.urls)),
]

KINDS = ["view", "function", "set", "set/7/more"]
ALL = [*KINDS, "own", "private", "set/7"]
ENDINGS = ["fine", "missing", "error", "plain", "created", "invalid"]


@pytest.fixture
def both(ask, log):
    """Asks for the same of a handler that waits and of one that does not: (status, headers, body) are the same."""

    def asked(kind, *, suspended=True, **more):
        found = {}
        for speed in ("plain", "slow"):
            cache.clear()
            futures = [Future(), Future()]
            exchange = ask(f"/{speed}/{kind}", on="ab", settings={"MIDDLEWARE": []}, futures=futures, **more)
            if suspended and speed == "slow":
                assert exchange.step().parked is futures[0]
                futures[0].set_result(3)
                assert exchange.step().parked is futures[1]
                futures[1].set_result(None)
            exchange.finish()
            found[speed] = exchange.status, sorted(exchange.headers), exchange.body
        assert found["slow"] == found["plain"]
        log.clear()
        return exchange

    return asked


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("accept", ["application/json", "text/plain", "*/*"])
def test_the_same_response(both, kind, how, accept):
    both(f"{kind}?how={how}", HTTP_ACCEPT=accept, HTTP_TOKEN="anna")


@pytest.mark.parametrize("kind", KINDS)
def test_renderers_and_parsers(both, kind):
    data = json.dumps({"n": 1}).encode()
    found = both(f"{kind}?how=fine", method="POST", body=data, CONTENT_TYPE="application/json", HTTP_ACCEPT="*/*")
    assert json.loads(found.body)["data"] == {"n": 1}
    assert found.header("Content-Type") == "application/json"
    assert both(f"{kind}?how=created", HTTP_ACCEPT="text/plain").body == b"text: {'made': True} 201"


@pytest.mark.parametrize(
    ("kind", "more", "status"),
    [
        ("view", {"HTTP_TOKEN": "bad"}, 401),
        ("private", {}, 401),
        ("view", {"HTTP_ACCEPT": "image/png"}, 406),
        ("view", {"method": "PUT"}, 405),
        ("function", {"method": "DELETE"}, 405),
        ("set", {"method": "DELETE"}, 405),
        ("view", {"method": "OPTIONS"}, 200),
    ],
)
def test_what_is_decided_before_the_handler(both, kind, more, status):
    assert both(kind, suspended=False, **more).status == status


def test_authenticated(both):
    assert json.loads(both("private", HTTP_TOKEN="anna").body)["user"] == "anna"


def test_malformed_data(both):
    """It is read by the handler."""
    found = both("view?how=fine", method="POST", body=b"{", CONTENT_TYPE="application/json")
    assert found.status == 400


def test_exception_handlers_of_ones_own(both):
    found = both("own?how=missing")
    assert (found.status, found.header("X-Own"), json.loads(found.body)) == (418, "1", {"mine": "none"})


def test_throttled(ask, log):
    for status in (200, 429):
        exchange = ask("/slow/throttled", on="ab", settings={"MIDDLEWARE": []}, futures=[done(3), done()]).finish()
        assert exchange.status == status
    assert int(exchange.header("Retry-After")) > 0
    log.clear()


def test_policies_of_functions(ask, log):
    with only(slow_private_function):
        assert ask(futures=[done()], settings={"MIDDLEWARE": []}).finish().status == 403
    log.clear()


def test_a_future_that_fails(ask, log):
    for error, status in ((exceptions.PermissionDenied(), 403), (ValueError("on purpose"), 500)):
        exchange = ask("/slow/function", on="ab", futures=[done(), failed(error)]).finish()
        assert (exchange.status, exchange.steps) == (status, 4)
    log.clear()


def test_the_client_leaves(ask):
    ended = []

    class View(APIView):
        @suspends
        def get(self, request):
            try:
                yield Future()
            except GeneratorExit:
                ended.append("left")
                raise

        def handle_exception(self, exc):
            ended.append("handled")

    with only(View.as_view()):
        ask(on="ab").step().close()
    assert ended == ["left"]


def test_a_marked_method_that_another_calls(ask):
    class View(APIView):
        @suspends
        def get(self, request):
            return (yield from slowly(request))

        def post(self, request):
            return self.get(request)

    with only(View.as_view()):
        exchange = ask(on="ab", method="POST", futures=[done(), done()]).finish()
    assert (exchange.status, exchange.steps) == (200, 4)  # the last is close()


def test_it_is_not_kept_by_what_it_is_for(ask):
    """In memory: the view has nothing of ours when the request is over."""
    seen = []

    class View(APIView):
        @suspends
        def get(self, request):
            seen.append(self)
            yield done()
            return Response({})

    with only(View.as_view()):
        ask(on="ab").finish()
    assert "finalize_response" not in vars(seen[0])
    assert type(seen[0].response) is Response


# What is wrong


def test_a_transaction(ask, log):
    class View(APIView):
        @suspends
        def get(self, request):
            with transaction.atomic():
                yield done()
            return Response({})

    with only(View.as_view()):
        assert ask().finish().status == 500
    assert "waiting within a transaction" in str(log.records[-1].exc_info[1])
    log.clear()


def test_atomic_requests(ask, log):
    from django.db import connections

    databases = connections.settings["default"]
    databases["ATOMIC_REQUESTS"] = True
    try:
        assert ask("/slow/view", futures=[done(3), done()]).finish().status == 500
        assert "non_atomic_requests" in str(log.records[-1].exc_info[1])
        with only(transaction.non_atomic_requests(Slow.as_view())):
            assert ask(futures=[done(3), done()]).finish().status == 200
    finally:
        databases["ATOMIC_REQUESTS"] = False
    log.clear()


@pytest.mark.parametrize("kind", ["function", "view"])
def test_a_handler_that_is_not_marked(ask, log, kind):
    class Unmarked(APIView):
        def get(self, request):
            yield done()

    @api_view(["GET"])
    def unmarked(request):
        yield done()

    with only(unmarked if kind == "function" else Unmarked.as_view()):
        assert ask(settings={"MIDDLEWARE": []}).finish().status == 500
    said = str(log.records[-1].exc_info[1])
    assert said.startswith(f"the handler of GET in {__name__}.")
    assert "mark it with @suspends: directly above its def, and below all other decorators" in said
    log.clear()


def test_the_wrong_order_of_decorators():
    with pytest.raises(TypeError, match="made of a class: it belongs directly above the def .* below @api_view"):

        @suspends
        @api_view(["GET"])
        def view(request):
            yield done()

    with pytest.raises(TypeError, match="made of a class"):
        suspends(Slow.as_view())
    with pytest.raises(TypeError, match="which is a class"):
        suspends(Slow)


def test_on_a_plain_server(ask):
    exchange = ask("/slow/view", futures=[done(3), done()], wsgi_plus__version=None).finish()
    assert (exchange.status, exchange.steps) == (200, 2)


def test_middleware(ask):
    exchange = ask("/slow/function", on="ab", futures=[done(), done()]).finish()
    assert (exchange.status, exchange.header("X-Frame-Options")) == (200, "DENY")
