"""Flask views that wait: by hand, as a WSGI+ server runs them, step by step, and as a plain one does.

What a view can see of Flask must not depend on which of the ways below its request goes.
"""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

import flask
import pytest
from byhand import BOUND, Wrapper, cancelled, done, failed, outcome
from flask import Flask, abort, g, request, session
from flask.views import MethodView, View
from werkzeug.debug import DebuggedApplication
from werkzeug.exceptions import NotFound
from werkzeug.test import EnvironBuilder
from wsgi_plus import blocking, gather, offload, wait
from wsgi_plus._gate import Gate
from wsgi_plus._validator import validator
from wsgi_plus.flask import suspending, suspends
from wsgi_plus.testing import Client


class Upstream(Exception):
    """What the views of the tests fail with."""


pool = ThreadPoolExecutor(4, thread_name_prefix="test-flask")


def soon(value: Any = None) -> Future[Any]:
    """A future that another thread completes."""
    return pool.submit(lambda: value)


def soon_failed(error: BaseException) -> Future[Any]:
    def fail() -> None:
        raise error

    return pool.submit(fail)


class Visit:
    """One request, as a WSGI+ server runs it: each step in the request's own context (S9.4)."""

    def __init__(
        self, app: Callable[..., Any], path: str = "/", *, wrap: Callable[..., Any] | None = None, **more: Any
    ) -> None:
        self.environ = EnvironBuilder(path, **more).get_environ()
        self.environ["wsgi_plus.version"] = (1, 0)
        self.context = contextvars.Context()
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.blocks: list[bytes] = []
        self.iterable = self._run(app, self.environ, self._start_response)
        self._iterator = self._run(iter, wrap(self.iterable) if wrap else self.iterable)
        self.future: Future[Any] | None = None

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.context.run(function, *args)

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
        assert not self.status or exc_info
        self.status, self.headers = status, headers
        return self.blocks.append

    def step(self) -> Future[Any] | None:
        """To the next future, which is given, or to the end."""
        fut, self.future = self.future, None
        error = None if fut is None else outcome(fut)
        try:
            while True:
                if error is None:
                    item = self._run(next, self._iterator)
                elif hasattr(self._iterator, "throw"):
                    item = self._run(self._iterator.throw, error)
                else:
                    raise error
                error = None
                if isinstance(item, Future):
                    self.future = item
                    return item
                assert type(item) is bytes, item
                assert self.status, "a block before start_response"
                self.blocks.append(item)
        except StopIteration:
            return None

    def close(self) -> None:
        if hasattr(self.iterable, "close"):
            self._run(self.iterable.close)

    def finish(self) -> Visit:
        try:
            while self.step() is not None:
                pass
        finally:
            self.close()
        return self

    @property
    def body(self) -> bytes:
        return b"".join(self.blocks)

    def leaves_nothing(self) -> bool:
        return not self._run(flask.has_app_context) and not self._run(flask.has_request_context)


class Travelling(Visit):
    """Each step in another thread."""

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        result: Future[Any] = Future()

        def run() -> None:
            try:
                result.set_result(self.context.run(function, *args))
            except BaseException as error:
                result.set_exception(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(BOUND)
        return result.result(0)


Answer = tuple[str, list[tuple[str, str]], bytes]


def visited(app: Flask, path: str, visit: type[Visit] = Visit, **more: Any) -> Answer:
    v = visit(app, path, **more)
    v.finish()
    assert v.leaves_nothing()
    return v.status, v.headers, v.body


def plain(app: Callable[..., Any], path: str, *, plus: bool = False, **more: Any) -> Answer:
    """On a server that has never heard of it, in the caller's own context."""
    environ = EnvironBuilder(path, **more).get_environ()
    if plus:
        environ["wsgi_plus.version"] = (1, 0)
    said: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
        said[:] = status, headers
        return lambda _: None

    iterable = app(environ, start_response)
    try:
        body = b"".join(iterable)
    finally:
        if hasattr(iterable, "close"):
            iterable.close()
    assert not flask.has_app_context()
    assert not flask.has_request_context()
    return said[0], said[1], body


WAYS: dict[str, Callable[..., Answer]] = {
    "suspended": visited,
    "other threads": functools.partial(visited, visit=Travelling),
    "without throw": functools.partial(visited, wrap=Wrapper),
    "validated": lambda app, path, **more: visited(validator(app), path, **more),
    "plain": plain,
    "blocking": lambda app, path, **more: plain(blocking(app), path, plus=True, **more),
}


@pytest.fixture(params=WAYS)
def ask(request: pytest.FixtureRequest) -> Callable[..., Answer]:
    """ask(app, path): status, headers and body of a request that goes one of the ways."""
    return WAYS[request.param]


def text(answer: Answer) -> tuple[int, str]:
    return int(answer[0].split()[0]), answer[2].decode()


@pytest.fixture
def app() -> Flask:
    app = suspending(Flask(__name__))
    app.secret_key = "secret"
    return app


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
    """Nobody waits for it any more: whatever is done to it has no effect, and raises nothing."""
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


# Ways into the application


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
