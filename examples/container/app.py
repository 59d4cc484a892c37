"""Says hello after a second, during which it holds no thread; see README.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wsgi_plus import sleep


def app(environ: dict[str, Any], start_response: Any) -> Iterator[Any]:
    yield from sleep(1)
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"one second later\n"
