"""wsgi_plus.otel: the span of a request, with the SDK's exporter in memory; in front of WSGI+, Flask and Django."""

from __future__ import annotations

import functools
import itertools
import linecache
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any, cast
from wsgiref.util import FileWrapper

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.semconv.attributes import (
    code_attributes,
    error_attributes,
    http_attributes,
    network_attributes,
    url_attributes,
)
from wsgi_plus import blocking, offload, suspends, wait
from wsgi_plus._places import Place, place_of
from wsgi_plus.otel import route, traced
from wsgi_plus.testing import Client, Request

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
PLAIN = [("Content-Type", "text/plain")]


class Spans:
    """What has been traced, by a provider of the test's own."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    def around(self, app: Any, **options: Any) -> Client:
        return Client(traced(app, tracer_provider=self.provider), **options)

    @property
    def ended(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def only(self) -> ReadableSpan:
        (span,) = self.ended
        return span


@pytest.fixture
def spans() -> Spans:
    return Spans()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", PLAIN)
    return [b"hello"]


def line_of(place: Any) -> str:
    """The code that an event, or a place, names."""
    if isinstance(place, Place):
        return linecache.getline(place.file, place.line).strip()
    return linecache.getline(place["code.file.path"], place["code.line.number"]).strip()


# The span


def test_attributes(spans: Spans) -> None:
    """Those that OpenTelemetry calls stable; nothing of the query, the fields and the body."""
    client = spans.around(hello, environ={"SCRIPT_NAME": "/root"})
    client.fetch("/a%20b/%C3%A9?token=secret", headers={"Authorization": "secret"})
    span = spans.only
    assert (span.name, span.kind, span.status.status_code) == ("GET", trace.SpanKind.SERVER, trace.StatusCode.UNSET)
    assert attributes(span) == {
        http_attributes.HTTP_REQUEST_METHOD: "GET",
        http_attributes.HTTP_RESPONSE_STATUS_CODE: 200,
        url_attributes.URL_SCHEME: "http",
        url_attributes.URL_PATH: "/root/a%20b/%C3%A9",
        network_attributes.NETWORK_PROTOCOL_VERSION: "1.1",
    }
    assert "secret" not in span.to_json()
    assert span.events == ()


def test_method_that_is_not_known(spans: Spans) -> None:
    spans.around(hello).request("BREW", "/").run()
    found = attributes(spans.only)
    assert spans.only.name == "HTTP"
    assert found[http_attributes.HTTP_REQUEST_METHOD] == "_OTHER"
    assert found[http_attributes.HTTP_REQUEST_METHOD_ORIGINAL] == "BREW"


def test_traceparent(spans: Spans) -> None:
    client = spans.around(hello)
    client.fetch("/", headers=TRACEPARENT)
    client.fetch("/", headers={"traceparent": f"ff-{TRACE}-{PARENT}-01"})
    client.fetch("/")
    first, *others = spans.ended
    assert trace.format_trace_id(first.context.trace_id) == TRACE
    assert first.parent is not None and trace.format_span_id(first.parent.span_id) == PARENT
    assert [other.parent for other in others] == [None, None]


def test_within_another_span(spans: Spans) -> None:
    """Another instrumentation is around it."""

    def outer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[Any]:
        with spans.tracer.start_as_current_span("outer"):
            with closing(cast(Any, traced(hello, tracer_provider=spans.provider)(environ, start_response))) as items:
                yield from items

    Client(outer, validate=False).fetch("/", headers=TRACEPARENT)
    inner, around = spans.ended
    assert (inner.kind, inner.parent) == (trace.SpanKind.INTERNAL, around.context)


def test_status(spans: Spans) -> None:
    """A client's mistake is no error of the server's."""

    def answering(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response(environ["QUERY_STRING"].replace("+", " "), PLAIN)
        return [b""]

    client = spans.around(answering)
    for status in ("404+Not+Found", "503+Service+Unavailable"):
        client.fetch(f"/?{status}")
    missing, busy = spans.ended
    assert (missing.status.status_code.name, attributes(missing).get("error.type")) == ("UNSET", None)
    assert (busy.status.status_code.name, attributes(busy)[error_attributes.ERROR_TYPE]) == ("ERROR", "503")


class OurError(Exception):
    pass


def raising(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/call":
        raise OurError("on purpose")
    return later(environ, start_response)


def later(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    start_response("200 OK", PLAIN)
    if environ["PATH_INFO"] == "/late":
        yield b"begun"
    raise OurError("on purpose")


@pytest.mark.parametrize(("path", "status"), [("/call", 500), ("/first", 500), ("/late", 200)])
def test_exception(spans: Spans, path: str, status: int) -> None:
    """The status is what the server makes of it: 500 until a block has been given."""
    with pytest.raises(OurError):
        spans.around(raising).fetch(path)
    span = spans.only
    found = attributes(span)
    assert (span.status.status_code.name, found["error.type"]) == ("ERROR", f"{__name__}.OurError")
    assert found[http_attributes.HTTP_RESPONSE_STATUS_CODE] == status
    (event,) = span.events
    assert event.name == "exception"


def test_close(spans: Spans) -> None:
    """What the application does in its close() is within the span, and what it raises there is an error."""

    class Closing:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"hello"])

        def close(self) -> None:
            with spans.tracer.start_as_current_span("closing"):
                raise ValueError("on purpose")

    def closing(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", PLAIN)
        return Closing()

    with pytest.raises(ValueError):
        spans.around(closing).fetch("/")
    inner, span = spans.ended
    assert inner.parent == span.context
    assert attributes(span)["error.type"] == "ValueError"


def test_route_that_is_told(spans: Spans) -> None:
    """By the application itself, behind middleware that has made an environ of its own."""

    def told(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        route("/users/<id>")
        return hello(environ, start_response)

    def copying(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return told(dict(environ), start_response)

    spans.around(copying, environ={"SCRIPT_NAME": "/root"}).fetch("/users/7")
    assert spans.only.name == "GET /root/users/<id>"
    assert attributes(spans.only)[http_attributes.HTTP_ROUTE] == "/root/users/<id>"
    route("/nowhere")  # no request: nothing


def test_write(spans: Spans) -> None:
    def writing(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("201 Created", PLAIN)(b"written")
        return []

    assert spans.around(writing).fetch("/").body == b"written"
    assert attributes(spans.only)[http_attributes.HTTP_RESPONSE_STATUS_CODE] == 201


def test_file_is_handed_on(spans: Spans) -> None:
    """The server finds its own object, or it could not send the file by itself."""
    given: list[Any] = []

    def sending(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", PLAIN)
        given.append(environ["wsgi.file_wrapper"](open(__file__, "rb")))  # noqa: SIM115
        return given[0]  # type: ignore[no-any-return]

    app = traced(sending, tracer_provider=spans.provider)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.url_scheme": "http", "wsgi.file_wrapper": FileWrapper}
    iterable = app(environ, lambda *_: None)
    assert iterable is given[0]
    given[0].close()
    assert attributes(spans.only)[http_attributes.HTTP_RESPONSE_STATUS_CODE] == 200


def test_not_recorded(spans: Spans) -> None:
    """Nothing is noted of a request that the sampler has left out; its trace goes on all the same."""
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(spans.exporter))
    fut: Future[int] = Future()
    seen: list[int] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[Any]:
        yield fut
        seen.append(trace.get_current_span().get_span_context().trace_id)
        yield from hello(environ, start_response)

    request = Client(traced(app, tracer_provider=provider)).get("/", headers=TRACEPARENT)
    request.complete(1)
    assert request.body == b"hello"
    assert trace.format_trace_id(seen[0]) == TRACE
    assert spans.ended == []


# What it waits for


@pytest.fixture
def parks(spans: Spans) -> Callable[..., Request]:
    """A request to a generator function that has parked."""

    def begin(app: Any, path: str = "/", **options: Any) -> Request:
        return spans.around(app, **options).get(path, headers=TRACEPARENT)

    return begin


def test_current_in_every_step(spans: Spans, parks: Callable[..., Request]) -> None:
    """Each step runs in a thread of its own here; spans that the application has left open stay current as well."""
    futures: list[Future[int]] = [Future(), Future()]

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[Any]:
        with spans.tracer.start_as_current_span("around"):
            yield futures[0]
            with spans.tracer.start_as_current_span("within"):
                pass
        yield futures[1]
        with spans.tracer.start_as_current_span("after"):
            pass
        value = yield from wait(offload(lambda: trace.get_current_span().get_span_context().span_id))
        start_response("200 OK", PLAIN)
        yield trace.format_span_id(value).encode()

    request = parks(app)
    request.complete(1)
    request.complete(2)
    request.run()
    by_name = {span.name: span for span in spans.ended}
    parents = {name: span.parent and span.parent.span_id for name, span in by_name.items()}
    whole = by_name["GET"].context.span_id
    around = by_name["around"].context.span_id
    assert parents == {"GET": int(PARENT, 16), "around": whole, "within": around, "after": whole}
    assert request.text == trace.format_span_id(whole)


def test_parks(spans: Spans, parks: Callable[..., Request]) -> None:
    """An event for each, with place and time; one that is done already is none."""
    first: Future[int] = Future()
    done: Future[int] = Future()
    done.set_result(1)

    def inner() -> Iterator[Any]:
        yield from wait(first)  # inner waits

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[Any]:
        yield from inner()
        yield done
        start_response("200 OK", PLAIN)
        yield b"hello"

    parks(app).complete(1)
    span = spans.only
    (event,) = span.events
    found = dict(event.attributes or {})
    assert event.name == "parked"
    assert found[code_attributes.CODE_FILE_PATH] == __file__
    assert found[code_attributes.CODE_FUNCTION_NAME].endswith("inner")
    assert line_of(found) == "yield from wait(first)  # inner waits"
    assert span.start_time <= event.timestamp <= span.end_time
    assert 0 <= found["wsgi_plus.parked.seconds"] <= (span.end_time - span.start_time) / 1e9
    whole = attributes(span)
    assert whole["wsgi_plus.parked.count"] == 1
    assert whole["wsgi_plus.parked.seconds"] == found["wsgi_plus.parked.seconds"]


def test_many_parks(spans: Spans, parks: Callable[..., Request]) -> None:
    """Events are bounded, the count is not."""
    futures: list[Future[int]] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[Any]:
        start_response("200 OK", PLAIN)
        for _ in range(130):
            futures.append(Future())
            yield futures[-1]
        yield b"hello"

    request = parks(app, threads=False)
    while request.parked is not None:
        request.complete(1)
    assert [event.name for event in spans.only.events] == ["parked"] * 100
    assert attributes(spans.only)["wsgi_plus.parked.count"] == 130


def test_client_that_leaves(spans: Spans, parks: Callable[..., Request]) -> None:
    """The span ends, with the wait that did not; it is no error, and there was no answer."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[Any]:
        yield Future()

    parks(app).disconnect()
    span = spans.only
    assert span.status.status_code.name == "UNSET"
    assert [event.name for event in span.events] == ["parked"]
    assert not {"error.type", http_attributes.HTTP_RESPONSE_STATUS_CODE} & set(attributes(span))


@pytest.mark.parametrize("catches", [True, False])
def test_failure(spans: Spans, parks: Callable[..., Request], catches: bool) -> None:
    """It is thrown in through the span's wrapper; one that the application handles is no error."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[Any]:
        try:
            yield Future()
        except OSError:
            if not catches:
                raise
        start_response("502 Bad Gateway", PLAIN)
        yield b"no upstream"

    request = parks(app, raise_errors=False).fail(OSError("refused"))
    found = attributes(spans.only)
    assert found["error.type"] == ("502" if catches else "OSError")
    assert found[http_attributes.HTTP_RESPONSE_STATUS_CODE] == request.status_code == (502 if catches else 500)


def test_failure_behind_what_has_no_throw(spans: Spans, parks: Callable[..., Request]) -> None:
    """S5.4: it is the iteration's."""
    fut: Future[int] = Future()
    request = parks(lambda environ, start: map(lambda each: each, [fut]), raise_errors=False).fail(OSError("refused"))
    assert isinstance(request.error, OSError)
    assert attributes(spans.only)["error.type"] == "OSError"


def test_plain_server(spans: Spans) -> None:
    """There ``blocking`` waits in the thread, outside: the events are the same."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[Any]:
        word = yield from wait(offload(str.upper, "word"))
        start_response("200 OK", PLAIN)
        yield word.encode()

    made = blocking(traced(app, tracer_provider=spans.provider))
    assert Client(made, validate=False).fetch("/").body == b"WORD"
    assert [event.name for event in spans.only.events] in (["parked"], [])  # it may have been done at once


# Where it stands


def waits(fut: Any) -> Iterator[Any]:
    yield fut  # here


class Wrapper:
    def __init__(self, items: Any) -> None:
        self._next = functools.partial(next, iter(items))

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self._next()


class Slotted:
    __slots__ = ("items",)

    def __init__(self, items: Any) -> None:
        self.items = iter(items)

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return next(self.items)


def delegates(items: Any) -> Iterator[Any]:
    yield from items


class Naming:
    """Two generators in it, and it says which."""

    __wsgi_plus_inner__ = "items"

    def __init__(self, items: Any) -> None:
        self.other = waits(None)
        self.items = items

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return next(self.items)


SHAPES: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "itself": (lambda it: it, False),
    "yield from": (delegates, False),
    "yield from, twice": (lambda it: delegates(delegates(it)), False),
    "an object": (Wrapper, True),
    "three objects": (lambda it: Wrapper(Wrapper(Wrapper(it))), True),
    "slots": (Slotted, True),
    "map": (lambda it: map(lambda each: each, it), True),
    "chain": (lambda it: itertools.chain([], it), True),
    "islice": (lambda it: itertools.islice(it, 5), True),
    "within yield from": (lambda it: delegates(Wrapper(it)), True),
    "iter with a sentinel": (lambda it: iter(functools.partial(next, it), object()), True),
    "named": (Naming, False),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_place(shape: str) -> None:
    wrap, guessed = SHAPES[shape]
    wrapped = iter(wrap(waits(Future())))
    next(wrapped)
    place = place_of(wrapped)
    assert place is not None
    assert (line_of(place), place.function, place.guessed) == ("yield fut  # here", "waits", guessed)


def test_no_place() -> None:
    """Where there is no generator, or none that has not ended, none is made up; nor is one of another request found."""
    ended = waits(None)
    list(ended)
    fut: Future[int] = Future()
    other = waits(fut)
    next(other)
    fut.add_done_callback(other.send)
    assert place_of(iter([fut])) is None
    assert place_of(ended) is None


# Frameworks


def test_flask(spans: Spans) -> None:
    """The route, with the application's path; the place is the view's, behind all that Flask and werkzeug put around."""
    flask = pytest.importorskip("flask")
    from wsgi_plus.flask import suspending

    app = suspending(flask.Flask(__name__))
    ids: list[int] = []

    @app.get("/users/<int:number>")
    @suspends
    def show(number: int) -> Any:
        yield from wait(Future())  # the view waits
        ids.append(trace.get_current_span().get_span_context().span_id)
        return {"number": number}

    @app.get("/stream")
    def stream() -> Any:
        def blocks() -> Iterator[Any]:
            yield "a"
            yield from wait(Future())  # the stream waits
            yield "b"

        return flask.Response(blocks())

    client = spans.around(app, environ={"SCRIPT_NAME": "/root"})
    assert client.get("/users/7").complete(None).text.strip() == '{"number":7}'
    assert client.get("/stream").complete(None).text == "ab"
    client.fetch("/missing")
    shown, streamed, missing = spans.ended
    assert shown.name == "GET /root/users/<int:number>"
    assert attributes(shown)["http.route"] == "/root/users/<int:number>"
    assert line_of(dict(shown.events[0].attributes or {})) == "yield from wait(Future())  # the view waits"
    assert line_of(dict(streamed.events[0].attributes or {})) == "yield from wait(Future())  # the stream waits"
    assert ids == [shown.context.span_id]
    assert (missing.name, attributes(missing)["http.response.status_code"]) == ("GET", 404)
    assert "http.route" not in attributes(missing)


def test_django(spans: Spans, log: pytest.LogCaptureFixture) -> None:
    import django_byhand  # noqa: F401  # sets Django up

    # ruff: isort: split
    from django.http import HttpResponse, StreamingHttpResponse
    from django.test import override_settings
    from django.urls import path
    from wsgi_plus.django import SuspendingWSGIHandler

    ids: list[int] = []

    @suspends
    def show(request: Any, number: int) -> Any:
        yield from wait(Future())  # the view waits
        ids.append(trace.get_current_span().get_span_context().span_id)
        return HttpResponse(f"number {number}")

    def stream(request: Any) -> Any:
        def blocks() -> Iterator[Any]:
            yield "a"
            yield from wait(Future())  # the stream waits
            yield "b"

        return StreamingHttpResponse(blocks())

    urls = type("URLs", (), {"urlpatterns": [path("users/<int:number>", show), path("stream", stream)]})
    with override_settings(ROOT_URLCONF=urls):
        client = spans.around(SuspendingWSGIHandler(), validate=False)
        assert client.get("/users/7").complete(None).text == "number 7"
        assert client.get("/stream").complete(None).text == "ab"
        client.fetch("/missing")
        log.clear()
    shown, streamed, missing = spans.ended
    assert shown.name == "GET /users/<int:number>"
    assert attributes(shown)["http.route"] == "/users/<int:number>"
    assert line_of(dict(shown.events[0].attributes or {})) == "yield from wait(Future())  # the view waits"
    assert line_of(dict(streamed.events[0].attributes or {})) == "yield from wait(Future())  # the stream waits"
    assert ids == [shown.context.span_id]
    assert (missing.name, attributes(missing)["http.response.status_code"]) == ("GET", 404)


def test_global_provider() -> None:
    """Without one that is set, nothing is recorded and nothing fails: a library may always be traced."""
    assert re.fullmatch("hello", Client(traced(hello)).fetch("/").text)


def test_example_of_the_manual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what it sends spans to."""
    page = (Path(__file__).resolve().parents[2] / "spec/manual/opentelemetry.md").read_text()
    (example,) = re.findall(r"<!-- otel -->\n```python\n(.*?)```", page, re.S)
    module = types.ModuleType("hello")
    vars(module)["app"] = hello
    monkeypatch.setitem(sys.modules, "hello", module)
    monkeypatch.setattr(trace, "set_tracer_provider", lambda provider: None)  # can be done once in a process
    made: dict[str, Any] = {}
    exec(example, made)
    assert made["provider"].resource.attributes["service.name"] == "hello"
    assert Client(made["application"]).fetch("/").body == b"hello"
