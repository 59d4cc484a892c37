"""How long a test may wait.  Every bound here is generous: it says "this must happen", not "this must be fast".

FERMATA_TEST_SLOW multiplies the bounds (a sanitized build on a loaded machine: 5), FERMATA_SANITIZED=1 makes the tests
that move gigabytes move less and not judge memory, which a sanitizer inflates.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[3]
APPS = ROOT / "tests" / "apps"

SLOW = max(1.0, float(os.environ.get("FERMATA_TEST_SLOW") or 1))
SANITIZED = os.environ.get("FERMATA_SANITIZED", "") not in ("", "0")

PROMPT = 5.0 * SLOW  # something that happens at once, on a loaded machine
LONG = 30.0 * SLOW  # something that takes work
QUIET = 0.3  # how long to watch that something does not happen


def fermata() -> Path:
    """The command under test: the binary, or the extension module's, as it is installed in an environment."""
    return (ROOT / (os.environ.get("FERMATA") or "build/fermata")).resolve()


def is_script(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        return file.read(2) == b"#!"


# The extension module runs in the Python of its environment; these tests then run in that environment as well.
EXTENSION = is_script(fermata())


TSAN = "tsan" in fermata().parts  # whose runtime has a thread of its own, and keeps signals back for a while


def timeout(seconds: float) -> pytest.MarkDecorator:
    """A test's own time limit instead of the default one."""
    return pytest.mark.timeout(seconds * SLOW)


def eventually(check: Callable[[], T], what: str, *, within: float = PROMPT, every: float = 0.02) -> T:
    """Calls check until it answers something true, and gives that; fails when it never does."""
    deadline = time.monotonic() + within
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what} (last seen: {value!r})")
        time.sleep(every)


def never(check: Callable[[], object], what: str, *, during: float = QUIET) -> None:
    """Watches for a while that check stays false."""
    deadline = time.monotonic() + during
    while time.monotonic() < deadline:
        value = check()
        assert not value, f"{what} ({value!r})"
        time.sleep(0.02)
