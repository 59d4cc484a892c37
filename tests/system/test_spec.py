"""spec/wsgi-plus.md says what the tests check: its numbers are unique, and every one that a test names is there."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.limits import ROOT

SPEC = ROOT / "spec" / "wsgi-plus.md"
SCHEDULER = ROOT / "spec" / "internals" / "scheduler.md"
STATES = ROOT / "scripts" / "states"

REQUIREMENT = re.compile(r"^- \*\*(S\d+(?:\.\d+)?)\*\* ", re.M)
NUMBER = re.compile(r"\bS(\d+)(?:-S(\d+)\b|(\.\d+)\b|\b)")


def numbers(text: str) -> set[str]:
    """The S-numbers of a text; S2-S4 names S3 as well."""
    found = set()
    for first, last, part in NUMBER.findall(text):
        found |= {f"S{n}{part}" for n in range(int(first), int(last or first) + 1)}
    return found


def requirements() -> list[str]:
    return REQUIREMENT.findall(SPEC.read_text())


def defined() -> set[str]:
    """What may be referred to: each requirement, and the number it is a part of."""
    return {name for whole in requirements() for name in (whole, whole.partition(".")[0])}


def docstrings() -> Iterator[tuple[str, str]]:
    """(place, docstring) of the modules, classes and functions here."""
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{path.name}:{getattr(node, 'lineno', 1)}", ast.get_docstring(node) or ""


def states(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, STATES, *arguments], capture_output=True, text=True)


def test_numbers_are_unique() -> None:
    """No two requirements have the same number, and none is both whole and divided."""
    found = requirements()
    assert [name for name, count in Counter(found).items() if count > 1] == []
    divided = {name.partition(".")[0] for name in found if "." in name}
    assert divided & set(found) == set()


def test_numbers_are_in_order() -> None:
    """S1 to S20 are all there, and the parts of each count from 1."""
    parts: dict[int, list[int]] = {}
    for name in requirements():
        whole, _, part = name[1:].partition(".")
        parts.setdefault(int(whole), []).append(int(part or 1))
    assert list(parts) == list(range(1, 21))
    assert [whole for whole, found in parts.items() if found != list(range(1, len(found) + 1))] == []


def test_numbers_in_the_spec_exist() -> None:
    """What the document refers to is in the document."""
    assert numbers(SPEC.read_text()) - defined() == set()


def test_numbers_of_the_tests_exist() -> None:
    """Every S-number in a docstring of the system tests is in the document."""
    known = defined()
    assert {place: wrong for place, text in docstrings() if (wrong := numbers(text) - known)} == {}


def test_every_number_has_a_test() -> None:
    """Each of S1 to S20 is named by at least one test."""
    tested = {name.partition(".")[0] for _, text in docstrings() for name in numbers(text)}
    assert {name.partition(".")[0] for name in requirements()} - tested == set()


def test_every_requirement_is_one() -> None:
    """Each says MUST, SHOULD or MAY, and why."""
    text = SPEC.read_text()
    starts = [match.start() for match in REQUIREMENT.finditer(text)]
    for start, end in zip(starts, [*starts[1:], text.index("\n## ", starts[-1])]):
        body = text[start:end]
        assert re.search(r"\b(MUST|SHOULD|MAY)\b", body), body
        assert body.count("*Why:*") == 1, body


def test_lines_are_short() -> None:
    """At most 120 characters."""
    assert [line for line in SPEC.read_text().splitlines() if len(line) > 120] == []


def test_state_diagram_is_that_of_the_scheduler() -> None:
    """The diagram is what scripts/states makes of the table of transitions."""
    answer = states("--check", SCHEDULER)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(("old", "new"), [("PARKED --> QUEUED", "PARKED --> DONE"), ("    IDLE --> QUEUED", "")])
def test_state_diagram_that_differs(tmp_path: Path, old: str, new: str) -> None:
    """scripts/states --check exits 1 for another diagram and says where; --write puts it right."""
    copy = tmp_path / "scheduler.md"
    shutil.copy(SCHEDULER, copy)
    text = copy.read_text()
    assert old in text
    copy.write_text(text.replace(old, new))
    answer = states("--check", copy)
    assert answer.returncode == 1
    assert old.strip() in answer.stdout
    assert states("--write", copy).returncode == 0
    assert copy.read_text() == text
