"""Which middleware a suspension can cross, how, and which it cannot.

Middleware is called, and calls ``get_response`` within, so it has a stack frame there for as long as the view takes.
A generator can do what it does in its place, and yield where it would call ``get_response``:

- what MiddlewareMixin does around ``get_response`` is known;
- what some packages' middleware does is known as well (``_packages``);
- others are declared to be crossable, with a generator for it or without: see ``declared``.

The rest has to be called, and to be given the response.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

from ._handed import Door
from ._packages import AROUND, HANDS_ON, PARTLY

__all__ = ["Around", "Below", "Level", "given", "levels"]

ATTRIBUTE = "wsgi_plus_crossable"
SETTING = "WSGI_PLUS_CROSSABLE"

# Those that call process_request, get_response and process_response, as far as there are, in this order.
KNOWN_CALLS = {
    ("django.utils.deprecation", "MiddlewareMixin.__call__"),
    ("django.contrib.auth.middleware", "RemoteUserMiddleware.__call__"),
}

_SENTRYS = "SentryWrappingMiddleware"

# Wrappers that tools put around each middleware, and where they keep it.
WRAPPERS = {
    ("sentry_sdk.integrations.django.middleware", f"_wrap_middleware.<locals>.{_SENTRYS}.__call__"): "_inner",
}

Around = Callable[[Any, Any], Generator[None, HttpResponseBase, HttpResponseBase]]
"""``around(middleware, request)`` yields once, is sent the response, and returns that or another; or returns one."""

Below = tuple[str, Callable[..., Any], Callable[..., Any]]
"""A middleware's path in the settings (that of the server is ""), the handler below it, and what it was given of it."""


class Level(NamedTuple):
    """A middleware in the chain."""

    path: str
    middleware: Any
    """As it is in the chain, maybe in a tool's wrapper."""
    real: Any
    """Without that."""
    around: Around | None = None
    """What is done in the place of calling it."""
    door: Door | None = None
    """That of one which is called, and may be given a response that is not there yet."""
    hooks: bool = False
    """Whether its process_request and process_response are all there is to it; then ``around`` calls them."""

    @property
    def crossed(self) -> bool:
        return self.around is not None or self.door is not None

    @property
    def partly(self) -> bool:
        """Whether it is given the response nevertheless, for some requests."""
        return _name(self.real) in PARTLY

    def begin(self, request: Any) -> Generator[None, HttpResponseBase, HttpResponseBase]:
        """What ``around`` does for a request.  Only where there is one."""
        assert self.around is not None
        return self.around(self.middleware if self.hooks else self.real, request)


def levels(loaded: Iterable[Below]) -> list[Level]:
    """The middleware in use, the outermost first; ``loaded`` has the innermost first, and the server at the end."""
    found: list[Level] = []
    for (path, inner, given), (_, outer, _) in pairwise(loaded):
        if outer is not inner:  # otherwise it has raised MiddlewareNotUsed
            middleware = outer.__wrapped__  # type: ignore[attr-defined]  # in convert_exception_to_response
            found.append(_level(path, middleware, inner, given))
    return found[::-1]


def given(path: str, inner: Callable[..., Any]) -> Callable[..., Any]:
    """What the middleware with that path is to be given as its get_response, in the place of ``inner``."""
    how = declared(path)
    return Door(inner) if how is True or (how is None and _is_handing_on(import_string(path))) else inner


def declared(path: str) -> bool | Around | None:
    """What an application says of the middleware with that path: whether a suspension can cross it, and maybe how.

    That is said by the attribute ``wsgi_plus_crossable`` of what the path leads to, or by the setting
    ``WSGI_PLUS_CROSSABLE``: a list of paths, or a mapping of paths to True or to the path of a generator function.
    The setting wins.  None if nothing is said.  Raises ImproperlyConfigured if it is something else.
    """
    said: Any = getattr(settings, SETTING, ())
    if not isinstance(said, (Mapping, list, tuple, set, frozenset)):
        raise ImproperlyConfigured(f"{SETTING} is a list of dotted paths of middleware, or a mapping of them")
    how: Any = getattr(import_string(path), ATTRIBUTE, None)
    if path in said:
        how = cast(Any, said)[path] if isinstance(said, Mapping) else True
    if isinstance(how, str):
        how = import_string(how)
    if how not in (True, False, None) and not inspect.isgeneratorfunction(how):
        raise ImproperlyConfigured(f"{path} is said to be crossable by {how!r}, which is no generator function")
    return how  # type: ignore[no-any-return]


def _level(path: str, middleware: Any, inner: Callable[..., Any], given: Callable[..., Any]) -> Level:
    real = _unwrapped(middleware)
    level = Level(path, middleware, real)
    if given is not inner and not isinstance(given, Door):
        return level  # this one is asynchronous, or the one below
    if getattr(real, "get_response", given) is not given:
        return level  # it calls something else
    call, how = _name(real), declared(path)
    if how is False:
        return level
    if callable(how):
        return level._replace(around=how)
    if call in AROUND and AROUND[call].is_for(real):
        return level._replace(around=AROUND[call].around)
    if call in KNOWN_CALLS or (how and _has_hooks(real)):
        return level._replace(around=_with_hooks, hooks=True)
    return level._replace(door=given if isinstance(given, Door) else None)


def _unwrapped(middleware: Any) -> Any:
    while (where := WRAPPERS.get(_name(middleware))) is not None:
        middleware = getattr(middleware, where)
    return middleware


def _name(middleware: Any) -> tuple[str, str]:
    """Module and qualified name of what runs when it is called: its ``__call__``, or itself if it is a function."""
    call: Any = middleware if inspect.isfunction(middleware) else type(middleware).__call__
    return getattr(call, "__module__", None) or "", getattr(call, "__qualname__", "")


def _is_handing_on(factory: Any) -> bool:
    call: Any = getattr(factory, "__call__", None)  # noqa: B004  # the one of its objects
    return isinstance(factory, type) and (call.__module__, call.__qualname__) in HANDS_ON


def _has_hooks(middleware: Any) -> bool:
    return hasattr(middleware, "process_request") or hasattr(middleware, "process_response")


def _with_hooks(middleware: Any, request: Any) -> Generator[None, HttpResponseBase, HttpResponseBase]:
    """As MiddlewareMixin.__call__."""
    response = middleware.process_request(request) if hasattr(middleware, "process_request") else None
    if not response:
        response = yield
    if hasattr(middleware, "process_response"):
        response = middleware.process_response(request, response)
    return response
