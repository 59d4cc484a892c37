"""Thousands of requests at once on four threads."""

from __future__ import annotations

import resource
import selectors
import time

import pytest
from harness.client import build
from harness.limits import LONG, SANITIZED, SLOW, TSAN, timeout

NUMBER = 5000 if not SANITIZED else 1500
THREADS = 4


@pytest.fixture(autouse=True)
def _files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard > NUMBER + 500, f"at most {hard} open files"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, NUMBER + 500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def parked(server, number):
    """That many connections, each with a request that is parked."""
    held = []
    for _ in range(number):
        c = server.connect(timeout=LONG)
        c.send(build("GET", "/park"))
        held.append(c)
    server.admin.wait_in_flight("parked_future", number, within=LONG * 2)
    return held


@timeout(300)
def test_thousands_parked_all_answer(launch):
    """5000 requests parked at once on four threads: all answer, with at most three threads more; others are served
    meanwhile; a second wave needs hardly more memory than the first."""
    server = launch("scale", "--threads", str(THREADS), "--keep-alive", "300", admin=True)
    assert server.get("/").text == "hello"
    alone = server.process.rss()
    peaks = []
    for _ in range(2):
        held = parked(server, NUMBER)
        try:
            assert len(server.process.threads()) <= THREADS + 4 + TSAN
            peaks.append(server.process.rss())
            began = time.monotonic()
            assert server.get("/").text == "hello"
            assert time.monotonic() - began < 2 * SLOW
            assert server.get("/release", timeout=LONG).text == str(NUMBER)
            for c in held:
                answer = c.read_response()
                assert (answer.status, answer.body) == (200, b"resumed")
            assert len(server.process.threads()) <= THREADS + 4 + TSAN
        finally:
            for c in held:
                c.close()
    server.admin.wait_in_flight("parked_future", 0)
    if not SANITIZED:
        assert peaks[0] - alone < NUMBER * 20_000
        assert peaks[1] - peaks[0] < NUMBER * 2_000


@timeout(300)
def test_thousands_parked_all_gone(launch):
    """All their clients go: all are closed, no descriptor is left, the futures complete later without harm."""
    server = launch("scale", "--threads", str(THREADS), admin=True)
    assert server.get("/").text == "hello"
    before = len(server.process.fds())
    held = parked(server, NUMBER)
    for i, c in enumerate(held):
        c.reset() if i % 2 else c.close()
    server.admin.wait_in_flight("parked_future", 0, within=LONG)
    assert server.get("/release", timeout=LONG).text == str(NUMBER)
    assert server.get("/").text == "hello"
    deadline = time.monotonic() + LONG
    while len(server.process.fds()) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(server.process.fds()) <= before


@timeout(300)
def test_thousands_of_idle_connections(launch):
    """Thousands of idle connections cost little and do not slow others down."""
    server = launch("scale", "--threads", str(THREADS), "--keep-alive", "300", "--header-timeout", "300")
    assert server.get("/").text == "hello"
    alone = server.process.rss()
    held = [server.connect(timeout=LONG) for _ in range(NUMBER)]
    try:
        for c in held[::10]:
            assert c.request("GET", "/").text == "hello"
        assert server.get("/").text == "hello"
        assert server.process.rss() - alone < NUMBER * 5_000 or SANITIZED
    finally:
        for c in held:
            c.close()


@timeout(300)
def test_requests_of_many_connections(launch):
    """Ten thousand quick requests over two hundred connections at once: each gets its answer."""
    server = launch("basic", "--threads", str(THREADS), "--keep-alive", "300")
    connections, rounds = 200, 50 if not SANITIZED else 10
    selector = selectors.DefaultSelector()
    left = {}
    for i in range(connections):
        c = server.connect(timeout=LONG)
        selector.register(c.sock, selectors.EVENT_READ, c)
        left[c] = rounds
        c.send(build("POST", "/echo", body=b"%d" % i))
    numbers = {c: i for i, c in enumerate(left)}
    deadline = time.monotonic() + LONG * 4
    while any(left.values()):
        assert time.monotonic() < deadline, f"{sum(left.values())} answers are missing"
        for ready, _ in selector.select(LONG):
            c = ready.data
            assert c.read_response().body == b"%d" % numbers[c]
            left[c] -= 1
            if left[c]:
                c.send(build("POST", "/echo", body=b"%d" % numbers[c]))
    for c in left:
        c.close()
    selector.close()
