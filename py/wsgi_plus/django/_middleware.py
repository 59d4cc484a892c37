"""Which middleware a suspension can cross, and which it cannot.

What MiddlewareMixin does around ``get_response`` is known, so a generator can do it in its place.  A function, or a
class with a ``__call__`` of its own, must be called and must be given the response.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, NamedTuple

__all__ = ["Below", "Level", "levels"]

# Those that call process_request, get_response and process_response, as far as there are, in this order.
KNOWN_CALLS = {
    ("django.utils.deprecation", "MiddlewareMixin.__call__"),
    ("django.contrib.auth.middleware", "RemoteUserMiddleware.__call__"),
}

Below = tuple[str, Callable[..., Any]]
"""A middleware's path in the settings (that of the server is ""), and the handler that it was given."""


class Level(NamedTuple):
    """A middleware in the chain."""

    path: str
    middleware: Any
    crossed: bool
    """Whether calling process_request, get_response and process_response is all that calling it would do."""


def levels(loaded: Iterable[Below]) -> list[Level]:
    """The middleware in use, the outermost first; ``loaded`` has the innermost first, and the server at the end."""
    found = []
    for (path, inner), (_, outer) in pairwise(loaded):
        if outer is not inner:  # otherwise it has raised MiddlewareNotUsed
            middleware = outer.__wrapped__  # type: ignore[attr-defined]  # in convert_exception_to_response
            found.append(Level(path, middleware, _is_crossed(middleware, inner)))
    return found[::-1]


def _is_crossed(middleware: Any, inner: Callable[..., Any]) -> bool:
    call: Any = type(middleware).__call__
    known = (getattr(call, "__module__", None), call.__qualname__) in KNOWN_CALLS
    return known and middleware.get_response is inner
