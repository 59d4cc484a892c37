"""Decorators of Flask extensions around views that wait: Flask-Caching and flask-cors, and what they have in common."""

from __future__ import annotations

import functools
import threading
from concurrent.futures import Future

import flask
import pytest
from flask.views import MethodView
from flask_caching import Cache
from flask_cors import cross_origin
from flask_parts import app, ask, plain, soon, soon_failed, text, visited
from flask_restful import Api, Resource, abort, fields, marshal_with
from wsgi_plus import _suspends, suspends, wait
from wsgi_plus.testing import Client, Parked

__all__ = ["app", "ask"]


@pytest.fixture(autouse=True)
def new(monkeypatch):
    """What is said once for each view has not been said."""
    monkeypatch.setattr(_suspends, "_told", set())


# flask-cors


@pytest.fixture
def shared(app):
    """An application with a view that others may ask."""

    @app.get("/")
    @cross_origin(origins=["https://shop.example"], supports_credentials=True)
    @suspends
    def view():
        answer = yield from wait(soon("answer"))
        return answer, 201, {"X-Mine": "1"}

    return app


ORIGIN = {"Origin": "https://shop.example"}


def test_cross_origin(ask, shared):
    status, headers, body = ask(shared, "/", headers=ORIGIN)
    found = dict(headers)
    assert (status, body) == ("201 CREATED", b"answer")
    assert found["Access-Control-Allow-Origin"] == "https://shop.example"
    assert (found["Access-Control-Allow-Credentials"], found["X-Mine"]) == ("true", "1")


def test_cross_origin_of_another(ask, shared):
    assert "Access-Control-Allow-Origin" not in dict(ask(shared, "/", headers={"Origin": "https://other.example"})[1])


def test_cross_origin_and_options(ask, shared):
    headers = {**ORIGIN, "Access-Control-Request-Method": "GET"}
    status, found, _ = ask(shared, "/", method="OPTIONS", headers=headers)
    assert (status, dict(found)["Access-Control-Allow-Origin"]) == ("200 OK", "https://shop.example")


def test_cross_origin_holds_no_thread(app):
    """The future comes to the server."""

    @app.get("/")
    @cross_origin(origins=["https://shop.example"])
    @suspends
    def view():
        return (yield from wait(Future()))

    request = Client(app).get("/", headers=ORIGIN)
    assert request.parked and request.complete("answer").text == "answer"
    assert request.headers["Access-Control-Allow-Origin"] == "https://shop.example"


def test_cross_origin_and_a_failure(ask, shared):
    """The error handlers are asked, as ever."""

    @shared.get("/fails")
    @cross_origin()
    @suspends
    def fails():
        yield soon()
        flask.abort(404)

    assert text(ask(shared, "/fails"))[0] == 404


# What others do to a response


def changes(response):
    response.headers["X-Set"] = "first"
    response.headers["X-Set"] = "set"
    response.headers.add("X-Added", "added")
    response.headers.setdefault("X-View", "not this")
    response.headers.update({"X-Updated": "updated"})
    response.headers["X-Gone"] = "soon"
    del response.headers["X-Gone"]
    response.set_cookie("name", "value")
    response.status_code = 202
    response.cache_control_of_mine = "kept"
    assert response.cache_control_of_mine == "kept"
    return response


def changing(view):
    @functools.wraps(view)
    def wrapper():
        return changes(flask.make_response(view()))

    return wrapper


def test_a_decorator_that_changes_the_response(ask, app):
    closed = []

    @app.get("/")
    @changing
    @suspends
    def view():
        yield soon()
        response = flask.make_response("body", {"X-View": "view"})
        response.call_on_close(lambda: closed.append(True))
        return response

    status, headers, body = ask(app, "/")
    found = dict(headers)
    assert (status, body) == ("202 ACCEPTED", b"body")
    assert {name: found[name] for name in found if name.startswith("X-")} == {
        "X-Set": "set", "X-Added": "added", "X-View": "view", "X-Updated": "updated",
    }  # fmt: skip
    assert found["Set-Cookie"].startswith("name=value")
    assert closed == [True]


@pytest.mark.parametrize("more", [(203,), (203, {"X": "1"}), ({"X": "1"},)])
def test_a_decorator_that_adds_to_it(ask, app, more):
    def around(view):
        return functools.wraps(view)(lambda: (view(), *more))

    @app.get("/")
    @around
    @suspends
    def view():
        yield soon()
        return flask.Response("body", 200)

    status, headers, body = ask(app, "/")
    assert (status[:3], body) == ("203" if 203 in more else "200", b"body")
    assert dict(headers).get("X") == ("1" if {"X": "1"} in more else None)


READS = {
    "data": lambda response: response.data,
    "status_code": lambda response: response.status_code,
    "headers.get": lambda response: response.headers.get("X"),
    "headers[]": lambda response: response.headers["X"],
    "headers in": lambda response: "X" in response.headers,
    "headers for": lambda response: list(response.headers),
}


@pytest.mark.parametrize("read", READS)
def test_a_decorator_that_reads_the_response_is_told(app, log, read):
    def curious(view):
        return functools.wraps(view)(lambda: READS[read](flask.make_response(view())))

    @app.get("/")
    @curious
    @suspends
    def view():
        yield soon()

    assert visited(app, "/")[0].startswith("500")
    assert "view has not returned its response yet: a decorator around @suspends asked for " in log.text
    log.clear()


# Flask-Caching


@pytest.fixture
def cached(app):
    """An application with a view that is cached; how often it has been asked."""
    cache, asked = Cache(app, config={"CACHE_TYPE": "SimpleCache"}), []

    def view():
        asked.append(threading.get_ident())
        return (yield from wait(soon({"answer": len(asked)})))

    app.get("/")(cache.cached(timeout=60)(suspends(view)))
    return app, asked


def test_cached(ask, cached, log):
    app, asked = cached
    assert [ask(app, "/")[2] for _ in range(3)] == [b'{"answer":1}\n'] * 3
    assert len(asked) == 1
    log.clear()


def test_cached_says_once_that_it_waits_in_the_thread(cached, log):
    app, _ = cached
    assert Client(app).fetch("/").json() == {"answer": 1}
    app.extensions["cache"][next(iter(app.extensions["cache"]))].clear()
    assert Client(app).fetch("/").json() == {"answer": 2}
    (record,) = log.records
    assert record.name == "wsgi_plus" and "view is pickled before it has returned, and waits" in record.getMessage()
    log.clear()


def test_plain_servers_know_nothing_of_it(cached):
    app, asked = cached
    assert [plain(app, "/")[2] for _ in range(2)] == [b'{"answer":1}\n'] * 2
    assert len(asked) == 1


# Flask-RESTful


class Item(Resource):
    @suspends
    def get(self, n):
        return {"n": (yield from wait(soon(n)))}, 203, {"X-Mine": "1"}

    @marshal_with({"n": fields.Integer})
    @suspends
    def put(self, n):
        return {"n": (yield from wait(soon(n))), "secret": True}

    @suspends
    def post(self, n):
        yield soon()
        abort(409, message="there is one")

    @suspends
    def delete(self, n):
        yield soon_failed(KeyError("on purpose"))


@pytest.fixture
def resources(app):
    api = Api(app)
    api.add_resource(Item, "/item/<int:n>")

    @api.representation("text/plain")
    def as_text(data, code, headers=None):
        return flask.make_response(repr(data), code, headers or {})

    return app


def test_resources(ask, resources, log):
    status, headers, body = ask(resources, "/item/3")
    assert (status[:3], dict(headers)["X-Mine"], body) == ("203", "1", b'{"n": 3}\n')
    assert ask(resources, "/item/3", headers={"Accept": "text/plain"})[2] == b"{'n': 3}"
    assert ask(resources, "/item/3", method="PUT")[2] == b'{"n": 3}\n'
    assert text(ask(resources, "/item/3", method="POST")) == (409, '{"message": "there is one"}\n')
    assert text(ask(resources, "/item/3", method="DELETE"))[0] == 500
    log.clear()


def test_resources_hold_their_thread_and_that_is_said_once(resources, log):
    for _ in range(2):
        request = Client(resources).fetch("/item/3")
        assert request.status_code == 203 and not any(isinstance(step, Parked) for step in request.steps)
    (record,) = log.records
    assert record.getMessage().startswith("Item.get is a method of a Resource of Flask-RESTful")
    assert "In a flask.views.MethodView it would wait without one" in record.getMessage()
    log.clear()


def test_method_views_beside_resources_hold_none(resources):
    class Other(MethodView):
        @suspends
        def get(self):
            return (yield from wait(Future()))

    resources.add_url_rule("/other", view_func=Other.as_view("other"))
    request = Client(resources).get("/other")
    assert request.parked and request.complete("other").text == "other"


def test_marked_in_the_wrong_place():
    with pytest.raises(TypeError, match="Item, which is a class: it belongs directly above the def"):
        suspends(Item)
    with pytest.raises(TypeError, match="made of a class"):
        suspends(Item.as_view("item"))
