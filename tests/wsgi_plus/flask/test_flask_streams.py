"""Flask responses whose bodies wait: generators that yield futures between their blocks."""

from __future__ import annotations

import functools
import gc
import io
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import flask
import pytest
from byhand import Wrapper, cancelled, done, failed, outcome
from flask import Flask, Response, request, stream_with_context
from flask_parts import Upstream, Visit, app, ask, plain, soon, soon_failed, text, visited
from werkzeug.test import EnvironBuilder
from werkzeug.wsgi import FileWrapper
from wsgi_plus import wait
from wsgi_plus.flask import suspending, suspends

__all__ = ["app", "ask"]


@pytest.fixture(params=["plain view", "view that waits"])
def add(request: pytest.FixtureRequest, app: Flask) -> Callable[..., None]:
    """add(view, rule): a view, called at once, or by one that waits before and after."""

    def waits(view: Callable[[], Any]) -> Any:
        @functools.wraps(view)
        def stepwise() -> Any:
            yield soon()
            rv = view()
            yield soon()
            return rv

        return suspends(stepwise)

    def add(view: Callable[[], Any], rule: str = "/") -> None:
        app.add_url_rule(rule, rule, view if request.param == "plain view" else waits(view))

    return add


def pieces() -> Iterator[Any]:
    """Blocks as werkzeug takes them, and futures before, between and after them."""
    yield soon()
    yield "ä "
    yield done()
    yield done()
    yield b"bytes "
    value = yield from wait(soon("value "))
    yield value
    yield ""
    yield "end"
    yield soon()


WHOLE = "ä bytes value end"


@pytest.mark.parametrize(
    "kind",
    ["response", "generator", "with status", "made", "with context", "with context, decorator", "iterable", "map"],
)
def test_stream(ask, app, add, kind):
    class Iterable:
        def __iter__(self):
            return pieces()

    def in_context():
        yield from pieces()
        assert request.path == "/"

    kinds: dict[str, Callable[[], Any]] = {
        "response": lambda: Response(pieces()),
        "generator": pieces,
        "with status": lambda: (pieces(), 200),
        "made": lambda: flask.make_response(pieces()),
        "with context": lambda: Response(stream_with_context(in_context())),
        "with context, decorator": lambda: stream_with_context(in_context)(),
        "iterable": lambda: Response(Iterable()),
        "map": lambda: Response(map(lambda item: item, pieces())),
    }
    add(kinds[kind])
    assert text(ask(app, "/")) == (200, WHOLE)


def test_stream_that_is_passed_through(ask, app, add):
    """direct_passthrough takes bytes only, as ever."""
    add(lambda: Response((item for item in [soon(), b"a", done(), b"b"]), direct_passthrough=True))
    assert text(ask(app, "/")) == (200, "ab")


def test_a_block_is_sent_before_the_next_wait(app, add):
    """What came before a future does not wait for it."""
    fut: Future[str] = Future()

    def stream():
        yield "first"
        yield (yield from wait(fut))

    add(lambda: Response(stream()))
    visit = Visit(app)
    while not visit.blocks:
        visit.step()
    assert visit.blocks == [b"first"]
    assert visit.status == "200 OK"
    assert not visit.future.done()
    fut.set_result("second")
    assert visit.finish().blocks == [b"first", b"second"]


@pytest.mark.parametrize("wrapped", [lambda stream: stream, stream_with_context], ids=["alone", "with context"])
def test_failure_reaches_the_stream(ask, app, add, wrapped):
    """Through everything that werkzeug puts around it."""

    def stream():
        for make in (lambda: soon_failed(Upstream("one")), failed, cancelled, lambda: soon_failed(SystemExit())):
            try:
                yield make()
            except BaseException as error:
                yield f"{type(error).__name__} "

    add(lambda: Response(wrapped(stream())))
    assert text(ask(app, "/")) == (200, "Upstream ValueError CancelledError SystemExit ")


@pytest.mark.parametrize("error", [Upstream("late"), CancelledError(), StopIteration(3), SystemExit(3)])
@pytest.mark.parametrize("wrapped", [lambda stream: stream, stream_with_context], ids=["alone", "with context"])
def test_failure_that_nobody_handles(ask, app, add, wrapped, error):
    """It never looks like the end of the body (S5.1, S5.5): the server gets it."""
    ended = []

    def stream():
        try:
            yield "first"
            yield failed(error)
            yield "never"
        finally:
            ended.append(True)

    add(lambda: Response(wrapped(stream())))
    with pytest.raises(RuntimeError if isinstance(error, StopIteration) else type(error)):
        ask(app, "/")
    assert ended == [True]


@pytest.mark.parametrize("error", [Upstream("late"), StopIteration(3)])
def test_failure_in_an_iterator_without_throw(ask, app, add, error):
    """There no view can handle it (S5.4)."""
    add(lambda: Response(Wrapper(["first", failed(error), "never"])))
    with pytest.raises(RuntimeError if isinstance(error, StopIteration) else type(error)):
        ask(app, "/")


def test_head(ask, app, add):
    """As in werkzeug the body is not asked for, only closed."""
    events = []

    class Stream:
        def __iter__(self):
            events.append("iterated")
            return pieces()

        def close(self):
            events.append("closed")

    def view():
        response = Response(Stream())
        response.call_on_close(lambda: events.append("on close"))
        return response

    add(view)
    assert text(ask(app, "/", method="HEAD")) == (200, "")
    assert events == ["closed", "on close"]


def test_closed_once(ask, app, add):
    """The stream, then what asked for it with call_on_close, also if a block was the last that was wanted."""
    events = []

    class Stream:
        def __init__(self):
            self.pieces = pieces()

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.pieces)

        def close(self):
            events.append("closed")

    def view():
        response = Response(Stream())
        response.call_on_close(lambda: events.append("on close"))
        return response

    add(view)
    assert text(ask(app, "/")) == (200, WHOLE)
    assert events == ["closed", "on close"]


@pytest.mark.parametrize("wrapped", [lambda stream: stream, stream_with_context], ids=["alone", "with context"])
def test_client_leaves_a_stream(app, add, wrapped):
    """It gets GeneratorExit where it waits, and its future is cancelled (S8)."""
    events: list[Any] = []
    futures: list[Future[None]] = []

    def stream():
        try:
            yield "first"
            futures.append(Future())
            yield from wait(futures[0])
        finally:
            events.append("stream")

    def view():
        response = Response(wrapped(stream()))
        response.call_on_close(lambda: events.append("on close"))
        return response

    app.teardown_request(lambda error: events.append(("teardown", type(error).__name__)))
    add(view)
    visit = Visit(app)
    while not futures:
        visit.step()
    before = len(events)
    visit.close()
    assert futures[0].cancelled()
    ended = [event for event in events[before:] if event[0] != "teardown"]
    assert ended == ["stream", "on close"]
    assert events[before:].count("stream") == 1
    assert visit.leaves_nothing()
    assert not flask.has_app_context()


def test_client_leaves_before_the_stream_is_begun(app, add):
    events = []

    def view():
        response = Response(stream_with_context(pieces()))
        response.call_on_close(lambda: events.append("on close"))
        return response

    app.teardown_request(lambda error: events.append(type(error).__name__))
    add(view)
    visit = Visit(app)
    while not visit.status:
        fut = visit.step()
        assert outcome(fut) is None
    visit.close()
    assert events[-1] == "on close"
    assert visit.leaves_nothing()


def teardowns(application: Flask, wrapped: Callable[..., Any], run: Callable[..., Any]) -> list[Any]:
    events: list[Any] = []

    def stream():
        events.append("stream")
        yield "a"
        yield "b"
        events.append("end")

    application.add_url_rule("/", "/", lambda: Response(wrapped(stream())))
    application.teardown_request(lambda error: events.append("request"))
    application.teardown_appcontext(lambda error: events.append("app"))
    run(application, "/")
    return events


@pytest.mark.parametrize("wrapped", [lambda stream: stream, stream_with_context], ids=["alone", "with context"])
def test_request_ends_when_it_does_in_flask(ask, wrapped):
    """Before the body, unless that is in stream_with_context."""
    expected = teardowns(Flask("plain"), wrapped, plain)
    assert teardowns(suspending(Flask("suspending")), wrapped, ask) == expected


def test_nothing_is_left_in_memory(app):
    """A stream that fails goes when it is over, without the garbage collector."""
    refs: list[weakref.ref[Any]] = []

    def stream():
        local = Upstream()
        refs.append(weakref.ref(local))
        yield failed(Upstream())

    app.get("/")(lambda: Response(stream()))
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(Upstream):
            visited(app, "/")
        assert refs[0]() is None
    finally:
        gc.enable()


# What looks at the body before it is sent


def test_data_of_a_stream(ask, app, add):
    """Who wants it waits in the thread; what was read is sent, once."""
    seen = []

    @app.after_request
    def after(response):
        seen.append(response.get_data(as_text=True))
        response.add_etag()
        return response

    add(lambda: Response(pieces()))
    _, headers, body = ask(app, "/")
    assert seen == [WHOLE]
    assert body.decode() == WHOLE
    assert dict(headers)["Content-Length"] == str(len(body))
    assert "ETag" in dict(headers)


def test_data_of_a_stream_that_fails(ask, app, add, log):
    calls = []

    @app.after_request
    def after(response):
        calls.append(response.status_code)
        return response if response.status_code == 500 else response.get_data()

    def stream():
        yield "first"
        yield failed(Upstream("in the stream"))

    add(lambda: Response(stream()))
    assert text(ask(app, "/"))[0] == 500
    assert calls == [200, 500]
    assert "in the stream" in log.text
    log.clear()


def test_data_that_may_not_be_read(ask, app, add, log):
    """werkzeug's own rules hold."""

    class Strict(Response):
        implicit_sequence_conversion = False

    add(lambda: Strict(pieces()), "/strict")
    add(lambda: Response(iter([b"a"]), direct_passthrough=True), "/direct")
    app.after_request(lambda response: response if response.status_code == 500 else response.get_data() and response)
    for path, message in {"/strict": "implicit conversion was disabled", "/direct": "direct passthrough mode"}.items():
        assert text(ask(app, path))[0] == 500
        assert message in log.text
        log.clear()


def test_body_that_is_wrapped(ask, app, add):
    """By a function that knows blocks only: what it iterates waits in the thread."""

    @app.after_request
    def after(response):
        blocks = response.iter_encoded()
        response.response = (block.upper() for block in blocks)
        return response

    add(lambda: Response(pieces()))
    assert text(ask(app, "/")) == (200, "ä BYTES VALUE END")


def test_body_that_is_replaced(ask, app, add):
    @app.after_request
    def after(response):
        return Response(pieces(), 201)

    add(lambda: "first")
    assert text(ask(app, "/")) == (201, WHOLE)


def test_class_of_its_own(ask, app, add):
    """Its methods are called; an application's response_class is kept."""

    class Loud(Response):
        def iter_encoded(self):
            for item in super().iter_encoded():
                yield item if isinstance(item, Future) else item.upper()

    class Mine(Flask):
        response_class = Loud

    add(lambda: Loud(pieces()))
    assert text(ask(app, "/")) == (200, "ä BYTES VALUE END")
    loud = suspending(Mine(__name__))
    loud.add_url_rule("/", "/", pieces)
    assert text(ask(loud, "/")) == (200, "ä BYTES VALUE END")


# What has no futures


def bodies() -> dict[str, Callable[[], Any]]:
    class Sized:
        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Iterator[str]:
            return iter(["a", "b"])

    def by_stream() -> Response:
        response = Response()
        response.stream.write("written")
        return response

    return {
        "list": lambda: Response(["a", "b"]),
        "generator": lambda: Response(str(n) for n in range(3)),
        "empty": lambda: Response(iter([])),
        "file": lambda: Response(io.BytesIO(b"one\ntwo\n")),
        "sized": lambda: Response(Sized()),
        "sent file": lambda: flask.send_file(__file__),
        "sent bytes": lambda: flask.send_file(io.BytesIO(b"0123456789"), mimetype="text/plain"),
        "stream": by_stream,
        "none": lambda: Response(),
    }


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=2-5"}], ids=["all", "part"])
@pytest.mark.parametrize("kind", bodies())
def test_plain_bodies_are_as_ever(ask, app, add, kind, headers):
    """Byte by byte, and what an after_request function can see of them."""
    seen: list[Any] = []

    def watch(application: Flask) -> None:
        @application.after_request
        def after(response):
            response.headers.pop("Date", None)
            seen.append((response.is_streamed, response.is_sequence, response.direct_passthrough, response.status_code))
            return response

    watch(app)
    add(bodies()[kind])
    same = Flask(__name__)
    watch(same)
    same.add_url_rule("/", "/", bodies()[kind])
    assert ask(app, "/", headers=headers) == plain(same, "/", headers=headers)
    assert seen[0] == seen[1]


def test_a_file_reaches_the_server_as_it_is(app):
    """Which may have its own way with it (wsgi.file_wrapper)."""

    class Wrapped(FileWrapper):
        pass

    app.get("/")(lambda: flask.send_file(Path(__file__)))
    for plus in ({}, {"wsgi_plus.version": (1, 0)}):
        environ = {**EnvironBuilder("/").get_environ(), "wsgi.file_wrapper": Wrapped, **plus}
        iterable = app(environ, lambda status, headers: None)
        assert type(iterable) is Wrapped
        iterable.close()


def test_futures_in_a_list_are_refused(ask, app, add):
    """A body of known length is of blocks."""
    add(lambda: Response([b"a", done()]))
    with pytest.raises(TypeError):
        ask(app, "/")
