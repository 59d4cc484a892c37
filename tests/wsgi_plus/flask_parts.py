"""What the tests of Flask's views share: the ways on which a request can go, and what views wait for."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import flask
import pytest
from byhand import BOUND, Wrapper, outcome
from flask import Flask
from werkzeug.test import EnvironBuilder
from wsgi_plus import blocking
from wsgi_plus._validator import validator
from wsgi_plus.flask import suspending


class Upstream(Exception):
    """What the views of the tests fail with."""


pool = ThreadPoolExecutor(4, thread_name_prefix="test-flask")


def soon(value: Any = None) -> Future[Any]:
    """A future that another thread completes."""
    return pool.submit(lambda: value)


def soon_failed(error: BaseException) -> Future[Any]:
    def fail() -> None:
        raise error

    return pool.submit(fail)


class Visit:
    """One request, as a WSGI+ server runs it: each step in the request's own context (S9.4)."""

    def __init__(
        self, app: Callable[..., Any], path: str = "/", *, wrap: Callable[..., Any] | None = None, **more: Any
    ) -> None:
        self.environ = EnvironBuilder(path, **more).get_environ()
        self.environ["wsgi_plus.version"] = (1, 0)
        self.context = contextvars.Context()
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.blocks: list[bytes] = []
        self.iterable = self._run(app, self.environ, self._start_response)
        self._iterator = self._run(iter, wrap(self.iterable) if wrap else self.iterable)
        self.future: Future[Any] | None = None

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.context.run(function, *args)

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
        assert not self.status or exc_info
        self.status, self.headers = status, headers
        return self.blocks.append

    def step(self) -> Future[Any] | None:
        """To the next future, which is given, or to the end."""
        fut, self.future = self.future, None
        error = None if fut is None else outcome(fut)
        try:
            while True:
                if error is None:
                    item = self._run(next, self._iterator)
                elif hasattr(self._iterator, "throw"):
                    item = self._run(self._iterator.throw, error)
                else:
                    raise error
                error = None
                if isinstance(item, Future):
                    self.future = item
                    return item
                assert type(item) is bytes, item
                assert self.status, "a block before start_response"
                self.blocks.append(item)
        except StopIteration:
            return None

    def close(self) -> None:
        if hasattr(self.iterable, "close"):
            self._run(self.iterable.close)

    def finish(self) -> Visit:
        try:
            while self.step() is not None:
                pass
        finally:
            self.close()
        return self

    @property
    def body(self) -> bytes:
        return b"".join(self.blocks)

    def leaves_nothing(self) -> bool:
        return not self._run(flask.has_app_context) and not self._run(flask.has_request_context)


class Travelling(Visit):
    """Each step in another thread."""

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        result: Future[Any] = Future()

        def run() -> None:
            try:
                result.set_result(self.context.run(function, *args))
            except BaseException as error:
                result.set_exception(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(BOUND)
        return result.result(0)


Answer = tuple[str, list[tuple[str, str]], bytes]


def visited(app: Flask, path: str, visit: type[Visit] = Visit, **more: Any) -> Answer:
    v = visit(app, path, **more)
    v.finish()
    assert v.leaves_nothing()
    return v.status, v.headers, v.body


def plain(app: Callable[..., Any], path: str, *, plus: bool = False, **more: Any) -> Answer:
    """On a server that has never heard of it, in the caller's own context."""
    environ = EnvironBuilder(path, **more).get_environ()
    if plus:
        environ["wsgi_plus.version"] = (1, 0)
    said: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
        said[:] = status, headers
        return lambda _: None

    iterable = app(environ, start_response)
    try:
        body = b"".join(iterable)
    finally:
        if hasattr(iterable, "close"):
            iterable.close()
    assert not flask.has_app_context()
    assert not flask.has_request_context()
    return said[0], said[1], body


WAYS: dict[str, Callable[..., Answer]] = {
    "suspended": visited,
    "other threads": functools.partial(visited, visit=Travelling),
    "without throw": functools.partial(visited, wrap=Wrapper),
    "validated": lambda app, path, **more: visited(validator(app), path, **more),
    "plain": plain,
    "blocking": lambda app, path, **more: plain(blocking(app), path, plus=True, **more),
}


@pytest.fixture(params=WAYS)
def ask(request: pytest.FixtureRequest) -> Callable[..., Answer]:
    """ask(app, path): status, headers and body of a request that goes one of the ways."""
    return WAYS[request.param]


def text(answer: Answer) -> tuple[int, str]:
    return int(answer[0].split()[0]), answer[2].decode()


@pytest.fixture
def app() -> Flask:
    app = suspending(Flask(__name__))
    app.secret_key = "secret"
    return app
