"""The client of a test: makes requests, and is the server that the application meets."""

from __future__ import annotations

import io
import json as jsons
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypedDict

from .._types import Application
from .._validator import validator
from ._environ import Headers, build_environ, pairs
from ._request import MisuseError, Request, abandoned

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["Client", "RequestOptions"]


class RequestOptions(TypedDict, total=False):
    """What every method of a ``Client`` that makes a request takes by name: see ``Client.request``."""

    headers: Headers
    body: bytes | str
    json: Any
    environ: Mapping[str, Any]
    begin: bool


class Client:
    """Makes requests to an application, and is the server that they meet.

    ``validate``: puts a ``validator`` around the application, which raises at whatever breaks a rule.
    ``raise_errors``: what the application raises is raised by the method that has made it go on, once the request is
    closed; otherwise it is in ``Request.error`` only, and the response is a 500 or broken off, as a client sees it.
    ``threads``: each step runs in a thread of its own (S9.1), so a step that blocks is an error after ``timeout``
    seconds, and what relies on thread-locals is found out (S9.3).  With False steps run in the thread of the test, for
    code that is bound to it, such as a database transaction around the test; then nothing bounds a step.
    ``headers`` are sent with every request, and ``environ`` goes into every environ.

    Each request has a ``contextvars.Context`` of its own, which is empty at first (S9.4, S9.5).

    As a context manager it disconnects, at the end, what is not over.  May be used by several threads.
    """

    def __init__(
        self,
        app: Application,
        *,
        headers: Headers = (),
        environ: Mapping[str, Any] | None = None,
        validate: bool = True,
        raise_errors: bool = True,
        threads: bool = True,
        timeout: float = 5.0,
    ) -> None:
        self._app = validator(app) if validate else app
        self._headers = list(pairs(headers))
        self._environ = dict(environ or {})
        self._raise_errors = raise_errors
        self._threads = threads
        self._timeout = timeout
        self._made: list[Request] | None = None  # within a with block

    def __enter__(self) -> Self:
        self._made = []
        return self

    def __exit__(self, *_: object) -> None:
        made, self._made = self._made or [], None
        with ExitStack() as stack:
            for request in made:
                stack.enter_context(request)

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Headers = (),
        body: bytes | str = b"",
        json: Any = None,
        environ: Mapping[str, Any] | None = None,
        begin: bool = True,
    ) -> Request:
        """Begins a request: runs the first step, up to the first future that is not done, or the end.

        ``path`` is as in a request line, query string included.  Text is sent as UTF-8; ``json`` is sent as such, with
        its Content-Type.  ``environ`` is added to the request's.  With ``begin=False`` nothing runs yet: go on with
        ``step`` or ``resume``.  Raises MisuseError if the path does not begin with "/", and as ``resume`` does.
        """
        if not path.startswith("/"):
            raise MisuseError(f"the path {path!r} does not begin with '/'")
        sent = [*self._headers, *pairs(headers)]
        if json is not None:
            body = jsons.dumps(json)
            sent.append(("Content-Type", "application/json"))
        data = body.encode() if isinstance(body, str) else body
        log = io.StringIO()
        made = build_environ(method, path, sent, data, log, {**self._environ, **(environ or {})})
        request = Request(
            self._app,
            made,
            f"{method} {path}",
            log,
            raise_errors=self._raise_errors,
            threads=self._threads,
            timeout=self._timeout,
        )
        if self._made is not None:
            self._made.append(request)
        if begin:
            with abandoned(request):
                request.resume()
        return request

    def get(self, path: str, **options: Unpack[RequestOptions]) -> Request:
        """``request("GET", path, ...)``"""
        return self.request("GET", path, **options)

    def head(self, path: str, **options: Unpack[RequestOptions]) -> Request:
        """``request("HEAD", path, ...)``"""
        return self.request("HEAD", path, **options)

    def post(self, path: str, **options: Unpack[RequestOptions]) -> Request:
        """``request("POST", path, ...)``"""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Unpack[RequestOptions]) -> Request:
        """``request("PUT", path, ...)``"""
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Unpack[RequestOptions]) -> Request:
        """``request("PATCH", path, ...)``"""
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Unpack[RequestOptions]) -> Request:
        """``request("DELETE", path, ...)``"""
        return self.request("DELETE", path, **options)

    def fetch(
        self, path: str, *, method: str = "GET", timeout: float | None = None, **options: Unpack[RequestOptions]
    ) -> Request:
        """A request from its beginning to its end: ``request(method, path, ...).run(timeout=timeout)``."""
        request = self.request(method, path, **options)
        with abandoned(request):
            return request.run(timeout=timeout)
