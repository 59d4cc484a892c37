"""wsgi_plus.flask.test: Flask's test client, and what it finds out that Flask's own does not."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import flask
import pytest
from flask import Flask, request, session
from wsgi_plus import offload, sleep, suspends, wait
from wsgi_plus.flask import suspending
from wsgi_plus.flask.test import Client
from wsgi_plus.testing import Disconnected, MisuseError, Parked


def soon(value=None):
    return offload(lambda: value)


@pytest.fixture
def waiting():
    return {}


@pytest.fixture
def app(waiting):
    app = suspending(Flask(__name__))
    app.config.update(TESTING=True, SECRET_KEY="for tests only")

    @app.route("/page", methods=["GET", "POST"])
    @suspends
    def page():
        word = yield from wait(soon("word"))
        session["seen"] = session.get("seen", 0) + 1
        return {"word": word, "posted": request.form.get("n"), "seen": session["seen"]}

    @app.get("/moved")
    @suspends
    def moved():
        yield from wait(soon())
        response = flask.redirect("/page")
        response.set_cookie("taste", "sweet")
        return response

    @app.get("/asks")
    @suspends
    def asks():
        waiting["asks"] = Future()
        try:
            return (yield from wait(waiting["asks"]))
        except OSError:
            return "no upstream", 502

    @app.get("/stream")
    def stream():
        def blocks():
            yield "a"
            yield from wait(soon())
            yield "b"

        return flask.Response(blocks())

    @app.get("/fails")
    @suspends
    def fails():
        yield from wait(soon())
        raise LookupError("on purpose")

    @app.get("/unmarked")
    def unmarked():
        yield from wait(soon())
        return "never"

    @app.get("/curious")
    @curious
    @suspends
    def under_curious():
        yield from wait(soon())
        return "never"

    @app.get("/where")
    @suspends
    def where():
        found = [threading.get_ident()]
        yield from wait(soon())
        return [*found, threading.get_ident()]

    @app.get("/slow")
    @suspends
    def slow():
        yield from sleep(3600)

    return app


def curious(view):
    def wrapper(**kwargs):
        response = flask.make_response(view(**kwargs))
        assert response.status_code == 200
        return response

    return wrapper


@pytest.fixture(params=["one thread", "threads"])
def client(request, app):
    return Client(app, threads=request.param == "threads")


# It is Flask's


def test_views_that_wait(client):
    response = client.get("/page")
    assert (response.status_code, response.json["word"], response.request.path) == (200, "word", "/page")
    assert client.post("/page", data={"n": "3"}).json["posted"] == "3"
    assert client.head("/page").data == b""
    assert client.get("/missing").status_code == 404


def test_sessions_cookies_and_redirections(client):
    client.get("/page")
    assert client.get("/page").json["seen"] == 2
    with client.session_transaction() as kept:
        kept["seen"] = 7
    response = client.get("/moved", follow_redirects=True)
    assert (response.json["seen"], [each.status_code for each in response.history]) == (8, [302])
    assert client.get_cookie("taste").value == "sweet"


def test_streams(client):
    assert client.get("/stream").data == b"ab"
    assert list(client.get("/stream").iter_encoded()) == [b"a", b"b"]


def test_contexts_are_kept(client):
    with client:
        client.get("/page?a=b")
        assert request.args["a"] == "b"
        assert session["seen"] == 1
    assert not flask.has_request_context()


def test_what_a_view_raises(client, app, log):
    with pytest.raises(LookupError, match="on purpose"):
        client.get("/fails")
    app.testing = False
    assert client.get("/fails").status_code == 500
    log.clear()


def test_made_by_the_application(app):
    app.test_client_class = Client
    client = app.test_client(threads=True)
    assert isinstance(client, Client) and client.get("/page").json["word"] == "word"


def test_what_never_comes(app):
    with pytest.raises(TimeoutError, match=r"GET /slow\?a=b: not answered, parked on .* after 0.1 s"):
        Client(app, timeout=0.1).get("/slow?a=b")


# It has the rules of a server


def test_mistakes(client, app):
    with pytest.raises(TypeError, match="unmarked is a generator"):
        client.get("/unmarked")
    with pytest.raises(AttributeError, match="a decorator around @suspends asked for .status_code"):
        client.get("/curious")
    assert app.test_client().get("/curious").text == "never"  # Flask's own client finds nothing there


def test_threads(app):
    here = threading.get_ident()
    assert Client(app).get("/where").json == [here, here]
    assert here not in Client(app, threads=True).get("/where").json


# Step by step


def test_begin_and_finish(client, waiting):
    request = client.begin("GET", "/asks", query_string={"a": "b"})
    assert request.parked is not None and not request.parked.done()
    assert repr(request).startswith("<GET /asks?a=b: not answered, parked on ")
    waiting["asks"].set_result("hot")
    response = client.finish(request)
    assert (response.status_code, response.text, response.request.args["a"]) == (200, "hot", "b")


def test_by_the_future_that_the_server_gets(client):
    assert client.finish(client.begin("GET", "/asks").complete("hot")).text == "hot"
    assert client.finish(client.begin("GET", "/asks").fail(OSError("refused"))).status_code == 502


def test_two_at_once(client, waiting):
    first = client.begin("GET", "/asks")
    asked = waiting["asks"]
    second = client.begin("GET", "/asks").complete("second")
    asked.set_result("first")
    assert [client.finish(each).text for each in (first, second)] == ["first", "second"]


def test_the_client_leaves(client):
    request = client.begin("GET", "/asks").disconnect()
    assert [type(step) for step in request.steps[:2]] == [Parked, Disconnected]
    with pytest.raises(MisuseError, match="has no response"):
        client.finish(request)


def test_cookies_of_what_was_begun(client):
    client.finish(client.begin("GET", "/page"))
    assert client.finish(client.begin("GET", "/page")).json["seen"] == 2
