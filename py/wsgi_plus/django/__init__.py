"""Django (4.2 and later, with asgiref 3.8 and later) with views that wait without a thread.

In wsgi.py, in place of Django's function of the same name:

    from wsgi_plus.django import get_wsgi_application

    application = get_wsgi_application()

and any view, or method of a class-based view, may be a generator that waits and returns its response:

    from wsgi_plus import suspends, wait

    @suspends
    def index(request):
        answer = yield from wait(ask())
        return HttpResponse(answer)

Other views are Django's affair as ever.  What follows is about those that wait.

Steps.  Each may be in another thread (S9).  Language, time zone, URLconf, script prefix and cache connections go with
the request; thread-locals of others do not.  A call that is given to ``offload`` or ``AsyncBridge`` has none of them.
When the client leaves, GeneratorExit is raised in the view; there is no process_response then, but request_finished.

Databases.  Connections stay with their thread.  At the end of each step they are closed, or kept, as CONN_MAX_AGE says.
A view must not wait within transaction.atomic(): that raises TransactionManagementError at the yield.  Nor may it wait
with a queryset half read (``iterator()``), or be called within a transaction: with ATOMIC_REQUESTS it has to be marked
with ``@transaction.non_atomic_requests``, or there is an ImproperlyConfigured for each request.  What asks the database
in a thread of a pool is given to the ``offload`` of this module, which looks after the connections there; that of
``wsgi_plus`` does not, and a warning says so once.

Middleware.  A view waits without a thread where all middleware is like Django's own: classes of MiddlewareMixin with
methods process_request, process_response and so on, and no __call__ of their own.  A function, or a class with a
__call__, must be given the response: within it views wait in their thread, and a warning for each of them says so.

Decorators.  Those that decide before the view is called can be put around @suspends: login_required and its like,
require_POST and its like, csrf_exempt, non_atomic_requests, xframe_options_exempt, method_decorator with one of these.
Those that change the response raise AttributeError, as there is none yet: never_cache, cache_control, cache_page,
condition, gzip_page, vary_on_cookie, ensure_csrf_cookie.  The view can do itself what they do, with
``add_never_cache_headers``, ``patch_vary_headers`` and so on.  csrf_protect sets no cookie for what the view does: use
the middleware.  sensitive_variables hides nothing in a generator.  A context manager as a decorator would be over
before the view begins, and is refused with ImproperlyConfigured.

Streams.  The iterable of a StreamingHttpResponse may yield futures among its blocks, whatever view it comes from.
Middleware that makes another stream of it is given the blocks, and waits in the thread; GZipMiddleware does not.

On a plain WSGI server, and in Django's test client, all of this works and holds the thread while it waits (S17).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from typing import Any

import django
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.conf import settings
from django.core.handlers.exception import response_for_exception
from django.core.handlers.wsgi import WSGIHandler
from django.db import close_old_connections
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.urls import set_urlconf
from django.utils.log import log_response

from .._hints import never_marked
from .._suspends import ViewThatWaits, suspends
from .._unwaited import named
from ._locals import check
from ._middleware import Below, Level, levels
from ._offload import offload
from ._rest import Rest
from ._streams import Blocks, blocks, rewritten
from ._transactions import call, guarded

__all__ = ["SuspendingWSGIHandler", "get_wsgi_application", "offload", "suspends"]

VERSION = "wsgi_plus.version"
CANNOT_CROSS = "%s cannot be suspended: what waits inside of it holds a thread meanwhile"

Waits = Generator["Future[Any]", None, Any]
"""Yields what a view waits for, and gives the response."""


def get_wsgi_application() -> SuspendingWSGIHandler:
    """As Django's function of this name: sets Django up, and gives the application.  For wsgi.py."""
    django.setup(set_prefix=False)
    return SuspendingWSGIHandler()


class ViewWaits(Exception):
    """Out of get_response: a view waits for ``future``."""

    def __init__(self, request: Any, steps: Waits, future: Future[Any]) -> None:
        super().__init__(f"no error: the view at {request.path} waits, and wsgi_plus.django goes on with it")
        self.request, self.steps, self.future = request, steps, future


class SuspendingWSGIHandler(WSGIHandler):
    """Django's handler, with a generator beside each of its methods that a view is called through.

    May be called in any thread, as it is shared by all.
    """

    _view_middleware: list[Any]
    _template_response_middleware: list[Any]

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """PEP 3333's side of it.  On a server that is no WSGI+ server each wait holds its thread (S16, S17)."""
        if VERSION not in environ:
            return super().__call__(environ, start_response)
        try:
            response: Any = super().__call__(environ, start_response)
        except ViewWaits as suspended:
            nothing: Any = HttpResponse()
            nothing._handler_class = self.__class__
            nothing._resource_closers.append(suspended.request.close)
            begin = partial(self._begin, environ, start_response)
            return Rest(suspended.steps, nothing, future=suspended.future, begin=begin)
        stream = self._blocks(environ, response)
        if stream is not None:
            return Rest(stream.items, response)
        if not getattr(response, "streaming", True):
            close_old_connections()  # close() may be in another thread
        return response

    def get_response(self, request: Any) -> HttpResponseBase:
        """The response.  In a WSGI+ server raises ViewWaits, which is for __call__, where the view waits."""
        if VERSION not in request.META or not self._crossed:
            return super().get_response(request)
        steps = self._response_steps(request)
        try:
            future = next(steps)
        except StopIteration as end:
            response: HttpResponseBase = end.value
            return response
        raise ViewWaits(request, steps, future)

    def _response_steps(self, request: Any) -> Waits:
        """As get_response of BaseHandler."""
        set_urlconf(settings.ROOT_URLCONF)
        response: Any = yield from self._through(request, 0)
        response._resource_closers.append(request.close)
        if response.status_code >= 400:
            log_response("%s: %s", response.reason_phrase, request.path, response=response, request=request)
        return response

    def _through(self, request: Any, depth: int) -> Waits:
        """From the middleware at ``depth`` inwards, each level as convert_exception_to_response makes it."""
        try:
            if depth == len(self._levels):
                return (yield from self._view_steps(request))
            path, middleware, _ = self._levels[depth]
            response = middleware.process_request(request) if hasattr(middleware, "process_request") else None
            if not response:
                response = yield from self._through(request, depth + 1)
            if hasattr(middleware, "process_response"):
                stream = self._blocks(request.META, response)
                response = middleware.process_response(request, response)
                if stream is not None:
                    rewritten(stream, response, middleware, path)
            return response
        except Exception as error:
            return response_for_exception(request, error)

    def _get_response(self, request: Any) -> Any:
        """What is inside of the innermost middleware, where that has to be given a response."""
        return ViewThatWaits(self._view_steps(request), self._view_steps).wait()

    def _view_steps(self, request: Any) -> Waits:
        """As _get_response of BaseHandler."""
        callback, args, kwargs = self.resolve_request(request)
        response: Any = None
        for hook in self._view_middleware:
            response = hook(request, callback, args, kwargs)
            if response:
                break
        if response is None:
            view = self.make_view_atomic(callback)
            if iscoroutinefunction(view):
                view = async_to_sync(view)
            try:
                response = call(view, request, args, kwargs)
                if isinstance(response, ViewThatWaits):
                    response = yield from self._suspendable(request, response)
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

    def _suspendable(self, request: Any, steps: ViewThatWaits[Any]) -> Waits:
        """A view marked with @suspends; its response has what decorators have set on what they took for it."""
        for level in self._levels:
            if not level.crossed:
                self._notice(request.META, level.path)
        marks = {name: value for name, value in vars(steps).items() if name not in ("_generator", "_view", "_returned")}
        with closing(steps.run()) as run:
            response = yield from guarded(run)
        for name, value in marks.items():
            setattr(response, name, value)
        return response

    def _begin(self, environ: Any, start_response: Any, response: Any) -> Generator[Any, None, Any]:
        """As the end of WSGIHandler.__call__, for a response that comes later: its items."""
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

    def adapt_method_mode(
        self,
        is_async: bool,
        method: Any,
        method_is_async: bool | None = None,
        debug: bool = False,
        name: str | None = None,
    ) -> Any:
        """Called by load_middleware, among others with what each middleware is given, from the inside out."""
        if method_is_async is not None:
            self._loaded.append(((name or "").removeprefix("middleware "), method))
        return super().adapt_method_mode(is_async, method, method_is_async, debug, name)

    def _notice(self, environ: Any, name: str) -> None:
        """Says once that a middleware holds threads, if there is a server that would not."""
        if VERSION in environ:
            with self._lock:
                new = name not in self._noticed
                self._noticed.add(name)
            if new:
                logging.getLogger(__name__).warning(CANNOT_CROSS, name)
