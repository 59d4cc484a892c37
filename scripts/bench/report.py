"""Results as charts and tables: build/bench/report/, or published into spec/ and README.md."""

import math
import re
import shutil
from dataclasses import dataclass
from typing import Any

from .charts import Bar, Section, human
from .charts import draw as draw_chart
from .paths import BUILD, ROOT
from .suite import write
from .targets import Run, evaluate
from .workloads import WORKLOADS

REPORT = ROOT / BUILD / "report"
MANUAL = ROOT / "spec/manual"
README = ROOT / "README.md"


@dataclass(frozen=True)
class Chart:
    """One metric of some workloads.  A bar is `value * scale`."""

    name: str
    title: str
    unit: str
    metric: str
    workloads: tuple[str, ...]
    scale: float = 1.0
    better: str = "less is better"


MORE = "more is better"
HELLO = ("hello-c1", "hello-c32", "hello-c256", "hello-close")
BODIES = ("body-64k", "body-1m", "file-100m", "echo-10k", "echo-1m")
FRAMEWORKS = ("realistic", "flask", "django")
BLOCKING = ("blocking-c32", "blocking-c256")
SHORT = ("short-wait-200", "short-wait-500", "short-wait-800", "short-wait-2000")
DATABASES = ("postgres-c32", "postgres-c256", "redis-c32", "redis-c256", "sqlite-c32")
BUSY = ("hello-busy", "flask-busy", "django-busy")
FUTURES = ("futures", "proxy-c1000", "proxy-c5000", "proxy-small")
CHARTS = (
    Chart("futures", "futures and proxies: requests per second of CPU", "per CPU second", "rps_per_cpu",
          FUTURES, better=MORE),
    Chart("parked", "parked requests: resident memory of each", "KB", "kb_each", ("park-10k", "park-50k")),
    Chart("resumed", "parked requests: resumed per second", "per second", "resumed_per_s", ("park-10k", "park-50k"),
          better=MORE),
    Chart("sse", "server-sent events: p99 of their delay", "ms", "p99_us", ("sse",), 1e-3),
    Chart("short-waits", "short waits, 8 threads, 32 connections: requests per second", "per second", "rps", SHORT,
          better=MORE),
    Chart("databases", "frameworks and their databases: requests per second", "per second", "rps", DATABASES,
          better=MORE),
    Chart("databases-p99", "frameworks and their databases: p99", "ms", "p99_us", DATABASES, 1e-3),
    Chart("blocking", "5 ms of waiting on 32 threads: requests per second", "per second; 6,400 are possible", "rps",
          BLOCKING, better=MORE),
    Chart("blocking-p99", "5 ms of waiting on 32 threads: p99", "ms", "p99_us", BLOCKING, 1e-3),
    Chart("beside", "p99 of hello beside requests that wait or compute", "ms", "p99_us", ("mixed", "hog"), 1e-3),
    Chart("hello-cpu", "hello: CPU per request", "us, of all the server's processes", "cpu_us", HELLO),
    Chart("hello-rate", "hello: requests per second", "per second", "rps", HELLO, better=MORE),
    Chart("hello-p50", "hello: half of the responses are as quick as", "us", "p50_us", HELLO[:3]),
    Chart("frameworks", "realistic heads and frameworks: CPU per request", "us", "cpu_us", FRAMEWORKS),
    Chart("busy", "beside a neighbour that takes a processor: CPU per request", "us", "cpu_us", BUSY),
    Chart("generators", "generators: CPU per request", "us", "cpu_us", ("blocks-3", "blocks-100")),
    Chart("bodies", "bodies and uploads: CPU per request", "us", "cpu_us", BODIES),
    Chart("start", "from the start to the first answer", "ms", "first_answer_ms", ("start",)),
    Chart("idle", "idle: wake-ups per minute", "per minute", "wakeups_per_minute", ("idle",)),
)  # fmt: skip

# The columns of the table of each kind of workload: metric, title, scale.
Columns = tuple[tuple[str, str, float], ...]
WRK: Columns = (
    ("cpu_us", "CPU us/request", 1), ("user_us", "of it outside the kernel", 1), ("outside_us", "of it outside the application", 1), ("rps", "requests/s", 1),
    ("p50_us", "p50 ms", 1e-3), ("p99_us", "p99 ms", 1e-3), ("pss_kb", "memory MB", 1 / 1024), ("errors", "errors", 1),
)  # fmt: skip
BESIDE: Columns = (("alone_p99_us", "p99 ms alone", 1e-3), ("p99_us", "p99 ms beside", 1e-3), ("rps", "requests/s", 1),
                   ("health_p99_us", "/healthz p99 ms", 1e-3), ("errors", "errors", 1))  # fmt: skip
PARK: Columns = (
    ("connections", "requests", 1), ("seconds_to_park", "s to park", 1), ("kb_each", "KB each", 1),
    ("rss_parked_kb", "memory MB", 1 / 1024), ("p99_us", "hello p99 ms", 1e-3), ("seconds_to_resume", "s to resume", 1),
    ("resumed_per_s", "resumed/s", 1), ("second_growth", "growth % in the second wave", 100), ("errors", "errors", 1),
)  # fmt: skip
START: Columns = (("first_answer_ms", "ms", 1), ("pss_kb", "memory MB", 1 / 1024))
IDLE: Columns = (
    ("wakeups_per_minute", "wake-ups/min", 1),
    ("cpu_ms_per_minute", "CPU ms/min", 1),
    ("pss_kb", "memory MB", 1 / 1024),
)
SSE: Columns = (
    ("requests", "events", 1), ("cpu_us", "CPU us/event", 1), ("p50_us", "p50 ms", 1e-3), ("p99_us", "p99 ms", 1e-3),
    ("pss_kb", "memory MB", 1 / 1024), ("errors", "errors", 1),
)  # fmt: skip
BUSY_COLUMNS: Columns = (*WRK[:-1], ("preemptions", "preemptions/request", 1), WRK[-1])
HEALTH: Columns = (("health_p50_us", "/healthz p50 ms", 1e-3), ("health_p99_us", "p99 ms", 1e-3),
                   ("health_max_us", "longest ms", 1e-3))  # fmt: skip
CONTINUATIONS: Columns = (("hello_p50_us", "hello p50 ms", 1e-3), ("hello_p99_us", "p99 ms", 1e-3),
                          ("hello_max_us", "longest ms", 1e-3), ("seconds_to_resume", "s until all had ended", 1))  # fmt: skip
TRICKLE: Columns = (("wakeups", "wake-ups/request", 1), ("cpu_us", "CPU us/request", 1),
                    ("hello_p50_us", "p50 ms", 1e-3), ("hello_p99_us", "p99 ms", 1e-3))  # fmt: skip
TABLES = {"busy": BUSY_COLUMNS, "queue": HEALTH, "gate": HEALTH, "continuations": CONTINUATIONS, "trickle": TRICKLE,
          "mixed": BESIDE, "hog": BESIDE, "park": PARK, "start": START, "idle": IDLE, "sse": SSE}  # fmt: skip

HELLOS = ("fermata", "freastal", "fastpysgi", "bjoern", "granian", "gthread")
README_TABLE = (
    ("proxy-c1000", "a proxy, 1,000 at once", "rps_per_cpu", "requests per CPU second", 1,
     ("fermata", "uvicorn", "gevent", "granian", "gthread")),
    ("short-wait-500", "0.5 ms of waiting, 8 threads", "rps", "requests/s", 1,
     ("fermata", "granian", "m0serve-threads", "uwsgi", "gthread")),
    ("postgres-c32", "Django with PostgreSQL, 8 threads", "rps", "requests/s", 1,
     ("fermata", "granian", "m0serve-threads", "pyvoy", "uwsgi", "gthread")),
    ("hello-c32", "hello, 32 connections", "cpu_us", "CPU us/request", 1, HELLOS),
    ("django", "Django hello", "cpu_us", "CPU us/request", 1, HELLOS),
)  # fmt: skip


def label(results: dict[str, Any], peer: str) -> str:
    return str(results["peers"][peer]["label"]) if peer in results["peers"] else "no server: a loop"


def kind_of(peer: str) -> str:
    return {"fermata": "ours", "limit": "limit", "loop": "limit"}.get(peer, "bar")


def section(results: dict[str, Any], chart: Chart, workload: str) -> Section | None:
    """The bars of one workload, the best first; who failed has none."""
    bars = []
    for peer, record in results["workloads"].get(workload, {}).get("peers", {}).items():
        if not record.get("failed") and (summary := record["summary"].get(chart.metric)):
            median, low, high = (value * chart.scale for value in summary)
            bars.append(Bar(label(results, peer), median, low, high, kind_of(peer)))
    bars.sort(key=lambda bar: bar.median, reverse=chart.better == MORE)
    title = results["workloads"].get(workload, {}).get("title", "") if len(chart.workloads) > 1 else ""
    return Section(title, bars) if bars else None


def charts(results: dict[str, Any]) -> dict[str, str]:
    """Each chart that has something to show, by name."""
    drawn = {}
    for chart in CHARTS:
        sections = [s for s in (section(results, chart, name) for name in chart.workloads) if s]
        if sections:
            rounds = (
                f"median of {results['rounds']} rounds, with the least and the greatest"
                if results["rounds"] > 1
                else "one round"
            )
            drawn[chart.name] = draw_chart(chart.title, f"{chart.unit}; {chart.better}; {rounds}", sections)
    return drawn


def table(head: list[str], rows: list[list[str]], align: str = "---:") -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] + [align] * (len(head) - 1), *rows)]
    return "\n".join(lines) + "\n"


def cell(summary: dict[str, list[float]], metric: str, scale: float) -> str:
    if metric not in summary:
        return ""
    median, low, high = (human(value * scale) for value in summary[metric])
    return median if low == high else f"{median} ({low} to {high})"


def workload_table(results: dict[str, Any], name: str) -> str:
    workload = results["workloads"][name]
    columns = TABLES.get(WORKLOADS[name].kind, WRK)
    used = [c for c in columns if any(c[0] in record["summary"] for record in workload["peers"].values())]
    rows, notes = [], []
    for peer, record in workload["peers"].items():
        if record.get("failed"):
            notes.append(f"{label(results, peer)}: {record['failed']}.")
        else:
            rows.append([label(results, peer), *(cell(record["summary"], metric, scale) for metric, _, scale in used)])
        if disturbed := sum(metrics.get("disturbed", 0) for metrics in record["rounds"]):
            notes.append(
                f"{label(results, peer)}: others were busy in {disturbed:.0f} of {len(record['rounds'])} rounds."
            )
    notes += [f"Without {label(results, peer)}, which {reason}." for peer, reason in workload["left_out"].items()]
    text = table(["", *(title for _, title, _ in used)], rows)
    return text + "".join(f"\n- {note}" for note in notes) + ("\n" if notes else "")


def targets(results: dict[str, Any]) -> str:
    said = {True: "yes", False: "**no**", None: "?"}
    rows = [[row.workload, row.wanted, row.measured, said[row.met]] for row in evaluate(results)]
    return table(["workload", "target", "measured", "met"], rows, "---")


def without_ports(command: str) -> str:
    """They are others each time, and so is the process that the load looks at."""
    command = re.sub(r"UPSTREAM=127\.0\.0\.1:\d+", "UPSTREAM=127.0.0.1:UPSTREAM_PORT", command)
    command = re.sub(r"--server-pid \d+", "--server-pid PID", command)
    return re.sub(r"(--port |127\.0\.0\.1:|launch\.py \w+ \S+ )\d+", r"\1PORT", command)


def commands(results: dict[str, Any]) -> str:
    """Every command line: of each server, and of the load, once for all servers that have the same."""
    lines = []
    for name, workload in results["workloads"].items():
        lines.append(f"# {name}: {workload['title']}")
        lines += [without_ports(record["server"]) for record in workload["peers"].values() if record["server"]]
        lines += sorted({without_ports(record["load"]) for record in workload["peers"].values() if record["load"]})
        lines.append("")
    return "```text\n" + "\n".join(lines).rstrip() + "\n```\n"


def about(results: dict[str, Any]) -> str:
    """The machine, the versions, and who is missing."""
    m = results["machine"]
    rounds = f"{results['rounds']} round{'s' * (results['rounds'] != 1)}"
    text = (
        f"{m['cpu']}, {m['cores']} cores, {m['memory_gb']} GB; Linux {m['kernel']}, CPython {m['python']}, {m['wrk']}. "
        f"{rounds} of {results['seconds']:g} s, {results['began']}, commit `{results['commit']}`:\n\n"
        f"    {results['command']}\n\n"
    )
    peers = results["peers"].values()
    rows = [[p["label"], p["version"] or "", p["threads"]] for p in peers if not p.get("missing")]
    text += table(["server", "version", "threads"], rows, "---")
    return text + "".join(f"\n- {p['label']}: {p['missing']}" for p in peers if p.get("missing"))


def all_results(results: dict[str, Any], drawn: dict[str, str]) -> str:
    """Every chart, then every table."""
    parts = [f"![{chart.title}](benchmarks/{chart.name}.svg)\n" for chart in CHARTS if chart.name in drawn]
    for name, workload in results["workloads"].items():
        parts.append(f"### {workload['title']}\n\n`{name}`\n\n{workload_table(results, name)}")
    return "\n".join(parts)


def summary(results: dict[str, Any]) -> str:
    """The few rows that README.md shows."""
    run, parts = Run(results), []
    for workload, title, metric, unit, scale, peers in README_TABLE:
        values = [(label(results, peer), run.value(workload, peer, metric) * scale) for peer in peers]
        known = [f"{name} {human(value)}" for name, value in values if not math.isnan(value)]
        if known:
            parts.append([f"{title}: {unit}", f"**{known[0]}**", ", ".join(known[1:])])
    return table(["", "Fermata", "others"], [[p[0], p[1].replace("Fermata ", ""), p[2]] for p in parts], "---")


def fill(text: str, sections: dict[str, str]) -> str:
    """`text` with what is generated put between its markers."""
    for name, content in sections.items():
        before, begin, rest = text.partition(f"<!-- generated: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if begin and end:
            text = f"{before}{begin}\n{content.strip()}\n\n{end}{after}"
    return text


def draw(results: dict[str, Any], publish: bool) -> None:
    """Writes charts, tables and the JSON to where they belong."""
    drawn = charts(results)
    sections = {"targets": targets(results), "results": all_results(results, drawn), "commands": commands(results),
                "machine": about(results), "summary": summary(results)}  # fmt: skip
    page = MANUAL / "performance.md"
    to = page.parent if publish else REPORT
    shutil.rmtree(to / "benchmarks", ignore_errors=True)
    (to / "benchmarks").mkdir(parents=True)
    for name, svg in drawn.items():
        (to / "benchmarks" / f"{name}.svg").write_text(svg)
    write(to / "benchmarks/results.json", results)
    (to / "performance.md").write_text(fill(page.read_text(), sections))
    if publish:
        README.write_text(fill(README.read_text(), sections))
    print(sections["targets"])
    print(f"{(to / 'performance.md').relative_to(ROOT)} has the rest")
