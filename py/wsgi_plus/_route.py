"""Which route of the application a request has, for those who want to know: a tracer does.

The framework tells it where it has found the route.  That is far within the call of the application, perhaps behind
middleware that has made an environ of its own; the context is the request's in all of it (S9.4).
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

__all__ = ["listening", "tell_route"]

listening: ContextVar[Callable[[str], None] | None] = ContextVar("wsgi_plus.route", default=None)


def tell_route(route: str) -> None:
    """``route`` is the pattern of the path, from its first slash on, such as "/users/<id>"."""
    listen = listening.get()
    if listen is not None:
        listen(route)
