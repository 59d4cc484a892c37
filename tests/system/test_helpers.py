"""The helpers of py/wsgi_plus on a real server: waiting holds no thread, and what a client leaves is cancelled."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack

import pytest
from harness.limits import LONG, QUIET, ROOT, SLOW, eventually, never

APP = ("helpers_app:app", "--pythonpath", str(ROOT / "py"))

WAYS = ["wait", "settled", "gather", "first", "shield", "deadline", "flight", "place"]


@pytest.fixture
def server(serve):
    """One thread: a request that holds it stops all others."""
    return serve(*APP, "--threads", "1", admin=True)


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


def asked(server, key):
    return sum(name == "asked" for name, _ in server.events(key))


def test_a_hundred_sleep_on_one_thread(server):
    started = time.monotonic()
    with ExitStack() as stack:
        clients = [stack.enter_context(server.begin("/nap?s=0.5", timeout=LONG)) for _ in range(100)]
        assert {c.read_response().text for c in clients} == {"rested"}
    assert 0.5 <= time.monotonic() - started < 10 * SLOW


@pytest.mark.parametrize("way", WAYS)
def test_result(server, key, way):
    with server.park(f"/one?way={way}&key={key}", key) as c:
        server.call("probe.complete", key, "fine")
        assert c.read_response().text == "result fine"


@pytest.mark.parametrize(
    ("way", "status", "body"),
    [
        ("wait", 502, "caught failed on purpose"),
        ("settled", 200, "failed"),
        ("gather", 502, "caught failed on purpose"),
        ("first", 200, "failed"),
        ("shield", 502, "caught failed on purpose"),
        ("deadline", 502, "caught failed on purpose"),
        ("flight", 502, "caught failed on purpose"),
        ("place", 502, "caught failed on purpose"),
    ],
)
def test_failure(server, key, way, status, body):
    with server.park(f"/one?way={way}&key={key}", key) as c:
        server.call("probe.fail", key)
        answer = c.read_response()
        assert (answer.status, answer.text) == (status, body)


def test_settled_behind_an_iterable_without_throw(server, key):
    """S5: there a failure could not be caught, but is found."""
    with server.park(f"/behind-map?way=settled&key={key}", key) as c:
        server.call("probe.fail", key)
        assert c.read_response().text == "failed"


def test_many_have_their_turn_on_one_thread(server):
    """A Semaphore: those that wait for the one place are parked, and all have it in the end."""
    with ExitStack() as stack:
        clients = [stack.enter_context(server.begin("/in-turn?s=0.01", timeout=LONG)) for _ in range(30)]
        assert {c.read_response().text for c in clients} == {"had a turn"}


@pytest.mark.parametrize("way", WAYS)
def test_client_leaves(server, key, way):
    """S8: the future is cancelled, unless it is shared."""
    with server.park(f"/one?way={way}&key={key}", key):
        pass
    server.wait_events(key, "finally")
    assert server.call("probe.state", key) == ("pending" if way == "shield" else "cancelled")
    assert server.get("/nap?s=0").text == "rested"


def test_pool_and_loop_in_one_request(server):
    assert server.get("/several").text == "blocking asynchronous quick True"


def test_timeout(server):
    answer = server.get("/late")
    assert (answer.status, answer.text) == (504, "upstream is late")


def test_stream(server, key):
    answer = server.get(f"/stream?key={key}&n=50&size=1000")
    assert answer.body == b"." * 50_000
    server.wait_events(key, "closed")


def test_slow_client_slows_the_stream(server, key):
    """S13: what the client does not take is not fetched: megabytes at most, of a gigabyte."""
    with server.begin(f"/stream?key={key}&n=16384&size=65536") as c:
        assert c.read_head().status == 200
        seen = [-1, 0]

        def still():
            seen.append(asked(server, key))
            time.sleep(QUIET)
            return seen[-1] > 1 and seen[-1] == seen[-2]

        eventually(still, "it is not asked for more", within=LONG)
        assert seen[-1] < 500
        c.reset()
        server.wait_events(key, "closed")


def test_client_leaves_a_stream_that_hangs(server, key):
    with server.begin(f"/stream?key={key}&n=2&size=10&hang") as c:
        head = c.read_head()
        assert next(c.iter_body(head))
        server.wait_events(key, "hanging")
        never(lambda: "closed" in [name for name, _ in server.events(key)], "closed too early", during=0.1)
    server.wait_events(key, "closed")


def test_shutdown_with_all_at_work(launch, key):
    """The threads of the helpers do not keep the server from ending, and say nothing."""
    server = launch(*APP, "--threads", "2", "--graceful-timeout", "0.2", admin=True)
    with ExitStack() as stack:
        for target in ("/nap?s=3600", f"/stream?key={key}&n=1&size=10&hang", f"/one?way=wait&key={key}"):
            stack.enter_context(server.begin(target))
        assert server.get("/several").status == 200
        server.wait_events(key, "hanging", "parking")
        server.admin.wait_in_flight("parked_future", 3)
        server.stop()
    assert "wsgi_plus" not in server.final_log
