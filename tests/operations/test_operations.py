"""Clients of every kind run through each fault of operation (operations_faults.py), and lose nothing.

`make operations` tries each in a setting or a few; OPERATIONS=all each in all, and often (half an hour).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import operations_faults  # noqa: F401  (rows of the table)
import operations_scarcity  # noqa: F401
import operations_upgrades  # noqa: F401
import pytest
from harness.limits import timeout
from operations_cgroups import Cgroup, cgroup, why_not
from operations_site import SETTINGS, finish, start, why_not_bare
from operations_table import FAULTS, Fault

ALL = os.environ.get("FERMATA_OPERATIONS") == "all"

pytestmark = [timeout(600 if ALL else 120)]


def cases() -> Iterator[object]:
    for fault in FAULTS:
        for name in fault.settings if ALL else fault.quick:
            yield pytest.param(fault, name, id=f"{fault.name}-{name}")


@pytest.mark.parametrize(("fault", "setting"), list(cases()))
def test_nothing_is_lost(launch, tmp_path: Path, fault: Fault, setting: str, record_property) -> None:
    if SETTINGS[setting].bare and (why := why_not_bare(tmp_path)):
        pytest.skip(why)
    if fault.needs.limits and (why := why_not(fault.needs.limits)):
        pytest.skip(why)
    with cgroup(fault.needs.limits) if fault.needs.limits else contextlib.nullcontext() as group:
        try_it(launch, tmp_path, fault, setting, record_property, group)


def try_it(launch, home: Path, fault: Fault, setting: str, record_property, group: Cgroup | None) -> None:
    site = start(launch, home, SETTINGS[setting], ALL, fault.needs, group)
    try:
        fault.act(site)
        site.server.expect = fault.expect
        record_property("operations", finish(site))
    finally:
        site.crowd.over.set()
        if site.pipe >= 0:
            os.close(site.pipe)
