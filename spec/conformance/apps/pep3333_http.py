"""PEP 3333: what of HTTP an application relies on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import stage


def two_blocks(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[bytes]:
    """No Content-Length, and no way to tell it."""
    start_response("200 OK", stage.TEXT)
    yield b"one "
    yield b"two"


def nothing(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    start_response("200 OK", stage.TEXT)
    return []


def no_content(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    start_response("204 No Content", [])
    return []


def sized(environ: stage.Environ, start_response: stage.StartResponse) -> Iterable[bytes]:
    """Says that the body has ten bytes, and gives them, or to HEAD perhaps none."""
    start_response("200 OK", [*stage.TEXT, ("Content-Length", "10")])
    return [] if stage.arguments(environ).get("blocks") == "none" else [b"01234", b"56789"]


class _Closing:
    def __init__(self, key: str) -> None:
        self._key = key
        self._blocks = iter([b"one ", b"two"])

    def __iter__(self) -> _Closing:
        return self

    def __next__(self) -> bytes:
        return next(self._blocks)

    def close(self) -> None:
        stage.record(self._key, "closed")


def closing(environ: stage.Environ, start_response: stage.StartResponse) -> Iterable[bytes]:
    asked = stage.arguments(environ)
    start_response(asked.get("status", "200 OK"), stage.TEXT if "status" not in asked else [])
    return _Closing(asked["key"])


def named(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Answers with its name; records that it was called; waits for a gate if it is to."""
    asked = stage.arguments(environ)
    stage.record(asked["key"], asked["name"])
    if "gate" in asked:
        stage.gate(asked["key"])
    return stage.text(start_response, asked["name"])


def echo(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    return stage.text(start_response, environ["wsgi.input"].read().decode("latin-1"))


def echo_sized(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Reads no more than Content-Length."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    return stage.text(start_response, body.decode("latin-1"))
