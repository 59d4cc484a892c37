"""Probes, and the databases that applications ask."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from bench import backends, kinds, suite
from bench.measure import Options
from bench.server import Failed
from bench.waits import Probe, probing
from bench.workloads import WORKLOADS


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_probe_asks_until_the_block_is_over(port: int) -> None:
    probe, asked = Probe(port, "/"), threading.Event()
    with probing(probe):
        while len(probe.took) < 3:
            asked.wait(0.01)
    metrics = probe.metrics("hello")
    assert 0 < metrics["hello_p50_us"] <= metrics["hello_p99_us"] <= metrics["hello_max_us"]


def test_a_probe_that_is_refused_fails_the_measurement(port: int) -> None:
    probe = Probe(port, "/full")
    with pytest.raises(Failed, match="503"), probing(probe):
        pass


def test_percentiles_of_a_probe() -> None:
    probe = Probe(1, "/")
    probe.took = [i / 1e6 for i in range(1, 101)]
    assert probe.metrics("x") == pytest.approx({"x_p50_us": 51, "x_p99_us": 100, "x_max_us": 100})


def test_sqlite_has_the_data() -> None:
    with backends.running("sqlite") as environment:
        path = Path(environment["BENCH_SQLITE"])
        with contextlib.closing(sqlite3.connect(path)) as connection:
            for table, rows in (("bench_user", backends.USERS), ("bench_item", backends.ITEMS)):
                assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (rows,)
    assert not path.exists()


def test_every_workload_has_a_kind_and_a_backend() -> None:
    for workload in WORKLOADS.values():
        assert workload.kind in kinds.KINDS or workload.kind == "idle"
        assert workload.backend is None or workload.backend in backends.BACKENDS


def test_without_its_database_a_workload_fails_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def missing(directory: Path) -> Iterator[dict[str, str]]:
        raise Failed("there is none")
        yield {}

    monkeypatch.setitem(backends.BACKENDS, "redis", missing)
    plan = suite.Plan(["redis-c32"], None, 1, 0, Options())
    peers = suite.run_workload(plan, WORKLOADS["redis-c32"], {"uwsgi": "missing"})["peers"]
    assert {peer: record["failed"] for peer, record in peers.items()} == {
        peer: "missing" if peer == "uwsgi" else "there is none" for peer in WORKLOADS["redis-c32"].peers
    }
