"""What a case says about what it has seen.  Every wait has a bound."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = [
    "DEADLINE",
    "LONG",
    "PROMPT",
    "QUIET",
    "SLOW",
    "Failed",
    "NotSupported",
    "eventually",
    "holds",
    "never",
    "same",
]

T = TypeVar("T")

SLOW = max(1.0, float(os.environ.get("CONFORMANCE_SLOW") or 1))  # multiplies the bounds, on a slow machine
PROMPT = 3.0 * SLOW  # seconds: something that happens at once
LONG = 15.0 * SLOW  # something that takes work
DEADLINE = 0.5 * SLOW  # for servers that are to have one: what has to happen before it takes less
QUIET = 0.25  # how long to watch that something does not happen


class Failed(Exception):
    """The server does not do what the requirement asks for."""


class NotSupported(Exception):
    """The server has no such feature, or the suite was not told how to switch it on."""


def holds(condition: object, what: str) -> None:
    """Fails with ``what``, which says how it should be, unless the condition is true."""
    if not condition:
        raise Failed(what)


def same(found: T, wanted: T, what: str) -> None:
    """Fails, saying both, unless they are equal."""
    if found != wanted:
        raise Failed(f"{what}: {_short(wanted)} was to be expected, and not {_short(found)}")


def eventually(check: Callable[[], T], what: str, *, within: float = PROMPT) -> T:
    """Calls ``check`` until it gives something true, which it returns; fails when it never does."""
    deadline = time.monotonic() + within
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {within:g} s")
        time.sleep(0.005)


def never(check: Callable[[], object], what: str, *, during: float = QUIET) -> None:
    """Fails with ``what`` if ``check`` gives something true within the time."""
    deadline = time.monotonic() + during
    while time.monotonic() < deadline:
        value = check()
        if value:
            raise Failed(f"{what}: {_short(value)}")
        time.sleep(0.02)


def _short(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 300 else f"{said[:200]} ... {said[-80:]}"
