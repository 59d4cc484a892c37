"""results.md: what the suite says of the servers that are known, made from results/*.json."""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path
from typing import Any

from .launcher import CannotStart
from .registry import all_cases, requirements
from .report import document
from .runner import FAIL, PASS, SKIP, Result, run
from .servers import KNOWN

__all__ = ["main", "page"]

HERE = Path(__file__).resolve().parent
RECORDS = HERE / "results"
PAGE = HERE / "results.md"

JOBS = 4

SIGNS = {PASS: "yes", FAIL: "**no**", SKIP: "–"}


def main(what: str, only: Path | None) -> int:
    if what == "run":
        measure()
    new = page()
    if what == "check":
        old = PAGE.read_text(encoding="utf-8")
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "there", "wanted", n=1))
        return int(old != new)
    PAGE.write_text(new, encoding="utf-8")
    return 0


def measure() -> None:
    """Runs the suite against every known server, and keeps what it says."""
    RECORDS.mkdir(exist_ok=True)
    for key, known in KNOWN.items():
        print(f"== {known.name}", flush=True)
        try:
            found: list[Result] = run(known.settings(), all_cases(), jobs=JOBS)
        except CannotStart as why:
            print(f"not there: {why}")
            continue
        record = document(found, server=known.name, version=known.find_version())
        for case in record["cases"]:
            del case["seconds"]  # another one each time
            case["detail"] = case["detail"].splitlines()[0] if case["detail"] else ""
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
        "Made by `scripts/conformance --results run` from `results/*.json`. In the tables *yes* is a requirement all cases of",
        "which pass, **no** one of which a case fails, – one that the server does not support, or has no setting for. A server",
        "that does not suspend for futures supports nothing of WSGI+, and PEP 3333 does not ask it to.",
        "",
        "| | " + " | ".join(heads) + " |",
        "| --- |" + " --- |" * len(heads),
    ]
    for part in ("WSGI+", "PEP 3333"):
        cells = [" / ".join(str(record["summary"].get(part, {}).get(w, 0)) for w in (PASS, FAIL, SKIP)) for record in found]
        lines.append(f"| {part}: pass / fail / not supported | " + " | ".join(cells) + " |")
    for title, pep in (("WSGI+", False), ("PEP 3333", True)):
        lines += ["", f"## {title}", "", "| | | " + " | ".join(heads) + " |", "| --- | --- |" + " --- |" * len(heads)]
        for requirement in requirements():
            if requirement.pep == pep:
                said = [record["requirements"].get(requirement.number, {}).get("result", SKIP) for record in found]
                number = f"{requirement.number} {requirement.text}" if pep else requirement.number
                lines.append(f"| {number} | {requirement.level} | " + " | ".join(SIGNS[word] for word in said) + " |")
    lines += ["", "## Why not", ""]
    for head, record in zip(heads, found):
        failed = [case for case in record["cases"] if case["result"] == FAIL]
        lines += [f"### {head}", ""]
        lines += [f"- `{case['name']}` ({', '.join(case['requirements'])}): {plain(case['detail'])}" for case in failed]
        lines += [] if failed else ["Nothing failed."]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def plain(detail: str) -> str:
    return detail.replace("|", "\\|").replace("<", "&lt;")
