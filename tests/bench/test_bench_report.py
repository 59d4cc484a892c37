"""Results become targets, tables and charts."""

import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from bench import report
from bench.charts import Bar, Section, draw, human
from bench.suite import summarize
from bench.targets import Row, evaluate
from bench.venv import lines, named

RUN = Path(__file__).resolve().parents[2] / "scripts/bench/run"


def record(failed: str | None = None, **metrics: float) -> dict[str, Any]:
    said = {
        "server": "serve :1",
        "load": "load :12345",
        "repeated": 0,
        "rounds": [metrics],
        "summary": summarize([metrics]),
    }
    return {**said, "failed": failed} if failed else said


def results(workload: str, title: str = "hello", **peers: dict[str, Any]) -> dict[str, Any]:
    labels = ("fermata", "limit", "bjoern", "fastwsgi", "granian", "uwsgi")
    return {
        "rounds": 5, "seconds": 3, "began": "today", "commit": "abc", "command": "scripts/bench/run",
        "machine": {"cpu": "a CPU", "cores": 2, "memory_gb": 8, "kernel": "6.1", "python": "3.11", "wrk": "wrk 4"},
        "peers": {name: {"label": name.title(), "version": "1", "threads": "1"} for name in labels},
        "workloads": {workload: {"title": title, "left_out": {"uwsgi": "is left out"}, "peers": peers}},
    }  # fmt: skip


def test_median_least_and_greatest() -> None:
    assert summarize([{"a": 3.0}, {"a": 1.0, "b": 5.0}, {"a": 2.0}]) == {"a": [2.0, 1.0, 3.0], "b": [5.0, 5.0, 5.0]}


def rows_of(said: dict[str, Any]) -> dict[str, Row]:
    return {row.wanted: row for row in evaluate(said)}


def test_targets_are_ratios_to_the_best_peer() -> None:
    said = results(
        "hello-c32",
        fermata=record(cpu_us=8.0, rps=90.0, p50_us=5.0),
        limit=record(cpu_us=7.5, rps=200.0, p50_us=1.0),
        bjoern=record(cpu_us=10.0, rps=80.0, p50_us=10.0),
        granian=record(cpu_us=20.0, rps=100.0, p50_us=20.0),
    )
    rows = rows_of(said)
    assert rows["CPU per request at most 0.93 of the best peer's"].met is True
    assert rows["CPU per request at most 0.93 of the best peer's"].measured == "0.80 (Bjoern)"
    assert rows["CPU per request at most 1.12 of the limit's in C"].met is True
    assert rows["requests/s no lower than the best peer's"].met is False


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    rows = rows_of(results("hello-c32", fermata=record(cpu_us=8.0), bjoern=record("it ended", cpu_us=1.0)))
    row = rows["CPU per request at most 0.93 of the best peer's"]
    assert (row.met, row.measured) == (None, "not measured (no peer)")


def test_only_workloads_that_were_run_have_rows() -> None:
    assert {row.workload for row in evaluate(results("idle", fermata=record(wakeups_per_minute=0.0)))} == {"idle"}


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (12345.6, "12,346"), (123.4, "123"), (12.34, "12.3"), (0.0123, "0.0123")]
)
def test_three_digits(value: float, text: str) -> None:
    assert human(value) == text


def test_a_chart_is_well_formed_and_has_every_bar() -> None:
    svg = draw("a < b", "note", [Section("one", [Bar("x & y", 2.0, 1.0, 3.0, "ours"), Bar("z", 0.0, 0.0, 0.0)])])
    root = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    bars = [r for r in root.iter(space + "rect") if r.get("class") in ("bar", "ours")]
    assert len(bars) == 2
    assert "prefers-color-scheme: dark" in svg


def test_a_bar_many_times_as_long_as_ours_is_cut() -> None:
    svg = draw("title", "note", [Section("", [Bar("ours", 1.0, 1.0, 1.0, "ours"), Bar("slow", 100.0, 90.0, 110.0)])])
    assert 'class="gap"' in svg
    assert ">100<" in svg


def test_commands_are_shown_without_the_ports_that_they_happened_to_get() -> None:
    shown = report.without_ports("UPSTREAM=127.0.0.1:20002 serve --port 31999 --bind 127.0.0.1:20001 -c 20000")
    assert shown == "UPSTREAM=127.0.0.1:UPSTREAM_PORT serve --port PORT --bind 127.0.0.1:PORT -c 20000"


def test_a_table_names_who_failed_and_who_was_left_out() -> None:
    said = results("hello-c32", fermata=record(cpu_us=8.0), bjoern=record("it ended"))
    text = report.workload_table(said, "hello-c32")
    assert "| Fermata | 8.00 |" in text
    assert "- Bjoern: it ended." in text
    assert "- Without Uwsgi, which is left out." in text


def test_generated_text_goes_between_its_markers_and_nowhere_else() -> None:
    page = "before\n<!-- generated: a -->\nold\n<!-- end -->\nbetween\n<!-- generated: b -->\n<!-- end -->\nafter\n"
    filled = report.fill(page, {"a": "new \\1"})
    assert filled.startswith("before\n<!-- generated: a -->\n\nnew \\1\n\n<!-- end -->\nbetween")
    assert "old" not in filled
    assert report.fill(filled, {"a": "new \\1"}) == filled


def test_requirements_are_installed_line_by_line() -> None:
    assert lines("# comment\n\na==1\nb==2 c==3\n") == [["a==1"], ["b==2", "c==3"]]


def test_some_requirements_are_installed_each_by_itself() -> None:
    found = named("django", "psycopg-binary", "no-such-thing")
    assert [[word.partition("==")[0] for word in each] for each in found] == [["django"], ["psycopg-binary"]]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--peers", "apache"], "bjoern"),
        (["--workloads", "nothing"], "hello-c32"),
        (["--rounds", "0"], "--rounds"),
        (["--bad"], "--bad"),
    ],
)
def test_wrong_arguments_end_with_2_and_say_what_is_allowed(arguments: list[str], named: str) -> None:
    done = subprocess.run([RUN, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert named in done.stderr
