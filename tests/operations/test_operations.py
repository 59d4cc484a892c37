"""Clients of every kind run through each fault of operation (operations_faults.py), and lose nothing.

`make operations` tries each in a setting or a few; OPERATIONS=all each in all, and often (half an hour).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.limits import timeout
from operations_faults import FAULTS, Fault
from operations_site import SETTINGS, finish, start, why_not_bare

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
    site = start(launch, tmp_path, SETTINGS[setting], ALL, fault.access, fault.options)
    try:
        fault.act(site)
        site.server.expect = fault.expect
        record_property("operations", finish(site))
    finally:
        site.crowd.over.set()
        if site.pipe >= 0:
            os.close(site.pipe)
