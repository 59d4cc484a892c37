"""HTTP/1.1 and 1.0: connections that are kept and that end, pipelining, limits of connections."""

from __future__ import annotations

import signal
import time
from urllib.parse import urlencode

import pytest
from harness.client import Malformed, build, chunked
from harness.limits import LONG, PROMPT, eventually, never


@pytest.fixture
def server(serve):
    return serve("basic")


def respond(**asked: str) -> str:
    return "/respond?" + urlencode(asked, encoding="latin-1")


# Connections


def test_keep_alive_is_the_default_in_1_1(server):
    """Many requests on one connection, without a word about it."""
    with server.connect() as c:
        for _ in range(50):
            answer = c.request("GET", "/hello")
            assert (answer.version, answer.status, answer.reason, answer.body) == ("1.1", 200, "OK", b"Hello, world\n")
            assert answer.keeps_alive
            assert answer.header("Connection") is None


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close", "x, CLOSE ,y"])
def test_connection_close_from_the_client(server, value):
    """Connection: close, in whatever company: one response that says close, then the end."""
    with server.connect() as c:
        c.send(build("GET", "/hello", [("Connection", value)]) + build("GET", "/hello?second"))
        answer = c.read_response()
        assert answer.body == b"Hello, world\n"
        assert answer.header("Connection") == "close"
        assert c.ended() == "eof"


def test_connection_close_from_the_application(server):
    """The application's Connection: close is honoured."""
    with server.connect() as c:
        answer = c.request("GET", respond(h="Connection:close", b="bye"))
        assert answer.header("Connection") == "close"
        assert answer.body == b"bye"
        assert c.ended() == "eof"


def test_http_1_0_closes(server):
    """A 1.0 request without keep-alive: the response, then the end."""
    with server.connect() as c:
        answer = c.request("GET", "/hello", version="1.0")
        assert answer.status == 200
        assert answer.body == b"Hello, world\n"
        assert not answer.keeps_alive
        assert c.ended() == "eof"


def test_http_1_0_keep_alive(server):
    """A 1.0 request that asks for keep-alive gets it, and is told so, when the length is known."""
    with server.connect() as c:
        for _ in range(3):
            answer = c.request("GET", "/hello", [("Connection", "Keep-Alive")], version="1.0")
            assert answer.header("Connection").lower() == "keep-alive"
            assert answer.framing == "length"


def test_http_1_0_without_host(server):
    """Host may be absent in 1.0."""
    with server.connect() as c:
        assert c.request("GET", "/hello", version="1.0", host=None).status == 200


def test_http_1_0_unknown_length_is_ended_by_closing(server):
    """Several blocks without a length go to a 1.0 client unchunked, and the connection ends, keep-alive or not."""
    with server.connect() as c:
        answer = c.request("GET", "/blocks?n=3", [("Connection", "keep-alive")], version="1.0")
        assert answer.framing == "close"
        assert answer.body == b"block 0\nblock 1\nblock 2\n"
        assert not answer.keeps_alive


def test_pipelining_in_order(server):
    """Requests sent in one go are answered in their order, the slow ones too."""
    with server.connect(timeout=LONG) as c:
        c.send(b"".join(build("GET", f"/slow?s={0.3 if i in (0, 3) else 0}&say={i}") for i in range(10)))
        assert [c.read_response().body for i in range(10)] == [b"%d" % i for i in range(10)]


def test_pipelining_with_bodies(server):
    """The next request begins exactly where the body of the one before ends."""
    with server.connect() as c:
        c.send(
            build("POST", "/echo", body=b"first")
            + build("POST", "/echo", [("Transfer-Encoding", "chunked")], chunked(b"sec", b"ond"))
            + build("POST", "/ignore", body=b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            + build("GET", "/seen?last")
        )
        assert c.read_response().body == b"first"
        assert c.read_response().body == b"second"
        assert c.read_response().body == b"ignored\n"
        assert b'"QUERY_STRING": "last"' in c.read_response().body
        assert not c.readable(0.2)


def test_deep_pipelining(server):
    """Thousands of requests in flight in both directions on one connection neither block nor reorder."""
    number = 3000
    with server.connect(timeout=LONG) as c:
        c.sock.setblocking(False)
        todo = memoryview(b"".join(build("POST", "/echo", body=b"%d" % i) for i in range(number)))
        answers = 0
        deadline = time.monotonic() + LONG
        while answers < number:
            assert time.monotonic() < deadline, f"{answers} answers"
            try:
                todo = todo[c.sock.send(todo[:65536]) :] if todo else todo
            except BlockingIOError:
                pass
            if c.readable(0.01):
                c.sock.settimeout(PROMPT)
                answer = c.read_response()
                assert answer.body == b"%d" % answers
                answers += 1
                while c.received.count(b"\r\n\r\n") > 2:
                    assert c.read_response().body == b"%d" % answers
                    answers += 1
                c.sock.setblocking(False)


def test_byte_by_byte(server):
    """A request that arrives a byte at a time is the same request."""
    request = build("POST", "/echo", [("Transfer-Encoding", "chunked")], chunked(b"abc", b"defg"))
    with server.connect() as c:
        c.send_pieces((request[i : i + 1] for i in range(len(request))), pause=0.0005)
        assert c.read_response().body == b"abcdefg"
        assert c.request("GET", "/hello").status == 200


def test_one_empty_line_before_a_request(server):
    """One CRLF before the request line is skipped (RFC 9112, 2.2)."""
    with server.connect() as c:
        c.send(b"\r\n" + build("GET", "/hello"))
        assert c.read_response().status == 200
        c.send(b"\r\n" + build("GET", "/hello"))
        assert c.read_response().status == 200


def test_client_that_half_closes_after_its_request(server):
    """printf ... | nc -N: the response comes though the client has shut its side."""
    with server.connect() as c:
        c.send(build("GET", "/slow?s=0.3"))
        c.half_close()
        assert c.read_response().body == b"slept\n"
        assert c.ended() == "eof"


def test_client_that_half_closes_after_several_requests(server):
    """All requests that were sent before the half-close are answered."""
    with server.connect() as c:
        c.send(build("GET", "/hello") * 3)
        c.half_close()
        assert [c.read_response().status for _ in range(3)] == [200] * 3
        assert c.ended() == "eof"


def test_connection_that_ends_within_a_request(server):
    """A head or body that is cut off by the end of the connection is never given to the application."""
    before = server.call("probe.count", "calls", "/echo/cut")
    for cut in (b"POST /echo/c", b"POST /echo/cut HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"):
        with server.connect() as c:
            c.send(cut)
            c.half_close()
            data, _ = c.drain()
            assert data == b"" or data.startswith(b"HTTP/1.1 400 ")
    assert server.call("probe.count", "calls", "/echo/cut") == before


# Limits of connections


def test_worker_connections(launch):
    """Beyond --worker-connections accepting pauses; it goes on when a connection ends."""
    server = launch("basic", "--worker-connections", "5", "--keep-alive", "60", "--header-timeout", "60")
    held = [server.connect() for _ in range(5)]
    try:
        assert all(c.request("GET", "/hello").status == 200 for c in held)
        with server.connect() as waiting:  # the kernel accepts it, the server does not
            waiting.send(build("GET", "/hello"))
            never(lambda: waiting.readable(0), "answered beyond --worker-connections")
            assert held[0].request("GET", "/hello").status == 200
            held.pop().close()
            assert waiting.read_response().status == 200
    finally:
        for c in held:
            c.close()


def test_descriptors_of_closed_connections_are_given_back(server):
    """Connections that end in whatever way leave no descriptor behind."""
    server.get("/hello")
    before = len(server.process.fds())
    for i in range(60):
        c = server.connect()
        if i % 6 == 0:
            c.send(b"GET /hel")
        elif i % 6 == 1:
            c.request("GET", "/hello")
        elif i % 6 == 2:
            c.send(build("GET", "/big?mb=3"))
        elif i % 6 == 3:
            c.send(build("POST", "/echo", [("Content-Length", "700000")]) + b"x" * 600_000)
        elif i % 6 == 4:
            c.send(b"nonsense\r\n\r\n")
        if i % 2:
            c.reset()
        else:
            c.close()
    eventually(lambda: len(server.process.fds()) <= before, f"at most {before} descriptors", within=LONG)


def test_nodelay(server):
    """Small blocks leave at once: no response waits for an acknowledgement (40 ms each, with Nagle)."""
    with server.connect() as c:
        c.request("GET", "/blocks?n=5")
        start = time.monotonic()
        for _ in range(50):
            c.request("GET", "/blocks?n=5")
        assert time.monotonic() - start < max(1.0, PROMPT / 3)


def test_lingering_close_lets_the_client_read_the_refusal(server):
    """A client that is still sending when it is refused can read the response: no reset destroys it."""
    with server.connect(timeout=LONG) as c:
        c.send(b"GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
        c.send_pieces([b"y" * 65536] * 20, pause=0.01)
        answer = c.read_response()
        assert answer.status == 400
        assert not answer.keeps_alive
        assert c.ended() == "eof"
        for _ in range(5):
            c.send(b"z" * 65536)
            time.sleep(0.02)


def test_malformed_is_noticed_by_the_tests(server):
    """The tests' own client refuses what is no HTTP: an application's bytes taken for a head."""
    with server.connect() as c:
        c.send(build("GET", respond(b="no status line\r\n\r\n")))
        c.read_head()
        with pytest.raises(Malformed):
            c.read_head()


def test_many_connections_at_once(server):
    """Some hundred connections are served at once and in turn."""
    held = [server.connect() for _ in range(300)]
    try:
        for _ in range(2):
            for c in held:
                c.send(build("GET", "/hello"))
            assert [c.read_response().status for c in held] == [200] * 300
    finally:
        for c in held:
            c.close()


def test_backlog_takes_a_burst(launch):
    """While the server is stopped for a moment the kernel queues at least --backlog connections (as far as it may)."""
    server = launch("basic", "--backlog", "100")
    server.signal(signal.SIGSTOP)
    try:
        held = [server.connect() for _ in range(90)]
    finally:
        server.signal(signal.SIGCONT)
    try:
        for c in held:
            c.send(build("GET", "/hello"))
        assert [c.read_response().status for c in held] == [200] * 90
    finally:
        for c in held:
            c.close()


def test_tcp_only_options_on_a_unix_socket(launch, tmp_path):
    """Everything above holds on a unix socket: keep-alive, pipelining, chunked, abort."""
    server = launch("basic", bind=[f"unix:{tmp_path / 's'}"])
    with server.connect() as c:
        c.send(
            build("GET", "/hello") + build("GET", "/blocks?n=3") + build("GET", "/declared?length=100&size=60&step=20")
        )
        assert c.read_response().status == 200
        assert c.read_response().framing == "chunked"
        c.read_failed()
