"""The proxy as plain WSGI has it: a thread, or a greenlet, waits for the upstream UPSTREAM=HOST:PORT.

Connections to the upstream are kept and used again by the next request, so there are as many as requests have ever
been in flight.
"""

import os
from collections.abc import Callable, Iterable
from http.client import HTTPConnection, HTTPException
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

idle: list[HTTPConnection] = []  # append and pop are atomic


def connection() -> HTTPConnection:
    try:
        return idle.pop()
    except IndexError:
        return HTTPConnection(os.environ["UPSTREAM"], timeout=60)


def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    upstream = connection()
    try:
        upstream.request("GET", environ["PATH_INFO"])
        response = upstream.getresponse()
        body = response.read()
    except (OSError, HTTPException) as error:
        upstream.close()
        start_response("502 Bad Gateway", [("Content-Type", "text/plain")])
        return [f"{error!r}\n".encode()]
    idle.append(upstream)
    content_type = response.headers.get("Content-Type", "text/plain")
    start_response(f"{response.status} Upstream", [("Content-Type", content_type), ("Content-Length", str(len(body)))])
    return [body]
