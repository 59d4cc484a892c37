"""Runs workloads in interleaved rounds and keeps what they gave."""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import backends, kinds, measure, venv
from .measure import Cell, Metrics, Options, Result
from .paths import ROOT
from .peers import PEERS
from .server import Failed
from .workloads import FRAMEWORKS, WORKLOADS, Workload

# A round in which other processes took more cores than this is repeated.
TOO_BUSY = 0.3
IDLE_SETTLE = 15


@dataclass(frozen=True)
class Plan:
    """What is to be run."""

    workloads: list[str]
    peers: list[str] | None
    rounds: int
    repeats: int
    options: Options
    idle_seconds: float = 60.0

    def cells(self, workload: Workload) -> list[Cell]:
        wanted = [p for p in workload.peers if self.peers is None or p in self.peers or p in FRAMEWORKS]
        return [Cell(workload, peer, self.options) for peer in wanted]

    def rounds_of(self, workload: Workload) -> int:
        return min(self.rounds, workload.rounds or self.rounds)

    def estimate(self) -> float:
        """Seconds, if no round has to be repeated."""
        total = 0.0
        for workload in (WORKLOADS[name] for name in self.workloads):
            once = sum(kinds.expected_seconds(cell) for cell in self.cells(workload))
            total += self.idle_seconds + IDLE_SETTLE if workload.kind == "idle" else once * self.rounds_of(workload)
        return total


def summarize(rounds: list[Metrics]) -> dict[str, list[float]]:
    """Median, least and greatest of every metric."""
    names = {name: None for metrics in rounds for name in metrics}
    summary = {}
    for name in names:
        values = [metrics[name] for metrics in rounds if name in metrics]
        summary[name] = [statistics.median(values), min(values), max(values)]
    return summary


@dataclass
class Record:
    """What one peer gave in one workload."""

    server: str = ""
    load: str = ""
    rounds: list[Metrics] = field(default_factory=list)
    repeated: int = 0
    failed: str | None = None

    def add(self, result: Result) -> None:
        self.server, self.load = result.server, result.load
        self.rounds.append({name: round(value, 4) for name, value in result.metrics.items()})

    def as_json(self) -> dict[str, Any]:
        said = {"server": self.server, "load": self.load, "repeated": self.repeated, "rounds": self.rounds}
        if self.failed:
            said["failed"] = self.failed
        return {**said, "summary": summarize(self.rounds)}


def quietest(repeats: int, again: Callable[[], Result]) -> tuple[Result, int]:
    """A measurement in a quiet moment, or the quietest of those tried; and how often it was repeated."""
    best, tried = again(), 0
    while best.metrics.get("other_load", 0.0) > TOO_BUSY and tried < repeats:
        tried += 1
        more = again()
        if more.metrics["other_load"] < best.metrics["other_load"]:
            best = more
    best.metrics["disturbed"] = float(best.metrics.get("other_load", 0.0) > TOO_BUSY)
    return best, tried


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def brief(metrics: Metrics) -> str:
    """The numbers that are most often looked at, for the progress on the terminal."""
    shown = (
        ("rps", "{:,.0f}/s"), ("cpu_us", "{:.1f} us CPU"), ("p50_us", "p50 {:,.0f} us"), ("p99_us", "p99 {:,.0f} us"),
        ("kb_each", "{:.1f} KB each"), ("resumed_per_s", "{:,.0f} resumed/s"), ("first_answer_ms", "{:.0f} ms"),
        ("health_p99_us", "/healthz p99 {:,.0f} us"), ("health_max_us", "at most {:,.0f} us"),
        ("hello_max_us", "hello at most {:,.0f} us"), ("wakeups", "{:.1f} wake-ups"), ("errors", "{:.0f} errors"), ("other_load", "other load {:.2f}"),
    )  # fmt: skip
    return ", ".join(text.format(metrics[name]) for name, text in shown if metrics.get(name))


def run_workload(plan: Plan, workload: Workload, absent: dict[str, str]) -> dict[str, Any]:
    """All rounds of all peers.  Who fails is not tried again."""
    records = {cell.peer: Record() for cell in plan.cells(workload)}
    for peer, record in records.items():
        record.failed = absent.get(peer)
    if workload.kind == "idle":
        run_idle(plan, workload, records)
    else:
        try:
            with backends.running(workload.backend) as env:
                run_rounds(plan, replace(workload, env={**workload.env, **env}), records)
        except Failed as error:
            say(f"{workload.name}: {error}")
            for record in records.values():
                record.failed = record.failed or str(error)
    return {
        "title": workload.title,
        "left_out": workload.left_out,
        "peers": {peer: record.as_json() for peer, record in records.items()},
    }


def run_rounds(plan: Plan, workload: Workload, records: dict[str, Record]) -> None:
    """Each round begins with another peer."""
    for number in range(plan.rounds_of(workload)):
        cells = plan.cells(workload)
        turn = number % max(1, len(cells))
        for cell in cells[turn:] + cells[:turn]:
            run_cell(plan, cell, number, records[cell.peer])


def run_cell(plan: Plan, cell: Cell, number: int, record: Record) -> None:
    if record.failed:
        return
    where = f"{cell.workload.name}  round {number + 1}  {cell.peer}"
    try:
        result, repeated = quietest(plan.repeats, lambda: kinds.measure(cell))
    except Failed as error:
        record.failed = str(error)
        say(f"{where}: {error}")
        return
    record.repeated += repeated
    record.add(result)
    say(f"{where}: {brief(result.metrics)}" + (f" (repeated {repeated} times)" if repeated else ""))


def run_idle(plan: Plan, workload: Workload, records: dict[str, Record]) -> None:
    cells = [cell for cell in plan.cells(workload) if not records[cell.peer].failed]
    results = measure.measure_idle(cells, plan.idle_seconds)
    for cell in cells:
        if cell.peer in results:
            records[cell.peer].add(results[cell.peer])
            say(f"idle  {cell.peer}: " + ", ".join(f"{n} {v:.0f}" for n, v in results[cell.peer].metrics.items()))
        else:
            records[cell.peer].failed = "did not start"


def output_of(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    return {
        "cpu": cpu.partition(":")[2].strip(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(total.split()[1]) / 1e6),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "open_files": measure.most_connections(10**6),
        "wrk": output_of("wrk", "-v").partition(" [")[0],
    }


def peers_as_json(absent: dict[str, str], fermata: str) -> dict[str, Any]:
    versions = venv.installed()
    said: dict[str, Any] = {}
    for peer in PEERS.values():
        version = versions.get(peer.package, "") if peer.package else ""
        if peer.name == "fermata":
            version = "".join(re.findall(r"\d+\.\d+\.\S+", output_of(fermata, "--version"))[:1])
        said[peer.name] = {"label": peer.label, "version": version, "threads": peer.threads}
        if peer.name in absent:
            said[peer.name]["missing"] = absent[peer.name]
    return said


def absent_peers() -> dict[str, str]:
    """The peers that are not installed, and why."""
    versions, reasons = venv.installed(), venv.missing()
    return {
        peer.name: "missing: " + reasons.get(peer.package, "not installed")
        for peer in PEERS.values()
        if peer.package and peer.package not in versions
    }


def write(path: Path, results: dict[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(results, indent=1) + "\n")
    new.replace(path)


def run(plan: Plan, out: Path, arguments: Iterable[str]) -> dict[str, Any]:
    """Runs it all; what has been measured is in the file after each workload."""
    absent = absent_peers()
    for peer, reason in absent.items():
        say(f"{peer}: {reason}")
    results: dict[str, Any] = {
        "format": 1,
        "command": " ".join(["scripts/bench/run", *arguments]),
        "began": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": output_of("git", "describe", "--always", "--dirty"),
        "seconds": plan.options.seconds,
        "rounds": plan.rounds,
        "machine": machine(),
        "peers": peers_as_json(absent, plan.options.fermata),
        "packages": venv.installed(),
        "workloads": {},
    }
    for name in plan.workloads:
        results["workloads"][name] = run_workload(plan, WORKLOADS[name], absent)
        write(out, results)
    return results
