"""A validator for both sides of WSGI+, as wsgiref.validate is one for WSGI.

How it works is in _layer.py and _exchange.py, what it asks for in _rules.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from .._blocking import blocking
from .._types import Application
from ._exchange import Exchange
from ._rules import WSGIPlusError, WSGIPlusWarning

__all__ = ["WSGIPlusError", "WSGIPlusWarning", "validated", "validator"]


def validator(app: Application, *, name: str | None = None) -> Application:
    """``app``, with every rule of PEP 3333 and WSGI+ checked that can be seen from here, on both sides.

    Raises ``WSGIPlusError``, an AssertionError, at the first that is broken.  Its message says which rule that is, who
    broke it, and what to do.  What is found where nothing can be raised any more is a ``WSGIPlusWarning``: a body that
    was never closed.  It also warns of content without Content-Type, which no rule forbids.

    It may stand anywhere, and in several places of a stack: around the application, around each middleware, next to the
    server.  Each one watches who calls it and whom it calls.  Two of them watch the middleware between them, and name
    it if a future is lost, changed or made text of there (S15.9).  ``name`` is what messages call ``app``; without it
    that is its ``__qualname__``.  ``validated`` puts one between each two of a stack.

    What it gives keeps no state but per request, so any thread may call it.  In environ it puts something of its own
    around ``wsgi.input`` and ``wsgi.errors``, with those methods that PEP 3333 names.

    Works on plain WSGI servers, too.  What only a WSGI+ server promises (contexts: S9.4, S9.5; input: S14.1) is asked
    for where environ has ``wsgi_plus.version``.  Futures may be passed to whatever takes them, such as ``blocking``.

    Apart from that it is not noticed: items, exceptions, ``throw`` and ``close`` pass; the iterator has ``throw`` if
    the application's has.  As with all middleware, the server does not get to see a ``wsgi.file_wrapper`` or the
    length of a list.  Not checked, though wsgiref.validate does: that ``wsgi.input.read`` is called with a size, that
    the method is a known one, that there is a query string, and that a 204 or 304 has no Content-Type.
    """
    said = name or _name(app)
    waits = getattr(app, "__module__", None) == blocking.__module__

    def application(*args: Any, **kwargs: Any) -> Iterable[Any]:
        environ, start_response = (*args, None, None)[:2]
        exchange = Exchange(said, waits, environ, start_response)
        return _Body(exchange, exchange.call(app, environ, len(args) == 2 and not kwargs))

    return application


def validated(
    app: Application, *middleware: Callable[[Application], Application], name: str | None = None
) -> Application:
    """``app`` behind all of the middleware, with a validator between each two, before the first and behind the last.

    The first one is the outermost: requests meet them in the order of the arguments.  Each is called with the
    application that it is to wrap, and is named by its ``__qualname__`` if it is guilty of something; ``name`` is
    what ``app`` is called.  For middleware with options: ``functools.partial(middleware, option=...)``.
    """
    stack = validator(app, name=name)
    for wrap in reversed(middleware):
        stack = validator(wrap(stack), name=_name(wrap))
    return stack


def _name(function: Any) -> str:
    function = getattr(function, "func", function)  # of a partial
    return getattr(function, "__qualname__", None) or type(function).__qualname__


class _Body:
    """What the server gets for the iterable."""

    def __init__(self, exchange: Exchange, iterable: Iterable[Any]) -> None:
        self._exchange = exchange
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        return _Items(self._exchange, self._exchange.iterate(self._iterable))

    def close(self) -> None:
        self._exchange.close(self._iterable)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self._exchange.forgotten()


class _Items:
    """What the server gets for the iterator: it has ``throw``, ``send`` and ``close`` if that has them."""

    def __init__(self, exchange: Exchange, iterator: Iterator[Any]) -> None:
        self._exchange = exchange
        self._iterator = iterator

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._exchange.advance(self._iterator.__next__)

    def __getattr__(self, name: str) -> Any:
        if name in ("close", "send", "throw"):
            method = getattr(self._iterator, name)
            return {
                "close": partial(self._exchange.close_iterator, method),
                "send": self._exchange.send,
                "throw": partial(self._exchange.advance, method),
            }[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
