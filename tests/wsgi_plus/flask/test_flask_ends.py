"""Flask views that wait: how their requests end, above all when the client leaves."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import Future
from typing import Any

import flask
import pytest
from byhand import BOUND, done, outcome
from flask import Flask, request, session
from flask_parts import Upstream, Visit, app, soon
from wsgi_plus import wait
from wsgi_plus.flask import suspends

__all__ = ["app"]


@pytest.fixture
def left(app: Flask) -> list[Any]:
    """What happens in an application whose views hang.  It is `app`."""
    events: list[Any] = []

    def hang(name: str) -> Any:
        fut: Future[None] = Future()
        try:
            session["x"] = 1
            yield from wait(fut)
        except BaseException as error:
            events.append((name, type(error).__name__, fut.cancelled(), request.path))
            raise

    app.get("/view")(suspends(lambda: (yield from hang("view"))))

    @app.get("/plain")
    def plain_view():
        raise Upstream

    @app.get("/second")
    @suspends
    def second():
        yield done()
        yield from hang("second")

    @app.get("/error")
    def error():
        raise KeyError

    @app.get("/late-error")
    @suspends
    def late_error():
        yield done()
        raise KeyError

    app.errorhandler(Upstream)(suspends(lambda error: (yield from hang("handler"))))
    app.errorhandler(500)(suspends(lambda error: (yield from hang("last"))))
    app.before_request(suspends(lambda: (yield from hang("before")) if "before" in request.args else None))
    app.after_request(lambda response: events.append("after") or response)
    app.teardown_request(lambda error: events.append(("teardown", type(error).__name__, request.path)))
    app.teardown_appcontext(lambda error: events.append(("appcontext", type(error).__name__)))
    return events


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize(
    ("path", "name", "told"),
    [
        ("/view", "view", "GeneratorExit"),
        ("/view?before=1", "before", "GeneratorExit"),
        ("/plain", "handler", "GeneratorExit"),
        ("/second", "second", "GeneratorExit"),
        ("/error", "last", "KeyError"),
        ("/late-error", "last", "KeyError"),
    ],
)
def test_client_leaves(app, left, log, path, name, told, begun):
    """Whatever waits gets GeneratorExit, and its future is cancelled; then the request is torn down, once (S8)."""
    visit = Visit(app, path)
    if begun or path in ("/second", "/late-error"):
        while visit.step().done():
            pass
    assert left == []
    visit.close()
    where = path.partition("?")[0]
    assert left == [(name, "GeneratorExit", True, where), ("teardown", told, where), ("appcontext", told)]
    assert visit.leaves_nothing()
    visit.close()
    assert len(left) == 3
    assert visit.status == ""
    log.clear()


def test_view_that_cleans_up_badly(app, log):
    """What it raises when the client has left is logged as Flask logs, and no handler answers it."""

    @app.get("/")
    @suspends
    def view():
        try:
            yield Future()
        finally:
            raise Upstream("cleaning")

    app.errorhandler(Upstream)(lambda error: calls.append("handler") or "")
    calls: list[Any] = []
    app.teardown_request(calls.append)

    def receiver(sender, exception):
        calls.append(exception)

    with flask.got_request_exception.connected_to(receiver, app):
        visit = Visit(app)
        visit.step()
        visit.close()
    assert [type(call) for call in calls] == [Upstream, GeneratorExit]
    (record,) = log.records
    assert (record.getMessage(), str(record.exc_info[1])) == ("Exception on / [GET]", "cleaning")
    assert visit.leaves_nothing()
    log.clear()


@pytest.mark.parametrize("stubborn", ["returns", "yields"])
def test_view_that_does_not_want_to_end(app, log, stubborn):
    calls: list[Any] = []

    @app.get("/")
    @suspends
    def view():
        try:
            yield Future()
        except GeneratorExit:
            if stubborn == "yields":
                yield Future()
            return "a response that is not wanted"

    app.after_request(lambda response: calls.append(response) or response)
    app.teardown_request(calls.append)
    visit = Visit(app)
    visit.step()
    visit.close()
    assert [type(call) for call in calls] == [GeneratorExit]
    assert visit.leaves_nothing()
    assert visit.status == ""
    assert ("generator ignored GeneratorExit" in log.text) == (stubborn == "yields")
    log.clear()


def test_client_leaves_while_the_future_is_completed(app):
    """Whichever comes first, the request ends once, and neither side notices the other."""
    ended = []
    futures: list[Future[None]] = []

    @app.get("/")
    @suspends
    def view():
        futures.append(Future())
        yield from wait(futures[-1])

    app.teardown_request(ended.append)
    for _ in range(200):
        visit = Visit(app)
        visit.step()
        fut = futures[-1]
        thread = threading.Thread(target=lambda fut=fut: fut.set_running_or_notify_cancel() and fut.set_result(None))
        thread.start()
        visit.close()
        thread.join(BOUND)
        assert fut.done()
    assert [type(error) for error in ended] == 200 * [GeneratorExit]


def test_a_response_that_is_not_taken_to_its_end(app):
    """After the view has returned, its request is over; only the body is closed."""
    ended = []

    @app.get("/")
    @suspends
    def view():
        yield soon()
        response = flask.Response(iter(["a", "b"]))
        response.call_on_close(lambda: ended.append("closed"))
        return response

    app.teardown_request(lambda error: ended.append(error))
    visit = Visit(app)
    visit.step()
    assert outcome(visit.future) is None
    assert visit._run(next, visit._iterator) == b"a"
    assert ended == [None]
    visit.close()
    visit.close()
    assert ended == [None, "closed"]


@pytest.mark.parametrize("what", ["fine", "failed", "closed", "not begun"])
def test_nothing_is_left_in_memory(app, what):
    """A request goes when it is over, without the garbage collector, even if its future is kept."""
    refs: list[weakref.ref[Any]] = []
    futures: list[Future[None]] = []

    @app.get("/")
    @suspends
    def view():
        local = Upstream()
        refs.extend(weakref.ref(each) for each in (local, request._get_current_object()))
        futures.append(Future())
        yield futures[0]
        if what == "failed":
            raise SystemExit
        return "fine"

    gc.collect()
    gc.disable()
    try:
        visit = Visit(app)
        if what != "not begun":
            visit.step()
        if what in ("fine", "failed"):
            futures[0].set_result(None)
        if what == "fine":
            visit.finish()
        elif what == "failed":
            with pytest.raises(SystemExit):
                visit.finish()
        else:
            visit.close()
        del visit
        assert [ref() for ref in refs] == [None, None]
    finally:
        gc.enable()
