"""What the test clients of frameworks share: a request with the environ that the framework has made."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from ._request import Request, abandoned

__all__ = ["begin"]


def begin(
    application: Callable[..., Any], environ: dict[str, Any], *, threads: bool, timeout: float
) -> Request:
    """A request to ``application``, run up to its first wait or its end, by the rules of a WSGI+ server.

    ``environ`` is a WSGI server's; version and log are added to a copy.  ``threads`` and ``timeout`` (seconds) are
    those of ``testing.Client``.  What the application raises is raised.  In the calling thread.
    """
    log = io.StringIO()
    environ = {**environ, "wsgi_plus.version": (1, 0), "wsgi.errors": log}
    query = f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else ""
    said = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{query}"
    request = Request(application, environ, said, log, raise_errors=True, threads=threads, timeout=timeout)
    with abandoned(request):
        return request.resume()
