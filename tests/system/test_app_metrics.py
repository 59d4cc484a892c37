"""/metrics/app: what the application has in prometheus_client's registry, from a thread of its own, however that behaves."""

from __future__ import annotations

import os
import time

import pytest
from harness.admin import parse
from harness.client import Connection
from harness.limits import LONG, PROMPT, ROOT, eventually

VENV = ("--venv", str(ROOT / "build/venv"))
WAIT = 1.0  # seconds that a scrape waits for the application


@pytest.fixture
def server(launch):
    return launch("measured:app", "--threads", "2", *VENV, admin=True)


def collected(server):
    answer = server.admin.get("/metrics/app", timeout=LONG)
    assert answer.status == 200, answer.text
    return answer, parse(answer.text)


def keep_the_gil(server, tmp_path):
    """The descriptor of the FIFO from which the application reads with the GIL, until it is closed."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    connection = server.begin(f"/hold-the-gil?fifo={fifo}", timeout=LONG)
    return connection, os.open(fifo, os.O_WRONLY)


def test_the_applications_own(server):
    """Its registry, as it is now, and nothing of the server's; the server's page has nothing of it."""
    for n in (1, 2):
        assert server.get("/quote").status == 200
        answer, metrics = collected(server)
        assert metrics.value("quotes_total", of='\\"odd\\"\\nname') == n
    assert metrics.value("open_orders") == 17
    assert metrics.value("process_start_time_seconds") > 0
    assert not [name for name, _ in metrics.samples if name.startswith("fermata_")]
    assert answer.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.header("Age") == "0" and "has not answered" not in answer.text
    assert not [name for name, _ in server.admin.metrics().samples if name.startswith(("quotes", "open_orders"))]


def test_as_open_as_metrics(server):
    """Numbers are told to all; only GET and HEAD; HEAD has the length alone."""
    with Connection(server.admin_address(), timeout=LONG) as c:
        for host in ("scraped.example", "10.0.0.1"):
            assert c.request("GET", "/metrics/app", [("Host", host)]).status == 200
        assert c.request("POST", "/metrics/app").status == 405
    with Connection(server.admin_address(), timeout=LONG) as c:
        answer = c.request("HEAD", "/metrics/app")
        assert (answer.status, answer.body) == (200, b"") and int(answer.header("Content-Length")) > 500


def test_without_the_library(serve):
    """An application that has not imported it is not made to."""
    server = serve("basic", "--threads", "2", *VENV, admin=True)
    answer = server.admin.get("/metrics/app", timeout=LONG)
    assert (answer.status, answer.text) == (404, "The application has not imported prometheus_client.\n")
    assert server.call("probe.has_module", "prometheus_client") is False


def test_before_the_application_is_loaded(launch, tmp_path):
    """While it is being imported there is an answer as well, and the server lives."""
    (tmp_path / "slow_start.py").write_text(
        "import os, time\n"
        "deadline = time.monotonic() + 60\n"
        "while not os.path.exists('go') and time.monotonic() < deadline:\n"
        "    time.sleep(0.01)\n"
        "import prometheus_client\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '2')])\n"
        "    return [b'ok']\n"
    )
    server = launch("slow_start", *VENV, cwd=tmp_path, admin=True, ready=False)
    eventually(lambda: server.admin_address() is not None, "the admin endpoint listens", within=LONG)
    for _ in range(5):
        assert server.admin.get("/metrics/app", timeout=LONG).status in (404, 503)
    (tmp_path / "go").write_text("")
    server.wait_ready()
    eventually(lambda: server.admin.get("/metrics/app", timeout=LONG).status == 200, "it has metrics", within=LONG)


def test_while_the_gil_is_held(server, tmp_path):
    """After a second the last text comes, and says how old it is; the next scrape does not wait again."""
    collected(server)
    connection, fd = keep_the_gil(server, tmp_path)
    try:
        time.sleep(1.1)
        began = time.monotonic()
        answer, metrics = collected(server)
        assert WAIT * 0.9 < time.monotonic() - began
        assert metrics.value("open_orders") == 17
        assert int(answer.header("Age")) >= 2 and "s ago: the application has not answered since" in answer.text
        began = time.monotonic()
        collected(server)
        assert time.monotonic() - began < WAIT * 0.9
        assert server.admin.get("/healthz").status == 200
    finally:
        os.close(fd)
    assert connection.read_response().status == 200
    eventually(lambda: collected(server)[0].header("Age") == "0", "it is of now again")


def test_never_so_far(server, tmp_path):
    """Where there is no last text: 503."""
    connection, fd = keep_the_gil(server, tmp_path)
    try:
        answer = server.admin.get("/metrics/app", timeout=LONG)
        assert (answer.status, answer.text) == (503, "The application has not answered so far.\n")
    finally:
        os.close(fd)
    assert connection.read_response().status == 200
    eventually(lambda: server.admin.get("/metrics/app", timeout=LONG).status == 200, "it answers")


def test_a_collector_that_raises(server):
    """500, and why is in the log; as soon as it is well again, so are the metrics."""
    for how, text in (("raise", "RuntimeError: the collector has failed on purpose"), ("exit", "SystemExit: 3")):
        start = server.log_size()
        server.call("measured.behave", how)
        answer = server.admin.get("/metrics/app", timeout=LONG)
        assert (answer.status, answer.text) == (
            500,
            "The application's metrics cannot be collected: the log says why.\n",
        )
        server.wait_log(r"/metrics/app: the application's metrics cannot be collected", start=start)
        server.wait_log(text, start=start)
        server.call("measured.behave", "good")
        collected(server)


def test_a_library_that_is_replaced(server, tmp_path):
    """What is no bytes is said in the log; a comment is a line of its own, whatever the text ends with."""
    start = server.log_size()
    server.call("measured.generate", "text 1")
    assert server.admin.get("/metrics/app", timeout=LONG).status == 500
    server.wait_log("TypeError: generate_latest has returned str, and not bytes", start=start)
    server.call("measured.generate", "bytes_total 1")
    assert server.admin.get("/metrics/app", timeout=LONG).text == "bytes_total 1\n"
    connection, fd = keep_the_gil(server, tmp_path)
    try:
        text = eventually(
            lambda: (t := server.admin.get("/metrics/app", timeout=LONG).text).count("\n") == 2 and t,
            "it is late",
            within=LONG,
        )
        assert text.startswith("bytes_total 1\n# Of ")
    finally:
        os.close(fd)
    assert connection.read_response().status == 200


def test_a_collector_that_waits(server):
    """One at a time, however many scrapes come; requests are served meanwhile."""
    collected(server)
    server.call("measured.behave", "wait")
    connections = [Connection(server.admin_address(), timeout=LONG) for _ in range(8)]
    try:
        for c in connections:
            c.send(
                b"GET /metrics/app HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            )
        assert server.get("/quote").status == 200
        for c in connections:
            assert "the application has not answered since" in c.read_response().text
            assert c.read_response().text == "ok\n"
    finally:
        for c in connections:
            c.close()
    assert server.call("probe.count", "collector", "waits") == 1
    server.call("measured.behave", "good")
    server.call("probe.open_gate", "collector")
    eventually(lambda: collected(server)[0].header("Age") == "0", "it is of now again", within=LONG)


def test_a_client_that_leaves(server):
    """Nobody waits any more when the answer comes."""
    server.call("measured.behave", "wait")
    with Connection(server.admin_address(), timeout=LONG) as c:
        c.send(b"GET /metrics/app HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        server.wait_events("collector", "waits")
    server.call("measured.behave", "good")
    server.call("probe.open_gate", "collector")
    eventually(lambda: server.admin.get("/metrics/app", timeout=LONG).status == 200, "it answers", within=LONG)


def test_the_end_comes_first(launch):
    """A collector that hangs does not keep the server from its end."""
    server = launch("measured:app", "--threads", "2", *VENV, admin=True)
    server.call("measured.behave", "wait")
    with Connection(server.admin_address(), timeout=LONG) as c:
        c.send(b"GET /metrics/app HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        server.wait_events("collector", "waits")
        server.stop()


def test_an_idle_connection_is_not_cut_off(launch):
    """A timeout for idle connections that is shorter than the wait does not cut it short."""
    server = launch("measured:app", "--threads", "2", "--keep-alive", "0.2", *VENV, admin=True)
    server.call("measured.behave", "wait")
    answer = server.admin.get("/metrics/app", timeout=LONG)
    assert answer.status == 503
    server.call("probe.open_gate", "collector")


def test_a_directory_that_processes_share(launch, tmp_path):
    """PROMETHEUS_MULTIPROC_DIR: what all of them have written there, as the library's own exporters show it."""
    server = launch(
        "measured:app", "--threads", "2", *VENV, admin=True, env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    )
    server.get("/quote")
    _, metrics = collected(server)
    assert metrics.value("quotes_total", of='\\"odd\\"\\nname') == 1
    assert ("process_start_time_seconds", ()) not in metrics.samples
    assert list(tmp_path.glob("counter_*.db"))


def test_with_workers(launch):
    """Each worker has its own, which the arbiter does not: 400, and how they are to be had (test_status_workers.py)."""
    server = launch("measured:app", "--workers", "2", *VENV, admin=True)
    answer = server.admin.get("/metrics/app", timeout=PROMPT)
    assert (answer.status, answer.text) == (400, "each worker has its own: ?worker=N says which (0, 1)\n")
