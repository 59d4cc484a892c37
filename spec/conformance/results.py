"""results.md: what the suite says of the servers that are known, made from results/*.json."""

from __future__ import annotations

import difflib
import json
import re
import sys
from pathlib import Path
from typing import Any

from .launcher import CannotStart
from .registry import Requirement, all_cases, requirements
from .report import document
from .runner import FAIL, PASS, SKIP, Result, run
from .servers import KNOWN, Known

__all__ = ["main", "page"]

HERE = Path(__file__).resolve().parent
RECORDS = HERE / "results"
PAGE = HERE / "results.md"

JOBS = 4

TITLES = (("WSGI+", False), ("PEP 3333", True))
PARTS = [(title, pep, level) for title, pep in TITLES for level in ("MUST", "SHOULD", "MAY")[: 2 if pep else 3]]

SIGNS = {PASS: "yes", FAIL: "**no**", SKIP: "–"}


def main(what: str, keys: list[str]) -> int:
    if what == "run":
        measure(keys)
    new = page()
    if what == "check":
        old = PAGE.read_text(encoding="utf-8")
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "there", "wanted", n=1))
        return int(old != new)
    PAGE.write_text(new, encoding="utf-8")
    return 0


def measure(keys: list[str]) -> None:
    """Runs the suite against these of the known servers, and keeps what it says."""
    RECORDS.mkdir(exist_ok=True)
    for key in keys:
        known = KNOWN[key]
        print(f"== {known.name}", flush=True)
        try:
            found: list[Result] = run(known.settings(), all_cases(), jobs=JOBS)
        except CannotStart as why:
            print(f"not there: {why}")
            continue
        record = document(found, server=known.name, version=known.find_version())
        for case in record["cases"]:
            del case["seconds"]  # another one each time, as is the number of the trial
            detail = case["detail"].splitlines()[0] if case["detail"] else ""
            case["detail"] = re.sub(rf"({case['name']})-\d+-\d+", r"\1", detail)
        (RECORDS / f"{key}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(record["summary"], flush=True)


def records() -> list[dict[str, Any]]:
    """What there is, in the order of the table of servers."""
    paths = [RECORDS / f"{key}.json" for key in KNOWN]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def page() -> str:
    found = records()
    heads = [f"{record['server']} {record['version']}" for record in found]
    lines = [
        "# What the suite says of servers",
        "",
        "Made by `scripts/conformance --results run` from `results/*.json`; [README.md](README.md) says how to read it.",
        "",
        "*yes* is a requirement all cases of which pass, **no** one of which a case fails, – one that the server does not",
        "support or has no setting for. A server that does not suspend for futures supports nothing of WSGI+, and PEP 3333",
        "does not ask it to; but the helper of S17, which is for such servers, can be tried on it, and can tell clients of a",
        "failure only where the server does.",
        "",
        "A requirement that says MUST and SHOULD has a line for each, with the cases that show what is said with that word.",
        "",
        "| pass / fail / not supported | " + " | ".join(heads) + " |",
        "| --- |" + " --- |" * len(heads),
        *(
            f"| {title}, {level} | {' | '.join(counts(record, pep, level) for record in found)} |"
            for title, pep, level in PARTS
        ),
    ]
    for title, pep in TITLES:
        lines += ["", f"## {title}", "", "| | | " + " | ".join(heads) + " |", "| --- | --- |" + " --- |" * len(heads)]
        for requirement in requirements():
            if requirement.pep == pep:
                number = f"{requirement.number} {requirement.text}" if pep else requirement.number
                for level in levels_of(requirement):
                    said = [verdicts(record, requirement.number).get(level, SKIP) for record in found]
                    lines.append(f"| {number} | {level} | " + " | ".join(SIGNS[word] for word in said) + " |")
    lines += ["", "## What failed"]
    order = {requirement.number: place for place, requirement in enumerate(requirements())}
    texts = {case.name: " ".join(case.text.split()) for case in all_cases()}
    for head, record in zip(heads, found):
        failed = sorted(
            (case for case in record["cases"] if case["result"] == FAIL), key=lambda c: order[c["requirements"][0]]
        )
        lines += ["", f"### {head}", ""] + ([] if failed else ["Nothing."])
        for case in failed:
            said_with = case.get("levels", {})
            numbers = [f"{n} ({said_with[n]})" if n in said_with else n for n in case["requirements"]]
            lines.append(f"- {', '.join(numbers)} `{case['name']}`: {texts.get(case['name'], '')}")
            lines.append(f"  *Not so:* {plain(case['detail'])}.")
    lines += ["", "## How they are started", "", "Beside what is needed only the number of threads is set.", ""]
    lines += [f"- {known.name}: `{command(known)}`" for known in KNOWN.values()]
    return "\n".join(lines) + "\n"


def counts(record: dict[str, Any], pep: bool, level: str) -> str:
    """How many requirements of a level pass, fail, and are not supported."""
    numbers = [number for number in record["requirements"] if (number[0] == "P") == pep]
    seen = [said[level] for said in (verdicts(record, number) for number in numbers) if level in said]
    return " / ".join(str(seen.count(word)) for word in (PASS, FAIL, SKIP))


def verdicts(record: dict[str, Any], number: str) -> dict[str, str]:
    """What a record says of a requirement, by level."""
    said = record["requirements"].get(number)
    return {} if said is None else {said["level"]: said["result"], **said.get("weaker", {})}


def levels_of(requirement: Requirement) -> list[str]:
    """Its own, and those of its cases that are about weaker words of it; the strongest first."""
    weaker = {case.levels.get(requirement.number) for case in all_cases()} - {None, requirement.level}
    return [word for word in ("MUST", "SHOULD", "MAY") if word == requirement.level or word in weaker]


def command(known: Known) -> str:
    """How it is started, without where things are on this machine."""
    return re.sub(r"^\S*/", "", known.server.replace(sys.executable, "python", 1))


def plain(detail: str) -> str:
    return detail.replace("|", "\\|").replace("<", "&lt;")
