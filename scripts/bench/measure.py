"""One measurement: a fresh server, a check that it answers rightly, a warm-up, and the load of the workload's kind.

A measurement is a flat dictionary of numbers, which every kind fills as far as it makes sense.
"""

import json
import os
import shlex
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, replace

from . import proc
from .load import Running, Wrk, parse_load, parse_wrk, run_wrk, start_load
from .paths import BIN, BUILD, DATA, HERE, ROOT
from .peers import FERMATA, PEERS, Setup
from .server import Failed, Process, Server, check, free_port, shown
from .workloads import EXPECTED, HELLO_LENGTH, Workload

Metrics = dict[str, float]

WARM_UP = 0.4
UPSTREAM_DELAY_MS, UPSTREAM_BYTES = 50, 10240
PROXY_THREADS = {"fermata": 4, "gthread": 200, "granian": 200}
BURN_SECONDS = "0.5"
LARGE = 1 << 20
KEPT_BACK = 2200  # open files that no server gives to connections: Fermata's share for the application and for bodies
CONNECT_TIMEOUT = 10
MIXED_SECONDS = 1 / 2  # of a round, with and without what disturbs


@dataclass(frozen=True)
class Options:
    """What the command line says about all measurements."""

    seconds: float = 3.0
    wrk_threads: int = 1
    fermata: str = FERMATA
    venv: str = f"{BUILD}/venv"


@dataclass(frozen=True)
class Cell:
    """What one peer does in one workload."""

    workload: Workload
    peer: str
    options: Options

    @property
    def seconds(self) -> float:
        return self.options.seconds * self.workload.seconds


@dataclass
class Result:
    metrics: Metrics
    server: str
    load: str


def data_file(name: str, size: int) -> str:
    """A file of that size, made once."""
    path = ROOT / DATA / name
    if not path.exists() or path.stat().st_size != size:
        path.parent.mkdir(parents=True, exist_ok=True)
        block = os.urandom(1 << 16)
        with path.open("wb") as file:
            while (left := size - file.tell()) > 0:
                file.write(block[:left])
    return str(DATA / name)


def setup_of(cell: Cell, **env: str) -> Setup:
    w = cell.workload
    if w.app.endswith(":file100m"):
        env["BENCH_FILE"] = data_file("file", EXPECTED["file100m"])
    env = {**w.env, **env}
    options = cell.options
    return Setup(
        w.app_of(cell.peer), free_port(), threads=w.threads, fermata=options.fermata, env=env, venv=options.venv
    )


def open_server(cell: Cell, setup: Setup, path: str | None = None) -> Server:
    return Server(PEERS[cell.peer], setup, path or cell.workload.path_of(cell.peer))


def header_dict(headers: tuple[str, ...]) -> dict[str, str]:
    return dict(header.split(": ", 1) for header in headers)


def wrk_for(cell: Cell, port: int) -> Wrk:
    w = cell.workload
    post = data_file(f"post-{w.post}", w.post) if w.post else None
    return Wrk(port, w.connections, cell.seconds, w.path_of(cell.peer), w.headers, post, cell.options.wrk_threads)


def check_wrk(cell: Cell, wrk: Wrk) -> None:
    body = (ROOT / wrk.post).read_bytes() if wrk.post else None
    check(wrk.port, wrk.path, header_dict(wrk.headers), body, cell.workload.length)


def metered(server: Server, wrk: Wrk, length: int = 0) -> Metrics:
    """One run of wrk, with what it cost the server and what else the machine did meanwhile."""
    pids, other = server.pids(), proc.OtherLoad()
    before, user = proc.tree_cpu(pids), proc.tree_user(pids)
    metrics = run_wrk(wrk)
    # Some peers close as they were asked to but do not say so in the response; wrk calls that an error.
    if "Connection: close" in wrk.headers:
        metrics["errors"] -= metrics["read_errors"]
    cpu, user = proc.tree_cpu(pids) - before, proc.tree_user(pids) - user
    metrics["other_load"] = other.cores()
    if length >= LARGE:
        in_parts(metrics, length)
    metrics |= cost(cpu, metrics)
    return metrics | {"user_us": user / metrics["requests"] * 1e6} | memory(server)


def in_parts(metrics: Metrics, length: int) -> None:
    """What is still on its way when the time is up counts by its bytes: of a few large responses it is a good part."""
    metrics["requests"] = metrics["mb_per_s"] * 1e6 * metrics["seconds"] / length
    metrics["rps"] = metrics["requests"] / metrics["seconds"]


def cost(cpu: float, metrics: Metrics) -> Metrics:
    requests = metrics["requests"]
    if not requests:
        raise Failed("no request was answered")
    return {
        "cpu_us": cpu / requests * 1e6,
        "server_cores": cpu / metrics["seconds"],
        "rps_per_cpu": requests / cpu if cpu else 0.0,
        "unfairness": metrics["p99_us"] / max(1.0, metrics["p50_us"]),
    }


def memory(server: Server) -> Metrics:
    rss, pss = proc.memory_kb(server.pids())
    return {"rss_kb": rss, "pss_kb": pss}


def measure_wrk(cell: Cell) -> Result:
    with open_server(cell, setup_of(cell)) as server:
        wrk = wrk_for(cell, server.setup.port)
        check_wrk(cell, wrk)
        run_wrk(replace(wrk, seconds=WARM_UP))
        timed = cell.workload.app.endswith(":timed")
        if timed:
            app_cpu(wrk.port)
        metrics = metered(server, wrk, 0 if wrk.post else cell.workload.length)
        if timed:
            metrics["app_us"] = app_cpu(wrk.port)
            metrics["outside_us"] = metrics["cpu_us"] - metrics["app_us"]
        return Result(metrics, server_line(server), shlex.join(wrk.command()))


def app_cpu(port: int) -> float:
    """Microseconds of CPU of the application's own code, for each call since this was last asked (apps/wsgi_apps.py).

    A framework takes twenty times what a server does, and a machine is not equally quick for long: the difference
    means something only if both are measured in the same process at the same time.
    """
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/cpu", timeout=30) as response:
        calls, nanoseconds = (int(word) for word in response.read().split())
    return nanoseconds / max(1, calls) / 1000


def server_line(server: Server) -> str:
    return shown(server.peer.command(server.setup), server.setup.env)


def measure_loop(cell: Cell) -> Result:
    """The application called in a loop: what a server cannot save."""
    command = [
        f"{BIN}/python",
        f"{HERE}/overhead.py",
        cell.workload.app_of("loop"),
        "--seconds",
        f"{cell.seconds / 2:g}",
    ]
    for header in cell.workload.headers:
        command += ["-H", header]
    other = proc.OtherLoad()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=cell.seconds + 60, check=False)
    if done.returncode:
        raise Failed(done.stderr.strip().splitlines()[-1])
    metrics: Metrics = json.loads(done.stdout)
    return Result(metrics | {"other_load": other.cores()}, "", shlex.join(command))


def with_disturbance(cell: Cell, server: Server, wrk: Wrk, disturb: Wrk, also: list[Wrk]) -> Metrics:
    """`wrk` alone, then beside `disturb`; at that time what is in `also`, /healthz if at all, is asked for as well."""
    metrics = {f"alone_{name}": value for name, value in metered(server, wrk).items()}
    disturber = Running(replace(disturb, seconds=cell.seconds * 2 + 10).command())
    try:
        time.sleep(0.3)
        beside = [Running(extra.command()) for extra in also]
        metrics |= metered(server, wrk)
        said = [running.finish(wrk.seconds + 30) for running in beside]
    finally:
        disturber.interrupt()
        disturber.finish(30)
    metrics["other_load"] = max(metrics["other_load"], metrics["alone_other_load"])
    metrics["p99_ratio"] = metrics["p99_us"] / max(1.0, metrics["alone_p99_us"])
    for output in said:
        metrics["health_p99_us"] = parse_wrk(output)["p99_us"]
    return metrics


def measure_mixed(cell: Cell) -> Result:
    return measure_beside(cell, "/block", 4)


def measure_hog(cell: Cell) -> Result:
    return measure_beside(cell, "/burn", 2)


def measure_beside(cell: Cell, path: str, connections: int) -> Result:
    setup = setup_of(cell, BURN_SECONDS=BURN_SECONDS)
    also: list[Wrk] = []
    if cell.workload.kind == "hog" and cell.peer == "fermata":
        setup = replace(setup, admin_port=free_port())
    with open_server(cell, setup) as server:
        wrk = replace(wrk_for(cell, setup.port), seconds=cell.seconds * MIXED_SECONDS)
        check_wrk(cell, wrk)
        run_wrk(replace(wrk, seconds=WARM_UP))
        disturb = Wrk(setup.port, connections, cell.seconds, path)
        if setup.admin_port:
            also.append(Wrk(setup.admin_port, 1, wrk.seconds, "/healthz"))
        metrics = with_disturbance(cell, server, wrk, disturb, also)
        return Result(metrics, server_line(server), f"{shlex.join(disturb.command())} & {shlex.join(wrk.command())}")


def load_headers(headers: tuple[str, ...]) -> list[str]:
    return [argument for header in headers for argument in ("-H", header)]


def closed_metrics(output: str) -> Metrics:
    said = parse_load(output)
    latency = said["latency_us"]
    return {
        **{name: said[name] for name in ("requests", "errors", "seconds", "rps", "client_cpu")},
        **{f"{name}_us": latency[name] for name in ("p50", "p90", "p99", "max")},
        "fewest_per_connection": said["per_connection"]["min"],
        "most_per_connection": said["per_connection"]["max"],
    }


def closed_warm_up(workload: Workload) -> float:
    """As long as it takes until requests come and go evenly: of 5,000 at once a slow peer has seconds to do."""
    return 1 + workload.connections / 800


def measure_closed(cell: Cell, setup: Setup | None = None, length: int = HELLO_LENGTH) -> Result:
    """Thousands of connections: our own load generator, whose last `seconds` are what is measured."""
    w, setup = cell.workload, setup or setup_of(cell)
    path = w.path_of(cell.peer)
    with open_server(cell, setup) as server:
        check(setup.port, path, header_dict(w.headers), None, length)
        options = ["-c", str(w.connections), "--timeout", str(CONNECT_TIMEOUT), "--duration", f"{cell.seconds:g}"]
        options += ["--warmup", f"{closed_warm_up(w):g}"]
        other, sampler = proc.OtherLoad(), proc.Sampler(server.pids())
        running = start_load("closed", setup.port, path, *options, *load_headers(w.headers))
        output = running.finish(cell.seconds + 90)
        cpu = sampler.last(cell.seconds)
        metrics = closed_metrics(output)
        metrics["other_load"] = other.cores()
        metrics |= cost(cpu, metrics) | memory(server)
        return Result(metrics, server_line(server), shlex.join(running.command))


def measure_proxy(cell: Cell) -> Result:
    port = free_port()
    command = [f"{BUILD}/upstream", "--port", str(port), "--delay-ms", str(UPSTREAM_DELAY_MS)]
    with Process("upstream", [*command, "--bytes", str(UPSTREAM_BYTES)], {}) as upstream:
        setup = setup_of(cell, UPSTREAM=f"127.0.0.1:{port}")
        setup = replace(setup, threads=PROXY_THREADS.get(cell.peer))
        result = measure_closed(cell, setup, UPSTREAM_BYTES)
        if upstream.ended():
            raise Failed(f"the upstream has ended: {upstream.last_words()}")
        return result


def most_connections(wanted: int) -> int:
    """As many as the limit of open files lets a process have; a round number if it is less than what is wanted."""
    import resource

    possible = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - KEPT_BACK
    return wanted if possible >= wanted else possible // 1000 * 1000


def park_metrics(output: str) -> Metrics:
    said = parse_load(output)
    first, *later = said["waves"]
    n = said["connections"]
    metrics = {
        "connections": n,
        "parked": first["parked"],
        "errors": sum(wave["errors"] for wave in said["waves"]),
        "seconds_to_park": first["seconds_to_park"],
        "seconds_to_resume": first["seconds_to_resume"],
        "resumed_per_s": first["resumed"] / first["seconds_to_resume"],
        "kb_each": (first["rss_parked_kb"] - first["rss_before_kb"]) / max(1, first["parked"]),
        "rss_parked_kb": first["rss_parked_kb"],
        **{f"{name}_us": first["hello_latency_us"][name] for name in ("p50", "p99", "max")},
    }
    if later:
        metrics["second_growth"] = later[0]["rss_parked_kb"] / first["rss_parked_kb"] - 1
        metrics["second_resumed_per_s"] = later[0]["resumed"] / later[0]["seconds_to_resume"]
    return metrics


def measure_park(cell: Cell) -> Result:
    w, setup = cell.workload, setup_of(cell)
    n = most_connections(w.connections)
    with open_server(cell, setup, "/hello") as server:
        options = ["-c", str(n), "--sources", "4", "--waves", "2", "--server-pid", str(server.pid)]
        other = proc.OtherLoad()
        running = start_load("park", setup.port, w.path, *options, *load_headers(w.headers))
        metrics = park_metrics(running.finish(300))
        metrics["other_load"] = other.cores()
        return Result(metrics, server_line(server), shlex.join(running.command))


def measure_sse(cell: Cell) -> Result:
    w, setup = cell.workload, setup_of(cell)
    with open_server(cell, setup) as server:
        other, sampler = proc.OtherLoad(), proc.Sampler(server.pids())
        seconds = max(2.0, cell.seconds)
        running = start_load("sse", setup.port, w.path, "-c", str(w.connections), "--duration", f"{seconds:g}")
        said = parse_load(running.finish(seconds + 90))
        cpu = sampler.last(seconds)
        metrics = {
            "requests": said["events"],
            "seconds": seconds,
            "errors": said["errors"] + said["expected"] - said["events"],
            **{f"{name}_us": said["delay_us"][name] for name in ("p50", "p90", "p99", "max")},
            "other_load": other.cores(),
        }
        metrics |= cost(cpu, metrics) | memory(server)
        return Result(metrics, server_line(server), shlex.join(running.command))


def measure_start(cell: Cell) -> Result:
    other = proc.OtherLoad()
    with open_server(cell, setup_of(cell)) as server:
        metrics = {"first_answer_ms": server.first_answer_ms, "other_load": other.cores()} | memory(server)
        return Result(metrics, server_line(server), "")


def measure_idle(cells: list[Cell], seconds: float) -> dict[str, Result]:
    """All at once, because they do nothing: each has answered once, and then is not asked."""
    servers: dict[str, Server] = {}
    try:
        for cell in cells:
            try:
                servers[cell.peer] = open_server(cell, setup_of(cell))
            except Failed as error:
                print(f"  {cell.peer}: {error}", file=sys.stderr)
        time.sleep(3)  # what they still do for that one request
        trees = {name: server.pids() for name, server in servers.items()}
        before = {name: (proc.tree_cpu(pids), proc.wakeups(pids)) for name, pids in trees.items()}
        time.sleep(seconds)
        results = {}
        for name, server in servers.items():
            cpu, woken = proc.tree_cpu(trees[name]) - before[name][0], proc.wakeups(trees[name]) - before[name][1]
            metrics = {"cpu_ms_per_minute": cpu * 60000 / seconds, "wakeups_per_minute": woken * 60 / seconds}
            results[name] = Result(metrics | memory(server), server_line(server), "")
        return results
    finally:
        for server in servers.values():
            server.stop()
