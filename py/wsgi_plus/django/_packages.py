"""What the middleware of some packages does around ``get_response``, as generators that yield in its place.

Each is what their ``__call__`` does, in the same order.  A package's names that one needs are looked for first: in
another version of it the middleware is called as any other, and views wait within it in their thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from django.http import HttpResponse
from django.http.response import HttpResponseBase

__all__ = ["AROUND", "HANDS_ON", "PARTLY"]

Steps = Generator[None, HttpResponseBase, HttpResponseBase]

CLIENT_LEFT = 499  # as in access logs


class Known(NamedTuple):
    """What is known of a middleware."""

    around: Callable[[Any, Any], Steps]
    needs: tuple[str, ...]
    """Names in the middleware, or in its module."""

    def is_for(self, middleware: Any) -> bool:
        return all(hasattr(middleware, name) or name in _module(middleware) for name in self.needs)


def _module(middleware: Any) -> dict[str, Any]:
    return vars(sys.modules[middleware.__module__])


def _cors_headers(middleware: Any, request: Any) -> Steps:
    response: HttpResponseBase | None = middleware.check_preflight(request)
    if response is None:
        response = yield
    middleware.add_response_headers(request, response)
    return response


def _history(middleware: Any, request: Any) -> Steps:
    """What it holds is an asgiref Local, which goes with the request."""
    with _module(middleware)["_context_manager"](request):
        return (yield)


def _telemetry(middleware: Any, request: Any) -> Steps:
    """Its span is that of the request's context, until the end: also that of a request whose client leaves."""
    middleware.process_request(request)
    try:
        response = yield
    except GeneratorExit:
        middleware.process_response(request, HttpResponse(status=CLIENT_LEFT))
        raise
    answer: HttpResponseBase = middleware.process_response(request, response)
    return answer


def _silk(middleware: Any, request: Any) -> Steps:
    """What it collects of a request that it records is kept in the thread."""
    middleware.process_request(request)
    request.silk_filters = {}
    if not getattr(request, "silk_is_intercepted", False):
        return (yield)
    answer: HttpResponseBase = middleware.process_response(request, middleware.get_response(request))
    return answer


def _toolbar(middleware: Any, request: Any) -> Steps:
    """Where it is shown it profiles the thread, and watches the thread's database connections."""
    module = _module(middleware)
    shown = module["get_show_toolbar"](async_mode=False)(request)
    if not shown or module["DebugToolbar"].is_toolbar_request(request):
        return (yield)
    answer: HttpResponseBase = middleware(request)
    return answer


_TELEMETRY = "opentelemetry.instrumentation.django.middleware.otel_middleware"

# By module and qualified name of what is called.
AROUND = {
    ("corsheaders.middleware", "CorsMiddleware.__call__"): Known(
        _cors_headers, ("check_preflight", "add_response_headers")
    ),
    ("simple_history.middleware", "HistoryRequestMiddleware.<locals>.middleware"): Known(
        _history, ("_context_manager",)
    ),
    (_TELEMETRY, "_DjangoMiddleware.__call__"): Known(_telemetry, ("process_request", "process_response")),
    ("silk.middleware", "SilkyMiddleware.__call__"): Known(_silk, ("process_request", "process_response")),
    ("debug_toolbar.middleware", "DebugToolbarMiddleware.__call__"): Known(
        _toolbar, ("get_show_toolbar", "DebugToolbar", "async_mode")
    ),
}

# Those that do nothing after get_response but to return what it gives.
HANDS_ON = {
    ("whitenoise.middleware", "WhiteNoiseMiddleware.__call__"),
    ("django_htmx.middleware", "HtmxMiddleware.__call__"),
}

# Those of AROUND that give a view's thread back for some requests only.
PARTLY = {
    ("silk.middleware", "SilkyMiddleware.__call__"),
    ("debug_toolbar.middleware", "DebugToolbarMiddleware.__call__"),
}
