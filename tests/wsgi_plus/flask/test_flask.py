"""Flask views that wait: by hand, as a WSGI+ server runs them, step by step, and as a plain one does.

What a view can see of Flask must not depend on which of the ways below its request goes.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import CancelledError, Future
from typing import Any

import flask
import pytest
from byhand import cancelled, done, failed
from flask import Flask, abort, g, request, session
from flask.views import MethodView, View
from flask_parts import Upstream, Visit, app, ask, plain, pool, soon, soon_failed, text, visited
from werkzeug.exceptions import NotFound
from wsgi_plus import gather, offload, wait
from wsgi_plus._gate import Gate
from wsgi_plus.flask import suspends
from wsgi_plus.testing import Client

__all__ = ["app", "ask"]


# What a view may do


RETURNS: dict[str, Callable[[], Any]] = {
    "text": lambda: "text",
    "bytes": lambda: b"bytes",
    "dict": lambda: {"a": 1},
    "list": lambda: [1, 2],
    "status": lambda: ("made", 201),
    "headers": lambda: ("t", 202, {"X-Mine": "1"}),
    "response": lambda: flask.Response("r", 418, {"X-Mine": "2"}),
    "redirect": lambda: flask.redirect("/elsewhere"),
    "exception": lambda: NotFound("no such thing"),
    "application": lambda: lambda environ, start_response: flask.Response("wsgi")(environ, start_response),
    "generator": lambda: iter(["a", "b"]),
    "not modified": lambda: ("", 304),
    "template": lambda: flask.render_template_string("{{ request.path }} {{ 1 + 1 }}"),
    "json": lambda: flask.jsonify(a=[None]),
    "made": lambda: flask.make_response(("m", 203)),
}


@pytest.mark.parametrize("kind", RETURNS)
def test_returns_whatever_a_view_may_return(ask, app, kind):
    """The response is that of a plain view of a plain application."""

    @suspends
    def view():
        yield soon()
        return RETURNS[kind]()

    app.add_url_rule("/", view_func=view)
    same = Flask(__name__)
    same.add_url_rule("/", view_func=RETURNS[kind], endpoint="same")
    assert ask(app, "/") == plain(same, "/")


@pytest.mark.parametrize("kind", ["nothing", "number"])
def test_returns_what_a_view_may_not_return(ask, app, log, kind):
    calls = []

    @app.get("/")
    @suspends
    def view():
        calls.append(kind)
        yield soon()
        return {"nothing": None, "number": 3}[kind]

    assert text(ask(app, "/"))[0] == 500
    assert calls == [kind]
    assert "TypeError: The view function" in log.text
    log.clear()


def test_waits_as_often_as_it_likes_for_all_kinds_of_futures(ask, app):
    @app.get("/<int:number>/<name>")
    @suspends
    def view(number, name):
        total = 0
        for _ in range(number):
            total += yield from wait(soon(1))
            total += yield from wait(done(10))
        one, two = yield from gather(soon("a"), soon("b"))
        caught = []
        for fut in (soon_failed(ValueError("x")), failed(), cancelled(), soon_failed(SystemExit(3))):
            try:
                yield fut
            except BaseException as error:
                caught.append(type(error).__name__)
        return [total, name, one + two, *caught]

    answer = ask(app, "/5/ada")
    assert flask.json.loads(answer[2]) == [55, "ada", "ab", "ValueError", "ValueError", "CancelledError", "SystemExit"]


def test_does_not_wait_though_it_is_marked(ask, app):
    @app.get("/<int:n>")
    @suspends
    def view(n):
        if n:
            yield soon()
        return f"waited {n}"

    assert text(ask(app, "/0")) == (200, "waited 0")
    assert text(ask(app, "/1")) == (200, "waited 1")


def test_a_view_that_does_not_wait_is_answered_at_once(app):
    """It takes Flask's own way, and no iteration is needed."""

    @app.get("/")
    @suspends
    def view():
        if request.args:
            yield soon()
        return "here"

    visit = Visit(app)
    assert visit.status == "200 OK"
    visit.finish()
    visit = Visit(app, "/?x=1")
    assert visit.status == ""
    assert visit.finish().status == "200 OK"


def test_parked_until_the_future_is_done(app):
    fut: Future[str] = Future()

    @app.get("/")
    @suspends
    def view():
        return (yield from wait(fut))

    visit = Visit(app)
    parked_on = visit.step()
    assert parked_on is not None
    assert not parked_on.done()
    fut.set_result("now")
    assert parked_on.done()
    assert visit.finish().body == b"now"


def test_driven_by_the_tools_for_tests(app):
    """They complete what the request is parked on, as if that were the view's own future; nothing breaks a rule."""
    left = []

    @app.get("/")
    @suspends
    def view():
        fut: Future[str] = Future()
        try:
            return (yield from wait(fut))
        except (Upstream, CancelledError) as error:
            return type(error).__name__, 502
        finally:
            left.append(fut.cancelled())

    with Client(app) as client:
        assert client.get("/").complete("done").text == "done"
        assert client.get("/").fail(Upstream()).text == "Upstream"
        assert client.get("/").cancel().status_code == 502
        assert client.get("/").disconnect().over
        assert client.get("/nowhere").status_code == 404
    assert left == [False, False, True, True]


def test_a_gate_whose_future_is_forgotten():
    """No request waits for it any more: whatever is done to it has no effect, and raises nothing."""
    gate = Gate(Future())
    gate.set_result(None)
    gate.set_exception(ValueError())
    gate.cancel()
    assert not gate.done()


def test_a_future_with_a_mind_of_its_own(app, log):
    """One that calls its callbacks and is not done has failed (S5.9); one that takes none is an error (S10.4)."""

    class Hasty(Future):
        def add_done_callback(self, fn):
            fn(self)
            fn(self)

        def exception(self, timeout=None):
            assert timeout == 0, "it would wait (S5.9)"
            return super().exception(timeout)

    class Refuses(Future):
        def add_done_callback(self, fn):
            raise RuntimeError("no callbacks")

    @app.get("/hasty")
    @suspends
    def hasty():
        try:
            yield Hasty()
        except futures.TimeoutError:  # the built-in one since Python 3.11
            return "caught"

    @app.get("/refuses")
    @suspends
    def refuses():
        yield Refuses()

    assert visited(app, "/hasty")[2] == b"caught"
    assert visited(app, "/refuses")[0].startswith("500")
    assert "no callbacks" in log.text
    log.clear()


@pytest.mark.parametrize("item", ["block", b"block", None, [done()]])
def test_yields_anything_but_a_future(ask, app, log, item):
    closed = []

    @app.get("/")
    @suspends
    def view():
        try:
            yield soon()
            yield item
        finally:
            closed.append(True)

    assert text(ask(app, "/"))[0] == 500
    assert f"view yielded {type(item).__name__}, not a concurrent.futures.Future" in log.text
    assert closed == [True]
    log.clear()


def test_class_based_views(ask, app):
    class Item(MethodView):
        init_every_request = False

        @suspends
        def get(self, n):
            return f"got {(yield from wait(soon(n)))}"

        def put(self, n):
            return f"put {n}"

    def twice(view):
        @functools.wraps(view)
        def wrapper(**kwargs):
            return view(**{name: 2 * value for name, value in kwargs.items()})

        return wrapper

    class Page(View):
        decorators = [suspends, twice]

        def __init__(self, word):
            self.word = word

        def dispatch_request(self, n):
            n = yield from wait(soon(n))
            return f"{self.word} {n}"

    app.add_url_rule("/item/<int:n>", view_func=Item.as_view("item"))
    app.add_url_rule("/page/<int:n>", view_func=Page.as_view("page", "page"))
    assert text(ask(app, "/item/3")) == (200, "got 3")
    assert text(ask(app, "/item/3", method="PUT")) == (200, "put 3")
    assert text(ask(app, "/item/3", method="HEAD")) == (200, "")
    assert text(ask(app, "/item/3", method="POST"))[0] == 405
    assert text(ask(app, "/page/4")) == (200, "page 8")


def test_decorators_around(ask, app):
    """One that hands on what it gets is not disturbed, nor does it disturb; it may answer itself."""

    def guarded(view):
        @functools.wraps(view)
        def wrapper(*args, **kwargs):
            if "stop" in request.args:
                abort(403)
            return flask.current_app.ensure_sync(view)(*args, **kwargs)

        return wrapper

    @app.get("/")
    @guarded
    @suspends
    def view():
        return (yield from wait(soon("in")))

    assert text(ask(app, "/")) == (200, "in")
    assert text(ask(app, "/?stop=1"))[0] == 403


def test_a_decorator_that_wants_the_response_is_told(app, log):
    def curious(view):
        @functools.wraps(view)
        def wrapper():
            rv = view()
            rv.headers["X"] = "1"
            return rv

        return wrapper

    @app.get("/")
    @curious
    @suspends
    def view():
        yield soon()
        return flask.Response()

    assert visited(app, "/")[0].startswith("500")
    assert "view has not returned its response yet: a decorator around @suspends asked for .headers" in log.text
    log.clear()


def test_a_plain_view_of_an_application_that_suspends(ask, app):
    @app.get("/")
    def view():
        return "plain"

    assert text(ask(app, "/")) == (200, "plain")
    assert text(ask(app, "/nowhere"))[0] == 404


def test_async_views_are_as_ever(ask, app):
    @app.get("/")
    async def view():
        return "async " + request.path

    assert text(ask(app, "/")) == (200, "async /")


# What a view sees


def test_contexts_are_the_same_after_a_wait(ask, app):
    var = contextvars.ContextVar("var")

    @app.get("/<name>")
    @suspends
    def view(name):
        g.name = name
        var.set(name)
        before = request._get_current_object(), g._get_current_object(), session._get_current_object()
        for _ in range(3):
            yield soon()
            after = request._get_current_object(), g._get_current_object(), session._get_current_object()
            assert all(one is other for one, other in zip(before, after, strict=True))
            assert (request.args["q"], g.name, var.get(), flask.current_app.name) == ("1", name, name, app.name)
            assert request.get_json() == {"x": 1}
            assert flask.url_for("view", name="other") == "/other"
        return "same"

    assert text(ask(app, "/ada?q=1", json={"x": 1})) == (200, "same")


def test_session_and_flashes(ask, app):
    @app.get("/set")
    @suspends
    def set_():
        session["before"] = 1
        flask.flash("one")
        yield soon()
        session["after"] = 2
        flask.flash("two")
        return "ok"

    @app.get("/get")
    @suspends
    def get():
        first = flask.get_flashed_messages()
        yield soon()
        return [session["before"], session["after"], first]

    (cookie,) = [value for name, value in ask(app, "/set")[1] if name == "Set-Cookie"]
    answer = ask(app, "/get", headers={"Cookie": cookie.partition(";")[0]})
    assert flask.json.loads(answer[2]) == [1, 2, ["one", "two"]]


def test_after_this_request_before_and_after_the_wait(ask, app):
    @app.get("/")
    @suspends
    def view():
        flask.after_this_request(lambda response: response.headers.add("X-Step", "1") or response)
        yield soon()
        flask.after_this_request(lambda response: response.headers.add("X-Step", "2") or response)
        return "ok"

    assert [value for name, value in ask(app, "/")[1] if name == "X-Step"] == ["1", "2"]


def test_work_elsewhere_in_the_context_of_the_request(ask, app):
    """offload() takes the context along, and copy_current_request_context makes one that outlives the request."""

    @app.get("/")
    @suspends
    def view():
        g.x = "g"
        session["x"] = "s"

        def work():
            return request.args["x"] + g.x + session["x"]

        @flask.copy_current_request_context
        def copied():
            return request.args["x"] + session["x"]

        one, two = yield from gather(offload(work), soon_call(copied))
        yield soon()
        return one + two + request.args["x"]

    def soon_call(function):
        return pool.submit(function)

    assert text(ask(app, "/?x=a")) == (200, "agsasa")


def test_many_requests_interleaved_on_one_thread(app):
    """Each sees its own, whatever order they are resumed in."""
    gates: dict[int, list[Future[None]]] = {n: [Future() for _ in range(3)] for n in range(100)}

    @app.get("/<int:n>")
    @suspends
    def view(n):
        g.n = session["n"] = n
        for gate in gates[n]:
            yield gate
            assert (g.n, session["n"], request.view_args["n"], request.path) == (n, n, n, f"/{n}")
        return str(n)

    ended = []
    app.teardown_request(lambda error: ended.append((g.n, error)))
    visits = {n: Visit(app, f"/{n}") for n in gates}
    for turn in range(3):
        for n in sorted(visits, key=lambda n: n * 37 % 100):
            assert visits[n].step() is not None
        for n in sorted(visits, key=lambda n: n * 71 % 100):
            gates[n][turn].set_result(None)
    assert ended == []
    assert [int(visit.finish().body) for visit in visits.values()] == list(range(100))
    assert ended == [(n, None) for n in range(100)]
    assert not flask.has_app_context()
