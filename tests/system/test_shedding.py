"""--limit-queue and --queue-timeout: load is shed with 503 before the application is called."""

from __future__ import annotations

import pytest
from harness.client import build
from harness.limits import LONG, eventually, timeout

REFUSED = "fermata_refused_requests_total"


def hold(server, key, busy=2, queued=0):
    """Requests that hold every thread, and so many that wait for one."""
    held = [server.begin(f"/gate?key={key}", timeout=LONG) for _ in range(busy + queued)]
    server.admin.wait_in_flight("running", busy)
    server.admin.wait_in_flight("queued", queued)
    return held


def let_go(server, key, held):
    server.call("probe.open_gate", key)
    answers = [c.read_response() for c in held]
    for c in held:
        c.close()
    return [answer.status for answer in answers]


def is_shed(answer):
    assert answer.status == 503
    assert answer.header("Retry-After") == "1"
    assert answer.header("Connection") == "close"
    return True


def calls(server):
    return len(server.events("calls"))


@pytest.fixture
def full(serve):
    """Two threads, a queue of three."""
    return serve("basic", "--threads", "2", "--limit-queue", "3", admin=True)


@timeout(120)
def test_queue_full(full, request):
    """With N requests waiting the next one is answered 503 at once, is counted, and the application never sees it."""
    key, before, called = request.node.name, full.admin.metrics(), calls(full)
    held = hold(full, key, queued=3)
    for _ in range(5):
        assert is_shed(full.get("/hello"))
    metrics = full.admin.metrics()
    assert metrics.get(REFUSED, reason="queue_full") == before.get(REFUSED, reason="queue_full") + 5
    assert metrics.get("fermata_requests_total", **{"class": "5xx"}) == (
        before.get("fermata_requests_total", **{"class": "5xx"}) + 5
    )
    assert metrics.in_flight("queued") == 3
    assert let_go(full, key, held) == [200] * 5
    assert calls(full) == called
    assert full.get("/hello").status == 200


@timeout(120)
def test_queue_full_keeps_framing(full, request):
    """HEAD is shed without a body; what is pipelined behind a shed request is not served."""
    key, called = request.node.name, calls(full)
    held = hold(full, key, queued=3)
    assert is_shed(full.request("HEAD", "/hello"))
    with full.connect() as c:
        c.send(build("GET", "/hello") * 3)
        assert is_shed(c.read_response())
        assert c.ended() == "eof"
    with full.connect() as c:
        c.send(build("POST", "/echo", [("Content-Length", "100000")]) + b"x" * 100000)
        assert is_shed(c.read_response())
        assert c.ended() == "eof"
    assert let_go(full, key, held) == [200] * 5
    assert calls(full) == called


@timeout(120)
def test_what_is_parked_does_not_count(serve, request):
    """Parked requests wait for no thread; they are neither counted nor shed when they go on."""
    server = serve("suspend:app", "--threads", "1", "--limit-queue", "1", admin=True)
    key = request.node.name
    parked = []
    for i in range(10):  # one after the other: they too need a thread until they are parked
        parked.append(server.begin(f"/park?key={key}-{i}", timeout=LONG))
        server.admin.wait_in_flight("parked_future", i + 1)
    held = hold(server, key, busy=1, queued=1)
    for i in range(10):
        server.call("probe.complete", f"{key}-{i}", "done")
    server.admin.wait_in_flight("queued", 11)
    assert is_shed(server.get("/hello"))
    assert let_go(server, key, held) == [200] * 2
    assert [c.read_response().status for c in parked] == [200] * 10
    for c in parked:
        c.close()


def test_off_by_default(serve, request):
    """Without the options any number waits."""
    server = serve("basic", "--threads", "2", admin=True)
    held = hold(server, request.node.name, queued=50)
    assert let_go(server, request.node.name, held) == [200] * 52


@timeout(120)
def test_queue_timeout(serve, request):
    """A request that no thread takes in time is answered 503 while they are busy, and the application never sees it."""
    server = serve("basic", "--threads", "2", "--queue-timeout", "0.3", admin=True)
    key, before, called = request.node.name, server.admin.metrics(), calls(server)
    held = hold(server, key)
    for c in [server.begin("/hello", timeout=LONG) for _ in range(4)]:
        assert is_shed(c.read_response())
        assert c.ended() == "eof"
        c.close()
    metrics = server.admin.metrics()
    assert metrics.get(REFUSED, reason="queue_timeout") == before.get(REFUSED, reason="queue_timeout") + 4
    assert metrics.in_flight("queued") == 0
    assert let_go(server, key, held) == [200] * 2  # they run for longer than the timeout, which is no concern of it
    assert calls(server) == called
    eventually(lambda: server.admin.metrics().in_flight("running") == 0, "all is over")


@timeout(120)
def test_queue_timeout_is_for_new_requests_only(serve, request):
    """A request that was parked for longer, and a continuation that waits for a thread for longer, go on."""
    server = serve("suspend:app", "--threads", "1", "--queue-timeout", "0.2", admin=True)
    key = request.node.name
    parked = server.park(f"/park?key={key}-parked", f"{key}-parked", timeout=LONG)
    held = hold(server, key, busy=1)
    server.call("probe.complete", f"{key}-parked", "done")
    server.admin.wait_in_flight("queued", 1)
    with server.connect(timeout=LONG) as c:  # one that came later is shed, so the time has passed
        assert is_shed(c.request("GET", "/hello"))
    assert server.admin.metrics().in_flight("queued") == 1
    assert let_go(server, key, held) == [200]
    assert parked.read_response().status == 200
    parked.close()


@timeout(120)
def test_client_that_left_the_queue(serve, request):
    """A client that goes away while it waits makes room, and its request's timeout finds nothing."""
    server = serve("basic", "--threads", "2", "--limit-queue", "1", "--queue-timeout", "0.3", admin=True)
    key = request.node.name
    held = hold(server, key)
    for _ in range(3):
        c = server.begin("/hello")
        server.admin.wait_in_flight("queued", 1)
        c.reset()
        server.admin.wait_in_flight("queued", 0)
    assert is_shed(server.get("/hello", timeout=LONG))
    assert let_go(server, key, held) == [200] * 2


def test_shed_requests_are_in_the_access_log(launch, tmp_path):
    """A line each, as for any other answer."""
    log = tmp_path / "access.log"
    options = ("--limit-queue", "1", "--queue-timeout", "0.5", "--access-logfile", str(log))
    server = launch("basic", "--threads", "1", *options, admin=True)
    held = hold(server, "k", busy=1)
    waiting = server.begin("/hello?waits", timeout=LONG)
    server.admin.wait_in_flight("queued", 1)
    assert is_shed(server.get("/hello?full"))
    assert is_shed(waiting.read_response())
    waiting.close()
    assert let_go(server, "k", held) == [200]
    server.stop()
    lines = log.read_text().splitlines()
    assert sorted(line.split('"')[1] + line.split('"')[2][:4] for line in lines) == [
        "GET /gate?key=k HTTP/1.1 200",
        "GET /hello?full HTTP/1.1 503",
        "GET /hello?waits HTTP/1.1 503",
    ]
