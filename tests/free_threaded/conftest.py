"""Fixtures of the tests without a GIL, which talk to real servers too."""

from __future__ import annotations

import pytest
from harness.fixtures import *  # noqa: F403
from harness.server import run


@pytest.fixture(scope="session", autouse=True)
def free_threaded() -> None:
    """FERMATA is built with a free-threaded CPython: `make free-threaded` sees to it."""
    version = run("--version").stdout
    if "t)" not in version:
        pytest.skip(f"not run: no free-threaded Python, but {version.strip()}")
