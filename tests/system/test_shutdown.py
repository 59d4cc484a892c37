"""The end: SIGTERM and SIGINT drain, parked requests go on until the graceful timeout (S18), Python is finalized."""

from __future__ import annotations

import json
import re
import signal
import time

import pytest
from harness.client import NoResponse, build
from harness.limits import LONG, PROMPT, QUIET, eventually, timeout
from harness.server import wait_refused


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


@pytest.fixture
def events(tmp_path):
    """Reads what the application has recorded, when the server has ended; give env=events.env to launch."""

    class Events:
        env = {"FERMATA_TEST_EVENTS": str(tmp_path / "events")}

        def __call__(self, key):
            lines = (tmp_path / "events").read_text().splitlines()
            return [(name, detail) for k, name, detail in map(json.loads, lines) if k == key]

        def names(self, key):
            return [name for name, _ in self(key)]

    return Events()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_server_ends_at_once(launch, number):
    """SIGTERM and SIGINT end an idle server with exit code 0, without a traceback."""
    server = launch("suspend:app")
    server.signal(number)
    assert server.wait_exit(PROMPT) == 0
    assert "Traceback" not in server.log()


def test_signal_while_loading(launch, tmp_path):
    """SIGTERM while the application is still loading ends it too."""
    (tmp_path / "slow_start.py").write_text("import time\ntime.sleep(60)\napplication = None\n")
    server = launch("slow_start", cwd=tmp_path, ready=False)
    time.sleep(1)
    server.signal(signal.SIGTERM)
    server.expect = server.wait_exit(PROMPT)
    assert server.expect in (0, 1, 3, -signal.SIGTERM)


def test_idle_connections_are_closed(launch):
    """Idle connections, used or never used, are closed at once."""
    server = launch("suspend:app", "--keep-alive", "60", "--header-timeout", "60", "--graceful-timeout", "30")
    with server.connect() as used, server.connect() as fresh:
        assert used.request("GET", "/hello").status == 200
        server.signal(signal.SIGTERM)
        used.ended()
        fresh.ended()
    assert server.wait_exit(PROMPT) == 0


def test_half_a_head_does_not_hold_it(launch):
    """A connection that has sent half a head holds the end up for the graceful timeout at most."""
    server = launch("suspend:app", "--graceful-timeout", "1", "--header-timeout", "60")
    with server.connect() as c:
        c.send(b"GET /hel")
        assert not c.readable(QUIET)
        server.signal(signal.SIGTERM)
        assert server.wait_exit(1 + PROMPT) in (0, 1)
        server.expect = server.wait_exit()


def test_running_request_is_finished(launch, key):
    """A running request ends as usual; its response says Connection: close."""
    server = launch("suspend:app", "--threads", "2")
    with server.begin(f"/gate?key={key}") as c:
        server.wait_events(key, "entered")
        server.signal(signal.SIGTERM)
        wait_refused(server.address)
        assert not c.readable(QUIET)
        server.call("probe.open_gate", key)
        answer = c.read_response()
        assert (answer.status, answer.text) == (200, "opened")
        assert answer.header("Connection") == "close"
        c.ended()
    assert server.wait_exit(PROMPT) == 0


def test_queued_request_is_finished(launch, key):
    """A request that was already there but had no thread yet is answered as well."""
    server = launch("suspend:app", "--threads", "1", admin=True)
    with server.begin(f"/gate?key={key}") as first, server.connect() as second:
        server.wait_events(key, "entered")
        second.send(build("GET", "/hello"))
        server.admin.wait_in_flight("queued", 1)
        server.signal(signal.SIGTERM)
        time.sleep(QUIET)
        server.call("probe.open_gate", key)
        assert first.read_response().status == 200
        assert second.read_response().text == "hello"
    assert server.wait_exit(PROMPT) == 0


def test_parked_request_goes_on(launch, key):
    """S18: a parked request goes on until the graceful timeout, and is answered when its future is done."""
    server = launch("suspend:app", admin=True)
    with server.park(f"/park?key={key}", key) as c:
        server.signal(signal.SIGTERM)
        wait_refused(server.address)
        assert not c.readable(QUIET)
        server.call("probe.complete", key, "late")
        answer = c.read_response()
        assert (answer.status, answer.text) == (200, "result late")
        assert answer.header("Connection") == "close"
        c.ended()
    assert server.wait_exit(PROMPT) == 0


def test_parked_request_may_park_again(launch, key):
    """S18: and may park several times more while draining."""
    server = launch("suspend:app", admin=True)
    with server.begin(f"/park-many-futures?key={key}&n=5") as c:
        server.admin.wait_in_flight("parked_future", 1)
        server.signal(signal.SIGTERM)
        wait_refused(server.address)
        for i in range(5):
            server.call("probe.complete", f"{key}{i}")
            time.sleep(0.02)
        assert c.read_response().text == "all"
    assert server.wait_exit(PROMPT) == 0


def test_parked_request_at_the_graceful_timeout(launch, key, events):
    """S18: at the graceful timeout it is closed, as when its client had gone, with 503 where no header has left."""
    server = launch("suspend:app", "--graceful-timeout", "1", admin=True, env=events.env)
    with server.park(f"/park?key={key}", key) as c:
        server.signal(signal.SIGTERM)
        began = time.monotonic()
        answer = c.read_response()
        assert answer.status == 503
        assert answer.header("Connection") == "close"
        assert 0.5 < time.monotonic() - began < 1 + PROMPT
        c.ended()
    server.expect = server.wait_exit(PROMPT)
    assert server.expect in (0, 1)
    assert events.names(key)[-2:] == ["exit", "finally"]


def test_parked_request_with_headers_at_the_graceful_timeout(launch, key, events):
    """S18: where headers have left the connection is aborted: truncated, not complete-looking."""
    server = launch("suspend:app", "--graceful-timeout", "1", admin=True, env=events.env)
    with server.park(f"/park-after?key={key}", key) as c:
        server.signal(signal.SIGTERM)
        c.read_cut()
    server.expect = server.wait_exit(PROMPT)
    assert server.expect in (0, 1)
    assert "finally" in events.names(key)


@timeout(120)
def test_many_parked_requests_at_the_graceful_timeout(launch, key, events):
    """S18: hundreds of them, each closed once and told so."""
    number = 200
    server = launch("suspend:app", "--graceful-timeout", "1", admin=True, env=events.env)
    held = [server.begin(f"/watched?do=p&key={key}", timeout=LONG) for _ in range(number)]
    try:
        server.admin.wait_in_flight("parked_future", number, within=LONG)
        server.signal(signal.SIGTERM)
        assert [c.read_response().status for c in held] == [503] * number
    finally:
        for c in held:
            c.close()
    server.expect = server.wait_exit()
    assert events.names(key).count("closed") == number


def test_step_that_never_ends_at_the_graceful_timeout(launch, key):
    """A step that does not end cannot hold the process for ever: its client gets 503 at the graceful timeout, the log says
    what is stuck, and the process ends."""
    server = launch("suspend:app", "--graceful-timeout", "1")
    with server.begin(f"/gate?key={key}") as c:
        server.wait_events(key, "entered")
        server.signal(signal.SIGTERM)
        assert c.read_response().status == 503
        server.expect = server.wait_exit(LONG)
        assert server.expect in (0, 1)
    assert re.search(r"\[ERROR\].*running", server.log())


@timeout(60)
def test_last_step_behind_one_that_ends_late(launch, key, events):
    """A request that is cut off while the only thread is busy is closed even if that thread comes back so late that
    polling has ended: a second after the graceful timeout, but before threads are not waited for any more."""
    server = launch("suspend:app", "--threads", "1", "--graceful-timeout", "1", admin=True, env=events.env)
    with server.park(f"/park?key={key}", key) as parked, server.begin(f"/gate?key={key}-gate") as running:
        server.wait_events(f"{key}-gate", "entered")
        server.signal(signal.SIGTERM)
        assert parked.read_response().status == 503
        assert running.read_response().status == 503
        time.sleep(1.2)
        server.call("probe.open_gate", f"{key}-gate")
        server.expect = server.wait_exit(LONG)
    assert server.expect in (0, 1)
    if server.expect == 0:  # not on a machine so slow that two seconds have passed
        assert events.names(key)[-2:] == ["exit", "finally"]


def test_response_being_sent_is_finished(launch, key):
    """A response that is on its way to a slow client is sent to its end."""
    server = launch("suspend:app", admin=True)
    with server.begin(f"/blocks?mb=20&key={key}", receive_buffer=65536, timeout=LONG) as c:
        head = c.read_head()
        server.admin.wait_in_flight("parked_client", 1)
        server.signal(signal.SIGTERM)
        time.sleep(QUIET)
        assert sum(len(block) for block in c.iter_body(head)) == 20 << 20
        c.ended()
    assert server.wait_exit(PROMPT) == 0


def test_client_that_never_reads_at_the_graceful_timeout(launch, key, events):
    """A client that does not read holds the end up for the graceful timeout at most."""
    server = launch("suspend:app", "--graceful-timeout", "1", "--send-timeout", "300", admin=True, env=events.env)
    with server.begin(f"/blocks?mb=100&key={key}", receive_buffer=4096):
        server.admin.wait_in_flight("parked_client", 1)
        server.signal(signal.SIGTERM)
        server.expect = server.wait_exit(1 + PROMPT)
        assert server.expect in (0, 1)
    assert events.names(key).count("finally") == 1


def test_upload_in_progress(launch):
    """A request whose body is still coming when the signal arrives is received and answered."""
    server = launch("suspend:app")
    with server.connect() as c:
        c.send(build("POST", "/echo", [("Content-Length", "10")]) + b"12345")
        assert not c.readable(QUIET)
        server.signal(signal.SIGTERM)
        wait_refused(server.address)
        c.send(b"67890")
        answer = c.read_response()
        assert answer.text == "1234567890"
        assert answer.header("Connection") == "close"
    assert server.wait_exit(PROMPT) == 0


def test_no_new_connections(launch, key):
    """While it drains new connections are refused, not accepted and forgotten."""
    server = launch("suspend:app", admin=True)
    with server.park(f"/park?key={key}", key) as c:
        server.signal(signal.SIGTERM)
        wait_refused(server.address)
        server.call("probe.complete", key)
        assert c.read_response().status == 200
    assert server.wait_exit(PROMPT) == 0


def test_pipelined_requests_while_draining(launch, key):
    """Requests that were sent behind the one that runs: answered in order, or not at all after a Connection: close."""
    server = launch("suspend:app", admin=True)
    with server.connect() as c:
        c.send(build("GET", f"/park?key={key}"))
        server.wait_events(key, "parking")
        server.signal(signal.SIGTERM)
        wait_refused(server.address)
        c.send(build("GET", "/hello"))
        server.call("probe.complete", key)
        answer = c.read_response()
        assert answer.status == 200
        if answer.keeps_alive:
            assert c.read_response().text == "hello"
        else:
            try:
                c.ended()
            except NoResponse:
                pass
    assert server.wait_exit(PROMPT) == 0


def test_second_interrupt_ends_at_once(launch, key):
    """A second SIGINT does not wait for the graceful timeout."""
    server = launch("suspend:app", "--graceful-timeout", "60", admin=True)
    with server.park(f"/park?key={key}", key):
        server.signal(signal.SIGINT)
        wait_refused(server.address)
        assert server.alive()
        server.signal(signal.SIGINT)
        server.expect = server.wait_exit(PROMPT)
        assert server.expect in (1, -signal.SIGINT)


def test_second_interrupt_ends_a_step_that_never_ends(launch, key):
    """Nor for a step that runs."""
    server = launch("suspend:app", "--graceful-timeout", "60")
    with server.begin(f"/gate?key={key}"):
        server.wait_events(key, "entered")
        server.signal(signal.SIGINT)
        wait_refused(server.address)
        server.signal(signal.SIGINT)
        server.expect = server.wait_exit(PROMPT)
        assert server.expect in (1, -signal.SIGINT)


def test_second_term_goes_on_draining(launch, key):
    """A second SIGTERM, which supervisors send, does not cut off what drains."""
    server = launch("suspend:app", admin=True)
    with server.park(f"/park?key={key}", key) as c:
        server.signal(signal.SIGTERM)
        wait_refused(server.address)
        server.signal(signal.SIGTERM)
        time.sleep(QUIET)
        assert server.alive()
        server.call("probe.complete", key)
        assert c.read_response().status == 200
    assert server.wait_exit(PROMPT) == 0


def test_signals_that_mean_nothing(launch):
    """SIGPIPE never ends it (a client may go at any time)."""
    server = launch("suspend:app")
    server.signal(signal.SIGPIPE)
    assert server.get("/hello").text == "hello"


def test_python_is_finalized(launch, tmp_path):
    """atexit handlers run, on the main thread as Python has it, and non-daemon threads are waited for."""
    (tmp_path / "finals.py").write_text(
        """
import atexit, os, threading, time

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

def say(text):
    with open("said", "a") as f:
        print(text, threading.current_thread() is threading.main_thread(), file=f)

atexit.register(say, "registered first")
atexit.register(say, "registered last")
ending = threading.Event()
threading._register_atexit(ending.set) if hasattr(threading, "_register_atexit") else atexit.register(ending.set)

def worker():
    ending.wait(60)
    time.sleep(0.2)
    say("thread ended")

threading.Thread(target=worker).start()

class Last:
    def __del__(self, write=os.write):
        write(1, b"collected")

last = Last()
"""
    )
    server = launch("finals", cwd=tmp_path)
    assert server.get("/").text == "ok"
    server.signal(signal.SIGTERM)
    assert server.wait_exit(LONG) == 0
    said = (tmp_path / "said").read_text().splitlines()
    assert said[0].startswith("thread ended")
    assert said[1:3] == ["registered last True", "registered first True"]
    server.stop()
    assert server.stdout_text == "collected"


def test_daemon_threads_do_not_hinder_the_end(launch, tmp_path):
    """Daemon threads that are in the middle of Python code when it ends neither hang nor crash it."""
    (tmp_path / "daemons.py").write_text(
        """
import threading, time

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

def busy():
    while True:
        sum(range(1000))

def asleep():
    while True:
        time.sleep(0.001)

for target in (busy, asleep, asleep):
    threading.Thread(target=target, daemon=True).start()
"""
    )
    server = launch("daemons", cwd=tmp_path)
    assert server.get("/").text == "ok"
    server.signal(signal.SIGTERM)
    assert server.wait_exit(LONG) == 0


def test_output_is_flushed(launch, tmp_path):
    """What the application has printed is not lost at the end."""
    (tmp_path / "prints.py").write_text(
        """
import sys

def application(environ, start_response):
    sys.stdout.write("printed without an end")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
    )
    server = launch("prints", cwd=tmp_path)
    assert server.get("/").text == "ok"
    server.stop()
    assert server.stdout_text == "printed without an end"


def test_readiness_while_draining(launch, key):
    """While it drains /readyz is 503 and /healthz stays 200."""
    server = launch("suspend:app", admin=True)
    with server.park(f"/park?key={key}", key) as c:
        assert server.admin.get("/readyz").status == 200
        server.signal(signal.SIGTERM)
        eventually(lambda: server.admin.get("/readyz").status == 503, "/readyz says 503")
        assert server.admin.get("/healthz").status == 200
        assert server.admin.metrics().in_flight("parked_future") == 1
        server.call("probe.complete", key)
        assert c.read_response().status == 200
    assert server.wait_exit(PROMPT) == 0


def test_log_says_what_happens(launch):
    """The log says that it drains, and when it has."""
    server = launch("suspend:app")
    start = server.log_size()
    server.signal(signal.SIGTERM)
    server.wait_exit()
    assert re.search(r"(?i)drain", server.log(start))
