"""S5: failed and cancelled futures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import stage


def not_looked_at(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[Any]:
    """The RFC's example: it never asks how the future ended."""
    key = stage.key_of(environ)
    stage.record(key, "parking")
    yield stage.future(key)
    stage.record(key, "went on")
    start_response("200 OK", stage.TEXT)
    yield b"fine"
