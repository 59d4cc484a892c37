"""Fixtures of the tests of py/wsgi_plus.  They need no server: see byhand.py."""

from __future__ import annotations

import gc
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "apps"), str(HERE.parents[1] / "py")]


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Nothing may be logged, unless the test expects it and clears it: concurrent.futures logs what callbacks raise."""
    with caplog.at_level(logging.WARNING):
        yield caplog
    assert [record.getMessage() for record in caplog.get_records("call")] == []


@pytest.fixture(autouse=True)
def garbage_of_others(request: pytest.FixtureRequest) -> None:
    """Collects what tests before have left, where each warning is an error: theirs are not this test's.

    What is alive then is not looked at again, or each of a thousand tests would look at all of Django.
    """
    if any("error" in mark.args for mark in request.node.iter_markers("filterwarnings")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
        gc.freeze()
