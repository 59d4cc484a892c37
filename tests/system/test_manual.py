"""spec/manual/metrics.md has the metrics that there are, and spec/manual/reliability.md names tests that there are."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from harness.limits import ROOT
from harness.server import Server

METRICS = (ROOT / "spec/manual/metrics.md").read_text()
PROMISES = (ROOT / "spec/manual/reliability.md").read_text()


def table(name: str) -> list[list[str]]:
    """The rows of a generated table of the page, without its head."""
    match = re.search(rf"<!-- generated: {name} -->\n\n(.*?)\n\n<!-- end -->", METRICS, re.S)
    assert match
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in match[1].splitlines()[2:]]


def test_tables_are_those_of_the_code() -> None:
    """scripts/metrics-docs, which makes them, would change nothing."""
    done = subprocess.run([sys.executable, ROOT / "scripts/metrics-docs", "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_server_has_these_metrics(launch: Callable[..., Server]) -> None:
    """The names, types and labels of the page are those of /metrics."""
    server = launch("basic", "--metrics-places", admin=True)
    assert server.get("/hello").status == 200
    metrics = server.admin.metrics()
    rows = {row[0].strip("`"): row for row in table("metrics")}
    assert {name: row[1] for name, row in rows.items()} == metrics.types
    for name, row in rows.items():
        label, _, values = row[3].partition(": ")
        if values:
            assert metrics.labels(name, label.strip("`")) == set(values.split(", ")), name
    reasons = {row[0].strip("`") for row in table("reasons")}
    assert metrics.labels("fermata_refused_requests_total", "reason") == reasons


WORKERS = re.findall(r"^\| `(fermata_workers?\w*)` \| (\w+) \| (.*?) \|", METRICS, re.M)


def test_with_workers_there_are_these_in_addition(launch: Callable[..., Server]) -> None:
    server = launch("basic", "--workers", "1", admin=True)
    metrics = server.admin.metrics()
    assert {name: kind for name, kind, _ in WORKERS} == {
        name: kind for name, kind in metrics.types.items() if name.startswith("fermata_worker")
    }
    for name, _, labels in WORKERS:
        label, _, values = labels.partition(": ")
        if values:
            assert metrics.labels(name, label.strip("`")) == set(values.split(", ")), name


def test_metrics_that_the_prose_names() -> None:
    """Each is in a table."""
    known = {row[0].strip("`") for row in table("metrics")} | {name for name, _, _ in WORKERS}
    named = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bfermata_\w+", METRICS)}
    assert named <= known


ROWS = [line for line in PROMISES.splitlines() if re.match(r"\| (?!promise|---)", line)]


@pytest.mark.parametrize("promise", ROWS, ids=lambda row: row.strip("| ")[:40])
def test_each_promise_has_a_test(promise: str) -> None:
    """One that is there, or a target of the Makefile."""
    proof = promise.strip("|").split("|")[-1]
    tests = re.findall(r"`(test_\w+\.py)::(\w+)`", proof)
    targets = re.findall(r"`make (\w+)`", proof)
    assert tests or targets
    for file, test in tests:
        assert re.search(rf"^def {test}\(", (ROOT / "tests/system" / file).read_text(), re.M), (file, test)
    for target in targets:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target
