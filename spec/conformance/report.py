"""What a run has shown, by requirement: as lines that come as it goes on, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .registry import Case, Requirement, requirements
from .runner import FAIL, PASS, SKIP, Result

__all__ = ["Lines", "by_requirement", "document", "summary", "verdict"]

LEVELS = ("MUST", "SHOULD", "MAY")


def by_requirement(results: Iterable[Result]) -> dict[Requirement, list[Result]]:
    """The results that bear on each requirement which any of them bears on.

    One some of whose cases are about a weaker word of it is there twice, once with that as its level.
    """
    results = list(results)
    found: dict[Requirement, list[Result]] = {}
    for req in requirements():
        for result in results:
            if req.number in result.requirements:
                found.setdefault(leveled(req, result.levels.get(req.number)), []).append(result)
    return dict(sorted(found.items(), key=lambda item: (ORDER[item[0].number], LEVELS.index(item[0].level))))


def leveled(requirement: Requirement, word: str | None) -> Requirement:
    return requirement if word is None else replace(requirement, level=word)


ORDER = {requirement.number: place for place, requirement in enumerate(requirements())}


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


class Lines:
    """A line a requirement, as soon as all of its cases have been tried, with those that failed below it."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self._results: list[Result] = []
        self._cases = list(cases)
        self._order = {case.name: place for place, case in enumerate(self._cases)}
        self._left = Counter((number, case.levels.get(number)) for case in self._cases for number in case.requirements)

    def add(self, result: Result) -> list[str]:
        """What there is to say now."""
        self._results.append(result)
        said = []
        for number in result.requirements:
            key = number, result.levels.get(number)
            self._left[key] -= 1
            if not self._left[key]:
                said += [line for req, those in self._about(*key) for line in lines_of(req, those)]
        return said

    def _about(self, number: str, word: str | None) -> list[tuple[Requirement, list[Result]]]:
        those = [r for r in self._results if number in r.requirements and r.levels.get(number) == word]
        those.sort(key=lambda result: self._order[result.name])
        return [(leveled(req, word), those) for req in requirements() if req.number == number]

    def end(self) -> list[str]:
        """What is still to be said: of requirements of which not all cases have been tried, and of all together.

        Why cases are not supported is said here, once for all of the same reason.
        """
        partly = {key for key, left in self._left.items() if left}
        said = []
        for req, those in by_requirement(self._results).items():
            if {(req.number, result.levels.get(req.number)) for result in those} & partly:
                said += lines_of(req, those)
        said.append("")
        reasons: dict[str, list[str]] = {}
        for result in self._results:
            if result.result == SKIP:
                reasons.setdefault(result.detail, []).append(result.name)
        for why, names in reasons.items():
            said.append(f"not supported: {why} ({f'{len(names)} cases' if len(names) > 2 else ', '.join(names)})")
        said += [""] if reasons else []
        failed = [
            (req.number, req.level) for req, those in by_requirement(self._results).items() if verdict(those) == FAIL
        ]
        said += [
            f"{word} fails: {', '.join(number for number, level in failed if level == word)}"
            for word in LEVELS
            if word in {level for _, level in failed}
        ]
        for part, counts in summary(self._results).items():
            said.append(f"{part}: " + ", ".join(f"{count} {word}" for word, count in counts.items()))
        missing = len(self._cases) - len(self._results)
        return said + ([f"ended early: {missing} of {len(self._cases)} cases have not been tried"] if missing else [])


def lines_of(requirement: Requirement, those: list[Result]) -> list[str]:
    word = verdict(those)
    names = ", ".join(result.name for result in those)
    said = [f"{requirement.number:6} {requirement.level:7}{word.upper() if word == FAIL else word:14} {names}"]
    for result in those:
        if result.result == FAIL:
            said += [f"       {result.name}: {line}" for line in result.detail.splitlines()[:12]]
    return said


def document(results: list[Result], *, server: str, version: str) -> dict[str, Any]:
    """The same for programs."""
    found: dict[str, dict[str, Any]] = {}
    for requirement, those in by_requirement(results).items():
        strongest = found.setdefault(requirement.number, {"level": requirement.level, "result": verdict(those)})
        if strongest["level"] != requirement.level:
            strongest.setdefault("weaker", {})[requirement.level] = verdict(those)
    return {
        "server": server,
        "version": version,
        "summary": summary(results),
        "requirements": found,
        "cases": [result.record() for result in sorted(results, key=lambda result: result.name)],
    }
