"""What others notice while many wait, measured by asking at a steady pace: health checks and new requests beside a full
queue, what a busy neighbour costs, and what is woken for a few requests a second.

A probe asks every few milliseconds and no sooner, so that it does not compete with what it looks at.
"""

import contextlib
import http.client
import shlex
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from . import proc
from .load import run_wrk, start_load
from .measure import (
    CONNECT_TIMEOUT,
    WARM_UP,
    Cell,
    Metrics,
    Result,
    closed_warm_up,
    memory,
    metered,
    most_connections,
    open_server,
    park_metrics,
    server_line,
    setup_of,
    wrk_for,
)
from .paths import BIN
from .server import Failed, Process, check, free_port
from .workloads import HELLO_LENGTH

PACE = 0.005  # seconds between two questions of a probe
TRICKLE = 20  # requests a second
PATIENCE = 60.0


class Probe:
    """Asks for a path at a steady pace, each time on the same connection, and remembers how long each answer took."""

    def __init__(self, port: int, path: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._path = path
        self.took: list[float] = []  # seconds

    def ask(self) -> None:
        began = time.monotonic()
        self._connection.request("GET", self._path)
        response = self._connection.getresponse()
        response.read()
        if response.status != 200:
            raise Failed(f"{self._path} answers {response.status}")
        self.took.append(time.monotonic() - began)

    def close(self) -> None:
        self._connection.close()

    def metrics(self, name: str) -> Metrics:
        took = sorted(self.took)
        if not took:
            raise Failed(f"{self._path} was not asked for")
        at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        return {f"{name}_{key}_us": took[min(len(took) - 1, int(share * len(took)))] * 1e6 for key, share in at.items()}


@contextlib.contextmanager
def probing(probe: Probe) -> Iterator[None]:
    """In a thread, as long as the block runs."""
    over = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            probe.ask()
            while not over.wait(PACE):
                probe.ask()
        except BaseException as error:  # noqa: BLE001 - told to who waits for it
            failed.append(error)
        finally:
            probe.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failed:
        raise Failed(f"a probe failed: {failed[0]!r}")


def measure_busy(cell: Cell) -> Result:
    """As wrk's, beside a neighbour that takes a processor for itself."""
    with open_server(cell, setup_of(cell)) as server, neighbour():
        wrk = wrk_for(cell, server.setup.port)
        check(wrk.port, wrk.path, {}, None, cell.workload.length)
        run_wrk(replace(wrk, seconds=WARM_UP))
        before = proc.preemptions(server.pids())
        metrics = metered(server, wrk)
        metrics["preemptions"] = (proc.preemptions(server.pids()) - before) / metrics["requests"]
        return Result(metrics, server_line(server), shlex.join(wrk.command()))


def neighbour() -> Process:
    return Process("neighbour", [f"{BIN}/python", "-c", "while True: pass"], {})


def measure_queue(cell: Cell) -> Result:
    """/healthz while thousands of steps wait for their turn."""
    w, setup = cell.workload, replace(setup_of(cell), admin_port=free_port())
    assert setup.admin_port
    with open_server(cell, setup) as server:
        check(setup.port, w.path, {}, None, HELLO_LENGTH)
        options = ["-c", str(w.connections), "--timeout", str(CONNECT_TIMEOUT), "--duration", f"{cell.seconds:g}"]
        options += ["--warmup", f"{closed_warm_up(w):g}"]
        other, probe = proc.OtherLoad(), Probe(setup.admin_port, "/healthz")
        running = start_load("closed", setup.port, w.path, *options)
        with probing(probe):
            running.finish(cell.seconds + 90)
        metrics = probe.metrics("health") | {"other_load": other.cores()} | memory(server)
        return Result(metrics, server_line(server), shlex.join(running.command))


def measure_gate(cell: Cell) -> Result:
    """/healthz while thousands of requests are parked and then all resume at once."""
    w, setup = cell.workload, replace(setup_of(cell), admin_port=free_port())
    assert setup.admin_port
    n = most_connections(w.connections)
    with open_server(cell, setup, "/hello") as server:
        options = ["-c", str(n), "--sources", "4", "--waves", "2", "--server-pid", str(server.pid)]
        other, probe = proc.OtherLoad(), Probe(setup.admin_port, "/healthz")
        running = start_load("park", setup.port, w.path, *options)
        with probing(probe):
            output = running.finish(120)
        metrics = park_metrics(output) | probe.metrics("health") | {"other_load": other.cores()}
        return Result(metrics, server_line(server), shlex.join(running.command))


def ask_number(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return int(connection.getresponse().read())


def wait_for_number(port: int, path: str, number: int) -> None:
    began = time.monotonic()
    while ask_number(port, path) < number:
        if time.monotonic() - began > PATIENCE:
            raise Failed(f"{path} does not come to {number}")
        time.sleep(0.05)


def measure_continuations(cell: Cell) -> Result:
    """A new hello while thousands of continuations of one future have each something to do."""
    w, setup = cell.workload, setup_of(cell)
    with open_server(cell, setup, "/hello") as server, contextlib.ExitStack() as clients:
        request = f"GET {w.path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        for _ in range(w.connections):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", setup.port), timeout=30))
            client.sendall(request)
        wait_for_number(setup.port, "/parked", w.connections)
        other, probe = proc.OtherLoad(), Probe(setup.port, "/hello")
        ask = http.client.HTTPConnection("127.0.0.1", setup.port, timeout=30)
        ask.request("GET", "/release")
        began = time.monotonic()
        while not probe.took or ask_number(setup.port, "/worked") < w.connections:
            probe.ask()
            if time.monotonic() - began > PATIENCE:
                raise Failed("the continuations do not end")
        seconds = time.monotonic() - began
        ask.close()
        probe.close()
        metrics = probe.metrics("hello") | {"seconds_to_resume": seconds, "other_load": other.cores()}
        return Result(metrics, server_line(server), f"{w.connections} connections that ask for {w.path}")


def measure_trickle(cell: Cell) -> Result:
    """Wake-ups and processor time of a server that has little to do."""
    with open_server(cell, setup_of(cell)) as server:
        probe, pids, other = Probe(server.setup.port, "/"), server.pids(), proc.OtherLoad()
        probe.ask()
        time.sleep(1)
        woken, cpu, n = proc.wakeups(pids), proc.tree_cpu(pids), max(1, int(cell.seconds * TRICKLE))
        for _ in range(n):
            probe.ask()
            time.sleep(1 / TRICKLE)
        metrics = {"wakeups": (proc.wakeups(pids) - woken) / n, "cpu_us": (proc.tree_cpu(pids) - cpu) / n * 1e6}
        probe.close()
        metrics |= probe.metrics("hello") | {"other_load": other.cores()} | memory(server)
        return Result(metrics, server_line(server), f"{TRICKLE} requests a second on one connection")
