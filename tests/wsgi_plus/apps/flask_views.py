"""Flask views that wait, for servers/test_served_flask.py.  `key` names what is recorded and the futures."""

from __future__ import annotations

import threading
from concurrent.futures import InvalidStateError

import flask
import probe
from flask import Blueprint, Flask, Response, abort, g, request, session, stream_with_context
from wsgi_plus import sleep, wait
from wsgi_plus.flask import suspending, suspends

app = suspending(Flask(__name__))
app.secret_key = "secret"
bp = Blueprint("bp", __name__, url_prefix="/bp")


class Upstream(Exception):
    pass


def awaited():
    """The result of the future that the request names, when there is one."""
    key = request.args["key"]
    probe.record(key, "parking")
    try:
        return (yield from wait(probe.future(key)))
    except GeneratorExit:
        probe.record(key, "left", [request.path, probe.state(key)])
        raise


@app.before_request
@suspends
def guard():
    if "guarded" in request.args:
        yield from awaited()
    return None


@app.teardown_request
def note_teardown(error):
    if "key" in request.args:
        probe.record(request.args["key"], "teardown", type(error).__name__)


@app.after_request
def note_after(response):
    if "key" in request.args:
        probe.record(request.args["key"], "after", response.status_code)
    return response


@app.get("/nap")
@suspends
def nap():
    yield from sleep(float(request.args["s"]))
    return "rested"


@app.get("/mix/<who>")
@suspends
def mix(who):
    """Three rounds, in each of which it waits, and then looks whether everything is still its own."""
    g.who = session["who"] = who
    flask.flash(who)
    seen = request._get_current_object(), g._get_current_object()
    for number in range(3):
        key = f"{request.args['rounds']}-{number}-{who}"
        probe.record(request.args["rounds"], f"parking {number}")
        yield probe.future(key)
        probe.record(request.args["rounds"], "thread", threading.current_thread().name)
        if "holds" in request.args:
            probe.record(key, "holding")
            probe.wait_gate(key)  # and the thread
        assert (request._get_current_object(), g._get_current_object()) == seen
        assert [g.who, session["who"], request.view_args["who"], request.headers["X-Who"]] == 4 * [who]
        session[f"round {number}"] = who
    assert flask.get_flashed_messages() == [who]
    return {"who": who, "path": request.path}


@app.get("/session")
def show_session():
    return dict(session)


@app.get("/plain")
def plain():
    raise Upstream("plain")


@app.errorhandler(Upstream)
@suspends
def waiting_handler(error):
    return f"{(yield from awaited())} after {error}", 502


@app.errorhandler(ValueError)
def handler(error):
    return f"app: {error}", 502


@bp.errorhandler(ValueError)
def bp_handler(error):
    return f"bp: {error} {request.endpoint}", 503


@app.errorhandler(404)
def not_found(error):
    return f"not found: {error.description}", 404


def one():
    """Ends as the future does."""
    value = yield from awaited()
    if value == "abort":
        abort(404, "by the view")
    if value == "error":
        raise KeyError(value)
    return f"result {value}"


def stream():
    """The same, in the body."""

    def pieces():
        yield "begun "
        try:
            yield f"result {(yield from awaited())}"
        except ValueError as error:
            if "raise" in request.args:
                raise
            yield f"caught {error}"
        finally:
            probe.record(request.args["key"], "finally")

    response = Response(stream_with_context(pieces()))
    response.call_on_close(lambda key=request.args["key"]: probe.record(key, "closed"))
    return response


for scaffold in (app, bp):
    scaffold.add_url_rule("/one", "one", suspends(one))
    scaffold.add_url_rule("/stream", "stream", stream)
app.register_blueprint(bp)


def complete_quietly(keys):
    """Completes the futures that have not been cancelled; others may do that at the same time."""
    for key in keys:
        try:
            probe.complete(key)
        except InvalidStateError:
            pass


class NoThrow:
    """Middleware as there is a lot of: it hands the items on, and nothing else."""

    def __init__(self, iterable):
        self._iterable, self._iterator = iterable, iter(iterable)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._iterator)

    def close(self):
        self._iterable.close()


def behind(environ, start_response):
    return NoThrow(app(environ, start_response))
