"""Topic, retry, TaskGroup, background and RequestBody on servers: nothing holds a thread, and nothing is left over."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import ExitStack

import pytest
from harness.limits import LONG, eventually

APP = "wider:app"


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


@pytest.fixture
def server(served):
    """One thread: a request that holds it stops all others."""
    return served(APP, "--threads", "1")


def names(server, key):
    return [name for name, _ in server.events(key)]


def subscribed(server, count, topic="drop"):
    eventually(lambda: server.call("wider.subscribers", topic) == count, f"{count} subscribers", within=LONG)


def test_published_to_all_with_one_call(server, key):
    with ExitStack() as stack:
        clients = [stack.enter_context(server.begin(f"/events?key={key}", timeout=LONG)) for _ in range(100)]
        subscribed(server, 100)
        assert server.call("wider.publish", "one") == 100
        assert server.call("wider.publish", "end") == 100
        assert {c.read_response().text for c in clients} == {"one\nend\n"}
    subscribed(server, 0)


def test_a_subscriber_leaves(server, key):
    with server.begin(f"/events?key={key}"):
        subscribed(server, 1)
    subscribed(server, 0)


@pytest.mark.parametrize(("topic", "event"), [("drop", "ChannelOverflow"), ("mark", "missed")])
def test_a_slow_client_holds_nobody_up(server, key, topic, event):
    """It takes nothing: beside it another gets all, and what waits for it is bounded."""
    with server.begin(f"/events?key={key}&topic={topic}", timeout=LONG) as slow:
        subscribed(server, 1, topic)
        for _ in range(200):
            if any(count == 0 for count in server.call("wider.publish_blocks", 4, topic)):
                break
        with server.begin(f"/events?key={key}-quick&topic={topic}", timeout=LONG) as quick:
            subscribed(server, 1 if topic == "drop" else 2, topic)
            server.call("wider.publish", "end", topic)
            assert quick.read_response().text == "end\n"
        body = slow.read_response().body
        assert (topic == "mark") == body.endswith(b"\nend\n") and len(body) < 200 * 4 * 65536
        server.wait_events(key, event)
    subscribed(server, 0, topic)


def test_another_try(server, key):
    answer = server.get(f"/tried?key={key}&failures=2&pause=0.01")
    assert (answer.status, answer.text) == (200, "answered")


def test_no_more_tries(server, key):
    answer = server.get(f"/tried?key={key}&failures=3&pause=0.01")
    assert (answer.status, names(server, key)) == (502, ["asked"] * 3)


def test_left_in_the_pause(server, key):
    """The application does not ask again; and meanwhile the only thread was free."""
    with server.begin(f"/tried?key={key}&failures=9&pause=3600"):
        server.wait_events(key, "asked")
        assert server.get(f"/tried?key={key}-other&failures=0&pause=1").text == "answered"
    assert server.get(f"/tried?key={key}-another&failures=0&pause=1").text == "answered"
    assert names(server, key) == ["asked"]


@pytest.mark.parametrize("how", ["complete", "fail", "leave"])
def test_children_end_with_their_request(server, key, how):
    with server.begin(f"/children?key={key}") as c:
        server.wait_events(key, "parking")
        assert server.call("probe.state", f"{key}-child") == "pending"
        if how != "leave":
            server.call(f"probe.{how}", key)
            assert c.read_response().status == (200 if how == "complete" else 500)
    server.wait_events(key, "child ended")
    eventually(lambda: server.call("probe.state", f"{key}-child") == "cancelled", "its future is cancelled")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_work_after_the_response(server, key, method):
    """The client does not wait for it; its failure is logged."""
    start = server.log_size()
    assert server.request(method, f"/afterwards?key={key}").status == 202
    assert "worked" not in names(server, key)
    server.call("probe.complete", f"{key}-work")
    server.wait_events(key, "worked")
    server.wait_log(rf"ValueError: {key} is lost", start=start)
    assert "lose, in the background, has failed" in server.log(start)


def test_work_is_done_before_the_server_ends(launched, key, tmp_path):
    journal = tmp_path / "events"
    server = launched(APP, "--threads", "1", "--graceful-timeout", "5", env={"FERMATA_TEST_EVENTS": str(journal)})
    assert server.get(f"/slow-work?key={key}").status == 202
    assert "worked" not in journal.read_text()
    server.stop()
    assert "worked" in journal.read_text()


@pytest.mark.parametrize("size", [0, 1000, 3_000_000])
def test_a_body_is_sent_on(server, size):
    """In memory, and in a file."""
    data = os.urandom(size)
    found = hashlib.sha256(data).hexdigest()
    assert server.request("POST", "/upload", body=data).text == f"{size} {found} {found}"


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_the_client_leaves_while_its_body_is_sent_on(server, key, size):
    with server.connect() as c:
        c.send_request("POST", f"/upload-left?key={key}", body=os.urandom(size))
        server.wait_events(key, "reading")
    server.wait_events(key, "closed")
    server.call("probe.complete", key)
    server.wait_events(key, "reading", "refused")
