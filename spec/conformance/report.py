"""What a run has shown, by requirement: as a table, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from .registry import Requirement, requirements
from .runner import FAIL, PASS, SKIP, Result

__all__ = ["by_requirement", "document", "summary", "table"]


def by_requirement(results: Iterable[Result]) -> dict[Requirement, list[Result]]:
    """The results that bear on each requirement which any of them bears on."""
    results = list(results)
    found = {req: [result for result in results if req.number in result.requirements] for req in requirements()}
    return {req: those for req, those in found.items() if those}


def verdict(results: Iterable[Result]) -> str:
    """One that fails fails all; what cannot be tried does not count where anything else can."""
    seen = {result.result for result in results}
    return FAIL if FAIL in seen else PASS if PASS in seen else SKIP


def summary(results: Iterable[Result]) -> dict[str, dict[str, int]]:
    """How many requirements of the specification, and of PEP 3333, pass, fail and are not supported."""
    counts = {"WSGI+": Counter[str](), "PEP 3333": Counter[str]()}
    for requirement, those in by_requirement(results).items():
        counts["PEP 3333" if requirement.pep else "WSGI+"][verdict(those)] += 1
    return {part: {word: count[word] for word in (PASS, FAIL, SKIP)} for part, count in counts.items() if count}


def table(results: list[Result]) -> str:
    """A line a requirement, with the cases that failed below it.  Why many are not supported is said once."""
    lines = []
    reasons = Counter(result.detail for result in results if result.result == SKIP)
    said = {why: count for why, count in reasons.items() if count > 2}
    for requirement, those in by_requirement(results).items():
        word = verdict(those)
        names = ", ".join(result.name for result in those)
        lines.append(f"{requirement.number:6} {requirement.level:7}{word.upper() if word == FAIL else word:14} {names}")
        for result in those:
            if result.result != PASS and result.detail not in said:
                lines += [f"       {result.name}: {line}" for line in result.detail.splitlines()[:12]]
    lines.append("")
    if said:
        lines += [*(f"not supported: {why} ({count} cases)" for why, count in said.items()), ""]
    for part, counts in summary(results).items():
        lines.append(f"{part}: " + ", ".join(f"{count} {word}" for word, count in counts.items()))
    return "\n".join(lines)


def document(results: list[Result], *, server: str, version: str) -> dict[str, Any]:
    """The same for programs."""
    return {
        "server": server,
        "version": version,
        "summary": summary(results),
        "requirements": {
            requirement.number: {"level": requirement.level, "result": verdict(those)}
            for requirement, those in by_requirement(results).items()
        },
        "cases": [result.record() for result in sorted(results, key=lambda result: result.name)],
    }
