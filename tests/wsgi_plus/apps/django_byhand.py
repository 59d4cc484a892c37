"""Drives a Django as a WSGI+ server does, without sockets: each step on a thread of choice, all in one context.

Importing this sets Django up, for all tests of a process; each test module has URLs of its own.
"""

from __future__ import annotations

import contextvars
import io
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from byhand import BOUND, outcome
from django.core.cache import cache
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import got_request_exception, request_finished, request_started
from django.db import connections
from django.test import override_settings
from django.urls import re_path
from django_config import configure
from wsgi_plus.django import SuspendingWSGIHandler

__all__ = ["Exchange", "Threads", "ask", "environ", "fresh", "only", "signals", "threads"]

END = object()

urlpatterns: list[Any] = []

configure(__name__)


class Threads:
    """Threads by name, which live as long as this: what one leaves behind on itself the next to use it finds."""

    def __init__(self) -> None:
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def run(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """Calls the function in the thread; in the one that asks, if the name is ""."""
        if not name:
            return function(*args)
        if name not in self._pools:
            self._pools[name] = ThreadPoolExecutor(1, thread_name_prefix=f"byhand-{name}")
        return self._pools[name].submit(function, *args).result(BOUND)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.shutdown()


def environ(target: str = "/", method: str = "GET", body: bytes = b"", **more: Any) -> dict[str, Any]:
    """``more`` are the other keys; those of WSGI+ and of wsgi are in names with __ for the dot."""
    path, _, query = target.partition("?")
    made: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method, "SCRIPT_NAME": ""}
    made |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)), "wsgi_plus.version": (1, 0)}
    made |= {name.replace("__", "."): value for name, value in more.items()}
    setup_testing_defaults(made)
    return {name: value for name, value in made.items() if value is not None}


class Exchange:
    """A request and what has come of the response.  The steps are on the threads in turn (S9.1)."""

    def __init__(self, app: Any, asked: dict[str, Any], threads: Threads, names: str = "") -> None:
        self._app, self._environ, self._threads = app, asked, threads
        self._names = list(names) or [""]
        self._context = contextvars.Context()
        self._iterable: Any = None
        self._iterator: Any = None
        self.parked: Future[Any] | None = None
        self.steps = 0
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.blocks: list[bytes] = []

    @property
    def body(self) -> bytes:
        return b"".join(self.blocks)

    def header(self, name: str) -> str | None:
        found = [value for other, value in self.headers if other.lower() == name.lower()]
        assert len(found) <= 1
        return found[0] if found else None

    def on_thread(self, function: Callable[[], Any]) -> Any:
        """Calls it as the next step would be."""
        name = self._names[self.steps % len(self._names)]
        self.steps += 1
        return self._threads.run(name, self._context.run, function)

    def step(self) -> Exchange:
        """To the next future that is yielded, or to the end."""
        try:
            self.on_thread(self._step)
        except BaseException:
            self.close()
            raise
        if self.parked is None:
            self.close()
        return self

    def finish(self) -> Exchange:
        """To the end: waits for what is waited for."""
        self.step()
        while self.parked is not None:
            self.step()
        return self

    def close(self) -> None:
        """As when the client has left (S8.2), too."""
        if hasattr(self._iterable, "close"):
            self.on_thread(self._iterable.close)
            self._iterable = None

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        assert not self.blocks and (exc_info or not self.status)
        self.status, self.headers = int(status.split()[0]), headers
        return self.blocks.append

    def _step(self) -> None:
        if self._iterator is None:
            self._iterable = self._app(self._environ, self._start)
            self._iterator = iter(self._iterable)
        while True:
            item = self._advance()
            if item is END:
                return
            if isinstance(item, Future):
                self.parked = item
                return
            assert self.status and isinstance(item, bytes)
            self.blocks.append(item)

    def _advance(self) -> Any:
        parked, self.parked = self.parked, None
        try:
            error = None if parked is None else outcome(parked)
            if error is None:
                return next(self._iterator)
            if not hasattr(self._iterator, "throw"):
                raise error
            return self._iterator.throw(error)
        except StopIteration:
            return END
        finally:
            error = parked = None  # the traceback has this frame: no cycle with the exception


Ask = Callable[..., Exchange]


def only(view: Callable[..., Any]) -> override_settings:
    """A context in which every path leads to the view."""
    return override_settings(ROOT_URLCONF=type("URLs", (), {"urlpatterns": [re_path("", view)]}))


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads()
    yield made
    made.close()


@pytest.fixture
def fresh() -> None:
    """Nothing of other tests of this process is in the database or the cache, and this thread has no connection."""
    from django.contrib.auth.models import User  # these want Django set up
    from django.contrib.sessions.models import Session

    cache.clear()
    for model in (Session, User):
        model.objects.all().delete()
    connections.close_all()


@pytest.fixture
def ask(request: pytest.FixtureRequest, fresh: None, threads: Threads) -> Iterator[Ask]:
    """ask("/path", on="ab", ...): a request to the URLs of the test's module, which is not begun.

    ``on`` are the threads of its steps.  ``handler`` is a class, and ``settings`` is what is not as usual.
    """
    exchanges = []

    def make(
        target: str = "/",
        *,
        on: str = "",
        handler: type[WSGIHandler] = SuspendingWSGIHandler,
        settings: dict[str, Any] | None = None,
        **more: Any,
    ) -> Exchange:
        with override_settings(**(settings or {})):
            app = handler()
        exchanges.append(Exchange(app, environ(target, **more), threads, on))
        return exchanges[-1]

    with override_settings(ROOT_URLCONF=request.module.__name__):
        yield make
        for exchange in exchanges:
            exchange.close()


@pytest.fixture
def signals() -> Iterator[list[str]]:
    """The names of Django's signals for requests, as they come from its handlers."""
    heard: list[str] = []
    named = {"started": request_started, "finished": request_finished, "exception": got_request_exception}

    def hears(name: str) -> Callable[..., None]:
        def receiver(sender: Any, **_: Any) -> None:
            known = sender in (WSGIHandler, SuspendingWSGIHandler) if name != "exception" else sender is None
            heard.append(name if known else f"{name} of {sender}")

        return receiver

    receivers = {name: hears(name) for name in named}
    for name, signal in named.items():
        signal.connect(receivers[name])
    yield heard
    for name, signal in named.items():
        signal.disconnect(receivers[name])
