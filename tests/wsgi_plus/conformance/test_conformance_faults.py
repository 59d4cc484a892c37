"""The conformance suite can fail: for each rule there is something that breaks it, and a case of that rule that says so.

Servers are the reference server with one fault; for what binds middleware (S15) and the helper for plain servers (S17)
there are wrong ones of these.

All of them take minutes: `make faults` tries each, and everything else, CI among it, one in twenty-four (FERMATA_FAULTS=all).
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import pytest
import wrong_helper
import wrong_middleware
from conformance import faults, servers
from conformance.registry import all_cases, requirements
from conformance.runner import FAIL, run
from harness.limits import ROOT

FAULTS = sorted(faults.load())
REFERENCE = servers.KNOWN["simple_server"].settings()
PATHS = (*REFERENCE.paths, str(ROOT / "spec"), str(ROOT / "spec" / "conformance"))

# Rules that no server can break, as they say what an application or a server may do, or bind the application alone.
UNBREAKABLE = {
    "S5.10": "what an application SHOULD do",
    "S9.3": "what an application MUST NOT rely on",
    "S15.9": "what a validator SHOULD do: test_validator_middleware.py breaks it",
    "S17.3": "what a helper MAY do",
}


EVERY = 1 if os.environ.get("FERMATA_FAULTS") == "all" else 24


def outcome(settings, number):
    """What the cases of a requirement say, up to the first that fails."""
    cases = [case for case in all_cases() if number in case.requirements]
    assert cases, f"no case for {number}"
    return {result.name: result for result in run(replace(settings, paths=PATHS), cases, until=FAIL)}


@pytest.mark.parametrize("name", FAULTS[::EVERY])
def test_fault_is_found(name):
    command = f"{sys.executable} -m conformance.faults --fault {name} --bind {{host}}:{{port}} {{options}} {{app}}"
    results = outcome(replace(REFERENCE, server=command), name.partition("-")[0])
    assert FAIL in {result.result for result in results.values()}, results
    assert not any(result.detail.startswith("the case itself") for result in results.values()), results


@pytest.mark.parametrize("name", sorted(wrong_middleware.WRONG)[::EVERY])
def test_wrong_middleware_is_found(name):
    number, _ = wrong_middleware.WRONG[name]
    results = outcome(replace(REFERENCE, middleware=f"wrong_middleware:{name}"), number)
    assert FAIL in {result.result for result in results.values()}, results


@pytest.mark.parametrize("name", sorted(wrong_helper.WRONG)[::EVERY])
def test_wrong_helper_is_found(name):
    number, _ = wrong_helper.WRONG[name]
    results = outcome(replace(REFERENCE, helper=f"wrong_helper:{name}"), number)
    assert FAIL in {result.result for result in results.values()}, results


def test_every_rule_has_a_fault():
    broken = {name.partition("-")[0] for name in FAULTS}
    broken |= {number for wrong in (wrong_middleware.WRONG, wrong_helper.WRONG) for number, _ in wrong.values()}
    assert [req.number for req in requirements() if req.number not in broken | set(UNBREAKABLE)] == []
    assert set(UNBREAKABLE) & broken == set()
