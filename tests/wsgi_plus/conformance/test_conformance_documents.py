"""The specification names the cases of the suite, and the page of results is what the records say."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conformance import results
from conformance.check import Failed
from conformance.document import with_cases
from conformance.launcher import Settings
from conformance.registry import SPEC, Case, all_cases, requirements
from conformance.report import document
from conformance.runner import FAIL, PASS, Result
from conformance.servers import KNOWN
from conformance_parts import made, shown
from harness.limits import ROOT

SPECIFICATION = """\
# Title

- **S1.1** The server MUST do
  this. *Why:* it is so.
- **S1.2** It SHOULD do that:

  ```python
  code
  ```

- **S1.3** It MAY. *Why:* why not.

## S2. Next

- **S2.1** The last one MUST.

The end.
"""


def named(number: str, *names: str) -> list[Case]:
    return [made(name, shown, requirements=(number,)) for name in names]


def test_specification_names_cases() -> None:
    cases = [*named("S1.1", "one", "two"), *named("S1.2", "three"), *named("S2.1", "four")]
    assert with_cases(SPECIFICATION, cases) == SPECIFICATION.replace(
        "it is so.\n", "it is so.\n  *Cases:* `one`, `two`.\n"
    ).replace("do that:\n", "do that:\n  *Cases:* `three`.\n").replace("one MUST.\n", "one MUST.\n  *Cases:* `four`.\n")


def test_long_lists_of_cases_are_wrapped() -> None:
    cases = named("S1.1", *(f"a-case-with-a-rather-long-name-{number}" for number in range(12)))
    text = with_cases(SPECIFICATION, cases)
    assert max(len(line) for line in text.splitlines()) <= 120
    assert all(f"`{found.name}`" in text for found in cases)
    assert with_cases(text, cases) == text
    assert with_cases(text, []) == SPECIFICATION


@pytest.mark.parametrize("more", [[], named("S1.1", "another"), named("S9.9", "unknown")])
def test_naming_cases_is_idempotent_and_changes_nothing_else(more: list[Case]) -> None:
    spec = SPEC.read_text(encoding="utf-8")
    bare = with_cases(spec, [])
    cases = [*all_cases(), *more]
    once = with_cases(bare, cases)
    assert "*Cases:*" not in bare
    assert with_cases(once, cases) == once
    assert with_cases(once, []) == bare
    added = re.sub(r"  \*Cases:\*[^\n]*\n(?:  `[^\n]*\n)*", "", once)
    assert added == bare
    for requirement in requirements():
        names = [found.name for found in cases if requirement.number in found.requirements and not requirement.pep]
        if names:
            after = once[once.index(f"- **{requirement.number}** ") :]
            said = re.search(r"\*Cases:\*([^.]*)\.", after)
            assert said is not None
            assert re.findall(r"`([\w-]+)`", said[1]) == names


def test_specification_is_up_to_date(conformance: Callable[..., Any]) -> None:
    """`scripts/conformance --spec write` would change nothing."""
    assert conformance("--spec", "check") == (0, "", "")


def test_results_page_is_what_the_records_say(conformance: Callable[..., Any]) -> None:
    """`scripts/conformance --results write` would change nothing."""
    assert conformance("--results", "check") == (0, "", "")


def test_results_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page is made of the records: versions, verdicts, and why not."""
    record = document(
        [Result("environ-is-a-dict", ("P1",), FAIL, "a <b> | c"), Result("empty-blocks", ("P20",), PASS)],
        server="Own",
        version="9.8",
    )
    monkeypatch.setattr(results, "RECORDS", tmp_path)
    monkeypatch.setattr(results, "PAGE", tmp_path / "page.md")
    (tmp_path / "gunicorn.json").write_text(json.dumps(record))
    assert results.main("write", []) == 0
    page = (tmp_path / "page.md").read_text()
    assert "| | | Own 9.8 |" in page
    assert "| PEP 3333, MUST | 1 / 1 / 0 |" in page
    assert re.search(r"^\| P1 .* \| MUST \| \*\*no\*\* \|$", page, re.M)
    assert re.search(r"^\| P20 .* \| MUST \| yes \|$", page, re.M)
    assert re.search(r"^\| P21 .* \| MUST \| – \|$", page, re.M)
    assert "- P1 `environ-is-a-dict`: environ is a dict, and no subclass of it.\n  *Not so:* a &lt;b> \\| c." in page
    assert str(ROOT) not in page
    assert results.main("check", []) == 0
    (tmp_path / "page.md").write_text(page + "more\n")
    assert results.main("check", []) == 1
    assert "more" in capsys.readouterr().out


def test_measuring_a_server(fake: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A record has no times and numbers of the run; a server that is not there has none, and keeps the one it had."""
    own = type(KNOWN["gunicorn"])("Own", fake.server, (sys.executable, "-c", "print('Own 1.2.3')"), {})
    absent = type(KNOWN["gunicorn"])("Absent", "/no/server {port}", ("false",), {})
    monkeypatch.setattr(results, "KNOWN", {"own": own, "absent": absent})
    monkeypatch.setattr(results, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(results, "PAGE", tmp_path / "page.md")

    def told(t: Any) -> None:
        """What the key says."""
        raise Failed(f"about {t.key}\nand more")

    monkeypatch.setattr(results, "all_cases", lambda: [made("told", told)])
    assert results.main("run", ["own", "absent"]) == 0
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["own.json"]
    record = json.loads((tmp_path / "records" / "own.json").read_text())
    assert (record["server"], record["version"]) == ("Own", "1.2.3")
    assert record["cases"] == [{"name": "told", "requirements": ["P1"], "result": FAIL, "detail": "about told"}]
    assert "*Not so:* about told." in (tmp_path / "page.md").read_text()
