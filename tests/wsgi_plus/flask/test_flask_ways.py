"""Ways into a Flask application with views that wait: classes, middleware, the debugger, test clients."""

from __future__ import annotations

from typing import Any

import flask
import pytest
from flask import Flask, abort, g, request, session
from flask_parts import Upstream, Visit, app, ask, plain, soon, soon_failed, text, visited
from werkzeug.debug import DebuggedApplication
from wsgi_plus import wait
from wsgi_plus.flask import suspending, suspends

__all__ = ["app", "ask"]


def test_marked_twice_is_marked_once():
    class Mine(Flask):
        """Mine."""

    app = Mine("mine")
    assert suspending(app) is app
    cls = type(app)
    assert type(suspending(app)) is cls
    assert (cls.__name__, cls.__module__, repr(app)) == ("Mine", __name__, "<Mine 'mine'>")
    assert isinstance(app, Mine)
    assert type(suspending(Mine("other"))) is cls
    assert type(suspending(Flask("third"))) is not cls
    assert type(Mine("plain")) is Mine


def test_methods_that_a_class_overrides(ask, log):
    """They are called as Flask calls them, and once."""
    calls: list[Any] = []

    class Mine(Flask):
        def __call__(self, environ, start_response):
            calls.append("__call__")
            return super().__call__(environ, start_response)

        def wsgi_app(self, environ, start_response):
            calls.append("wsgi_app")
            return super().wsgi_app(environ, start_response)

        def full_dispatch_request(self):
            calls.append("full_dispatch")
            return super().full_dispatch_request()

        def preprocess_request(self):
            calls.append("preprocess")
            return super().preprocess_request()

        def dispatch_request(self):
            calls.append("dispatch")
            return super().dispatch_request()

        def make_response(self, rv):
            calls.append(f"make {rv}")
            return super().make_response(rv)

        def process_response(self, response):
            calls.append(f"process {response.status_code}")
            return super().process_response(response)

        def finalize_request(self, rv, from_error_handler=False):
            calls.append(f"finalize {rv} {from_error_handler}")
            return super().finalize_request(rv, from_error_handler)

        def handle_user_exception(self, e):
            calls.append(f"user {e!r}")
            return super().handle_user_exception(e)

        def handle_http_exception(self, e):
            calls.append("http")
            return super().handle_http_exception(e)

        def handle_exception(self, e):
            calls.append(f"last {e!r}")
            return super().handle_exception(e)

        def log_exception(self, exc_info):
            calls.append(f"log {exc_info[1]!r}")

        def do_teardown_request(self, *args):
            calls.append("teardown")
            return super().do_teardown_request(*args)

        def ensure_sync(self, func):
            calls.append("sync")
            return super().ensure_sync(func)

    def ways(marked: bool) -> Flask:
        app = Mine(__name__)
        if marked:
            suspending(app)

        def view(what):
            if what == "error":
                raise KeyError(what)
            if what == "abort":
                abort(404)
            return what

        def stepwise(what):
            yield soon()
            return view(what)

        app.add_url_rule("/<what>", "view", suspends(stepwise) if marked else view)
        before = suspends(lambda: (yield soon())) if marked else lambda: None
        app.before_request(before)
        app.errorhandler(404)(lambda error: "handled")
        app.errorhandler(500)(lambda error: "sorry")
        return app

    for path in ("/fine", "/error", "/abort"):
        calls.clear()
        expected_answer = plain(ways(False), path)
        expected = calls.copy()
        calls.clear()
        assert ask(ways(True), path) == expected_answer
        assert calls == expected
    log.clear()


def test_a_class_that_wants_the_response_too_early_is_told(app, log):
    class Mine(Flask):
        def full_dispatch_request(self):
            response = super().full_dispatch_request()
            response.headers["X"] = "1"
            return response

    app = suspending(Mine(__name__))

    @app.get("/")
    @suspends
    def view():
        yield soon()

    @app.get("/plain")
    def plain_view():
        return "plain"

    assert ("X", "1") in visited(app, "/plain")[1]
    assert visited(app, "/")[0].startswith("500")
    assert "the view waits and has not returned its response yet, of which .headers was asked for" in log.text
    log.clear()


@pytest.mark.parametrize("before", [True, False])
def test_middleware_around_the_application(ask, before):
    """app.wsgi_app is replaced as the Flask documentation says, before or after."""

    def middleware(application):
        def wrapped(environ, start_response):
            environ["seen"] = "seen"
            return application(environ, start_response)

        return wrapped

    app = Flask(__name__)
    if before:
        app.wsgi_app = middleware(app.wsgi_app)
        suspending(app)
    else:
        suspending(app)
        app.wsgi_app = middleware(app.wsgi_app)

    @app.get("/")
    @suspends
    def view():
        yield soon_failed(Upstream()) if request.args else soon()
        return request.environ["seen"]

    app.errorhandler(Upstream)(lambda error: "caught")
    assert text(ask(app, "/")) == (200, "seen")
    assert text(ask(app, "/?fail=1")) == (200, "caught")


def test_a_view_that_asks_another_application(ask, app):
    """Whose views have their own request, and are waited for in the thread."""
    other = suspending(Flask("other"))
    calls = []
    other.get("/")(suspends(lambda: (yield soon()) or f"other {flask.current_app.name} {request.path}"))
    other.teardown_request(suspends(lambda error: calls.append((yield soon()))))
    other.url_value_preprocessor(suspends(lambda endpoint, values: calls.append((yield soon()))))

    @app.get("/plain")
    def plain_view():
        return other.test_client().get("/").text + request.path

    @app.get("/waits")
    @suspends
    def waits():
        yield soon()
        answer = other.test_client().get("/").text
        yield soon()
        return answer + request.path

    assert text(ask(app, "/plain")) == (200, "other other //plain")
    assert text(ask(app, "/waits")) == (200, "other other //waits")
    assert calls == 4 * [None]


def test_test_client(app):
    """As ever, with what it preserves."""

    @app.route("/", methods=["GET", "POST"])
    @suspends
    def view():
        session["n"] = session.get("n", 0) + 1
        g.seen = yield from wait(soon("seen"))
        return {"n": session["n"]}

    with app.test_client() as client:
        assert client.get("/?a=1").json == {"n": 1}
        assert request.args["a"] == "1"
        assert g.seen == "seen"
        assert client.post("/?a=2").json == {"n": 2}
        assert request.args["a"] == "2"
        with client.session_transaction() as saved:
            assert saved["n"] == 2
    assert not flask.has_request_context()


def test_test_request_context(app):
    """A test may call the view, or have it dispatched."""

    @app.get("/<int:n>")
    @suspends
    def view(n):
        return f"{(yield from wait(soon(n)))} {request.path}"

    with app.test_request_context("/3"):
        assert view(4) == "4 /3"
        assert app.dispatch_request() == "3 /3"
        assert app.full_dispatch_request().get_data(as_text=True) == "3 /3"
        assert app.preprocess_request() is None


def test_debugger(app):
    """It shows what was raised after a wait, and can look into the request then."""

    @app.get("/")
    @suspends
    def view():
        yield soon()
        raise Upstream("look at this")

    app.debug = True
    preserved: list[Any] = []
    app.wsgi_app = preserving(app.wsgi_app, preserved)
    debugged = DebuggedApplication(app, evalex=True, pin_security=False)
    visit = Visit(debugged).finish()
    assert visit.status.startswith("500")
    assert b"look at this" in visit.body
    assert [type(context).__name__ for context in preserved] == ["AppContext", "RequestContext"]
    with preserved[0], preserved[1]:
        assert request.path == "/"


def preserving(application, preserved):
    def wrapped(environ, start_response):
        hand_on = environ["werkzeug.debug.preserve_context"]
        environ["werkzeug.debug.preserve_context"] = lambda context: preserved.append(context) or hand_on(context)
        return application(environ, start_response)

    return wrapped
