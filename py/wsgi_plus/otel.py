"""OpenTelemetry: one span for each request, from its call to its close, with what it waited for (``wsgi-plus[otel]``).

    from wsgi_plus.otel import traced

    application = traced(application)

The span is of the kind SERVER, and a part of the trace that ``traceparent`` names, or of what the configured propagators
read.  It is the current span in all steps of the request, in whatever thread they run, and in what ``offload`` and
``AsyncBridge`` do for it (S9.4).  If a span is current already, as with another instrumentation around it, it is a child
of that, and INTERNAL.

Attributes, as OpenTelemetry's stable conventions for HTTP have them: ``http.request.method`` (``_OTHER`` and
``http.request.method_original``, if it is none that is known), ``http.response.status_code``, ``http.route``,
``url.scheme``, ``url.path``, ``network.protocol.version``, and ``error.type`` where the application has raised an
exception, or the status is one of a server's errors.  The query is left out, as are fields and bodies.  The span is
called by method and route: ``GET /users/<id>``.  Flask says the route, and so does Django with the handler of
``wsgi_plus.django``; others may call ``route``.

Each wait is an event "parked" at its beginning: ``wsgi_plus.parked.seconds``, and the place that waited,
``code.file.path``, ``code.line.number`` and ``code.function.name``; ``wsgi_plus.guessed`` is set if it was found behind
a wrapper that does not say what it delegates to.  Of more than 100 waits only ``wsgi_plus.parked.count`` and
``wsgi_plus.parked.seconds`` of the span tell.  A client that leaves ends the span, and is no error.

A file that the server is to send (``wsgi.file_wrapper``) is handed on as it is, or the server would have to read it; that
span ends with the call of the application.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast
from urllib.parse import quote

from opentelemetry import context, propagate, trace
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider

from ._places import Place, place_of
from ._route import listening, tell_route
from ._types import Application, Environ, is_future

__all__ = ["route", "traced"]

SCHEMA = "https://opentelemetry.io/schemas/1.37.0"
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
EVENTS = 100  # of a span; an SDK keeps 128 of all kinds


def route(pattern: str) -> None:
    """Says the route of the request that this is called in: ``http.route``, and a part of the span's name.

    ``pattern`` is from a small set, such as "/users/<id>", and below the path that the application has.  Any thread that
    runs a step of the request; does nothing where no ``traced`` is around it.
    """
    tell_route(pattern)


def traced(app: Application, *, tracer_provider: TracerProvider | None = None) -> Application:
    """``app`` with a span around each request; ``tracer_provider`` is by default the one that is set globally.

    It can be called when the module is imported, before that is set: the API's tracers wait for it.
    """
    tracer = trace.get_tracer("wsgi_plus.otel", tracer_provider=tracer_provider, schema_url=SCHEMA)

    def application(environ: Environ, start_response: Callable[..., Any]) -> Iterable[Any]:
        request = _Request(tracer, environ)
        try:
            iterable = app(environ, request.noting(start_response))
        except BaseException as error:
            request.failed(error)
            request.end()
            raise
        if _is_file(environ, iterable):
            request.end()
            return iterable
        return _Body(request, iterable)

    return application


class _FromEnviron(Getter[Environ]):
    """How a propagator reads the fields of a request."""

    def get(self, carrier: Environ, key: str) -> list[str] | None:
        value = carrier.get("HTTP_" + key.upper().replace("-", "_"))
        return [value] if isinstance(value, str) else None

    def keys(self, carrier: Environ) -> list[str]:
        return [key[5:].lower().replace("_", "-") for key in carrier if key.startswith("HTTP_")]


_fields = _FromEnviron()


class _Request:
    """The span of a request, which is current in its context from here to ``end``."""

    def __init__(self, tracer: Tracer, environ: Environ) -> None:
        self._environ = environ
        self._root: str = environ.get("SCRIPT_NAME", "")
        self._method, attributes = _attributes(environ)
        inner = trace.get_current_span().get_span_context().is_valid
        self.span: Span = tracer.start_span(
            self._method,
            None if inner else propagate.extract(environ, getter=_fields),
            SpanKind.INTERNAL if inner else SpanKind.SERVER,
            attributes,
        )
        self._token = context.attach(trace.set_span_in_context(self.span))
        self._route: str | None = None
        self._listening = listening.set(self._told)
        self._status: int | None = None
        self._error: BaseException | None = None
        self.begun = False  # a block has been given that is not empty: the status cannot change any more

    def _told(self, pattern: str) -> None:
        self._route = self._root + pattern

    def noting(self, start_response: Callable[..., Any]) -> Callable[..., Any]:
        """start_response, which tells the status."""

        def start(status: str, *args: Any) -> Any:
            written = start_response(status, *args)
            self._status = int(status[:3])  # the server has looked at it
            self._route = self._route or _route_of_werkzeug(self._environ)  # which Flask will take away

            def write(data: bytes) -> Any:
                self.begun = self.begun or bool(data)  # now the status is sent
                return written(data)

            return write

        return start

    def failed(self, error: BaseException) -> None:
        """What has left the application.  GeneratorExit is how a server ends one whose client has gone."""
        if self._error is None and not isinstance(error, GeneratorExit):
            self._error = error

    def end(self) -> None:
        """Once, in the context of the request."""
        span = self.span
        if span.is_recording():
            self._finish(span)
        span.end()
        try:
            listening.reset(self._listening)
        except ValueError:  # a server without S9.4 has closed the iterable somewhere else
            return
        context.detach(self._token)

    def _finish(self, span: Span) -> None:
        if self._route is not None:
            span.set_attribute("http.route", self._route)
            span.update_name(f"{self._method} {self._route}")
        status = self._status
        if self._error is not None:
            span.record_exception(self._error)
            if not self.begun:
                status = 500  # what the server makes of it
        if status is not None:
            span.set_attribute("http.response.status_code", status)
        if self._error is not None:
            span.set_attribute("error.type", _name_of(type(self._error)))
            span.set_status(Status(StatusCode.ERROR))
        elif status is not None and status >= 500:
            span.set_attribute("error.type", str(status))
            span.set_status(Status(StatusCode.ERROR))


class _Body:
    """The items of the application, on their way to the server."""

    __wsgi_plus_inner__ = "_items"  # for a server that shows where requests wait

    def __init__(self, request: _Request, iterable: Iterable[Any]) -> None:
        self._request = request
        self._iterable = iterable
        self._items: Iterator[Any] | None = None
        self._parked: tuple[int, float, dict[str, str | int | bool]] | None = None  # in ns, as of which clock; where
        self._parks = 0
        self._seconds = 0.0
        self._closed = False

    def __iter__(self) -> Iterator[Any]:
        self._items = iter(self._iterable)
        return self

    def __next__(self) -> Any:
        items = self._items
        assert items is not None, "iter() comes first"
        return self._step(lambda: next(items))

    def throw(self, error: BaseException) -> Any:
        """A failure (S5.2).  Where the items have no ``throw`` it is raised by the iteration (S5.4)."""
        throw = getattr(self._items, "throw", None)
        if throw is None:
            self._resumed()
            self._request.failed(error)
            raise error
        return self._step(lambda: throw(error))

    def _step(self, go_on: Callable[[], Any]) -> Any:
        self._resumed()
        try:
            item = go_on()
        except StopIteration:
            raise
        except BaseException as error:
            self._request.failed(error)
            raise
        if is_future(item):
            if self._request.span.is_recording() and not item.done():
                self._park()
        elif item:
            self._request.begun = True
        return item

    def _place(self) -> Place | None:
        try:
            return place_of(self._items)
        except Exception:  # what is guessed at may end in another thread; the request is not to fail for it
            return None

    def _park(self) -> None:
        where: dict[str, str | int | bool] = {}
        place = self._place() if self._parks < EVENTS else None
        if place is not None:
            where = {
                "code.file.path": place.file,
                "code.line.number": place.line,
                "code.function.name": place.function,
            }
            if place.guessed:
                where["wsgi_plus.guessed"] = True
        self._parked = time.time_ns(), time.monotonic(), where

    def _resumed(self) -> None:
        """The server goes on, or ends it."""
        if self._parked is None:
            return
        (when, since, where), self._parked = self._parked, None
        seconds = time.monotonic() - since
        self._parks += 1
        self._seconds += seconds
        if self._parks <= EVENTS:
            self._request.span.add_event("parked", {**where, "wsgi_plus.parked.seconds": seconds}, when)

    def close(self) -> None:
        """The server calls it last (S7.1); what the application does in its own is within the span."""
        if self._closed:
            return
        self._closed = True
        self._resumed()
        try:
            close = getattr(self._iterable, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            self._request.failed(error)
            raise
        finally:
            if self._parks > 0:
                self._request.span.set_attribute("wsgi_plus.parked.count", self._parks)
                self._request.span.set_attribute("wsgi_plus.parked.seconds", self._seconds)
            self._request.end()


def _attributes(environ: Environ) -> tuple[str, dict[str, str]]:
    """What the span is called at first, and what is known at once, so that a sampler sees it."""
    method: str = environ["REQUEST_METHOD"]
    known = method in METHODS
    found = {"http.request.method": method if known else "_OTHER"}
    if not known:
        found["http.request.method_original"] = method
    found["url.scheme"] = environ["wsgi.url_scheme"]
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    found["url.path"] = quote(path, safe="/;=,:@!$&'()*+~", encoding="latin-1")
    name, _, version = str(environ.get("SERVER_PROTOCOL", "")).partition("/")
    if name == "HTTP" and version:
        found["network.protocol.version"] = version
    return method if known else "HTTP", found


def _is_file(environ: Environ, iterable: object) -> bool:
    """Is it what the server gives to have a file sent (PEP 3333)?"""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and type(iterable) is wrapper


def _route_of_werkzeug(environ: Environ) -> str | None:
    """What Flask has found: until its request is over it is in environ, with the rule of the URL."""
    request = environ.get("werkzeug.request")
    rule = getattr(getattr(request, "url_rule", None), "rule", None)
    if not isinstance(rule, str):
        return None
    return cast(str, cast(Any, request).environ.get("SCRIPT_NAME", "")) + rule


def _name_of(error: type[BaseException]) -> str:
    module = error.__module__
    return error.__qualname__ if module == "builtins" else f"{module}.{error.__qualname__}"
