"""S17: plain WSGI servers.  The helper is the one that CONFORMANCE_HELPER names, MODULE:FUNCTION."""

from __future__ import annotations

import functools
import importlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import acts
import stage


def _helper() -> Any:
    module, _, name = os.environ.get("CONFORMANCE_HELPER", "wsgi_plus:blocking").partition(":")
    return functools.reduce(getattr, name.split("."), importlib.import_module(module))


def missing() -> str:
    """Why there is no helper; empty if there is one."""
    try:
        return "" if callable(_helper()) else "the helper is not callable"
    except (ImportError, AttributeError) as error:
        return f"there is no helper: {error}"


class _Outside:
    """What the server gets of the helper: records what is no block, and in which threads it iterates."""

    def __init__(self, key: str, inside: Any) -> None:
        self.key = key
        self.inside = inside
        self.iterator = iter(inside)

    def __iter__(self) -> _Outside:
        return self

    def __next__(self) -> Any:
        stage.record(self.key, "server's thread", threading.get_ident())
        item = next(self.iterator)
        if not isinstance(item, bytes):
            stage.record(self.key, "no block", type(item).__name__)
        return item

    def close(self) -> None:
        if hasattr(self.inside, "close"):
            self.inside.close()


def behind(environ: stage.Environ, start_response: stage.StartResponse) -> _Outside:
    """The application that is to be ``inside`` behind the helper."""
    told = stage.arguments(environ)
    key = told["key"]
    before = dict(environ)

    def unchanged(found: stage.Environ) -> bool:
        return found is environ and found == before

    def inner(given: stage.Environ, start: stage.StartResponse) -> Any:
        stage.record(key, "environ", unchanged(given))
        return _INNER[told["inside"]](given, start)

    inside = _helper()(inner)(environ, start_response)
    stage.record(key, "environ", unchanged(environ))
    return _Outside(key, inside)


# The WSGI+ applications


def _done() -> Future[Any]:
    fut: Future[Any] = Future()
    fut.set_result(None)
    return fut


class _Items:
    """Iterable by __getitem__ alone."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __getitem__(self, number: int) -> Any:
        return self.items[number]


def _any(kind: Any, environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Blocks and futures in an iterable of that kind."""
    key = stage.key_of(environ)
    start_response("200 OK", stage.TEXT)
    return kind([stage.later(0.01, key), b"one ", _done(), stage.later(0.02, f"{key}-2"), b"two ", b"", _done()])


def _catches(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Records what its future fails with, and waits for another one where it handles that."""
    key = stage.key_of(environ)
    fut = stage.future(key)
    stage.record(key, "parking")
    try:
        yield fut
    except BaseException as error:
        if isinstance(error, GeneratorExit) and not fut.done():
            raise
        same = not fut.cancelled() and error is fut.exception()
        stage.record(key, "caught", [type(error).__module__, type(error).__name__, same])
        another = stage.future(f"{key}-another")
        yield another
        stage.record(key, "waited", another.done())
        start_response("502 Bad Gateway", stage.TEXT)
        yield b"caught"
        return
    stage.record(key, "went on")
    start_response("200 OK", stage.TEXT)
    yield b"fine"


class _Rethrows:
    """An iterator whose throw raises what it is given."""

    def __init__(self, key: str) -> None:
        self.items: Iterator[Any] = iter([stage.future(key), b"went on"])
        stage.record(key, "parking")

    def __iter__(self) -> _Rethrows:
        return self

    def __next__(self) -> Any:
        return next(self.items)

    def throw(self, error: BaseException) -> Any:
        raise error


def _rethrows(environ: stage.Environ, start_response: stage.StartResponse) -> _Rethrows:
    start_response("200 OK", stage.TEXT)
    return _Rethrows(stage.key_of(environ))


class _TwoObjects:
    """The iterable has close(), the iterator that it gives has throw()."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __iter__(self) -> stage.Items:
        try:
            yield stage.future(self.key)
        except ValueError:
            stage.record(self.key, "thrown")
        yield b"fine"

    def close(self) -> None:
        stage.record(self.key, "close")


def _two_objects(environ: stage.Environ, start_response: stage.StartResponse) -> _TwoObjects:
    start_response("200 OK", stage.TEXT)
    return _TwoObjects(stage.key_of(environ))


_INNER: dict[str, Any] = {
    "generator": acts.generator,
    "iterator": acts.iterator,
    "bare": acts.bare,
    "list": functools.partial(_any, list),
    "tuple": functools.partial(_any, tuple),
    "list iterator": functools.partial(_any, iter),
    "items": functools.partial(_any, _Items),
    "catches": _catches,
    "rethrows": _rethrows,
    "two objects": _two_objects,
}
