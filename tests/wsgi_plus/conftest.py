"""Fixtures of the tests of py/wsgi_plus.  They need no server: see byhand.py."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "py"))


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Nothing may be logged, unless the test expects it and clears it: concurrent.futures logs what callbacks raise."""
    with caplog.at_level(logging.WARNING):
        yield caplog
    assert [record.getMessage() for record in caplog.get_records("call")] == []
