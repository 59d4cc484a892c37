"""Flask views that wait: what goes wrong, who handles it, and that it all happens in Flask's order."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import flask
import pytest
from byhand import cancelled
from flask import Blueprint, Flask, abort, g, request, session
from flask_parts import Upstream, app, ask, plain, soon, soon_failed, text
from itsdangerous import TimestampSigner
from werkzeug.exceptions import BadGateway, HTTPException, NotFound
from wsgi_plus import wait
from wsgi_plus.flask import suspending, suspends

__all__ = ["app", "ask"]


def add_failing(scaffold: Any) -> None:
    """Views that raise: after a wait, at a future that failed, and at once."""

    @scaffold.get("/raised")
    @suspends
    def raises():
        yield soon()
        raise Upstream("raised")

    @scaffold.get("/future")
    @suspends
    def future():
        yield soon_failed(Upstream("future"))

    @scaffold.get("/at-once")
    @suspends
    def at_once():
        raise Upstream("at-once")
        yield

    @scaffold.get("/abort")
    @suspends
    def aborts():
        yield soon()
        abort(404, "not here")

    @scaffold.get("/cancelled")
    @suspends
    def is_cancelled():
        yield cancelled()


@pytest.fixture
def failing(app: Flask) -> Flask:
    add_failing(app)
    return app


PLACES = ["raised", "future", "at-once"]


@pytest.mark.parametrize("place", PLACES)
def test_error_handlers(ask, failing, place):
    """Those of the application, and those of a blueprint for its own views."""
    failing.errorhandler(Upstream)(lambda error: (f"app: {error} {request.path}", 502))
    for name in ("handles", "does-not"):
        bp = Blueprint(name, __name__, url_prefix=f"/{name}")
        add_failing(bp)
        if name == "handles":
            bp.errorhandler(Upstream)(lambda error: (f"bp: {error} {request.path}", 503))
        failing.register_blueprint(bp)
    assert text(ask(failing, f"/{place}")) == (502, f"app: {place} /{place}")
    assert text(ask(failing, f"/handles/{place}")) == (503, f"bp: {place} /handles/{place}")
    assert text(ask(failing, f"/does-not/{place}")) == (502, f"app: {place} /does-not/{place}")


@pytest.mark.parametrize("handled", [True, False])
def test_http_exceptions(ask, failing, handled):
    if handled:
        failing.errorhandler(404)(lambda error: (f"mine: {error.description}", 404))
    status, body = text(ask(failing, "/abort"))
    assert (status, "not here" in body, "mine" in body) == (404, True, handled)


@pytest.mark.parametrize("place", [*PLACES, "cancelled"])
def test_nobody_handles_it(ask, failing, log, place):
    signals, told = [], []

    def receiver(sender, exception):
        signals.append(exception)

    failing.teardown_request(told.append)
    with flask.got_request_exception.connected_to(receiver, failing):
        status, body = text(ask(failing, f"/{place}"))
    assert (status, "Internal Server Error" in body) == (500, True)
    assert [type(error) for error in signals] == [CancelledError if place == "cancelled" else Upstream]
    assert told == signals
    (record,) = log.records
    assert (record.getMessage(), record.exc_info[1]) == (f"Exception on /{place} [GET]", signals[0])
    log.clear()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["PROPAGATE_EXCEPTIONS", "TESTING", "DEBUG"])
def test_propagated(ask, failing, how, place):
    """To the server, with the teardown functions told."""
    told = []
    failing.teardown_request(told.append)
    failing.config[how] = True
    with pytest.raises(Upstream) as raised:
        ask(failing, f"/{place}")
    assert told == [raised.value]


def test_trapped(ask, failing):
    failing.testing = failing.config["TRAP_HTTP_EXCEPTIONS"] = True
    with pytest.raises(NotFound):
        ask(failing, "/abort")


@pytest.mark.parametrize("place", PLACES)
def test_last_handler(ask, failing, log, place):
    @failing.errorhandler(500)
    def last(error):
        return f"sorry: {type(error.original_exception).__name__}", 500

    assert text(ask(failing, f"/{place}")) == (500, "sorry: Upstream")
    log.clear()


def test_exceptions_that_are_none_of_flasks_business(ask, app):
    """SystemExit and the like go to the server; teardown functions are told."""

    @app.get("/")
    @suspends
    def view():
        yield soon_failed(SystemExit(3))

    app.errorhandler(Exception)(lambda error: "handled")
    told = []
    app.teardown_request(told.append)
    with pytest.raises(SystemExit):
        ask(app, "/")
    assert [type(error) for error in told] == [SystemExit]


def test_errors_that_are_to_be_ignored(ask, failing, log):
    """As Flask does: its should_ignore_error decides what teardown functions are told."""
    failing.should_ignore_error = lambda error: isinstance(error, Upstream)
    told = []
    failing.teardown_request(told.append)
    assert text(ask(failing, "/raised"))[0] == 500
    assert told == [None]
    log.clear()


def test_an_error_in_what_comes_after_the_view(ask, app, log):
    @app.get("/")
    @suspends
    def view():
        yield soon()
        return "fine"

    calls = []

    @app.after_request
    def after(response):
        calls.append(response.status_code)
        if len(calls) == 1:
            raise Upstream("after")
        return response

    assert text(ask(app, "/"))[0] == 500
    assert calls == [200, 500]
    log.clear()


# Handlers that wait


@pytest.fixture
def handled(failing: Flask) -> Flask:
    @failing.get("/plain")
    def plain_view():
        raise Upstream("plain")

    @failing.errorhandler(Upstream)
    @suspends
    def handler(error):
        word = yield from wait(soon("waited"))
        if "again" in request.args:
            raise BadGateway(f"again after {error}")
        if "worse" in request.args:
            yield soon_failed(ValueError("worse"))
        return f"{word} for {error}", 502

    @failing.errorhandler(500)
    @suspends
    def last(error):
        word = yield from wait(soon("last"))
        if "worst" in request.args:
            raise ValueError("worst")
        return f"{word} for {type(error.original_exception).__name__}", 500

    return failing


@pytest.mark.parametrize("place", [*PLACES, "plain"])
def test_an_error_handler_that_waits(ask, handled, place):
    status, body = text(ask(handled, f"/{place}"))
    assert (status, body[:11]) == (502, "waited for ")


@pytest.mark.parametrize("place", [*PLACES, "plain"])
def test_an_error_handler_that_waits_and_fails(ask, handled, log, place):
    """Then the last one is left, which waits as well; what it raises goes to the server."""
    told = []
    handled.teardown_request(told.append)
    assert text(ask(handled, f"/{place}?worse")) == (500, "last for ValueError")
    assert [type(error) for error in told] == [ValueError]
    with pytest.raises(ValueError, match="worst"):
        ask(handled, f"/{place}?worse&worst")
    assert [str(error) for error in told] == ["worse", "worse"]
    log.clear()


@pytest.mark.parametrize("place", [*PLACES, "plain"])
def test_an_error_handler_that_raises_an_http_exception(ask, handled, log, place):
    """Flask does not look for a handler of what a handler raises, other than the last one."""
    assert text(ask(handled, f"/{place}?again")) == (500, "last for BadGateway")
    log.clear()


def test_a_handler_of_an_http_exception_that_waits(ask, app):
    @app.errorhandler(HTTPException)
    @suspends
    def handler(error):
        yield soon()
        return f"{error.code} {request.path}", error.code

    assert text(ask(app, "/nowhere")) == (404, "404 /nowhere")


@pytest.mark.parametrize("handler", ["waits", "plain", "none"])
def test_the_last_handler_does_not_make_others_wait_in_vain(ask, app, log, handler):
    """It is called from where after_request functions are called too, and one of those must not get lost."""
    calls = []

    @app.get("/")
    def view():
        raise Upstream

    if handler == "waits":
        app.errorhandler(500)(suspends(lambda error: (yield soon()) or ("sorry", 500)))
    elif handler == "plain":
        app.errorhandler(500)(lambda error: ("sorry", 500))

    @app.after_request
    @suspends
    def after(response):
        yield soon()
        calls.append(response.status_code)
        return response

    assert text(ask(app, "/"))[0] == 500
    assert calls == [500]
    log.clear()


@pytest.mark.parametrize("place", ["raised", "plain"])
def test_an_error_in_what_comes_after_the_last_handler(ask, handled, log, place):
    """It is logged, and what the handler has returned is sent: nothing is left that could answer."""

    @handled.after_request
    def after(response):
        raise ValueError("after")

    assert text(ask(handled, f"/{place}?worse")) == (500, "last for ValueError")
    assert "Request finalizing failed with an error while handling an error" in log.text
    log.clear()


# before_request functions that wait


@pytest.fixture
def guarded(app: Flask) -> Flask:
    bp = Blueprint("bp", __name__, url_prefix="/bp")

    def note(word):
        g.setdefault("calls", []).append(word)

    @app.url_value_preprocessor
    def pull(endpoint, values):
        note(f"pull {values.pop('lang') if values else None}")

    @app.before_request
    def one():
        note("one")

    @app.before_request
    @suspends
    def two():
        note("two")
        yield soon()
        note("two again")
        if "stop" in request.args:
            return "stopped", 403
        if "fail" in request.args:
            yield soon_failed(Upstream("before"))
        return None

    @app.before_request
    def three():
        note("three")

    @bp.before_request
    @suspends
    def four():
        yield soon()
        note("four")

    def answer():
        return " ".join(g.calls)

    @suspends
    def waits():
        yield soon()
        return answer()

    for scaffold in (app, bp):
        scaffold.add_url_rule("/<lang>/plain", "plain", answer)
        scaffold.add_url_rule("/<lang>/waits", "waits", waits)
    app.register_blueprint(bp)
    app.errorhandler(Upstream)(lambda error: (f"handled {error}", 502))
    return app


@pytest.mark.parametrize("view", ["plain", "waits"])
def test_before_request_functions_that_wait(ask, guarded, view):
    assert text(ask(guarded, f"/en/{view}")) == (200, "pull en one two two again three")
    assert text(ask(guarded, f"/bp/de/{view}")) == (200, "pull de one two two again three four")
    assert text(ask(guarded, f"/en/{view}?stop")) == (403, "stopped")
    assert text(ask(guarded, f"/en/{view}?fail")) == (502, "handled before")
    assert text(ask(guarded, "/nowhere"))[0] == 404


def test_functions_that_cannot_wait_do_so_in_the_thread(ask, app):
    """They are called, and not forgotten, if they are marked."""
    calls = []

    def marked(name):
        @suspends
        def function(*args):
            yield soon()
            calls.append(name)
            return args[0] if name == "after" else None

        return function

    app.url_value_preprocessor(marked("pull"))
    app.after_request(marked("after"))
    app.teardown_request(marked("teardown"))
    app.teardown_appcontext(marked("appcontext"))
    app.add_url_rule("/", "view", marked("view"))
    app.add_url_rule("/plain", "plain", lambda: "plain")
    app.view_functions["view"] = suspends(lambda: (yield soon()) or "view")
    expected = ["pull", "after", "teardown", "appcontext"]
    assert text(ask(app, "/")) == (200, "view")
    assert calls == expected
    assert text(ask(app, "/plain")) == (200, "plain")
    assert calls == 2 * expected


# Everything around a view


def eventful(waits: bool) -> tuple[Flask, list[Any]]:
    """An application that notes all that Flask does around a view; its functions wait, or are plain."""
    app = Flask(__name__)
    if waits:
        suspending(app)
    app.secret_key = "secret"
    events: list[Any] = []
    bp = Blueprint("bp", __name__, url_prefix="/bp")

    def note(name: str, *args: Any) -> None:
        kinds = [type(arg).__name__ if isinstance(arg, BaseException) else arg for arg in args]
        events.append((name, *kinds, flask.has_request_context() and request.path))

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        if not waits:
            return function

        @functools.wraps(function)
        def stepwise(*args: Any, **kwargs: Any) -> Any:
            yield soon()
            rv = function(*args, **kwargs)
            yield soon()
            return rv

        return suspends(stepwise)

    def hooks(scaffold: Any, name: str) -> None:
        for hook in ("before_request", "before_app_request"):
            if hasattr(scaffold, hook):
                getattr(scaffold, hook)(mark(functools.partial(note, f"{name} {hook}")))
        scaffold.url_value_preprocessor(lambda endpoint, values: note(f"{name} pull", endpoint, dict(values or {})))
        scaffold.after_request(lambda response: note(f"{name} after", response.status_code) or response)
        scaffold.teardown_request(lambda error: note(f"{name} teardown", error))

        @scaffold.errorhandler(Upstream)
        @mark
        def handler(error):
            note(f"{name} handler", error)
            if "worse" in request.args:
                raise ValueError
            return "handled", 502

        @scaffold.route("/<what>", methods=["GET", "POST"])
        @mark
        def view(what):
            note(f"{name} view", what)
            session["seen"] = what
            g.what = what
            flask.after_this_request(lambda response: note("after this", response.status_code) or response)
            if what == "upstream":
                raise Upstream
            if what == "abort":
                abort(410)
            if what == "error":
                raise KeyError(what)
            return f"{what} {request.method}"

        @scaffold.get("/slash/")
        @mark
        def slash():
            return "slash"

    hooks(app, "app")
    hooks(bp, "bp")
    app.register_blueprint(bp)
    app.teardown_appcontext(lambda error: note("appcontext", error))
    app.errorhandler(404)(mark(lambda error: note("404") or ("nowhere", 404)))
    app.errorhandler(500)(mark(lambda error: note("500", error.original_exception) or ("sorry", 500)))
    for signal in (
        flask.request_started,
        flask.request_finished,
        flask.request_tearing_down,
        flask.appcontext_pushed,
        flask.appcontext_tearing_down,
        flask.appcontext_popped,
        flask.got_request_exception,
    ):

        def receive(sender: Any, name: str = signal.name, **details: Any) -> None:
            note(name, *[detail for detail in details.values() if isinstance(detail, BaseException)])

        signal.connect(receive, app, weak=False)
    return app, events


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(
            ("GET", path)
            for path in ("fine", "upstream", "upstream?worse=1", "abort", "error", "slash", "slash/", "no/where")
        ),
        ("GET", "error?trap=1"),
        *(("POST", path) for path in ("fine", "error", "slash")),
        *(("HEAD", path) for path in ("fine", "abort")),
        *((method, "fine") for method in ("OPTIONS", "DELETE")),
    ],
)
def test_all_that_happens_is_what_happens_without_waiting(ask, log, monkeypatch, path, method):
    """The same functions and signals in the same order, with the same context, and the same response."""
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda self: 1)  # of the session's cookie
    for prefix in ("/", "/bp/"):
        app, events = eventful(True)
        same, expected = eventful(False)
        assert ask(app, prefix + path, method=method) == plain(same, prefix + path, method=method)
        assert events == expected
    log.clear()
