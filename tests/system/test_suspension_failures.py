"""Failed and cancelled futures, and close() (S5, S7): a failure never passes silently, and close() runs exactly once."""

from __future__ import annotations

import json
import re

import pytest
from harness.client import build
from harness.limits import never
from harness.server import POOL_THREAD


@pytest.fixture
def server(serve):
    return serve("suspend:app", "--threads", "4", "--keep-alive", "60", admin=True)


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


def names(server, key):
    return [name for name, _ in server.events(key)]


# S5


KINDS = [
    "kind=failed",
    "kind=failed&late",
    "kind=cancelled",
    "kind=cancelled&late",
    "kind=cancelled-only&late",
    "kind=base&late",
]
ERRORS = {
    "failed": "ValueError",
    "cancelled": "CancelledError",
    "cancelled-only": "CancelledError",
    "base": "BaseException",
}


def error_of(kind: str) -> str:
    return ERRORS[kind.removeprefix("kind=").partition("&")[0]]


@pytest.mark.parametrize("kind", KINDS)
def test_failure_is_thrown_in_at_the_yield(server, key, kind):
    """S5: the future's own exception, or CancelledError, is thrown in; an application that does not look at it does not
    go on to say 200: 500, and the traceback in the log."""
    start = server.log_size()
    assert server.get(f"/fails?{kind}&key={key}").status == 500
    server.wait_events(key, "finally")
    events = server.events(key)
    assert [name for name, _ in events] == ["thrown", "finally"]
    assert events[0][1][0].endswith(error_of(kind))
    if "cancelled" in kind:
        assert events[0][1][0].startswith("concurrent.futures")
    server.wait_log(
        rf"Error handling request GET /fails.*[\s\S]*Traceback[\s\S]*suspend\w*\.py[\s\S]*{error_of(kind)}", start=start
    )


@pytest.mark.parametrize("kind", KINDS)
def test_failure_after_bytes_have_left(server, key, kind):
    """S5: once headers have left (as they have before parking) the connection is aborted: truncated, never complete-looking."""
    with server.begin(f"/fails?{kind}&after&key={key}") as c:
        if "late" in kind:
            assert c.read_cut() in (b"sent before", b"")
        else:
            c.read_failed()
    server.wait_events(key, "finally")
    assert "went on" not in names(server, key)


def test_failure_in_a_1_0_response_that_only_the_end_ends(server, key):
    """S5: a 1.0 response without length, whose end is that of the connection, ends with a reset, not with a FIN."""
    with server.connect() as c:
        c.send(build("GET", f"/fails?kind=failed&late&after&key={key}", version="1.0"))
        c.read_cut()


def tracebacks(log: str) -> list[str]:
    return re.findall(r"Traceback[\s\S]*?ValueError: a failure that is shared", log)


@pytest.mark.parametrize("how", ["caught", "parked", "uncaught", "no-throw"])
def test_failure_that_many_share(server, key, how):
    """S5: a future that failed belongs to all who wait for it: a thousand requests do not add their frames to its
    traceback, so that each finds, logs and keeps those of all before."""
    start = server.log_size()
    with server.connect() as c:
        first = None
        for i in range(1000):
            if first is None or not first.keeps_alive:
                answer = server.get(f"/shares-a-failure?how={how}&key={key}")
            else:
                answer = c.request("GET", f"/shares-a-failure?how={how}&key={key}")
            first = first or answer
            assert (answer.status, answer.body) == (first.status, first.body), f"request {i}"
    assert first.status == (200 if how == "caught" else 500)
    assert server.call("suspend_many.share_length", key) == 1  # as it was when it was raised
    found = tracebacks(server.log(start))
    if how != "caught":
        assert len(found) == 1000
        assert len(set(found)) == 1, "the tracebacks in the log differ"


def test_failure_that_many_share_at_once(server, key):
    """S5: the same where threads throw it at the same time."""
    held = [server.begin(f"/shares-a-failure?how=caught&key={key}") for _ in range(200)]
    for c in held:
        assert c.read_response().status == 200
    for c in held:
        c.close()
    assert server.call("suspend_many.share_length", key) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_failure_caught_becomes_a_502(server, kind):
    """S5: an application that catches it can answer as it likes; it is the very same exception object."""
    answer = server.get(f"/catches?{kind}")
    assert (answer.status, answer.text) == (502, f"upstream: {error_of(kind)} True")


def test_failure_caught_keeps_the_connection(server):
    """S5: such an answer is a response like any other."""
    with server.connect() as c:
        for _ in range(3):
            assert c.request("GET", "/catches?kind=failed&late").status == 502
        assert c.request("GET", "/hello").text == "hello"


def test_failures_caught_again_and_again(server, key):
    """S5: what throw() gives is the next item: a block, another future, one that fails again."""
    answer = server.get(f"/catches-and-parks?key={key}")
    assert json.loads(answer.text) == ["failure 0", "failure 1", "failure 2", "done and failed"]


def test_failure_caught_and_returned(server):
    """S5: an application that catches it and ends has ended rightly."""
    answer = server.get("/catches-and-returns")
    assert (answer.status, answer.body) == (200, b"before")


@pytest.mark.parametrize(
    ("target", "error"), [("catches-and-raises", "LookupError"), ("catches-and-yields-nonsense", "TypeError")]
)
def test_failure_caught_and_something_else_wrong(server, target, error):
    """S5: what goes wrong after catching is an application error of its own."""
    start = server.log_size()
    assert server.get(f"/{target}").status == 500
    server.wait_log(error, start=start)


@pytest.mark.parametrize("target", ["fails-with-stop-iteration", "hands-back-stop-iteration"])
def test_failure_with_stop_iteration(server, target):
    """S5.5: a future that failed with StopIteration is a failure, not the end of the body."""
    start = server.log_size()
    with server.begin(f"/{target}") as c:
        c.read_failed()
    server.wait_log("no end", start=start)


@pytest.mark.parametrize("after", ["", "&after"])
@pytest.mark.parametrize("kind", KINDS)
def test_iterable_without_throw(server, key, kind, after):
    """S5: an iterable without throw is closed; __next__ is never called after a failed future."""
    start = server.log_size()
    with server.begin(f"/fails-without-throw?{kind}&key={key}{after}") as c:
        if after and "late" in kind:
            assert c.read_cut() in (b"sent before", b"")
        elif after:
            c.read_failed()
        else:
            assert c.read_response().status == 500
    server.wait_events(key, "closed")
    assert names(server, key) == ["next"] * (2 if after else 1) + ["closed"]
    server.wait_log(error_of(kind), start=start)


@pytest.mark.parametrize("kind", ["kind=failed", "kind=failed&late", "kind=cancelled&late"])
@pytest.mark.parametrize("wrapper", ["closing", "map", "chain"])
def test_generator_behind_a_wrapper_without_throw(server, key, wrapper, kind):
    """S5: behind werkzeug's ClosingIterator, map or chain: 500, and the application does not go on as if all were well."""
    assert server.get(f"/fails-behind-wrapper?{kind}&wrapper={wrapper}&key={key}").status == 500
    if wrapper == "closing":
        server.wait_events(key, "finally")
    assert "went on" not in names(server, key)


def test_wrapper_that_has_throw(server, key):
    """S5: throw is used wherever the iterable has it, not only on generators; what it returns is the next item."""
    answer = server.get(f"/throw-delegated?key={key}")
    assert (answer.status, answer.body) == (502, b"through the wrapper")
    server.wait_events(key, "close")
    assert [name for name, _ in server.events(key)].count("throw") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_settled_behind_a_wrapper(server, kind):
    """S5: an application behind such a wrapper waits for a future that never fails, and looks at the other."""
    answer = server.get(f"/settled?{kind}")
    assert (answer.status, answer.body) == (502, b"looked")


def test_application_error_is_counted(server):
    """S5: a failure that ends a request is an application error in the metrics."""
    before = server.admin.metrics().total("fermata_application_errors_total")
    server.get("/fails?kind=failed&late")
    server.admin.wait("fermata_application_errors_total", before + 1)


# S7


def check_closed(server, key):
    """close() once, after everything else, on a pool thread, in the request's context, overlapping nothing."""
    server.wait_events(key, "closed")
    never(lambda: names(server, key).count("closed") > 1, "close() ran twice", during=0.15)
    events = server.events(key)
    assert "overlap" not in names(server, key)
    assert events[-1][0] == "closed", events
    for name, detail in events:
        if name in ("next", "throw", "closed"):
            thread, tag = detail
            assert POOL_THREAD.fullmatch(thread), events
            assert tag == key, events


@pytest.mark.parametrize("do", ["", "b", "bb", "t", "tb", "btb", "bt", "dddb", "btbtbt"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_close_after_the_end(server, key, do, method):
    """S7: at the end."""
    answer = server.request(method, f"/watched?do={do}&key={key}")
    assert answer.status == 200
    assert answer.text == ("block " * do.count("b") if method == "GET" else "")
    check_closed(server, key)


@pytest.mark.parametrize("do", ["e", "te", "be", "bte", "f", "bf", "tf"])
def test_close_after_an_error(server, key, do):
    """S7: after an error in a step or a failed future."""
    with server.begin(f"/watched?do={do}&key={key}") as c:
        if do in ("bte", "bf"):
            c.read_cut()
        else:
            c.read_failed()
    check_closed(server, key)


@pytest.mark.parametrize("do", ["p", "bp", "tp", "btbp"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_close_after_a_disconnect_while_parked(server, key, do, how):
    """S7, S8: the client goes while the request is parked."""
    with server.park(f"/watched?do={do}&key={key}", key) as c:
        getattr(c, how)()
    check_closed(server, key)


@pytest.mark.parametrize("do", ["g", "bgb", "tgb", "gp", "bgp"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_close_after_a_disconnect_within_a_step(server, key, do, how):
    """S7: the client goes while a step runs: close() waits until the step has ended."""
    with server.begin(f"/watched?do={do}&key={key}") as c:
        server.wait_events(key, "at the gate")
        getattr(c, how)()
    never(lambda: "closed" in names(server, key), "closed beside a step")
    server.call("probe.open_gate", key)
    check_closed(server, key)


@pytest.mark.parametrize("do", ["p", "bp"])
def test_close_at_the_deadline(serve, key, do):
    """S7, S12: the request's deadline while parked."""
    server = serve("suspend:app", "--request-timeout", "1", admin=True)
    with server.begin(f"/watched?do={do}&key={key}") as c:
        if "b" in do:
            c.read_cut()
        else:
            assert c.read_response().status == 504
    check_closed(server, key)


def test_close_at_the_deadline_within_a_step(serve, key):
    """S7, S12: the request's deadline while a step runs: close() when the step ends."""
    server = serve("suspend:app", "--request-timeout", "1", admin=True)
    with server.begin(f"/watched?do=gbp&key={key}") as c:
        assert c.read_response().status == 504
    never(lambda: "closed" in names(server, key), "closed beside a step")
    server.call("probe.open_gate", key)
    check_closed(server, key)


@pytest.mark.parametrize("do", ["p", "bp"])
def test_close_at_shutdown(launch, key, do, tmp_path):
    """S7, S18: the graceful timeout while parked."""
    server = launch(
        "suspend:app", "--graceful-timeout", "1", env={"FERMATA_TEST_EVENTS": str(tmp_path / "events")}, admin=True
    )
    with server.park(f"/watched?do={do}&key={key}", key) as c:
        server.signal(15)
        if "b" in do:
            c.read_cut()
        else:
            assert c.read_response().status == 503
    assert server.wait_exit() in (0, 1)
    server.expect = server.wait_exit()
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    mine = [(name, detail) for k, name, detail in events if k == key]
    assert [name for name, _ in mine].count("closed") == 1
    assert mine[-1][0] == "closed"
    assert POOL_THREAD.fullmatch(mine[-1][1][0]) and mine[-1][1][1] == key


def test_generator_sees_generator_exit(server, key):
    """S7: close() raises GeneratorExit at the yield, on a pool thread, while the future is still pending."""
    with server.park(f"/park?key={key}", key):
        pass
    server.wait_events(key, "finally")
    state, thread = next(detail for name, detail in server.events(key) if name == "exit")
    assert state == "pending"
    assert POOL_THREAD.fullmatch(thread)


def test_close_that_yields_a_future(server, key):
    """S7: an application that yields when it is closed is in error; it is logged, and nothing is left behind."""
    start = server.log_size()
    with server.park(f"/close-parks?key={key}", key):
        pass
    server.wait_events(key, "finally")
    server.wait_log("RuntimeError: generator ignored GeneratorExit", start=start)
    server.admin.wait_in_flight("parked_future", 0)
    assert server.get("/hello").status == 200
