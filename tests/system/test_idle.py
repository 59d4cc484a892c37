"""Idle means idle: no thread of the server wakes up when there is nothing to do."""

from __future__ import annotations

import re
import time

import pytest
from harness.limits import PROMPT, SANITIZED, eventually
from harness.server import POOL_THREAD

WATCHED = 2.0


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


def settle(server) -> None:
    """Lets what has just happened come to its end: until nothing wakes up for a while, or it never does."""
    eventually(lambda: woken(server, 1.5) == {}, "it comes to rest", within=10 + PROMPT, every=0)


def woken(server, seconds: float) -> dict[str, int]:
    """Threads that woke up within so many seconds, with how often."""
    before = server.process.switches()
    time.sleep(seconds)
    after = server.process.switches()
    names = server.process.threads()
    # ThreadSanitizer's own thread, which comes before all others, has a rhythm of its own.
    first = min(tid for tid in names if tid != server.pid)
    if SANITIZED and not POOL_THREAD.fullmatch(names.get(first, "")):
        after.pop(first, None)
    return {
        f"{tid} {names.get(tid)}": after[tid] - before.get(tid, 0) for tid in after if after[tid] != before.get(tid, 0)
    }


def test_no_wake_ups_before_the_first_request(launch):
    """A server that has just started sleeps."""
    server = launch("basic", "--threads", "4", admin=True)
    settle(server)
    assert woken(server, WATCHED) == {}


def test_no_wake_ups_after_work(launch):
    """After requests, quick and blocking ones, it goes back to sleep."""
    server = launch("basic", "--threads", "4", "--keep-alive", "1", admin=True)
    held = [server.begin("/slow?s=0.2") for _ in range(6)]
    for c in held:
        assert c.read_response().status == 200
        assert c.request("GET", "/hello").status == 200
        c.close()
    settle(server)
    assert woken(server, WATCHED) == {}


def test_no_wake_ups_with_idle_connections(launch):
    """Connections that are kept alive do not tick."""
    server = launch("basic", "--threads", "4", "--keep-alive", "600")
    held = [server.connect() for _ in range(20)]
    try:
        for c in held:
            assert c.request("GET", "/hello").status == 200
        settle(server)
        assert woken(server, WATCHED) == {}
    finally:
        for c in held:
            c.close()


@pytest.mark.parametrize("options", [[], ["--request-timeout", "600"]], ids=["plain", "deadline"])
def test_no_wake_ups_with_parked_requests(launch, key, options):
    """Nor do parked requests, nor their deadlines."""
    server = launch("suspend:app", "--threads", "4", *options, admin=True)
    held = [server.begin(f"/park?key={key}") for _ in range(20)]
    try:
        server.admin.wait_in_flight("parked_future", 20)
        settle(server)
        assert woken(server, WATCHED) == {}
        server.call("probe.complete", key)
        assert [c.read_response().status for c in held] == [200] * 20
    finally:
        for c in held:
            c.close()


def test_no_wake_ups_while_parked_on_the_client(launch, key):
    """Nor does a response whose client does not read."""
    server = launch("suspend:app", "--threads", "4", "--send-timeout", "600", admin=True)
    with server.begin(f"/blocks?mb=100&key={key}", receive_buffer=4096) as c:
        server.admin.wait_in_flight("parked_client", 1)
        settle(server)
        assert woken(server, WATCHED) == {}
        c.reset()
    server.wait_events(key, "finally")


def test_no_cpu_while_a_thread_blocks(launch, key):
    """While a step blocks the rest may look after it, but not busily."""
    server = launch("basic", "--threads", "4", admin=True)
    with server.begin(f"/gate?key={key}") as c:
        server.wait_events(key, "entered")
        time.sleep(1)
        before = server.process.cpu()
        time.sleep(WATCHED)
        assert server.process.cpu() - before < 0.1
        server.call("probe.open_gate", key)
        assert c.read_response().status == 200


def test_few_wake_ups_for_few_requests(launch):
    """Twenty requests a second wake it at most three times each: the loop, and the monitor once."""
    server = launch("basic", "--threads", "4", "--keep-alive", "600", admin=True)
    with server.connect() as c:
        assert c.request("GET", "/hello").status == 200
        settle(server)
        before = server.process.sleeps()
        for _ in range(40):
            assert c.request("GET", "/hello").status == 200
            time.sleep(0.05)
        assert server.process.sleeps() - before <= 3 * 40
