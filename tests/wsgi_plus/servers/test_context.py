"""What follows the context follows a request through its suspensions (S9.4, S9.5): traces and the ids in a log.

OpenTelemetry's middleware for WSGI is used as it is: it knows nothing of WSGI+.  What is traced by wsgi_plus.otel is the
same, and its spans have the waits in them.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections import Counter
from contextlib import ExitStack

import pytest
from harness.limits import eventually

TRACES = "context_traces:app"
OURS = "context_traces:ours"
LOGS = "context_logs:app"

# Four meet in pairs, in this order.  See apps/context_meetings.py.
MEMBERS = "abcd"
ROUNDS = [*itertools.combinations(MEMBERS, 2)]


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


def meet(server, key, headers):
    """Four requests that meet each other, each with headers of its own, to the end.  Gives the names of the rounds."""
    rounds = {pair: f"{key}-{''.join(pair)}" for pair in ROUNDS}
    with ExitStack() as stack:
        clients = {}
        for me in MEMBERS:
            clients[me] = stack.enter_context(server.connect())
            mine = ",".join(name for pair, name in rounds.items() if me in pair)
            clients[me].send_request("GET", f"/meet?me={me}&rounds={mine}", headers(me))
        for name in rounds.values():
            server.wait_events(name, "parking", "parking")
            server.call("probe.complete", name)
        assert {c.read_response().text for c in clients.values()} == {"met"}
    for name in rounds.values():
        (one, two) = {thread for event, thread in server.events(name) if event == "met"}
        assert one != two
    return rounds


# Traces


class Trace:
    """One trace, which the client has begun."""

    def __init__(self, server):
        self.server = server
        self.id, self.parent = secrets.token_hex(16), secrets.token_hex(8)
        self.header = ("traceparent", f"00-{self.id}-{self.parent}-01")

    def spans(self):
        """Those that have ended, by name: no name comes twice."""
        found = self.server.call("context_traces.spans", self.id)
        assert set(Counter(span["name"] for span in found).values()) <= {1}
        return {span["name"]: span for span in found}

    def ended(self, name):
        """All spans, when this one has ended."""
        return eventually(lambda: name in (spans := self.spans()) and spans, f"{name} has ended")

    def tree(self):
        """The name of each span's parent."""
        spans = self.spans()
        names = {span["id"]: name for name, span in spans.items()} | {self.parent: "client"}
        return {name: names[span["parent"]] for name, span in spans.items()}


STORY = {
    "GET /story": "client",
    "before": "GET /story",
    "around": "GET /story",
    "within": "around",
    "on a thread": "GET /story",
    "in the loop": "GET /story",
    "after": "GET /story",
    "finally": "GET /story",
}


@pytest.fixture(params=[TRACES, OURS])
def tracing(request):
    return request.param


@pytest.fixture
def server(served, tracing):
    return served(tracing, "--threads", "2")


def test_a_span_spans_the_suspension(server, tracing, key):
    """It is open while the request is parked, and ends after all that was made in it, wherever that was."""
    trace = Trace(server)
    with server.connect() as c:
        c.send_request("GET", f"/story?key={key}", [trace.header])
        server.wait_events(key, "parking")
        assert list(trace.spans()) == ["before"]
        server.call("probe.complete", key)
        assert c.read_response().text == "told"
    spans = trace.ended("GET /story")
    assert trace.tree() == STORY
    whole = spans["GET /story"]
    assert (whole["status"], whole["http"], whole["events"]) == ("UNSET", 200, [])
    assert ("parked" in whole["parks"]) == (tracing == OURS)
    assert all(whole["start"] <= span["start"] <= span["end"] <= whole["end"] for span in spans.values())


def test_a_failure_ends_the_span_with_an_error(server, key):
    """S5: it is thrown at the yield, through the middleware."""
    trace = Trace(server)
    with server.connect() as c:
        c.send_request("GET", f"/story?key={key}", [trace.header])
        server.wait_events(key, "parking")
        server.call("probe.fail", key)
        assert c.read_response().status == 500
    spans = trace.ended("GET /story")
    assert trace.tree() == {name: STORY[name] for name in ("before", "around", "finally", "GET /story")}
    for name in ("around", "GET /story"):
        assert (spans[name]["status"], spans[name]["events"]) == ("ERROR", ["exception"])


def test_a_failure_that_is_caught_is_none(server, key):
    trace = Trace(server)
    with server.connect() as c:
        c.send_request("GET", f"/caught?key={key}", [trace.header])
        server.wait_events(key, "parking")
        server.call("probe.fail", key)
        assert c.read_response().text == "caught"
    spans = trace.ended("GET /caught")
    assert (spans["GET /caught"]["status"], spans["GET /caught"]["http"]) == ("UNSET", 404)
    assert spans["GET /caught"]["events"] == []


def test_a_client_that_leaves_ends_the_span(server, key):
    """S8.2: it does not wait for the future, and is no error."""
    trace = Trace(server)
    with server.connect() as c:
        c.send_request("GET", f"/story?key={key}", [trace.header])
        server.wait_events(key, "parking")
    spans = trace.ended("GET /story")
    assert trace.tree() == {name: STORY[name] for name in ("before", "around", "finally", "GET /story")}
    assert {(span["status"], *span["events"]) for span in spans.values()} == {("UNSET",)}


def test_spans_of_requests_that_change_threads(server, key):
    """Each has the spans of its own meetings, and no other's."""
    start = server.log_size()
    traces = {me: Trace(server) for me in MEMBERS}
    rounds = meet(server, key, lambda me: [traces[me].header])
    for me, trace in traces.items():
        trace.ended("GET /meet")
        mine = {name: "GET /meet" for pair, name in rounds.items() if me in pair}
        assert trace.tree() == {"GET /meet": "client", **mine}
    assert "detach" not in server.log(start)  # what OpenTelemetry says of a context that is not the one of before


def test_metrics_of_the_middleware_end_with_the_call(launched, key):
    """They do not count what comes after the call of the application: for a generator, nothing at all."""
    server = launched(TRACES, "--threads", "2")
    with server.connect() as c:
        c.send_request("GET", f"/story?key={key}")
        server.wait_events(key, "parking")
        assert server.call("context_traces.metric", "http.server.active_requests") == [0]
        assert server.call("context_traces.metric", "http.server.duration") == [1]
        server.call("probe.complete", key)
        assert c.read_response().text == "told"
    assert server.call("context_traces.metric", "http.server.duration") == [1]


# Logs


@pytest.fixture
def logging_server(served):
    return served(LOGS, "--threads", "2")


def lines(server, key):
    """What has been logged, when the request has been closed, as [id, message]."""

    def closed():
        said = server.call("context_logs.lines", key)
        return said if said and said[-1][1] == f"{key} finally" else None

    return eventually(closed, "the request is closed")


@pytest.mark.parametrize(
    ("function", "answer", "after"),
    [
        ("probe.complete", "told", {"after", "on a thread", "in the loop"}),
        ("probe.fail", "caught", {"failed on purpose"}),
    ],
)
def test_the_log_has_the_id_everywhere(logging_server, key, function, answer, after):
    server = logging_server
    with server.connect() as c:
        c.send_request("GET", f"/story?key={key}", [("X-Request-Id", "id-1")])
        server.wait_events(key, "parking")
        server.call(function, key)
        assert c.read_response().text == answer
    said = lines(server, key)
    assert {message for _, message in said} == {f"{key} {what}" for what in after | {"before", "finally"}}
    assert {number for number, _ in said} == {"id-1"}


def test_the_log_has_the_id_when_the_client_leaves(logging_server, key):
    with logging_server.connect() as c:
        c.send_request("GET", f"/story?key={key}", [("X-Request-Id", "id-2")])
        logging_server.wait_events(key, "parking")
    assert lines(logging_server, key) == [["id-2", f"{key} before"], ["id-2", f"{key} finally"]]


def test_ids_of_requests_that_change_threads(logging_server, key):
    rounds = meet(logging_server, key, lambda me: [("X-Request-Id", f"id of {me}")])
    said = logging_server.call("context_logs.lines", key)
    assert sorted(said) == sorted([f"id of {me}", f"{me} met {name}"] for pair, name in rounds.items() for me in pair)


def test_a_request_without_an_id_finds_none(logging_server, key):
    """S9.5: not on threads that have just served others, either."""
    meet(logging_server, f"{key}-with", lambda me: [("X-Request-Id", f"id of {me}")])
    meet(logging_server, f"{key}-without", lambda me: [])
    said = logging_server.call("context_logs.lines", f"{key}-without")
    assert [number for number, _ in said] == ["-"] * 2 * len(ROUNDS)
