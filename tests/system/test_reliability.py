"""What spec/internals/reliability.md says of faults and their tests."""

from __future__ import annotations

import re

from harness.limits import ROOT

PAGE = (ROOT / "spec/internals/reliability.md").read_text()
TESTS = ROOT / "tests"


def test_table_names_tests_that_exist() -> None:
    """Each test that the table of faults names is there, and each fault has one."""
    _, _, table = PAGE.partition("## Faults found in use")
    rows = [line for line in table.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    rows = [row.strip("| ").split(" | ") for row in rows if not row.startswith(("| **", "| fault ", "| ---"))]
    assert len(rows) > 40
    for row in rows:
        assert len(row) == 3, row
        named = re.findall(r"`([\w/]*test_\w+\.(?:py|c))(?:::(\w+))?`", row[2])
        assert named, row
        for file, test in named:
            path = TESTS / ("unit" if file.endswith(".c") else "system") / file
            assert not test or re.search(rf"^(?:def|static void) {test}\(", path.read_text(), re.M), (file, test)
