"""Django REST framework: what it does around a handler is done around one that waits as well.

``APIView.dispatch`` calls the handler, and hands what it gives, or what has been made of its exception, to
``finalize_response``.  From a handler that waits it gets what stands for its response, so in this view, which is there
for one request only, that is let through.  When the handler has returned, or has raised, the rest of ``dispatch``
follows: ``handle_exception`` and ``finalize_response``.  What is before the handler has been done by then:
authentication, permissions, throttling, content negotiation.

Whatever else the framework calls wants its result at once: ``has_permission``, ``perform_create``, ``get_queryset``,
methods of serializers.  What is marked among these waits in its thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, cast

from django.views import View

from .._hints import never_marked
from .._suspends import ViewThatWaits

__all__ = ["called", "within"]

HELD = (
    "%s is marked with @suspends, and is called by Django REST framework, which wants what it returns at once: it waits "
    "in its thread. Handlers would wait without one"
)

# What of the framework's own names gives a view's response.
ACTIONS = {"list", "create", "retrieve", "update", "partial_update", "destroy", "dispatch", *View.http_method_names}


def within(steps: ViewThatWaits[Any], args: Sequence[Any]) -> Any:
    """What a handler gives to APIView.dispatch, if it is called with these arguments by that.  Otherwise the steps;
    or what they return, if the framework calls it that takes no response.
    """
    framework = sys.modules.get("rest_framework.request")
    if framework is None:
        return steps
    if args and not isinstance(args[0], framework.Request) and _is_frameworks(args[0], steps._view.__name__):
        return steps.held(HELD)
    for arg in args:
        view = arg
        if isinstance(arg, framework.Request):
            context: Mapping[str, Any] | None = arg.parser_context
            view = (context or {}).get("view")
        if hasattr(view, "finalize_response"):
            return HandlerThatWaits(steps, view)
    return steps


def _is_frameworks(owner: Any, name: str) -> bool:
    """Whether that is the name of a method of the framework's in an object, and of none that gives a response."""
    if name in ACTIONS and hasattr(owner, "finalize_response"):
        return False
    return any(name in vars(cls) for cls in type(owner).__mro__ if cls.__module__.startswith("rest_framework."))


def called(view: Any, request: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a view returns.  Raises TypeError where the framework has been given a generator by a handler of it."""
    try:
        return view(request, *args, **kwargs)
    except AssertionError as error:  # of finalize_response
        if not hasattr(view, "cls") or "generator" not in str(error):
            raise
        raise never_marked(f"the handler of {request.method} in {view.cls.__module__}.{view.cls.__name__}") from error


class HandlerThatWaits(ViewThatWaits[Any]):
    """What stands for the response of a handler in the view of a request."""

    own = ViewThatWaits.own | {"_api_view", "_finalize"}

    def __init__(self, steps: ViewThatWaits[Any], api_view: Any) -> None:
        self._fate, self._generator, self._view = steps._fate, steps._generator, steps._view
        self._api_view: Any = api_view
        self._finalize: Callable[[Any], Any] | None = None
        finalize_response = api_view.finalize_response

        def finalize(request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
            own = cast(dict[str, Any], vars(api_view))
            own.pop("finalize_response", None)  # it has the view: no cycle
            if not isinstance(response, HandlerThatWaits):
                return finalize_response(request, response, *args, **kwargs)
            response._finalize = lambda answer: finalize_response(request, answer, *args, **kwargs)
            return response

        if "finalize_response" not in vars(api_view):
            api_view.finalize_response = finalize

    def run(self) -> Generator[Future[Any], None, Any]:
        view, finalize = self._api_view, self._finalize
        if finalize is None:  # the view has called it in the course of something else
            return (yield from super().run())
        self._api_view = self._finalize = None
        view.response = None  # this: no cycle
        try:
            response = yield from super().run()
        except Exception as error:
            response = view.handle_exception(error)
        view.response = finalize(response)
        return view.response
