"""Django's WSGI handler, with views that wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.core.handlers import exception  # its functions by its name: tools put others in their place
from django.core.handlers.wsgi import WSGIHandler
from django.http.response import HttpResponseBase
from django.utils.log import log_response

from .._hints import never_marked
from .._route import tell_route
from .._suspends import ViewThatWaits, is_view_that_waits
from .._unwaited import named
from ._handed import Door, handed
from ._locals import check
from ._middleware import Below, Level, given, levels
from ._rest import ResponseToCome, Rest
from ._streams import Blocks, blocks, rewritten
from ._transactions import call, close_old_connections, giving_back, guarded

__all__ = ["SuspendingWSGIHandler"]

VERSION = "wsgi_plus.version"
RESPONSE = "wsgi_plus.django.response"  # from get_response to __call__, past what tools put between the two
CANNOT_CROSS = "%s cannot be suspended: what waits inside of it holds a thread meanwhile"

Waits = Generator["Future[Any]", None, Any]
"""Yields what a view waits for, and gives the response."""


class SuspendingWSGIHandler(WSGIHandler):
    """Django's handler, with a generator beside each of its methods that a view is called through.

    May be called in any thread, as it is shared by all.
    """

    _middleware_chain: Any
    _view_middleware: list[Any]
    _template_response_middleware: list[Any]

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """PEP 3333's side of it.  On a server that is no WSGI+ server each wait holds its thread (S16, S17)."""
        if VERSION not in environ:
            return super().__call__(environ, start_response)

        def start(*args: Any) -> Any:  # called by WSGIHandler, in any case
            response = environ.get(RESPONSE)
            waits = isinstance(response, ResponseToCome) and response.view is not None
            return None if waits else start_response(*args)

        result: Any = super().__call__(environ, start)
        response: Any = environ.pop(RESPONSE, None)
        if isinstance(response, ResponseToCome):
            if response.view is not None:
                begin = partial(self._begin, environ, start_response, response.request)
                response.rest = Rest(response.view, response, future=response.future, begin=begin)
            return response.taken() if result is response else result  # of a tool, which iterates the response
        if not getattr(response, "streaming", True):
            close_old_connections()  # close() may be in another thread
        return result

    def get_response(self, request: Any) -> HttpResponseBase:
        """The response.  In a WSGI+ server it may be one that stands in for it, if the view or the stream waits."""
        response: Any = super().get_response(request)
        if VERSION not in request.META:
            return response  # type: ignore[no-any-return]
        stream = self._blocks(request.META, response)
        if stream is not None:
            response._handler_class = self.__class__
            there, response = response, ResponseToCome(request)
            response.there, response.rest = there, Rest(stream.items, there)
            response.status_code, response.reason_phrase = there.status_code, there.reason_phrase
            response.headers, response.cookies = there.headers, there.cookies
        request.META[RESPONSE] = response
        return response  # type: ignore[no-any-return]

    def _chain(self, request: Any) -> HttpResponseBase:
        """In the place of Django's chain of middleware, if a suspension can cross all of it."""
        if VERSION not in request.META:
            return self._djangos_chain(request)  # type: ignore[no-any-return]
        steps = self._through(request, 0)
        try:
            future = next(steps)
        except StopIteration as end:
            response: HttpResponseBase = end.value
            return response
        return ResponseToCome(request, steps, future)

    def _through(self, request: Any, depth: int) -> Waits:
        """From the middleware at ``depth`` inwards, each level as convert_exception_to_response makes it."""
        try:
            if depth == len(self._levels):
                return (yield from self._view_steps(request))
            level = self._levels[depth]
            if level.door is None:
                return (yield from self._around(level, request, depth))
            return (yield from self._handed(level, level.door, request, depth))
        except Exception as error:
            return exception.response_for_exception(request, error)

    def _around(self, level: Level, request: Any, depth: int) -> Waits:
        """A generator does what the middleware would."""
        with closing(level.begin(request)) as around:
            try:
                next(around)
            except StopIteration as end:
                if end.value is None:
                    raise ValueError(f"what crosses {level.path} neither yields nor returns a response") from None
                return end.value  # it has answered itself
            response = yield from self._through(request, depth + 1)
            stream = self._blocks(request.META, response)
            try:
                around.send(response)
            except StopIteration as end:
                response = end.value
            else:
                raise RuntimeError(f"what crosses {level.path} yields twice: a request has one response")
        if response is None:
            raise ValueError(
                f"what crosses {level.path} didn't return an HttpResponse object. It returned None instead."
            )
        if stream is not None:
            rewritten(stream, response, level.real, level.path)
        return response

    def _handed(self, level: Level, door: Door, request: Any, depth: int) -> Waits:
        """The middleware is called, and hands on what it gets."""
        streams: list[Blocks | None] = []

        def inner() -> Waits:
            response = yield from self._through(request, depth + 1)
            streams.append(self._blocks(request.META, response))
            return response

        with closing(inner()) as steps:
            notice = partial(self._notice, request.META, level.path)
            response = yield from handed(level.middleware, door, request, steps, notice)
        for stream in filter(None, streams):
            rewritten(stream, response, level.real, level.path)
        return response

    def resolve_request(self, request: Any) -> Any:
        """The same, and a tracer is told the route."""
        match: Any = super().resolve_request(request)
        tell_route("/" + match.route)
        return match

    def _get_response(self, request: Any) -> Any:
        """What is inside of the innermost middleware, where that has to be given a response."""
        return ViewThatWaits(giving_back(self._view_steps(request, held=True)), self._view_steps).wait()

    def _view_steps(self, request: Any, *, held: bool = False) -> Waits:
        """As _get_response of BaseHandler.  ``held``: its futures are waited for in the thread."""
        callback, args, kwargs = self.resolve_request(request)
        response: Any = None
        for hook in self._view_middleware:
            response = hook(request, callback, args, kwargs)
            if response:
                break
        if response is None:
            view = self.make_view_atomic(callback)
            if iscoroutinefunction(view):  # pyright: ignore[reportDeprecated]  # asgiref has asyncio's
                view = async_to_sync(view)
            try:
                response = call(view, request, args, kwargs)
                if is_view_that_waits(response):
                    response = yield from self._suspendable(request, response, held)
                elif isinstance(response, Generator):
                    raise never_marked(named(callback))
            except Exception as error:
                response = self.process_exception_by_middleware(error, request)
                if response is None:
                    raise
        self.check_response(response, callback)
        if callable(getattr(response, "render", None)):
            for hook in self._template_response_middleware:
                response = hook(request, response)
                self.check_response(response, hook, name=f"{type(hook.__self__).__name__}.process_template_response")
            try:
                response = response.render()
            except Exception as error:
                response = self.process_exception_by_middleware(error, request)
                if response is None:
                    raise
        self._blocks(request.META, response)
        return response

    def _suspendable(self, request: Any, steps: ViewThatWaits[Any], held: bool) -> Waits:
        """A view marked with @suspends; its response has what decorators have set on what they took for it."""
        for level in self._levels:
            if not level.crossed or (held and level.partly):
                self._notice(request.META, level.path)
        marks = {name: value for name, value in vars(steps).items() if name not in steps.own}
        with closing(steps.run()) as run:
            response = yield from guarded(run)
        for name, value in marks.items():
            setattr(response, name, value)
        return response

    def _begin(self, environ: Any, start_response: Any, request: Any, response: Any) -> Generator[Any, None, Any]:
        """As the ends of get_response and of WSGIHandler.__call__, for a response that comes later: its items."""
        response._resource_closers.append(request.close)
        if response.status_code >= 400:
            log_response("%s: %s", response.reason_phrase, request.path, response=response, request=request)
        response._handler_class = self.__class__
        cookies = [("Set-Cookie", cookie.OutputString()) for cookie in response.cookies.values()]
        start_response(f"{response.status_code} {response.reason_phrase}", [*response.items(), *cookies])
        stream = self._blocks(environ, response)
        return guarded(iter(response)) if stream is None else stream.items

    def _blocks(self, environ: Any, response: Any) -> Blocks | None:
        """What there is instead of the response's iterator, where that may have futures in it."""
        return blocks(response, partial(self._notice, environ)) if getattr(response, "streaming", False) else None

    def load_middleware(self, is_async: bool = False) -> None:
        """As Django's, and finds out which middleware a view can be suspended in."""
        check()
        self._loaded: list[Below] = []
        super().load_middleware(is_async)
        self._levels: list[Level] = levels(self._loaded)
        self._crossed = all(level.crossed for level in self._levels)
        self._noticed: set[str] = set()
        self._lock = threading.Lock()
        self._djangos_chain = self._middleware_chain
        if self._crossed:
            self._middleware_chain = self._chain

    def adapt_method_mode(
        self,
        is_async: bool,
        method: Any,
        method_is_async: bool | None = None,
        debug: bool = False,
        name: str | None = None,
    ) -> Any:
        """Called by load_middleware, among others with what each middleware is given, from the inside out."""
        adapted = super().adapt_method_mode(is_async, method, method_is_async, debug, name)
        if method_is_async is not None:
            path = (name or "").removeprefix("middleware ")
            if path and adapted is method:
                adapted = given(path, method)
            self._loaded.append((path, method, adapted))
        return adapted

    def _notice(self, environ: Any, name: str) -> None:
        """Says once that a middleware holds threads, if there is a server that would not."""
        if VERSION in environ:
            with self._lock:
                new = name not in self._noticed
                self._noticed.add(name)
            if new:
                logging.getLogger("wsgi_plus.django").warning(CANNOT_CROSS, name)
