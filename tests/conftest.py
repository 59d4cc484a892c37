"""The order of all tests here is shuffled, so that none comes to depend on another.

FERMATA_TEST_SEED=N chooses the order, which otherwise is another one in each run; the seed is printed at the start, and
with each failure. Modules change places, and so do the tests of a module, but modules are not mixed: tests of a module
share servers. How two tests stand to each other depends on the seed and their names alone, not on which others are run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

VARIABLE = "FERMATA_TEST_SEED"
SHOWN = 5  # of the tests that ran before the one that failed

# The workers of xdist get it with the environment: they have to agree on the order.
SEED = os.environ.setdefault(VARIABLE, str(random.randrange(1_000_000)))

_ran: list[str] = []  # by this process


def _place(name: str) -> float:
    return random.Random(f"{SEED} {name}").random()


@pytest.hookimpl(tryfirst=True)  # pytest itself then puts together what shares a parameter of a module
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (_place(item.nodeid.partition("::")[0]), _place(item.nodeid)))


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and not hasattr(session.config, "workerinput"):
        reporter.write_line(f"order of the tests: {VARIABLE}={SEED}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:
        before = [name for name in _ran if name != item.nodeid]
        text = f"{VARIABLE}={SEED}; before it this process ran {len(before)} tests"
        last = before[-SHOWN:]
        report.sections.append(("order of the tests", "\n".join([f"{text}{', at last:' if last else ''}", *last])))
    if call.when == "setup":
        _ran.append(item.nodeid)
    return report
