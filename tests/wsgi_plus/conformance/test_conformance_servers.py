"""The servers of this project pass the conformance suite; others that break a SHOULD break no MUST."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conformance.launcher import Settings
from conformance.registry import Case, all_cases
from conformance.report import document
from conformance.runner import PASS, SKIP, Result
from conformance.servers import KNOWN
from conformance_parts import EXCEPT, HERE, MAY_FAIL, outcome
from harness.limits import ROOT, fermata, timeout

# Servers that break what their requirement says with SHOULD, and no MUST: what is looked at, and what fails of it.
WEAKLY_WRONG = {
    "S8.5": ("S8.6", {"end-of-data-and-then-parked"}),
    "S8.7": ("S8.7", {"little-is-read-of-a-parked-connection"}),
    "S12.4-silent": ("S12.4", {"report-of-a-step-beyond-its-deadline"}),
    "S14.2-memory": ("S14.2", {"large-bodies-out-of-memory"}),
    "S6.6-parked": ("S6.6", {"nothing-for-others-while-parked", "not-from-other-threads"}),
}


@pytest.mark.parametrize("name", WEAKLY_WRONG)
@timeout(180)
def test_a_server_without_a_should_breaks_no_must(conformance: Callable[..., Any], tmp_path: Path, name: str) -> None:
    only, failing = WEAKLY_WRONG[name]
    server = f"{sys.executable} -m conformance.faults --fault {name} --bind {{host}}:{{port}} {{options}} {{app}}"
    known = KNOWN["simple_server"].options
    options = [f"--{key.replace('_', '-')}={value}" for key, value in known.items()]
    paths = ["--path", str(ROOT / "spec"), "--path", str(ROOT / "py")]
    said = tmp_path / "said.json"
    code, out, _ = conformance("--server", server, *options, *paths, "--only", only, "--json", str(said))
    found = {case["name"]: case["result"] for case in json.loads(said.read_text())["cases"]}
    assert {case for case, result in found.items() if result != PASS} == failing, out
    assert code == 0, out


def test_verdict_counts_what_could_be_tried() -> None:
    found = [Result("one", ("S1.1",), PASS), Result("two", ("S1.1",), SKIP, "needs --more")]
    assert document(found, server="", version="")["requirements"]["S1.1"] == {"level": "MUST", "result": PASS}


# The servers of this project

PARTS = [*(f"S{number}" for number in range(1, 21)), *sorted({path.stem for path in (HERE / "cases").glob("pep*.py")})]


def part_of(found: Case) -> str:
    """Cases are tried by the module that they are in."""
    module = found.run.__module__.rpartition(".")[2]
    return f"S{int(module[1:])}" if module.startswith("s") else module


def test_all_cases_are_in_parts() -> None:
    assert {part_of(found) for found in all_cases()} <= set(PARTS)


def settings_of(name: str) -> Settings:
    if name == "fermata":
        known = KNOWN[name]
        return replace(known, server=known.server.replace(str(ROOT / "build" / "fermata"), str(fermata()))).settings()
    if name == "gunicorn_worker":  # with the gunicorn of the tests
        known = KNOWN[name]
        gunicorn = f"{sys.executable} -m gunicorn"
        return replace(known, server=re.sub(r"^\S+", gunicorn, known.server)).settings()
    return KNOWN[name].settings()


# All of them on Fermata; of the others, which are slower to start, one in three, or with `make faults` all.
EVERY = 1 if os.environ.get("FERMATA_FAULTS") == "all" else 3


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(("fermata", part) for part in PARTS),
        *(("simple_server", part) for part in PARTS[::EVERY]),
        *(("gunicorn_worker", part) for part in PARTS[EVERY - 1 :: EVERY]),
    ],
)
@timeout(180)
def test_our_servers_pass(name: str, part: str) -> None:
    """Every case passes, none is skipped, but for those that are listed."""
    cases = [found for found in all_cases() if part_of(found) == part]
    assert cases, "there are no cases"
    found = outcome(settings_of(name), *cases)
    either = MAY_FAIL.get(name, {})
    wrong = {case_name: said for case_name, said in found.items() if said[0] != PASS and case_name not in either}
    assert {case_name: said for case_name, said in wrong.items() if case_name not in EXCEPT[name]} == {}
    expected = EXCEPT[name].keys() & found.keys()
    assert wrong.keys() == expected, "what is listed as an exception passes"
