"""The environ of a request to simple_server: what PEP 3333 asks for, and what CGI does."""

from __future__ import annotations

import os
import sys
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper

from .._types import Environ
from ._http import SOFTWARE, Body, Head

__all__ = ["build_environ"]


def build_environ(
    head: Head,
    body: Body[bytes],
    address: tuple[str, int],
    peer: tuple[Any, ...],
    *,
    multithread: bool,
    version: tuple[int, int],
) -> Environ:
    """``address`` is where the server is, ``peer`` the client's, ``version`` that of WSGI+ (S16.1)."""
    client, client_port = peer[:2] or ("", "")  # a Unix socket's has no name
    environ: Environ = {
        "REQUEST_METHOD": head.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(head.path.encode("latin-1")).decode("latin-1"),
        "QUERY_STRING": head.query,
        "REQUEST_URI": head.target,
        "SERVER_NAME": address[0],
        "SERVER_PORT": str(address[1]),
        "SERVER_PROTOCOL": head.version,
        "SERVER_SOFTWARE": SOFTWARE,
        "REMOTE_ADDR": client,
        "REMOTE_PORT": str(client_port),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": body,  # whole, so it never waits (S14.1), and there until the end (S14.3)
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi_plus.version": version,
    }
    for name, values in head.fields.items():
        if "_" not in name and name != "transfer-encoding":  # X_Y would pass for X-Y; the body is not chunked here
            key = name.upper().replace("-", "_")
            key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
            environ[key] = ("; " if name == "cookie" else ", ").join(values)
    if head.length is None:
        environ["CONTENT_LENGTH"] = str(body.seek(0, os.SEEK_END))
        body.seek(0)
    return environ
