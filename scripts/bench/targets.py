"""What Fermata wants to reach, evaluated as ratios within one run.

A target is a row: what is wanted, what was measured, and whether that is enough; None if it was not measured.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

ONE_THREAD = ("bjoern", "fastwsgi", "fastpysgi", "freastal")
RIVALS = (*ONE_THREAD, "granian")
SENDERS = (*RIVALS, "gthread")  # it has sendfile()
THREADED = ("granian", "uwsgi", "gthread", "m0serve-threads", "pyvoy")
MEDIAN, LEAST = 0, 1


@dataclass(frozen=True)
class Row:
    workload: str
    wanted: str
    measured: str
    met: bool | None


class Run:
    """The medians of one run."""

    def __init__(self, results: dict[str, Any]) -> None:
        self._workloads = results["workloads"]
        self._peers = results["peers"]

    def has(self, workload: str) -> bool:
        return workload in self._workloads

    def value(self, workload: str, peer: str, metric: str, which: int = MEDIAN) -> float:
        """The median of a metric (or, by `which`, its least value); NaN if it was not measured."""
        record = self._workloads.get(workload, {}).get("peers", {}).get(peer, {})
        if record.get("failed"):
            return math.nan
        summary = record.get("summary", {}).get(metric)
        return float(summary[which]) if summary else math.nan

    def best(
        self, workload: str, metric: str, among: Iterable[str] = RIVALS, highest: bool = False
    ) -> tuple[float, str]:
        """The best value among peers, and whose it is."""
        values = [(self.value(workload, peer, metric), peer) for peer in among]
        known = [(value, peer) for value, peer in values if not math.isnan(value)]
        if not known:
            return math.nan, "no peer"
        value, peer = max(known) if highest else min(known)
        return value, str(self._peers[peer]["label"])


def judge(value: float, limit: float, at_least: bool = False) -> bool | None:
    if math.isnan(value):
        return None
    return value >= limit if at_least else value <= limit


def number(value: float, digits: int = 2) -> str:
    if math.isnan(value):
        return "not measured"
    return f"{value:,.{0 if abs(value) >= 100 else digits}f}"


def ratio(run: Run, workload: str, metric: str, what: str, limit: float, rivals: Iterable[str] = RIVALS) -> Row:
    """Ours is at most `limit` of the best peer's."""
    best, whose = run.best(workload, metric, rivals)
    measured = run.value(workload, "fermata", metric) / best
    return Row(
        workload,
        f"{what} at most {limit:g} of the best peer's",
        f"{number(measured)} ({whose})",
        judge(measured, limit),
    )


def faster(run: Run, workload: str, rivals: Iterable[str] = RIVALS, share: float = 1.0) -> Row:
    best, whose = run.best(workload, "rps", rivals, highest=True)
    measured = run.value(workload, "fermata", "rps") / best
    wanted = "requests/s no lower than the best peer's" if share == 1 else f"requests/s at least {share} of the best peer's"
    return Row(workload, wanted, f"{number(measured)} ({whose})", judge(measured, share, True))


def plain(run: Run, workload: str, wanted: str, metric: str, limit: float, at_least: bool = False, scale: float = 1,
          unit: str = "", peer: str = "fermata") -> Row:  # fmt: skip
    """A number of ours against a fixed one."""
    value = run.value(workload, peer, metric) * scale
    return Row(workload, wanted, number(value) + (unit if not math.isnan(value) else ""), judge(value, limit, at_least))


def against(run: Run, workload: str, wanted: str, metric: str, peer: str, limit: float, at_least: bool = False) -> Row:
    """A number of ours against that of one other."""
    value = run.value(workload, "fermata", metric) / run.value(workload, peer, metric)
    return Row(workload, wanted, number(value), judge(value, limit, at_least))


def hello(run: Run) -> Iterable[Row]:
    yield ratio(run, "hello-c1", "cpu_us", "CPU per request", 0.90)
    yield ratio(run, "hello-c1", "p50_us", "p50", 1.0)
    for workload in ("hello-c32", "hello-c256"):
        yield ratio(run, workload, "cpu_us", "CPU per request", 0.93)
        yield ratio(run, workload, "user_us", "of it outside the kernel", 0.75)
        yield against(run, workload, "CPU per request at most 1.12 of the limit's in C", "cpu_us", "limit", 1.12)
        yield ratio(run, workload, "p50_us", "p50", 0.6)
        yield faster(run, workload)


def overhead(run: Run, workload: str, peer: str) -> float:
    """CPU per request outside the application's own code, as the application measured that; or else a loop.

    Of the loop the least of the rounds counts, as of the server: what disturbs only adds.
    """
    measured = run.value(workload, peer, "outside_us")
    if not math.isnan(measured):
        return measured
    return run.value(workload, peer, "cpu_us", LEAST) - run.value(workload, "loop", "cpu_us", LEAST)


def frameworks(run: Run) -> Iterable[Row]:
    for workload in ("realistic", "flask", "django"):
        rivals = [value for value in (overhead(run, workload, peer) for peer in RIVALS) if not math.isnan(value)]
        ours = overhead(run, workload, "fermata")
        measured = ours / min(rivals) if rivals else math.nan
        said = f"{number(measured)} ({number(ours, 1)} us of {number(min(rivals, default=math.nan), 1)} us)"
        wanted = "CPU outside the application at most 0.7 of the best peer's"
        yield Row(workload, wanted, number(measured) if math.isnan(measured) else said, judge(measured, 0.70))


def whole_frameworks(run: Run) -> Iterable[Row]:
    for workload in ("flask", "django", "flask-busy", "django-busy"):
        yield ratio(run, workload, "cpu_us", "CPU per request", 1.0, ONE_THREAD)


def databases(run: Run) -> Iterable[Row]:
    for workload in ("postgres-c32", "postgres-c256", "redis-c32", "redis-c256", "sqlite-c32"):
        yield faster(run, workload, THREADED, 1.03)
        yield ratio(run, workload, "cpu_us", "CPU per request", 1.0, THREADED)
        yield ratio(run, workload, "p99_us", "p99", 1.0, THREADED)


def beside(run: Run) -> Iterable[Row]:
    for workload in ("queue-100", "queue-500", "queue-2000", "gate"):
        yield plain(run, workload, "p99 of /healthz at most 10 ms", "health_p99_us", 10, scale=1e-3, unit=" ms")
        yield plain(run, workload, "the longest at most 25 ms", "health_max_us", 25, scale=1e-3, unit=" ms")
    for workload in ("continuations-compute", "continuations-nap"):
        yield plain(run, workload, "a new hello at most 25 ms", "hello_max_us", 25, scale=1e-3, unit=" ms")
    yield plain(run, "trickle", "at most 3 wake-ups a request", "wakeups", 3)


def bodies(run: Run) -> Iterable[Row]:
    for workload in ("blocks-3", "blocks-100"):
        yield ratio(run, workload, "cpu_us", "CPU per request", 0.70)
    for workload in ("body-64k", "body-1m", "file-100m", "echo-10k", "echo-1m"):
        yield ratio(run, workload, "cpu_us", "CPU per request", 1.0, SENDERS)
        yield faster(run, workload, SENDERS)


def waiting(run: Run) -> Iterable[Row]:
    for workload in ("blocking-c32", "blocking-c256"):
        yield plain(run, workload, "at least 0.95 of the ideal 6,400/s", "rps", 0.95, True, 1 / 6400)
    yield plain(run, "blocking-c32", "p99 at most 8 ms", "p99_us", 8, scale=1e-3, unit=" ms")
    for workload in ("blocking-c32", "blocking-c256"):
        yield against(run, workload, "p99/p50 at most half of uWSGI's", "unfairness", "uwsgi", 0.5)
    for microseconds, share in ((200, 0.6), (500, 0.8), (800, 0.85)):
        workload, ideal = f"short-wait-{microseconds}", 8e6 / microseconds
        yield plain(run, workload, f"at least {share} of the ideal {ideal:,.0f}/s", "rps", share, True, 1 / ideal)
        yield plain(run, workload, "p99 at most 1.6 times p50", "unfairness", 1.6)
        yield faster(run, workload, THREADED)
    yield plain(run, "mixed", "p99 of hello at most twice that without the blockers", "p99_ratio", 2)


def futures(run: Run) -> Iterable[Row]:
    yield plain(run, "futures", "at least 0.94 of the ideal 10,000/s", "rps", 0.94, True, 1e-4)
    yield plain(run, "futures", "p99 at most 130 ms", "p99_us", 130, scale=1e-3, unit=" ms")
    yield against(run, "futures", "CPU per request at most 0.15 of the proof of concept's", "cpu_us", "poc", 0.15)
    for workload in ("proxy-c1000", "proxy-c5000", "proxy-small"):
        yield against(
            run, workload, "requests per CPU second at least 1.3 times uvicorn's", "rps_per_cpu", "uvicorn", 1.3, True
        )
    for workload in ("proxy-c1000", "proxy-c5000"):
        yield against(
            run, workload, "requests per CPU second at least 5 times gthread's", "rps_per_cpu", "gthread", 5, True
        )


def parked(run: Run) -> Iterable[Row]:
    for workload, wanted in (("park-10k", 10_000), ("park-50k", 50_000)):
        n = run.value(workload, "fermata", "connections")
        where = workload if math.isnan(n) or n >= wanted else f"{workload} (only {n:,.0f}: open files are limited)"
        rows = [
            plain(run, workload, "at most 6 KB each", "kb_each", 6, unit=" KB"),
            plain(run, workload, "at least 50,000 resumed a second", "resumed_per_s", 50_000, True),
            plain(run, workload, "the second time less than 5 % more memory", "second_growth", 5, scale=100, unit=" %"),
        ]
        if wanted == 50_000:
            enough = plain(
                run, workload, "50,000 in less than 400 MB", "rss_parked_kb", 400, scale=1 / 1024, unit=" MB"
            )
            rows.append(enough if n >= wanted else Row(workload, enough.wanted, f"{enough.measured} for fewer", None))
        yield from (Row(where, row.wanted, row.measured, row.met) for row in rows)


def alone(run: Run) -> Iterable[Row]:
    yield plain(run, "idle", "no wake-ups", "wakeups_per_minute", 0, unit=" a minute")
    yield plain(run, "start", "first answer in less than 150 ms", "first_answer_ms", 150, unit=" ms")


GROUPS: tuple[Callable[[Run], Iterable[Row]], ...] = (
    futures, parked, waiting, databases, beside, hello, frameworks, whole_frameworks, bodies, alone,
)  # fmt: skip


def evaluate(results: dict[str, Any]) -> list[Row]:
    """All rows whose workload was run."""
    run = Run(results)
    return [row for group in GROUPS for row in group(run) if run.has(row.workload.partition(" ")[0])]
