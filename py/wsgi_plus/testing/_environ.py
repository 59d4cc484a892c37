"""The environ of a request that comes from no socket (PEP 3333, S14, S16)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from .._types import Environ

__all__ = ["Headers", "build_environ", "pairs"]

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


def build_environ(
    method: str, path: str, headers: Headers, body: bytes, errors: io.StringIO, extra: Mapping[str, Any]
) -> Environ:
    """``path`` with the query string, as it stands in a request line; ``extra`` comes last.

    Header fields of the same name are joined with a comma, cookies with a semicolon.
    """
    target, _, query = path.partition("?")
    environ: Environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(target).decode("latin-1"),
        "QUERY_STRING": query.encode().decode("latin-1"),
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "testserver",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": errors,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi_plus.version": (1, 0),
    }
    if body or method in ("POST", "PUT", "PATCH"):
        environ["CONTENT_LENGTH"] = str(len(body))
    said: dict[str, str] = {}
    for name, value in pairs(headers):
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        said[key] = f"{said[key]}{_JOIN.get(key, ',')}{value}" if key in said else value
    return {**environ, **said, **extra}


_JOIN = {"HTTP_COOKIE": "; "}


def pairs(headers: Headers) -> Iterable[tuple[str, str]]:
    if isinstance(headers, Mapping):
        return cast(Mapping[str, str], headers).items()
    return headers
