"""--request-timeout: every request ends at its deadline, whatever state it is in (S12)."""

from __future__ import annotations

import re
import time

import pytest
from harness.client import Truncated, build
from harness.limits import LONG, PROMPT, eventually, never, timeout

DEADLINE = 1.0


@pytest.fixture
def server(serve):
    return serve("suspend:app", "--threads", "4", "--keep-alive", "60", "--request-timeout", "1", admin=True)


@pytest.fixture
def single(serve):
    return serve("suspend:app", "--threads", "1", "--keep-alive", "60", "--request-timeout", "1", admin=True)


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


def names(server, key):
    return [name for name, _ in server.events(key)]


def in_time(since: float) -> None:
    """The deadline has passed, and not by more than a loaded machine explains."""
    assert DEADLINE * 0.8 < time.monotonic() - since < DEADLINE + PROMPT


def hits(server, state: str) -> float:
    """Deadlines that were hit in a state (parked_future counts as parked)."""
    metrics = server.admin.metrics()
    return sum(
        value
        for (name, labels), value in metrics.samples.items()
        if name == "fermata_request_timeouts_total" and dict(labels)["state"].startswith(state)
    )


def test_deadline_while_parked(server, key):
    """S12: a parked request ends at its deadline with 504 and GeneratorExit; the future is not cancelled."""
    before = hits(server, "parked")
    began = time.monotonic()
    with server.begin(f"/park?key={key}") as c:
        answer = c.read_response()
        in_time(began)
    assert answer.status == 504
    server.wait_events(key, "finally")
    assert "exit" in names(server, key)
    assert server.call("probe.state", key) == "pending"
    assert hits(server, "parked") == before + 1
    server.call("probe.complete", key)
    assert server.get("/hello").text == "hello"


def test_deadline_while_parked_after_headers(server, key):
    """S12: where headers have left the response is cut off visibly."""
    began = time.monotonic()
    with server.begin(f"/park-after?key={key}") as c:
        c.read_cut()
        in_time(began)
    server.wait_events(key, "finally")


def test_deadline_while_queued(single, key):
    """S12: a request that was never begun gets its 504 at the deadline though the only thread is busy, and the
    application is never called for it."""
    before = hits(single, "queued")
    with single.begin(f"/gate?key={key}", timeout=LONG) as blocker:
        single.wait_events(key, "entered")
        began = time.monotonic()
        with single.begin(f"/park?key={key}-queued") as c:
            assert c.read_response().status == 504
            in_time(began)
        assert hits(single, "queued") == before + 1
        single.call("probe.open_gate", key)
        assert blocker.read_response().status in (200, 504)
    assert single.get("/hello").text == "hello"
    assert single.events(f"{key}-queued") == []


def test_deadline_of_a_continuation_that_is_queued(single, key):
    """S12: a request whose future is done but whose turn does not come gets its 504 at the deadline; close() runs later."""
    with single.begin(f"/watched?do=pb&key={key}") as c:
        single.wait_events(key, "parking")
        with single.begin(f"/gate?key={key}-gate", timeout=LONG):
            single.wait_events(f"{key}-gate", "entered")
            single.call("probe.complete", f"{key}0")
            assert c.read_response().status == 504
            single.call("probe.open_gate", f"{key}-gate")
            single.wait_events(key, "closed")
    assert names(single, key).count("closed") == 1
    assert names(single, key).count("next") == 1, "a step ran after the deadline"


def test_deadline_while_running(server, key):
    """S12: a running step is not interrupted: the client gets its 504 at the deadline, the log the stack of the step, the
    metrics a count, and close() runs when the step ends."""
    before = hits(server, "running")
    start = server.log_size()
    began = time.monotonic()
    with server.begin(f"/watched?do=gbb&key={key}") as c:
        answer = c.read_response()
        in_time(began)
        assert answer.status == 504
        assert answer.header("Connection") == "close"
        assert c.ended() == "eof"  # the response is complete: its end does not wait for the step
        reported = server.wait_log(r"GET /watched\b[\s\S]*suspend\w*\.py", start=start).group(0)
        assert "wait_gate" in server.log(start), reported
        server.admin.wait("fermata_requests_in_flight", 1, state="running")
        assert hits(server, "running") == before + 1
        never(lambda: "closed" in names(server, key), "closed beside a step")
        server.call("probe.open_gate", key)
        server.wait_events(key, "closed")
    assert names(server, key).count("closed") == 1
    assert names(server, key).count("next") == 1, "iterated after the deadline"


def test_deadline_of_a_step_that_went_on_without_parking(server, key):
    """S12.4: a step that goes on because its future completed while the server registered with it has a stack, too."""
    start = server.log_size()
    with server.begin(f"/done-meanwhile-then-block?key={key}") as c:
        assert c.read_response().status == 504
        server.wait_log(r"GET /done-meanwhile-then-block\b[\s\S]*suspend\w*\.py[\s\S]*wait_gate", start=start)
        server.call("probe.open_gate", key)


def test_deadline_while_running_after_headers(server, key):
    """S12: where headers have left the client sees the cut at the deadline, not when the step ends."""
    began = time.monotonic()
    with server.begin(f"/watched?do=bgb&key={key}") as c:
        c.read_cut()
        in_time(began)
    server.call("probe.open_gate", key)
    server.wait_events(key, "closed")


def test_deadline_in_the_call(server, key):
    """S12: the call of the application counts as a step; what it returns then is closed, not iterated."""
    with server.begin(f"/gate?key={key}") as c:
        assert c.read_response().status == 504
    server.call("probe.open_gate", key)
    server.wait_events(key, "left", "closed")
    assert names(server, key) == ["entered", "left", "closed"]


@timeout(120)
def test_deadline_while_sending(server, key):
    """S12: a request that is parked on its client ends at the deadline; the client sees a cut."""
    before = hits(server, "")
    began = time.monotonic()
    with server.begin(f"/blocks?mb=100&key={key}", receive_buffer=4096, timeout=LONG) as c:
        c.read_head()
        server.wait_events(key, "finally")
        in_time(began)
        data, _ = c.drain()
        assert len(data) < 100 << 20
    assert hits(server, "") == before + 1


@timeout(120)
def test_deadline_while_the_rest_is_sent(server, key):
    """S12: also when the application has ended and only the rest of the body is on its way."""
    began = time.monotonic()
    with server.begin(f"/blocks?mb=64&size={64 << 20}&key={key}", receive_buffer=4096, timeout=LONG) as c:
        with pytest.raises((Truncated, ConnectionResetError)):
            c.read_head()
            time.sleep(DEADLINE + PROMPT / 2)
            c.read(64 << 20)
    assert time.monotonic() - began < LONG
    server.wait_events(key, "finally")


def test_deadline_of_a_file(serve, key):
    """S12: also for a file that is sent to a client that does not read."""
    server = serve("pep3333:app", "--request-timeout", "1", "--threads", "1", admin=True)
    with server.begin(f"/file?size=100400000&key={key}", receive_buffer=4096, timeout=LONG):
        server.wait_events(key, "closed")
    assert server.get("/hello").text == "hello"


def test_deadline_does_not_touch_others(server, key):
    """S12: requests that end in time are left alone, on the same connection too: each has its own deadline."""
    with server.connect() as c:
        for _ in range(6):
            assert c.request("GET", "/timer?s=0.3").text == "rang"
        time.sleep(DEADLINE * 1.5)  # idle time is not a request's
        assert c.request("GET", "/timer?s=0.3").text == "rang"


@timeout(120)
def test_many_deadlines_at_once(server, key):
    """S12: hundreds of requests that end at the same deadline."""
    number = 300
    held = [server.begin(f"/watched?do=p&key={key}{i}", timeout=LONG) for i in range(number)]
    try:
        assert [c.read_response().status for c in held] == [504] * number
    finally:
        for c in held:
            c.close()
    for i in range(number):
        server.wait_events(f"{key}{i}", "closed")
        assert names(server, f"{key}{i}").count("closed") == 1


@timeout(120)
def test_completing_at_the_deadline(server, key):
    """S12: futures that complete around the deadline: the answer is whole, one or the other, and close() runs once."""
    number = 60
    held = [server.begin(f"/watched?do=pb&key={key}-{i}-", timeout=LONG) for i in range(number)]
    began = time.monotonic()
    try:
        for i in range(number):
            server.wait_events(f"{key}-{i}-", "parking")
        time.sleep(max(0.0, DEADLINE * 0.9 - (time.monotonic() - began)))
        for i in range(number):
            server.call("probe.complete", f"{key}-{i}-0")
        answers = [c.read_response() for c in held]
        assert all((a.status, a.body) == (200, b"block ") or a.status == 504 for a in answers)
    finally:
        for c in held:
            c.close()
    for i in range(number):
        server.wait_events(f"{key}-{i}-", "closed")
        assert names(server, f"{key}-{i}-").count("closed") == 1
        assert "overlap" not in names(server, f"{key}-{i}-")


def test_pipelined_requests_have_their_own_deadlines(server, key):
    """S12: the request behind one that ran into its deadline is either answered or not begun; never mixed up."""
    with server.connect() as c:
        c.send(build("GET", f"/park?key={key}") + build("GET", "/hello"))
        first = c.read_response()
        assert first.status == 504
        if first.keeps_alive:
            assert c.read_response().text == "hello"
        else:
            c.ended()


def test_without_the_option_there_is_no_deadline(serve, key):
    """S12: without it a parked request waits as long as its client does, and is visible."""
    server = serve(
        "suspend:app",
        "--threads",
        "1",
        "--keep-alive",
        "1",
        "--send-timeout",
        "1",
        "--body-timeout",
        "1",
        "--header-timeout",
        "1",
        admin=True,
    )
    with server.park(f"/park?key={key}", key) as c:
        assert not c.readable(DEADLINE * 3)
        assert server.admin.metrics().in_flight("parked_future") == 1
        server.call("probe.complete", key)
        assert c.read_response().status == 200
    eventually(lambda: server.admin.metrics().in_flight("parked_future") == 0, "none is parked")
