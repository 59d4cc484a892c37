"""PEP 3333: applications that fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import stage


def in_the_call(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    raise ValueError(f"{stage.key_of(environ)} failed on purpose")


def when_started(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Has called start_response, which is no success yet."""
    start_response("200 OK", stage.TEXT)
    raise ValueError(f"{stage.key_of(environ)} failed on purpose")


def in_the_first_iteration(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[bytes]:
    start_response("200 OK", stage.TEXT)
    if environ["REQUEST_METHOD"]:
        raise ValueError(f"{stage.key_of(environ)} failed on purpose")
    yield b"never"


def after_an_empty_block(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[bytes]:
    start_response("200 OK", stage.TEXT)
    yield b""
    raise ValueError(f"{stage.key_of(environ)} failed on purpose")


def in_the_body(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[bytes]:
    """Fails after a block, with a Content-Length if ``length`` is given."""
    asked = stage.arguments(environ)
    start_response("200 OK", [*stage.TEXT, ("Content-Length", asked["length"])] if "length" in asked else stage.TEXT)
    yield b"sent before"
    raise ValueError(f"{asked['key']} failed on purpose")


def never_started(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    return [b"block"] if "block" in stage.arguments(environ) else []


def never_started_later(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[bytes]:
    yield b"block"


def no_iterable(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    start_response("200 OK", stage.TEXT)
    return None
