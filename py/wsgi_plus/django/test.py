"""Django's test client, with the rules of a WSGI+ server: what fails there fails in the test.

    from django.test import TestCase
    from wsgi_plus.django.test import Client

    class Tests(TestCase):
        client_class = Client

        def test_page(self):
            response = self.client.get("/page")     # as Django's: waits for the view's futures
            self.assertContains(response, "hot")

Requests go through the handler that ``get_wsgi_application`` gives, step by step.  In Django's own client a view that
waits just holds the thread, so waiting in ``atomic()``, or decorators in the wrong order, are not found out.

A request can be driven as in ``wsgi_plus.testing``: see what it waits for, complete that by hand, leave.

    request = client.begin("get", "/page")          # up to the first future that is not done
    assert request.parked is upstream.asked
    request.complete("hot")                         # or request.fail(OSError()), request.disconnect()
    response = client.finish(request)               # what get() returns

Steps run in the thread of the test, in a context of their own, so that a view sees what a TestCase has in its
transaction; that is not taken for a transaction of the view.  Calls that are given to ``offload`` have connections of
their own, and do not see it: such a test needs a TransactionTestCase.

With pytest, ``pytest_plugins = ["wsgi_plus.django.fixtures"]`` in the uppermost conftest.py has a fixture
``suspending_client``; with pytest-django, a test that uses the database needs its mark ``django_db``, as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from django import test
from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import got_request_exception, request_finished, request_started
from django.db import close_old_connections
from django.dispatch import Signal
from django.http.response import HttpResponseBase
from django.test.client import conditional_content_removal

from .. import testing
from ..testing._framework import begin
from ..testing._request import abandoned
from ._handler import SuspendingWSGIHandler
from ._rest import ResponseToCome

__all__ = ["Client"]

SEEN = "wsgi_plus.django.test"


class Client(test.Client):
    """As Django's, for views that wait.

    ``threads``: each step runs in a thread of its own (S9.1), which finds out what relies on thread-locals, and ends a
    step that blocks with TimeoutError after ``timeout`` seconds.  Such a view does not see what a TestCase has in its
    transaction, so that is for a TransactionTestCase.  ``timeout`` is the longest time that ``get`` and the like wait,
    too.  Everything else is Django's.
    """

    def __init__(
        self,
        enforce_csrf_checks: bool = False,
        raise_request_exception: bool = True,
        *,
        threads: bool = False,
        timeout: float = 5.0,
        **defaults: Any,
    ) -> None:
        super().__init__(enforce_csrf_checks, raise_request_exception, **defaults)
        self.handler: Any = _Handler(enforce_csrf_checks, threads, timeout)
        self._beginning = False

    def begin(self, method: str, path: str, *args: Any, **kwargs: Any) -> testing.Request:
        """Begins a request, up to the first future that is not done, or the end.

        ``begin("post", ...)`` takes what ``post(...)`` does, but for ``follow``.  What the view raises is not raised
        here: it is a response, with the status 500.
        """
        if kwargs.get("follow"):
            raise testing.MisuseError("a redirection can be followed when there is a response: not with begin()")
        self._beginning = True
        try:
            request: Any = getattr(self, method.lower())(path, *args, **kwargs)
        finally:
            self._beginning = False
        begun: testing.Request = request
        return begun

    def finish(self, request: testing.Request, *, timeout: float | None = None) -> Any:
        """Goes on with a request that ``begin`` has given, to its end, and gives the response.

        It has all that Django's client puts on one, but ``templates`` and ``context``.  Raises what the view has
        raised, if ``raise_request_exception`` is set, TimeoutError as ``wsgi_plus.testing.Request.run``, and
        MisuseError if the request was ended without a response.
        """
        response = self.handler.finish(request, timeout, self.raise_request_exception)
        response.client, response.request = self, request.environ[SEEN].asked
        response.templates, response.context = [], None
        response.json = partial(self._parse_json, response)  # type: ignore[attr-defined]
        response.resolver_match = response.wsgi_request.resolver_match
        self.cookies.update(response.cookies)
        return response

    def request(self, **request: Any) -> Any:
        """As Django's: each of ``get``, ``post`` and so on ends here."""
        if self._beginning:
            return self.handler.begin(self._base_environ(**request), request)  # type: ignore[attr-defined]
        return super().request(**request)


class _Seen:
    """What is to be known of a request in the end, and is not in what the server gets."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked = asked
        self.request: Any = None
        self.response: Any = None
        self.error: BaseException | None = None


class _Handler:
    """In the place of Django's ClientHandler: is called with an environ, and gives a response."""

    def __init__(self, enforce_csrf_checks: bool, threads: bool, timeout: float) -> None:
        self._enforce_csrf_checks = enforce_csrf_checks
        self._threads = threads
        self._timeout = timeout
        self._application: _Application | None = None

    def __call__(self, environ: dict[str, Any]) -> Any:
        request = self.begin(environ, {})
        with abandoned(request):
            return self.finish(request, None, raises=False)  # the client itself looks for what is raised

    def begin(self, environ: dict[str, Any], asked: dict[str, Any]) -> testing.Request:
        if self._application is None:
            self._application = _Application()  # not before, as settings may be overridden in the test
            self._application.keeps = not self._threads
            self._application.request_class = _Trusted if not self._enforce_csrf_checks else WSGIRequest
        return begin(self._application, {**environ, SEEN: _Seen(asked)}, threads=self._threads, timeout=self._timeout)

    def finish(self, request: testing.Request, timeout: float | None, raises: bool) -> Any:
        request.run(timeout=timeout)
        seen: _Seen = request.environ[SEEN]
        if seen.error is not None and raises:
            raise seen.error
        response = seen.response
        if response is None:
            raise testing.MisuseError(f"{request!r} has no response")
        response.wsgi_request = seen.request
        if response.streaming:
            response.streaming_content = request.blocks  # its own have been sent
        return conditional_content_removal(seen.request, response)


class _Trusted(WSGIRequest):
    """Without a CSRF token, as in Django's client."""

    _dont_enforce_csrf_checks = True


class _Application(SuspendingWSGIHandler):
    """The application, which notes the request and the response."""

    keeps = False
    """Whether connections are left open when a request begins and ends, as Django's client does it."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if not self.keeps:
            return super().__call__(environ, start_response)
        with _keeping(request_started):
            return _Kept(super().__call__(environ, start_response))

    def get_response(self, request: Any) -> HttpResponseBase:
        seen: _Seen = request.META[SEEN]
        seen.request = request
        response = super().get_response(request)
        seen.response = response.there if isinstance(response, ResponseToCome) else response
        return response

    def _begin(self, environ: Any, start_response: Any, request: Any, response: Any) -> Any:
        environ[SEEN].response = response
        return super()._begin(environ, start_response, request, response)


class _Kept:
    """What a server gets, and closes in the end."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def __iter__(self) -> Iterator[Any]:
        return iter(self._result)

    def close(self) -> None:
        with _keeping(request_finished):
            self._result.close()


@contextmanager
def _keeping(signal: Signal) -> Generator[None, None, None]:
    """Within it, connections are not closed at the signal."""
    # To django-stubs a receiver is a bare Callable, and what that gives is unknown.
    signal.disconnect(close_old_connections)  # pyright: ignore[reportUnknownMemberType]
    try:
        yield
    finally:
        signal.connect(close_old_connections)  # pyright: ignore[reportUnknownMemberType]


def _note(sender: Any, request: Any = None, **_: Any) -> None:
    seen = request.META.get(SEEN) if request is not None else None
    if seen is not None:
        seen.error = sys.exc_info()[1]


got_request_exception.connect(_note)  # pyright: ignore[reportUnknownMemberType]
