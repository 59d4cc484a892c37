"""@suspends on what is not the view, on a server that suspends: a check must not pass because it has not been made."""

from __future__ import annotations

import json
from concurrent.futures import Future

import pytest
from byhand import done
from django_byhand import *  # noqa: F403  # sets Django up
from django_byhand import only

# ruff: isort: split
from django.contrib.auth.mixins import UserPassesTestMixin
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.views import View
from flask import Flask
from rest_framework import exceptions, mixins, serializers, viewsets
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView
from wsgi_plus import _suspends, suspends, wait
from wsgi_plus.flask import suspending
from wsgi_plus.testing import Client

did = []


@pytest.fixture(autouse=True)
def new(monkeypatch):
    """What is said once for each view has not been said."""
    monkeypatch.setattr(_suspends, "_told", set())
    did.clear()


def said(log):
    found = [(record.levelname, record.getMessage()) for record in log.records if record.name == "wsgi_plus"]
    log.clear()
    return found


def held(log, *names):
    """These have waited in their thread, and that has been said."""
    found = said(log)
    assert [message.split()[0].rpartition(".")[2] for _, message in found] == list(names)
    assert all(level == "WARNING" and "waits in its thread" in message for level, message in found)
    return True


# What the framework of REST asks


@suspends
def refuse(self, *args):
    did.append("refused")
    yield from wait(done())
    return False


@suspends
def admit(self, *args):
    did.append("admitted")
    yield from wait(done())
    return True


def served(**policies):
    """A view with these, which are classes."""

    def get(self, request):
        did.append("served")
        return Response("served")

    return type("Served", (APIView,), {"get": get, **policies}).as_view()


@pytest.mark.parametrize("base", [BasePermission, object], ids=["the framework's", "of another class"])
@pytest.mark.parametrize(("answer", "status"), [(refuse, 403), (admit, 200)])
def test_permissions(ask, log, base, answer, status):
    permission = type("Mine", (base,), {"has_permission": answer})
    with only(served(permission_classes=[permission])):
        assert ask().finish().status == status
    assert did == (["refused"] if answer is refuse else ["admitted", "served"])
    assert len(said(log)) == 1


@pytest.mark.parametrize(("answer", "status"), [(refuse, 429), (admit, 200)])
def test_throttles(ask, log, answer, status):
    throttle = type("Mine", (BaseThrottle,), {"allow_request": answer})
    with only(served(throttle_classes=[throttle])):
        assert ask().finish().status == status
    assert len(said(log)) == 1


def test_authentication(ask, log):
    class Mine(BaseAuthentication):
        @suspends
        def authenticate(self, request):
            yield from wait(done())
            raise exceptions.NotAuthenticated

    with only(served(authentication_classes=[Mine])):
        assert ask().finish().status == 403
    assert did == [] and held(log, "authenticate")


@pytest.mark.parametrize("name", ["initial", "check_permissions", "check_throttles", "perform_authentication"])
def test_what_comes_before_the_handler(ask, log, name):
    @suspends
    def check(self, *args, **kwargs):
        yield from wait(done())
        raise PermissionDenied

    check.__wrapped__.__name__, check.__wrapped__.__qualname__ = name, f"Served.{name}"
    with only(served(**{name: check})):
        assert ask().finish().status == 403
    assert did == [] and held(log, name)


def test_a_check_of_ones_own_that_is_not_made(ask, log):
    """Its caller takes no notice of what it gives."""

    class Checked(APIView):
        def initial(self, request, *args, **kwargs):
            super().initial(request, *args, **kwargs)
            self.quota()

        @suspends
        def quota(self):
            yield from wait(done())
            raise PermissionDenied

        def get(self, request):
            return Response("served")

    with only(Checked.as_view()):
        assert ask().finish().status == 500
    assert "Checked.quota is marked with @suspends and was called, but what it gave was not handed on" in log.text
    log.clear()


class Number(serializers.Serializer):
    n = serializers.IntegerField()


class Numbers(mixins.CreateModelMixin, viewsets.GenericViewSet):
    serializer_class = Number

    @suspends
    def perform_create(self, serializer):
        did.append((yield from wait(done(serializer.validated_data["n"]))))

    @suspends
    def get_queryset(self):
        return (yield from wait(done([3])))

    @suspends
    def list(self, request):
        """A handler that asks for it."""
        yield from wait(request.META["future"])
        return Response(self.get_queryset())

    def several(self, request):
        return self.answer()

    @suspends
    def answer(self):
        """Not called by the framework: its response is handed on."""
        yield from wait(self.request.META["future"])
        return Response("later")


def test_it_is_done(ask, log):
    """And not forgotten, with a 201 for it."""
    with only(Numbers.as_view({"post": "create"})):
        data = json.dumps({"n": 7}).encode()
        assert ask(method="POST", body=data, CONTENT_TYPE="application/json").finish().status == 201
    assert did == [7] and held(log, "perform_create")


@pytest.mark.parametrize(("action", "body"), [("list", b"[3]"), ("several", b'"later"')])
def test_what_is_handed_on_waits_without_a_thread(ask, action, body):
    fut = Future()
    with only(Numbers.as_view({"get": action})):
        exchange = ask(on="ab", settings={"MIDDLEWARE": []}, future=fut).step()
        assert exchange.parked is fut
        fut.set_result(None)
        assert exchange.finish().body == body


# Django


class Passing(UserPassesTestMixin, View):
    raise_exception = True

    def get(self, request):
        return HttpResponse("served")


@pytest.mark.parametrize(("answer", "status"), [(refuse, 403), (admit, 200)])
def test_what_a_mixin_asks(ask, log, answer, status):
    with only(type("View", (Passing,), {"test_func": answer}).as_view()):
        assert ask().finish().status == status
    assert len([message for _, message in said(log) if "asked for its truth" in message]) == 1


@suspends
def save(request):
    did.append("saved")
    yield from wait(done())


DROPPED = "save is marked with @suspends and was called, but what it gave was not handed on as a response"


def test_what_nobody_takes_notice_of(ask, log):
    def view(request):
        save(request)
        return HttpResponse("saved?")

    with only(view):
        assert ask().finish().status == 500
    assert did == [] and DROPPED in log.text
    log.clear()


@pytest.mark.parametrize("place", ["view", "before", "handler"])
def test_what_nobody_takes_notice_of_in_flask(log, place):
    app = suspending(Flask("app"))

    @app.get("/")
    def view():
        place_called("view")
        return "saved?"

    def place_called(name):
        if name == place:
            save(None)

    @app.before_request
    def before():
        place_called("before")

    @app.errorhandler(404)
    def handler(error):
        place_called("handler")
        return "none"

    assert Client(app, raise_errors=False).fetch("/none" if place == "handler" else "/").status_code == 500
    assert did == [] and DROPPED in log.text
    log.clear()


def test_what_is_kept_and_let_go_later(ask, log):
    """After the response, so that is for the log."""
    kept = []

    def view(request):
        kept.append(save(request))
        return HttpResponse("saved?")

    with only(view):
        assert ask().finish().status == 200
    kept.clear()
    ((level, message),) = said(log)
    assert did == [] and level == "ERROR" and message.startswith(DROPPED)


def test_called_in_a_view_that_waits_it_is_done(ask):
    @suspends
    def view(request):
        save(request)
        yield from wait(done())
        return HttpResponse("saved")

    with only(view):
        assert ask().finish().status == 200
    assert did == ["saved"]


# Middleware that is crossed by a generator which forgets the response


def forgets(middleware, request):
    response = yield
    response["X-Mine"] = "1"


def never_yields(middleware, request):
    return None
    yield


@pytest.mark.parametrize(
    ("name", "told"), [("forgets", "didn't return an HttpResponse"), ("never_yields", "neither yields nor returns")]
)
def test_middleware_without_a_response(ask, log, name, told):
    here = f"{__name__}.middleware"
    how = {"MIDDLEWARE": [here], "WSGI_PLUS_CROSSABLE": {here: f"{__name__}.{name}"}}
    with only(lambda request: HttpResponse("served")):
        assert ask(settings=how).finish().status == 500
    assert f"what crosses {here} {told}" in log.text
    log.clear()


def middleware(get_response):
    def call(request):
        return get_response(request)

    return call
