"""Fixtures of the system tests: these tests talk to real servers too, built with FLAVOR=faults.

The seed that chooses the faults is one for all workers, and is printed at the end with what was tried."""

import os
import random

import pytest
from harness.fixtures import *  # noqa: F403

os.environ.setdefault("FERMATA_INJECT_SEED", str(random.randrange(1_000_000)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "faults" and report.when == "call":
                    terminalreporter.write_line(f"{report.nodeid.partition('::')[2]}: {value}")
    terminalreporter.write_line(f"FERMATA_INJECT_SEED={os.environ['FERMATA_INJECT_SEED']}")
