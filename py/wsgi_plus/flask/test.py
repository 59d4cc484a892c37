"""Flask's test client, with the rules of a WSGI+ server: what fails there fails in the test.

    from wsgi_plus.flask.test import Client

    client = Client(app)                            # or app.test_client_class = Client, and app.test_client()

    def test_page():
        response = client.get("/page")              # as Flask's: waits for the view's futures
        assert response.text == "hot"

Requests go through the application step by step, as a server that can suspend them has it.  In Flask's own client a
view that waits just holds the thread, so decorators in the wrong order are not found out.

A request can be driven as in ``wsgi_plus.testing``: see what it waits for, complete that by hand, leave.

    request = client.begin("GET", "/page")          # up to the first future that is not done
    assert isinstance(request.parked, Future)       # done when the view's future is (S5.10)
    asked.set_result("hot")                         # or request.complete("hot"), request.disconnect()
    response = client.finish(request)               # what get() returns

With pytest, ``pytest_plugins = ["wsgi_plus.flask.fixtures"]`` in the uppermost conftest.py has a fixture
``suspending_client``, of the application that a fixture ``app`` of yours gives.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from flask.app import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers
from werkzeug.wrappers import Request as BaseRequest
from werkzeug.wsgi import get_current_url

from .. import testing
from ..testing._framework import begin
from ..testing._request import abandoned

__all__ = ["Client"]


class Client(FlaskClient):
    """As Flask's, for views that wait.

    ``threads``: each step runs in a thread of its own (S9.1), which finds out what relies on thread-locals, and ends a
    step that blocks with TimeoutError after ``timeout`` seconds.  Otherwise they run in the thread of the test.
    ``timeout`` is the longest time that ``get`` and the like wait, too.  Everything else is Flask's.
    """

    def __init__(
        self, application: Flask, *args: Any, threads: bool = False, timeout: float = 5.0, **kwargs: Any
    ) -> None:
        if not args:
            kwargs.setdefault("response_wrapper", application.response_class)
        super().__init__(application, *args, **kwargs)
        self._threads = threads
        self._timeout = timeout

    def begin(self, method: str, path: str, **kwargs: Any) -> testing.Request:
        """Begins a request, up to the first future that is not done, or the end.

        ``kwargs`` are those of ``open``, but for ``buffered`` and ``follow_redirects``.  Raises what the application
        does, as a server would get it.
        """
        return self._begin(self._request_from_builder_args((path,), {"method": method, **kwargs}).environ)

    def finish(self, request: testing.Request, *, timeout: float | None = None) -> Any:
        """Goes on with a request that ``begin`` has given, to its end, and gives the response.

        Raises TimeoutError as ``wsgi_plus.testing.Request.run``, and MisuseError if the request was ended without a
        response.
        """
        return self.response_wrapper(*self._end(request, timeout), request=BaseRequest(request.environ))

    def run_wsgi_app(self, environ: dict[str, Any], buffered: bool = False) -> tuple[Iterable[bytes], str, Headers]:
        """Called by ``open``, which each of ``get``, ``post`` and so on ends in."""
        request = self._begin(environ)
        with abandoned(request):
            return self._end(request, None)

    def _begin(self, environ: dict[str, Any]) -> testing.Request:
        self._add_cookies_to_wsgi(environ)
        return begin(self.application, environ, threads=self._threads, timeout=self._timeout)

    def _end(self, request: testing.Request, timeout: float | None) -> tuple[Iterable[bytes], str, Headers]:
        request.run(timeout=timeout)
        if request.status is None:
            raise testing.MisuseError(f"{request!r} has no response")
        headers = Headers(request.headers.items())
        url = urlsplit(get_current_url(request.environ))
        self._update_cookies_from_response(url.hostname or "localhost", url.path, headers.getlist("Set-Cookie"))
        return iter(request.blocks), request.status, headers
