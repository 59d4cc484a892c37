"""Flask views that wait, on real servers."""

from __future__ import annotations

import json
import random
import re
import signal
import threading
from contextlib import ExitStack

import pytest
from harness.client import build
from harness.limits import LONG, eventually

APP = "flask_views:app"


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


@pytest.fixture
def server(served):
    """One thread: a request that holds it stops all others."""
    return served(APP, "--threads", "1")


def park(server, target, key):
    """A connection whose request waits."""
    c = server.begin(target)
    server.wait_events(key, "parking")
    return c


def names(server, key):
    return [name for name, _ in server.events(key)]


def test_a_hundred_views_on_one_thread(server):
    with ExitStack() as stack:
        clients = [stack.enter_context(server.begin("/nap?s=0.5", timeout=LONG)) for _ in range(100)]
        assert {c.read_response().text for c in clients} == {"rested"}


def test_requests_are_not_mixed_up(served, key):
    """Fifty at once are resumed three times in any order; one of them holds its thread, so that others are needed."""
    server = served(APP, "--threads", "4")
    first, *rest = members = [f"{key}-{n}" for n in range(50)]
    order = random.Random(3)
    with ExitStack() as stack:
        clients = {}
        for who in members:
            c = clients[who] = stack.enter_context(server.connect(timeout=LONG))
            c.send_request("GET", f"/mix/{who}?rounds={key}{'&holds' if who == first else ''}", [("X-Who", who)])
        for number in range(3):
            server.wait_events(key, *len(members) * [f"parking {number}"], within=LONG)
            server.call("probe.complete", f"{key}-{number}-{first}")
            server.wait_events(f"{key}-{number}-{first}", "holding")
            for who in order.sample(rest, len(rest)):
                server.call("probe.complete", f"{key}-{number}-{who}")
            server.wait_events(key, *(number + 1) * len(members) * ["thread"], within=LONG)
            server.call("probe.open_gate", f"{key}-{number}-{first}")
        answers = {who: c.read_response() for who, c in clients.items()}
    assert len({thread for name, thread in server.events(key) if name == "thread"}) > 1
    for who, answer in answers.items():
        assert (answer.status, json.loads(answer.text)) == (200, {"who": who, "path": f"/mix/{who}"})
        (cookie,) = answer.all("Set-Cookie")
        found = server.get("/session", [("Cookie", cookie.partition(";")[0])])
        assert json.loads(found.text) == {"who": who, **{f"round {number}": who for number in range(3)}}


@pytest.mark.parametrize("app", [APP, "flask_views:behind"])
@pytest.mark.parametrize("place", ["", "/bp"])
@pytest.mark.parametrize(
    ("how", "in_app", "in_bp"),
    [
        (("complete", "fine"), (200, "result fine"), (200, "result fine")),
        (("fail",), (502, "app: failed on purpose"), (503, "bp: failed on purpose bp.one")),
        (("complete", "abort"), (404, "not found: by the view"), (404, "not found: by the view")),
    ],
    ids=["result", "failure", "abort"],
)
def test_how_a_view_ends(served, key, app, place, how, in_app, in_bp):
    """Its failure reaches the handlers of the blueprint or of the application, whatever stands in between."""
    server = served(app, "--threads", "1")
    with park(server, f"{place}/one?key={key}", key) as c:
        server.call(f"probe.{how[0]}", key, *how[1:])
        answer = c.read_response()
    assert (answer.status, answer.text) == (in_bp if place else in_app)
    assert names(server, key) == ["parking", "after", "teardown"]


@pytest.mark.parametrize("how", [("complete", "error"), ("cancel",)], ids=["error", "cancelled"])
def test_nobody_handles_it(server, key, how):
    """500 by Flask, which logs it; teardown functions are told, and the connection goes on."""
    start = server.log_size()
    with park(server, f"/one?key={key}", key) as c:
        server.call(f"probe.{how[0]}", key, *how[1:])
        answer = c.read_response()
        assert (answer.status, "Internal Server Error" in answer.text) == (500, True)
        assert answer.keeps_alive
        assert c.request("GET", "/nap?s=0").text == "rested"
    server.wait_log(r"Exception on /one \[GET\]", start=start)
    error = "KeyError" if how == ("complete", "error") else "CancelledError"
    assert server.events(key)[1:] == [["after", 500], ["teardown", error]]


@pytest.mark.parametrize(("how", "status"), [("complete", 502), ("fail", 500)])
def test_error_handler_that_waits(server, key, how, status):
    with park(server, f"/plain?key={key}", key) as c:
        server.call(f"probe.{how}", key)
        answer = c.read_response()
    assert answer.status == status
    if how == "complete":
        assert answer.text == "None after plain"


def test_before_request_function_that_waits(server, key):
    with park(server, f"/nap?s=0&guarded&key={key}", key) as c:
        assert "after" not in names(server, key)
        server.call("probe.complete", key)
        assert c.read_response().text == "rested"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/one?", "/one"),
        ("/bp/one?", "/bp/one"),
        ("/nap?s=0&guarded&", "/nap"),
        ("/plain?", "/plain"),
    ],
    ids=["view", "blueprint", "before_request", "handler"],
)
@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_leaves(server, key, target, path, how):
    """What waits gets GeneratorExit, and cancels its future; the request is torn down, once (S8)."""
    c = park(server, f"{target}key={key}", key)
    getattr(c, how)()
    server.wait_events(key, "teardown")
    assert server.get("/nap?s=0").text == "rested"
    assert server.events(key) == [
        ["parking", None],
        ["left", [path, "cancelled"]],
        ["teardown", "GeneratorExit"],
    ]


def test_clients_leave_while_their_futures_are_completed(served, key):
    """Whichever comes first: each request is torn down once, and those that stay are answered."""
    server = served(APP, "--threads", "4")
    keys = [f"{key}-{n}" for n in range(200)]
    with ExitStack() as stack:
        clients = {k: stack.enter_context(server.begin(f"/one?key={k}", timeout=LONG)) for k in keys}
        for k in keys:
            server.wait_events(k, "parking", within=LONG)
        leaving = [clients[k] for k in keys[::2]]
        leaver = threading.Thread(target=lambda: [c.reset() for c in leaving])
        leaver.start()
        server.call("flask_views.complete_quietly", keys)
        leaver.join(LONG)
        assert {clients[k].read_response().text for k in keys[1::2]} == {"result None"}
    for k in keys:
        server.wait_events(k, "teardown")
        assert names(server, k) in (["parking", "after", "teardown"], ["parking", "left", "teardown"])
    assert server.get("/nap?s=0").text == "rested"


def test_deadline(served, key):
    """504 by the server, and the view is left (S12)."""
    server = served(APP, "--threads", "1", "--request-timeout", "0.5")
    with park(server, f"/one?key={key}", key) as c:
        assert c.read_response().status == 504
    server.wait_events(key, "teardown")
    assert server.events(key)[1:] == [["left", ["/one", "cancelled"]], ["teardown", "GeneratorExit"]]


def test_shutdown(launched, key, tmp_path):
    """503 by the server, and the view is left (S18.3)."""
    journal = tmp_path / "events"
    server = launched(APP, "--threads", "1", "--graceful-timeout", "0.3", env={"FERMATA_TEST_EVENTS": str(journal)})
    with park(server, f"/one?key={key}", key) as c:
        server.signal(signal.SIGTERM)
        assert c.read_response().status == 503
    server.stop()
    events = [json.loads(line)[1:] for line in journal.read_text().splitlines()]
    assert events[1:] == [["left", ["/one", "cancelled"]], ["teardown", "GeneratorExit"]]
    assert "Traceback" not in server.final_log


@pytest.mark.parametrize("place", ["", "/bp"])
@pytest.mark.parametrize(
    ("how", "body"), [("complete", "begun result None"), ("fail", "begun caught failed on purpose")]
)
def test_stream(server, key, place, how, body):
    """What was yielded before the future arrives before it is done; a failure is raised in the stream."""
    with server.begin(f"{place}/stream?key={key}") as c:
        head = c.read_head()
        pieces = c.iter_body(head)
        assert (head.status, next(pieces)) == (200, b"begun ")
        server.wait_events(key, "parking")
        assert "finally" not in names(server, key)
        server.call(f"probe.{how}", key)
        assert b"begun " + b"".join(pieces) == body.encode()
    server.wait_events(key, "finally", "closed")


def test_stream_that_fails(server, key):
    """It is broken off, so that the client can tell (S5.8)."""
    with park(server, f"/stream?raise&key={key}", key) as c:
        server.call("probe.fail", key)
        assert c.read_cut() == b"begun "
    server.wait_events(key, "finally", "closed")


def test_client_leaves_a_stream(server, key):
    with server.begin(f"/stream?key={key}") as c:
        assert next(c.iter_body(c.read_head())) == b"begun "
        server.wait_events(key, "parking")
    server.wait_events(key, "left", "finally", "closed")
    eventually(lambda: server.call("probe.state", key) == "cancelled", "the future is cancelled")


def test_head_of_a_stream(server, key):
    answer = server.request("HEAD", f"/stream?key={key}")
    assert (answer.status, answer.body) == (200, b"")
    server.wait_events(key, "closed")
    assert "parking" not in names(server, key)


PLAIN = [
    ("GET", "/"),
    ("GET", "/?a=1&b=%C3%A4"),
    ("POST", "/"),
    ("PUT", "/"),
    ("DELETE", "/"),
    ("OPTIONS", "/"),
    ("HEAD", "/"),
    ("GET", "/text/3"),
    ("GET", "/text/0"),
    ("GET", "/text/x"),
    ("HEAD", "/text/30000"),
    ("GET", "/error"),
    ("GET", "/unhandled"),
    ("GET", "/abort/404"),
    ("GET", "/abort/418"),
    ("GET", "/slash"),
    ("GET", "/slash/"),
    ("GET", "/nowhere"),
    ("GET", "/?stop"),
    ("GET", "/empty"),
    ("GET", "/stream"),
    ("HEAD", "/stream"),
    ("GET", "/broken"),
    ("GET", "/file"),
    ("GET", "/source"),
    ("HEAD", "/source"),
    ("GET", "/flash"),
    ("GET", "/cookie"),
    ("GET", "/bp/"),
]


@pytest.mark.parametrize(("method", "target"), PLAIN)
def test_plain_views_are_as_ever(served, method, target):
    """Byte by byte, the date excepted, which is the server's."""
    body = b"posted" if method in ("POST", "PUT") else None
    said = []
    for app in ("flask_plain:ordinary", "flask_plain:app"):
        with served(app, env={"PYTHONHASHSEED": "0"}).connect() as c:  # for the order of the methods in Allow
            c.send(build(method, target, [("Connection", "close")], body))
            said.append(re.sub(rb"(?i)\r\ndate: [^\r]+", b"", c.drain()[0]))
    ordinary, suspending = (re.sub(rb"session=[^;]+", b"session=", one) for one in said)
    assert ordinary == suspending
    assert suspending.startswith(b"HTTP/1.1 ")
