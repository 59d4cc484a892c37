"""What wsgi_plus.simple_server and Fermata do alike, with the applications of the system tests (tests/apps)."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from harness.client import NoResponse, build, chunked
from harness.limits import LONG, QUIET, eventually, never
from harness.server import Server, wait_refused

Start = Callable[..., Server]


@pytest.fixture
def server(served: Start) -> Server:
    return served("suspend:app", "--threads", "2", "--keep-alive", "60")


@pytest.fixture
def hasty(served: Start) -> Server:
    return served("suspend:app", "--threads", "2", "--keep-alive", "60", "--request-timeout", "1")


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return re.sub(r"\W+", "-", request.node.name)


def names(server: Server, key: str) -> list[str]:
    return [name for name, _ in server.events(key)]


# Requests


def test_keep_alive_and_pipelining(server: Server) -> None:
    """Requests in a row, in pieces, with bodies of either kind: answered in order, each with its own."""
    stream = b"".join(
        build("POST", "/echo?key=pipelined", body=b"%d" % n)
        + build("POST", "/echo?key=pipelined", [("Transfer-Encoding", "chunked")], chunked(b"a", b"%d" % n))
        for n in range(20)
    )
    with server.connect(timeout=LONG) as c:
        c.send_pieces([stream[at : at + 71] for at in range(0, len(stream), 71)], pause=0)
        for n in range(20):
            assert c.read_response().text == f"{n}"
            assert c.read_response().text == f"a{n}"
        assert c.request("GET", "/hello").text == "hello"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nX: 1\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000000\r\n\r\n", 413),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET /hello HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n", 417),
    ],
)
def test_refused(server: Server, data: bytes, status: int) -> None:
    """A refusal is one response, and the end; what was sent behind it is not read."""
    with server.connect() as c:
        c.send(build("GET", "/hello") + data + build("GET", "/hello"))
        assert c.read_response().text == "hello"
        answer = c.read_response()
        assert (answer.status, answer.keeps_alive) == (status, False)
        c.ended()


def test_body_that_ends_early(server: Server, key: str) -> None:
    """S14.4."""
    for how in ("half_close", "reset", "close"):
        with server.connect() as c:
            c.send(build("POST", f"/echo?key={key}", [("Content-Length", "10")]) + b"12345")
            getattr(c, how)()
    never(lambda: server.events(key), "called with half a body")


# Suspension


def test_two_hundred_parked_on_two_threads(server: Server, key: str) -> None:
    """S2.1, S20: they hold no thread, and all go on."""
    with ExitStack() as stack:
        held = [stack.enter_context(server.begin(f"/park?key={key}", timeout=LONG)) for _ in range(200)]
        server.wait_events(key, *["parking"] * 200, within=LONG)
        assert server.get("/hello").text == "hello"
        server.call("probe.complete", key, "fine")
        assert [c.read_response().text for c in held] == ["result fine"] * 200
    assert names(server, key).count("finally") == 200


def test_failure_is_thrown(server: Server) -> None:
    """S5.2: and caught."""
    answer = server.get("/catches?kind=failed&late")
    assert (answer.status, answer.text) == (502, "upstream: ValueError True")


def test_failure_that_nobody_catches(server: Server, key: str) -> None:
    """S5.7: 500, and the traceback in the log."""
    start = server.log_size()
    assert server.get(f"/fails?kind=failed&late&key={key}").status == 500
    server.wait_log(
        r"Error handling request GET /fails[\s\S]*Traceback[\s\S]*ValueError: failed on purpose", start=start
    )
    assert names(server, key) == ["thrown", "finally"]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_failure_after_a_block(server: Server, key: str, version: str) -> None:
    """S5.8: the block arrives, and the client can tell that it is not all."""
    with server.connect() as c:
        c.send(build("GET", f"/fails?kind=failed&late&after&key={key}", version=version))
        head = c.read_head()
        blocks = c.iter_body(head)
        assert next(blocks) == b"sent before"
        with pytest.raises((AssertionError, ConnectionResetError)):
            b"".join(blocks)


@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
@pytest.mark.parametrize("target", ["park", "park-after"])
def test_client_leaves_while_it_is_parked(server: Server, key: str, target: str, how: str) -> None:
    """S8: closed at once; the future is left alone, and its end means nothing."""
    start = server.log_size()
    with server.begin(f"/{target}?key={key}") as c:
        server.wait_events(key, "parking")
        c.send(build("GET", f"/park?key={key}-behind") * 2)
        getattr(c, how)()
        server.wait_events(key, "finally")
    assert server.call("probe.state", key) == "pending"
    server.call("probe.fail", key)
    assert server.get("/hello").text == "hello"
    never(lambda: server.events(f"{key}-behind") or server.log(start), "begun behind it, or logged")


def test_half_close_allowed(served: Start, key: str) -> None:
    """S8.5."""
    server = served("suspend:app", "--allow-half-close")
    with server.begin(f"/park?key={key}") as c:
        server.wait_events(key, "parking")
        c.half_close()
        never(lambda: "finally" in names(server, key), "taken for gone")
        server.call("probe.complete", key)
        assert c.read_response().text == "result None"
        assert c.ended() == "eof"


def test_half_close_while_a_step_runs(server: Server, key: str) -> None:
    """S8.6."""
    with server.begin(f"/gate?key={key}") as c:
        server.wait_events(key, "entered")
        c.half_close()
        assert not c.readable(QUIET)
        server.call("probe.open_gate", key)
        assert c.read_response().text == "opened"
        assert c.ended() == "eof"


def test_slow_reader(server: Server, key: str) -> None:
    """S13: it is not asked for what is not read, holds no thread, and is sent to the end."""
    with ExitStack() as stack:
        held = [
            stack.enter_context(server.begin(f"/blocks?mb=30&key={key}{n}", receive_buffer=65536, timeout=LONG))
            for n in range(4)
        ]
        assert server.get("/hello").text == "hello"
        for n in range(4):
            eventually(lambda n=n: server.call("suspend.progress_of", f"{key}{n}"), "it has begun")  # type: ignore[misc]
        time.sleep(QUIET)
        assert all(server.call("suspend.progress_of", f"{key}{n}") < 30 * 16 / 2 for n in range(4))
        assert [len(c.read_response().body) for c in held] == [30 << 20] * 4


def test_reset_of_a_slow_reader(server: Server, key: str) -> None:
    """S8.1, S13."""
    with server.begin(f"/blocks?mb=200&key={key}", receive_buffer=4096) as c:
        c.read_head()
        time.sleep(QUIET)
        c.reset()
        server.wait_events(key, "finally")


# Deadlines


def test_deadline_while_parked(hasty: Server, key: str) -> None:
    """S12.2."""
    with hasty.begin(f"/park?key={key}") as c:
        answer = c.read_response()
        assert (answer.status, answer.text.count("\n")) == (504, 1)
    hasty.wait_events(key, "finally")
    assert "exit" in names(hasty, key) and hasty.call("probe.state", key) == "pending"


def test_deadline_after_a_block(hasty: Server, key: str) -> None:
    """S12.2."""
    with hasty.begin(f"/park-after?key={key}") as c:
        head = c.read_head()
        blocks = c.iter_body(head)
        assert next(blocks) == b"before "
        with pytest.raises((AssertionError, ConnectionResetError)):
            b"".join(blocks)
    hasty.wait_events(key, "finally")


def test_deadline_while_a_step_runs(hasty: Server, key: str) -> None:
    """S12.4: 504 at once, the stack in the log, close() when the step returns."""
    start = hasty.log_size()
    with hasty.begin(f"/watched?do=gbb&key={key}") as c:
        assert c.read_response().status == 504
        hasty.wait_log(r"wait_gate", start=start)
        assert "closed" not in names(hasty, key)
        hasty.call("probe.open_gate", key)
        hasty.wait_events(key, "closed")
    assert names(hasty, key).count("next") == 1


# The end


def test_drain(launched: Start, key: str) -> None:
    """S18.1, S18.2, S18.5."""
    server = launched("suspend:app", "--keep-alive", "60")
    with server.begin(f"/park-many-futures?key={key}&n=3") as c, server.connect() as idle:
        assert idle.request("GET", "/hello").text == "hello"
        server.signal(signal.SIGTERM)
        wait_refused(server.address)
        idle.ended()
        for n in range(3):
            server.call("probe.complete", f"{key}{n}")
        c.send(build("GET", f"/park?key={key}-behind"))
        answer = c.read_response()
        assert (answer.text, answer.header("Connection")) == ("all", "close")
        with pytest.raises((NoResponse, ConnectionResetError)):
            c.read_response()
    assert server.wait_exit() == 0


def test_graceful_timeout(launched: Start, key: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """S18.3."""
    events = tmp_path_factory.mktemp("events") / "events"
    server = launched("suspend:app", "--graceful-timeout", "1", env={"FERMATA_TEST_EVENTS": str(events)})
    with server.begin(f"/park?key={key}") as c, server.begin(f"/park-after?key={key}-after") as d:
        server.wait_events(key, "parking")
        server.wait_events(f"{key}-after", "parking")
        server.signal(signal.SIGTERM)
        answer = c.read_response()
        assert (answer.status, answer.header("Connection")) == (503, "close")
        d.read_cut()
    server.expect = server.wait_exit()
    assert server.expect in (0, 1)
    text = events.read_text()
    assert text.count('"finally"') == 2 and text.count('"exit"') == 1


@pytest.mark.parametrize(
    ("server_name", "number"),
    [("fermata", signal.SIGTERM), ("simple_server", signal.SIGTERM), ("simple_server", signal.SIGUSR1)],
)
def test_signals_to_the_very_end(launched: Start, number: signal.Signals) -> None:
    """A process that asks it to end may ask again: that does not change how it ends, even while Python is finalized."""
    server = launched("suspend:app")
    server.signal(signal.SIGTERM)
    deadline = time.monotonic() + LONG
    while server.alive() and time.monotonic() < deadline:
        server.signal(number)
        time.sleep(0.0005)  # handlers in handlers would be too deep a recursion
    assert server.wait_exit() == 0


def test_second_interrupt(launched: Start, key: str) -> None:
    """It ends at once, whatever there is."""
    server = launched("suspend:app", "--graceful-timeout", "60")
    with server.begin(f"/park?key={key}"):
        server.wait_events(key, "parking")
        server.signal(signal.SIGINT)
        wait_refused(server.address)
        assert server.alive()
        server.signal(signal.SIGINT)
        server.expect = server.wait_exit()
        assert server.expect in (1, -signal.SIGINT)
