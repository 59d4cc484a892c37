"""A limit of open files is shared fairly: neither connections nor request bodies take what the application and the admin
port need."""

from __future__ import annotations

import re
import socket

import pytest
from harness.client import build
from harness.limits import LONG, PROMPT, eventually, fermata, timeout


@pytest.fixture
def few(launch):
    """A server that may open 256 files, and no more."""
    program = ["sh", "-c", 'ulimit -n 256 && exec "$0" "$@"', str(fermata())]
    return launch("basic", "--threads", "2", "--keep-alive", "60", "--header-timeout", "60", admin=True, program=program)


@timeout(90)
def test_connections_leave_the_application_its_files(few):
    assert re.search(r"\[WARNING\] --worker-connections 10000: only \d+ connections", few.log())
    with few.connect(timeout=LONG) as kept:
        assert kept.request("GET", "/hello").status == 200
        idle = [socket.create_connection(("127.0.0.1", few.port), timeout=PROMPT) for _ in range(400)]
        eventually(lambda: few.admin.metrics().value("fermata_connections") > 90, "it has accepted what it may")
        for _ in range(3):
            assert kept.request("GET", "/files?n=40").text == "40\n"
            assert few.admin.get("/healthz").status == 200
        for s in idle:
            s.close()
        assert few.get("/hello", timeout=LONG).status == 200  # the others have their turn


@timeout(90)
def test_bodies_leave_the_rest_theirs(few):
    """A megabyte and more each on its way: half of them fit into memory, and an eighth of all files is for the others."""
    part = build("POST", "/echo", [("Content-Length", "1400000")]) + b"b" * 1_350_000
    clients = [few.connect(timeout=LONG) for _ in range(90)]
    for c in clients:
        c.send(part)

    def decided() -> bool:
        metrics = few.admin.metrics()
        return metrics.value("fermata_received_bytes_total") >= 90 * 1_300_000

    eventually(decided, "all has come", within=LONG)
    refused = [c for c in clients if c.readable(0)]
    assert refused and len(refused) < 60
    assert {c.read_response().status for c in refused} == {503}
    assert few.admin.get("/healthz").status == 200
    with few.connect(timeout=LONG) as c:
        assert c.request("GET", "/files?n=40").text == "40\n"
    others = [c for c in clients if c not in refused]
    others[-1].send(b"b" * 50_000)
    assert len(others[-1].read_response().body) == 1_400_000


@timeout(90)
def test_admin_port_when_the_application_has_taken_all(launch):
    """Descriptors are kept back for it: an application that leaks its own does not end health checks."""
    program = ["sh", "-c", 'ulimit -n 256 && exec "$0" "$@"', str(fermata())]
    server = launch("basic", "--keep-alive", "60", admin=True, program=program)
    with server.connect(timeout=LONG) as kept, server.connect(timeout=LONG) as other:
        assert other.request("GET", "/hello").status == 200
        assert kept.request("GET", "/leak").status == 200
        assert other.request("GET", "/files?n=1").status == 500
        for _ in range(20):
            assert server.admin.get("/healthz").status == 200
        assert kept.request("GET", "/unleak").status == 200
        assert kept.request("GET", "/files?n=1").status == 200
