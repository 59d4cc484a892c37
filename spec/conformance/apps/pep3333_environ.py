"""PEP 3333: environ."""

from __future__ import annotations

import json

import stage


def facts(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """What environ is, and each value with its type: text as it is, anything else as its repr."""
    values = {
        key: [type(value).__name__, value if type(value) is str else repr(value)] for key, value in environ.items()
    }
    return stage.text(start_response, json.dumps({"type": type(environ).__name__, "values": values}))


def used_up(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Makes of environ what it likes, before the response begins."""
    environ.clear()
    environ["REQUEST_METHOD"] = "HEAD"
    environ["SERVER_PROTOCOL"] = "HTTP/0.9"
    environ["conformance.mine"] = "changed"
    start_response("200 OK", stage.TEXT)
    return [b"used ", b"up"]


def pretends(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Changes what environ says of the request to what it is told, if it is told, and answers with a body."""
    told = stage.arguments(environ)
    environ["REQUEST_METHOD"] = told.get("method", environ["REQUEST_METHOD"])
    environ["SERVER_PROTOCOL"] = told.get("protocol", environ["SERVER_PROTOCOL"])
    if "park" in told:
        stage.record(told["key"], "parking")
        yield stage.future(told["key"])
    start_response("200 OK", stage.TEXT)
    yield b"as "
    yield b"ever"


def held(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Is in the application until the gate opens."""
    key = stage.key_of(environ)
    stage.record(key, "entered", bool(environ["wsgi.multithread"]))
    stage.gate(key)
    return stage.text(start_response, "held")


def flags(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    return stage.text(start_response, json.dumps({k: bool(v) for k, v in environ.items() if k in _FLAGS}))


_FLAGS = ("wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once")
