"""What has arrived before the signal is answered (S18.1), what has not delays nothing; signals that end nothing."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time

import pytest
from harness.burst import Burst
from harness.client import NoResponse, build
from harness.limits import APPS, LONG, PROMPT, QUIET, TSAN, eventually, fermata, timeout
from harness.server import wait_refused


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


@pytest.fixture(params=["tcp", "unix", "abstract"])
def bind(request, tmp_path):
    return {
        "tcp": ["127.0.0.1:0"],
        "unix": [f"unix:{tmp_path}/s"],
        "abstract": [f"unix:@fermata-{os.getpid()}-{tmp_path.name}"],
    }[request.param]


# What has arrived


@timeout(120)
@pytest.mark.parametrize("options", [(), ("--threads", "1", "--worker-connections", "50")], ids=["plain", "full"])
def test_no_request_is_lost(launch, bind, options):
    """Requests in the moment before SIGTERM, on connections that have not been accepted yet, as the first and as the next
    ones of others, two at once: each is answered, and its connection then ends without a reset. Also where there are
    more connections than are served at once, and where the server has read nothing until the signal is there."""
    kinds = ("new",) if options else ("new", "fresh", "kept", "pipelined")
    for stopped in (False, False, not TSAN):
        server = launch("basic", *options, bind=bind)
        burst = Burst(server, 200 if options else 50, kinds=kinds).run(stopped=stopped)
        assert not burst.lost, burst.outcomes
        assert sum(burst.outcomes.values()) >= 200
        assert server.wait_exit(PROMPT) == 0


@timeout(120)
@pytest.mark.skipif(TSAN, reason="its runtime may keep back a signal that comes while the process is stopped")
def test_more_than_there_are_descriptors(launch):
    """What waits to be accepted and is more than there are open files for is accepted as others end."""
    program = ["sh", "-c", 'ulimit -n 200 && exec "$0" "$@"', str(fermata())]
    server = launch("basic", "--threads", "2", program=program)
    burst = Burst(server, 400, kinds=("new",)).run(stopped=True)
    assert burst.outcomes == {"new: 200": 400}
    assert server.wait_exit(PROMPT) == 0


@timeout(60)
@pytest.mark.skipif(TSAN, reason="its runtime may keep back a signal that comes while the process is stopped")
def test_more_than_there_is_time_for(launch):
    """The graceful timeout is for them, too."""
    program = ["sh", "-c", 'ulimit -n 200 && exec "$0" "$@"', str(fermata())]
    server = launch("suspend:app", "--threads", "2", "--graceful-timeout", "1", program=program)
    os.kill(server.pid, signal.SIGSTOP)
    clients = [server.begin("/park?key=k") for _ in range(400)]
    os.kill(server.pid, signal.SIGTERM)
    os.kill(server.pid, signal.SIGCONT)
    assert server.wait_exit(1 + PROMPT) == 0
    for c in clients:
        c.close()


def test_next_request_behind_the_running_one(launch, key):
    """A request that has arrived behind one that runs is answered after it, and says that the connection ends; the one
    before does not."""
    server = launch("suspend:app", "--threads", "2", admin=True)
    with server.connect() as c:
        c.send(build("GET", f"/gate?key={key}"))
        server.wait_events(key, "entered")
        c.send(build("GET", "/hello"))
        server.signal(signal.SIGTERM)
        wait_refused(server.address)
        server.call("probe.open_gate", key)
        first, second = c.read_response(), c.read_response()
        assert (first.text, first.keeps_alive) == ("opened", True)
        assert (second.text, second.header("Connection")) == ("hello", "close")
        c.ended()
    assert server.wait_exit(PROMPT) == 0


def test_request_behind_the_running_one_in_the_drain(launch, key):
    """One that comes later, while it drains, is not begun (S18.1)."""
    server = launch("suspend:app", "--threads", "2", admin=True)
    with server.connect() as c:
        c.send(build("GET", f"/gate?key={key}"))
        server.wait_events(key, "entered")
        server.signal(signal.SIGTERM)
        wait_refused(server.address)
        c.send(build("GET", f"/park?key={key}2"))
        server.call("probe.open_gate", key)
        assert c.read_response().header("Connection") == "close"
        with contextlib.suppress(NoResponse):
            c.ended()
    assert server.wait_exit(PROMPT) == 0


def test_answered_before_and_sent_after(launch, key):
    """A response whose head has left before the drain has promised the next request an answer."""
    server = launch("suspend:app", "--threads", "2", admin=True)
    with server.connect() as c:
        c.send(build("GET", f"/park-after?key={key}"))
        head = c.read_head()
        assert head.keeps_alive
        server.wait_events(key, "parking")
        server.signal(signal.SIGTERM)
        wait_refused(server.address)
        c.send(build("GET", "/hello"))
        server.call("probe.complete", key)
        list(c.iter_body(head))
        answer = c.read_response()
        assert (answer.text, answer.header("Connection")) == ("hello", "close")
    assert server.wait_exit(PROMPT) == 0


@pytest.mark.parametrize("said", [b"GET /hel", b"GET /hello HTTP/1.1\r\nHost: x\r\n"])
def test_half_a_head(launch, said):
    """It has a second to become whole, whatever --header-timeout says; then it is refused with 408, and that client is
    not waited for either."""
    server = launch("suspend:app", "--header-timeout", "60")
    with server.connect() as c, server.connect() as slow:
        c.send(said)
        slow.send(said)
        assert not c.readable(QUIET)
        server.signal(signal.SIGTERM)
        wait_refused(server.address)
        c.send(build("GET", "/hello")[len(said) :] if said == b"GET /hel" else b"\r\n")
        assert c.read_response().header("Connection") == "close"
        assert slow.read_response().status == 408
        assert server.wait_exit(3 + PROMPT) == 0
        slow.ended()


def test_refused_client_is_not_waited_for(launch):
    """A client that was refused, and neither reads nor closes, holds the drain for a second at most."""
    server = launch("suspend:app")
    with server.connect() as c:
        c.send(b"nonsense\r\n\r\n")
        assert c.read_response().status == 400
        server.signal(signal.SIGTERM)
        assert server.wait_exit(3) == 0


def test_new_connection_without_a_request(launch):
    """A client that has just connected is about to send: it has a second for that."""
    server = launch("suspend:app")
    with server.connect() as c, server.connect() as silent:
        server.get("/hello")
        server.signal(signal.SIGTERM)
        wait_refused(server.address)
        assert c.request("GET", "/hello").text == "hello"
        silent.ended()
    assert server.wait_exit(PROMPT) == 0


def test_half_a_body_at_the_graceful_timeout(launch):
    """A body that is coming is waited for until the graceful timeout; then its client gets 503."""
    server = launch("suspend:app", "--graceful-timeout", "2")
    with server.connect() as c:
        c.send(build("POST", "/echo", [("Content-Length", "10")]) + b"12345")
        assert not c.readable(QUIET)
        server.signal(signal.SIGTERM)
        wait_refused(server.address)
        assert not c.readable(1)
        assert c.read_response().status == 503
    assert server.wait_exit(PROMPT) == 0


# --drain-delay


def test_drain_delay(launch):
    """While it lasts all is served, on new connections too; responses say that the connection ends, and /readyz 503."""
    server = launch("suspend:app", "--drain-delay", "2", admin=True)
    with server.connect() as kept, server.connect() as idle:
        assert kept.request("GET", "/hello").keeps_alive
        assert idle.request("GET", "/hello").keeps_alive
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        eventually(lambda: server.admin.get("/readyz").status == 503, "/readyz says 503")
        assert server.admin.get("/healthz").status == 200
        assert kept.request("GET", "/hello").header("Connection") == "close"
        kept.ended()
        assert server.get("/hello").header("Connection") == "close"
        server.wait_log("Draining")
        idle.ended()
        assert server.wait_exit(PROMPT) == 0
        assert time.monotonic() - began > 1.9
    assert server.log().count("Draining") == 1


def test_pipelined_requests_in_the_drain_delay(launch):
    """Of several that have arrived the last one says that the connection ends."""
    server = launch("suspend:app", "--drain-delay", "3")
    with server.connect() as c:
        assert c.request("GET", "/hello").keeps_alive
        server.signal(signal.SIGTERM)
        server.wait_log("Leaving")
        c.send(build("GET", "/hello") * 3)
        assert [c.read_response().keeps_alive for _ in range(3)] == [True, True, False]
        c.ended()
    assert server.wait_exit() == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_second_signal_in_the_drain_delay(launch, key, second):
    """Another SIGTERM begins the drain at once, and so do SIGINT and SIGQUIT."""
    server = launch("suspend:app", "--drain-delay", "600", admin=True)
    with server.park(f"/park?key={key}", key) as c:
        server.signal(signal.SIGTERM)
        server.wait_log("Leaving")
        assert server.get("/hello").status == 200
        server.signal(second)
        wait_refused(server.address)
        if second != signal.SIGQUIT:
            server.call("probe.complete", key)
        assert c.read_response().status == (503 if second == signal.SIGQUIT else 200)
    assert server.wait_exit(PROMPT) == 0


# SIGQUIT


@pytest.mark.parametrize("before", [None, signal.SIGTERM])
def test_quit(launch, key, before):
    """SIGQUIT does not wait: what is parked, queued, or has arrived, is answered 503. Also in a drain."""
    server = launch("suspend:app", "--threads", "1", "--graceful-timeout", "600", admin=True)
    with (
        server.park(f"/park?key={key}", key) as parked,
        server.begin(f"/gate?key={key}-gate") as running,
        server.connect() as queued,
        server.connect() as half,
    ):
        server.wait_events(f"{key}-gate", "entered")
        queued.send(build("GET", "/hello"))
        half.send(build("POST", "/echo", [("Content-Length", "10")]) + b"12345")
        server.admin.wait_in_flight("queued", 1)
        if before is not None:
            server.signal(before)
            wait_refused(server.address)
        server.signal(signal.SIGQUIT)
        for c in (parked, queued, running, half):
            assert c.read_response().status == 503
        server.call("probe.open_gate", f"{key}-gate")
        assert server.wait_exit(PROMPT) == 0


# Signals that end nothing


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR2", "SIGTTIN", "SIGTTOU", "SIGWINCH"])
def test_signals_that_end_nothing(launch, name):
    """They neither kill nor stop it, and the log says that there is nothing to do."""
    server = launch("suspend:app")
    server.signal(getattr(signal, name))
    server.wait_log(rf"\[INFO\] {name}: there is nothing to do for it")
    assert server.get("/hello").text == "hello"


def test_reopen_of_the_logs(launch, tmp_path):
    """SIGUSR1 opens both log files anew, as logrotate wants it."""
    access, error = tmp_path / "access", tmp_path / "error"
    bind = [f"unix:{tmp_path}/s"]
    server = launch(
        "suspend:app", "--access-logfile", str(access), "--error-logfile", str(error), bind=bind, ready=False
    )
    eventually(lambda: error.exists() and "Listening" in error.read_text(), "it listens", within=LONG)
    server.addresses = lambda: [f"{tmp_path}/s"]
    server.get("/hello?1")
    eventually(lambda: "?1" in access.read_text(), "a line")
    access.rename(tmp_path / "access.1")
    error.rename(tmp_path / "error.1")
    server.signal(signal.SIGUSR1)
    eventually(lambda: access.exists() and error.exists(), "both are made anew")
    server.get("/hello?2")
    eventually(lambda: "?2" in access.read_text(), "a line in the new file")
    eventually(lambda: "SIGUSR1" in error.read_text(), "a line in the new log")
    assert "?2" not in (tmp_path / "access.1").read_text()


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGWINCH"])
def test_handlers_of_the_application(launch, tmp_path, name):
    """signal.signal at import wins for these."""
    (tmp_path / "handles.py").write_text(
        f"""
import signal
def handle(number, frame):
    with open("handled", "a") as f:
        print(signal.Signals(number).name, file=f)
signal.signal(signal.{name}, handle)
from about import application
"""
    )
    server = launch("handles", "--pythonpath", str(APPS), cwd=tmp_path)
    server.signal(getattr(signal, name))
    eventually(lambda: (tmp_path / "handled").exists(), "it is called")
    assert server.get("/").status == 200
    assert name not in server.log()
