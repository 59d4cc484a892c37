"""S15: middleware.

``story`` is an application that notices what middleware around it does, be it the one that is examined or one of those
here, which ``behind`` puts between.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import stage

Application = Callable[[stage.Environ, stage.StartResponse], Any]


# The application


class _Told(Future[Any]):
    """Records what only a block is asked for, and who waits for it."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def _taken(self, name: str) -> None:
        stage.record(self.key, "taken for a block", name)

    def __len__(self) -> int:
        self._taken("len")
        return 7

    def __bytes__(self) -> bytes:
        self._taken("bytes")
        return b"future!"

    def __iter__(self) -> Iterator[int]:
        self._taken("iter")
        return iter(b"future!")

    def __add__(self, other: Any) -> bytes:
        self._taken("+")
        return b"future!"

    __radd__ = __add__

    def upper(self) -> Future[Any]:
        self._taken("upper")
        return self

    def result(self, timeout: float | None = None) -> Any:
        self._waited()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._waited()
        return super().exception(timeout)

    def _waited(self) -> None:
        if not self.done():
            stage.record(self.key, "waited for")


def _future(key: str, name: str, kind: str) -> Future[Any]:
    """``pending``, ``done`` or ``failed``; it goes by its name."""
    fut = stage.adopt(name, _Told(key))
    if kind == "done":
        fut.set_result(None)
    elif kind == "failed":
        fut.set_exception(ValueError("failed on purpose"))
    return fut


class _Story(stage.Steps):
    """Records ``in: next``, ``in: throw`` and so on as it is asked, and ``in: future`` or ``in: block`` as it gives."""

    def __init__(self, key: str, items: stage.Items) -> None:
        super().__init__(items)
        self.key = key

    def step(self, name: str, run: Callable[[], Any]) -> Any:
        stage.record(self.key, f"in: {name}")
        item = run()
        if name != "close":
            stage.record(self.key, "in: future" if isinstance(item, Future) else "in: block", id(item))
        return item


class _Bare:
    """The same without throw."""

    def __init__(self, story: _Story) -> None:
        self.story = story

    def __iter__(self) -> _Bare:
        return self

    def __next__(self) -> Any:
        return next(self.story)

    def close(self) -> None:
        self.story.close()


class _Apart:
    """The same as an iterable that is not its own iterator."""

    def __init__(self, story: _Story) -> None:
        self.story = story

    def __iter__(self) -> Iterator[Any]:
        return self.story._items

    def close(self) -> None:
        stage.record(self.story.key, "closed")


def release(key: str) -> None:
    """Completes a future if it is not done: the request that waits for it goes on."""
    fut = stage.future(key)
    if not fut.done():
        fut.set_result(None)


_KINDS: dict[str, Callable[[_Story], Any]] = {"": lambda story: story, "bare": _Bare, "apart": _Apart}


def story(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Gives ``items``: b is a block, p, d and f are futures, pending, done and failed, which go by KEY-0 and so on.

    r raises.  A failure is answered with 502 if nothing was given but futures.  Calls start_response first if it is to
    ``start`` so, otherwise before the first block.
    """
    told = stage.arguments(environ)
    key = told["key"]

    def items() -> stage.Items:
        count = 0
        started = "start" in told
        try:
            for letter in told["items"]:
                if letter == "b":
                    if not started:
                        start_response("200 OK", stage.TEXT)
                        started = True
                    yield b"block "
                elif letter == "r":
                    raise ValueError("raised on purpose")
                else:
                    stage.record(key, f"parking {count}")
                    yield _future(key, f"{key}-{count}", {"p": "pending", "d": "done", "f": "failed"}[letter])
                    count += 1
        except ValueError as error:
            fut = stage.future(f"{key}-{count}")
            stage.record(key, "thrown", fut.done() and fut.exception() is error)
            if started:
                raise
            start_response("502 Bad Gateway", stage.TEXT)
            yield b"failed"
        except GeneratorExit:
            stage.record(key, "left")
            raise

    if "start" in told:
        start_response("200 OK", stage.TEXT)
    return _KINDS[told.get("kind", "")](_Story(key, items()))


# Middleware


def _delegates(app: Application) -> Application:
    def wrapped(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[Any]:
        iterable = app(environ, start_response)
        try:
            yield from iterable
        finally:
            if hasattr(iterable, "close"):
                iterable.close()

    return wrapped


def _loop(app: Application) -> Application:
    def wrapped(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[Any]:
        iterable = app(environ, start_response)
        try:
            for item in iterable:
                yield item
        finally:
            if hasattr(iterable, "close"):
                iterable.close()

    return wrapped


class _Class:
    """Has close, and no throw."""

    def __init__(self, iterable: Any) -> None:
        self.iterable, self.iterator = iterable, iter(iterable)

    def __iter__(self) -> _Class:
        return self

    def __next__(self) -> Any:
        return next(self.iterator)

    def close(self) -> None:
        if hasattr(self.iterable, "close"):
            self.iterable.close()


class _ClassWithThrow(_Class):
    def throw(self, error: BaseException) -> Any:
        if not hasattr(self.iterator, "throw"):
            raise error
        return self.iterator.throw(error)


def _with(kind: type[_Class]) -> Callable[[Application], Application]:
    return lambda app: lambda environ, start_response: kind(app(environ, start_response))


def _waits_itself(app: Application) -> Application:
    """Waits before the application is called, beside each item, and at the end; 503 if the first future fails."""

    def wrapped(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[Any]:
        key = stage.key_of(environ)
        stage.record(key, "parking")
        try:
            yield stage.future(f"{key}-own")
        except ValueError:
            start_response("503 Service Unavailable", stage.TEXT)
            yield b"middleware"
            return
        iterable = app(environ, start_response)
        try:
            for item in iterable:
                yield stage.later(0.001, f"{key}-own-{id(item)}")
                yield item
        finally:
            if hasattr(iterable, "close"):
                iterable.close()
        stage.record(key, "parking at the end")
        yield stage.future(f"{key}-own-end")

    return wrapped


_MIDDLEWARE: dict[str, Callable[[Application], Application]] = {
    "delegates": _delegates,
    "loop": _loop,
    "class": _with(_Class),
    "class with throw": _with(_ClassWithThrow),
    "waits itself": _waits_itself,
}


def behind(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """The story behind ``middleware``, a comma between several: the first is the outermost."""
    app: Application = story
    for name in reversed(stage.arguments(environ)["middleware"].split(",")):
        app = _MIDDLEWARE[name](app)
    return app(environ, start_response)


# A validator


def _validated() -> Any:
    module, _, name = os.environ.get("CONFORMANCE_VALIDATOR", "wsgi_plus:validated").partition(":")
    return functools.reduce(getattr, name.split("."), importlib.import_module(module))


def validator_missing() -> str:
    """Why there is no validator; empty if there is one."""
    try:
        return "" if callable(_validated()) else "the validator is not callable"
    except (ImportError, AttributeError) as error:
        return f"there is no validator: {error}"


def loses_futures_on_purpose(app: Application) -> Application:
    def wrapped(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[Any]:
        return (item for item in app(environ, start_response) if isinstance(item, bytes))

    return wrapped


def changes_futures_on_purpose(app: Application) -> Application:
    def wrapped(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[Any]:
        return (item if isinstance(item, bytes) else str(item).encode() for item in app(environ, start_response))

    return wrapped


def changes_nothing_on_purpose(app: Application) -> Application:
    return _delegates(app)


_GUILTY = {function.__name__: function for function in (loses_futures_on_purpose, changes_futures_on_purpose)}


def validated(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """An application behind middleware that does wrong (``guilty``) and some that does not, with a validator.

    Records what comes of it, be it an exception or a warning.
    """
    told = stage.arguments(environ)
    key = told["key"]

    def inner(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[Any]:
        start_response("200 OK", stage.TEXT)
        yield _future(key, f"{key}-0", "done")
        yield b"fine"

    guilty = [_GUILTY[told["guilty"]]] if "guilty" in told else []
    app = _validated()(inner, changes_nothing_on_purpose, *guilty, changes_nothing_on_purpose)
    return _reported(key, app, environ, start_response)


def _reported(key: str, app: Application, environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[Any]:
    iterable: Any = None
    try:
        iterable = app(environ, start_response)
        yield from iterable
    except Exception as error:
        stage.record(key, "said", str(error))
        raise
    finally:
        if hasattr(iterable, "close"):
            iterable.close()
