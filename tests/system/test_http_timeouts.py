"""Timeouts of HTTP connections: idle ones, heads, bodies, clients that do not read."""

from __future__ import annotations

import time

import pytest
from harness.client import build
from harness.limits import LONG, PROMPT, eventually, never, timeout


@pytest.fixture
def server(serve):
    return serve("basic")


def test_keep_alive_timeout(serve):
    """An idle connection is closed after --keep-alive seconds, not before, and without a response."""
    server = serve("basic", "--keep-alive", "1")
    with server.connect() as c:
        for _ in range(3):  # each request begins the time anew
            assert c.request("GET", "/hello").status == 200
            time.sleep(0.5)
        start = time.monotonic()
        assert c.ended() == "eof"
        assert time.monotonic() - start > 0.2


def test_keep_alive_timeout_after_blocking_requests(launch):
    """It counts from the response, whichever thread has sent it."""
    server = launch("basic", "--keep-alive", "10", "--threads", "8")
    held = [server.begin("/slow?s=0.3", timeout=LONG) for _ in range(6)]
    assert [c.read_response().status for c in held] == [200] * 6
    began = time.monotonic()
    for c in held:
        assert c.ended() == "eof"
    assert 5 < time.monotonic() - began < 10 + PROMPT


def test_new_connection_without_a_request(serve):
    """A connection on which nothing is ever sent is closed as well (by the time for heads or the one for idling)."""
    server = serve("basic", "--keep-alive", "1", "--header-timeout", "1")
    with server.connect() as c:
        data, _ = c.drain()
        assert data == b"" or data.startswith(b"HTTP/1.1 408 ")


def test_keep_alive_zero(serve):
    """--keep-alive 0: every response closes."""
    server = serve("basic", "--keep-alive", "0")
    with server.connect() as c:
        assert not c.request("GET", "/hello").keeps_alive
        assert c.ended() == "eof"


def test_header_timeout_counts_the_whole_head(serve):
    """A client that drips a head, a byte at a time, is cut off after --header-timeout in all: 408 or just the end."""
    server = serve("basic", "--header-timeout", "1", "--keep-alive", "30")
    head = build("GET", "/hello", [("X-Slow", "x" * 500)])
    with server.connect() as c:
        start = time.monotonic()
        for i in range(200):
            try:
                c.send(head[i : i + 1])
            except (BrokenPipeError, ConnectionResetError):
                break
            if c.readable(0.1):
                break
        else:
            pytest.fail("a head may take for ever")
        assert 0.5 < time.monotonic() - start < 1 + PROMPT
        try:
            data, _ = c.drain()
        except ConnectionResetError:
            data = b""
        assert data == b"" or data.startswith(b"HTTP/1.1 408 ")


def test_header_timeout_on_a_kept_connection(serve):
    """The time for the head begins with its first byte; on a used connection too."""
    server = serve("basic", "--header-timeout", "1", "--keep-alive", "30")
    with server.connect() as c:
        assert c.request("GET", "/hello").status == 200
        time.sleep(1.5)  # idle: longer than the header timeout
        assert c.request("GET", "/hello").status == 200
        c.send(b"GET /hello HT")
        data, _ = c.drain()
        assert data == b"" or data.startswith(b"HTTP/1.1 408 ")


def test_body_timeout(serve):
    """A body from which no byte comes for --body-timeout ends the request: 408, the application is not called."""
    server = serve("basic", "--body-timeout", "1")
    with server.connect() as c:
        c.send(build("POST", "/echo/stalled", [("Content-Length", "10")]) + b"12345")
        data, _ = c.drain()
        assert data == b"" or data.startswith(b"HTTP/1.1 408 ")
    assert server.call("probe.count", "calls", "/echo/stalled") == 0


def test_body_timeout_is_for_silence_only(serve):
    """A body that comes slowly but steadily may take longer than --body-timeout."""
    server = serve("basic", "--body-timeout", "1", "--limit-body-rate", "0")
    with server.connect() as c:
        c.send(build("POST", "/echo", [("Content-Length", "10")]))
        for _ in range(10):
            time.sleep(0.2)
            c.send(b"x")
        assert c.read_response().body == b"x" * 10


def test_body_that_trickles(serve):
    """More slowly than --limit-body-rate through all of a --body-timeout: 408."""
    server = serve("basic", "--body-timeout", "1", "--limit-body-rate", "100", admin=True)
    with server.connect(timeout=LONG) as c:
        c.send(build("POST", "/echo", [("Content-Length", "10000")]))
        for _ in range(100):
            if c.readable(0.1):
                break
            c.send(b"x")
        response = c.read_response()
        assert response.status == 408
        assert c.ended()
    assert server.admin.metrics().value("fermata_refused_requests_total", reason="body_rate") == 1


def test_body_that_comes_steadily(serve):
    server = serve("basic", "--body-timeout", "1", "--limit-body-rate", "100")
    with server.connect(timeout=LONG) as c:
        c.send(build("POST", "/echo", [("Content-Length", "2000")]))
        for _ in range(20):
            time.sleep(0.1)
            c.send(b"x" * 100)
        assert c.read_response().body == b"x" * 2000


def kernel_keeps(port: int, client: int) -> int:
    """Bytes in the send queue of the server's side of a connection."""
    with open("/proc/net/tcp") as table:
        rows = [row.split() for row in table.readlines()[1:]]
    ends, established = [f"0100007F:{port:04X}", f"0100007F:{client:04X}"], "01"
    # The table is read in pieces, so a row may be in it twice.
    queues = {r[4] for r in rows if r[1:3] == ends and r[3] == established}
    assert queues, "there is no such connection"
    return max(int(text.split(":")[0], 16) for text in queues)


def test_a_client_that_does_not_read_costs_the_kernel_little(launch):
    """Not the megabytes that a send buffer grows to, of bytes that cannot be sent anyway."""
    server = launch("basic")
    with server.connect(timeout=LONG) as fast:  # its acknowledgements have let the server's buffers grow
        assert len(fast.request("GET", "/big?mb=20").body) == 20 << 20
    with server.connect(receive_buffer=4096, timeout=LONG) as c:
        c.send(build("GET", "/declared?length=100000000&size=100000000&step=1000000&key=unread"))
        port, client = server.port, c.sock.getsockname()[1]
        eventually(lambda: kernel_keeps(port, client) > 100_000, "it sends")
        never(lambda: kernel_keeps(port, client) > 700_000, "the kernel keeps more")


def test_send_timeout(launch):
    """A client that takes no byte for --send-timeout is cut off, and the application is closed."""
    server = launch("basic", "--send-timeout", "1", "--threads", "1")
    with server.connect(receive_buffer=4096, timeout=LONG) as c:
        c.send(build("GET", "/declared?length=100000000&size=100000000&step=1000000&key=stalled"))
        server.wait_events("stalled", "closed", within=LONG)
        c.read_cut()
    assert server.get("/hello").status == 200


def test_send_timeout_is_for_silence_only(launch):
    """A client that reads slowly but steadily may take longer than --send-timeout, also when it takes so little that the
    socket's buffer does not become writable again for long."""
    server = launch("basic", "--send-timeout", "1")
    size = 20_000_000
    with server.connect(receive_buffer=65536, timeout=LONG) as c:
        c.send(build("GET", f"/declared?length={size}&size={size}&step=1000000&key=slow"))
        c.read_head()
        got = 0
        began = time.monotonic()
        while time.monotonic() - began < 4:
            got += len(c.read(8192))
            time.sleep(0.02)
        assert c.read(size - got) == b"x" * (size - got)


@timeout(60)
def test_send_timeout_and_a_large_receive_buffer(launch):
    """A client's window opens in steps: with a large buffer, one that reads steadily acknowledges nothing for longer than
    --send-timeout, again and again."""
    server = launch("basic", "--send-timeout", "1.5", "--threads", "1", "--request-timeout", "60")
    size = 8_000_000
    with server.connect(receive_buffer=1 << 20, timeout=LONG) as c:
        c.send(build("GET", f"/declared?length={size}&size={size}&step=1000000&key=steps"))
        c.read_head()
        got = 0
        began = time.monotonic()
        while time.monotonic() - began < 12:
            got += len(c.read(4096))
            time.sleep(0.1)
        assert c.read(size - got) == b"x" * (size - got)


def test_timeouts_do_not_count_the_application(serve):
    """A request that runs longer than the header, body, keep-alive and send timeouts is left alone."""
    server = serve("basic", "--header-timeout", "1", "--body-timeout", "1", "--keep-alive", "1", "--send-timeout", "1")
    with server.connect(timeout=LONG) as c:
        assert c.request("POST", "/slow?s=2.5", (), b"body").status == 200
        assert c.request("GET", "/hello").status == 200


def test_timeouts_after_a_long_rest(serve):
    """Timeouts count from what happens on a connection, also when the server has slept for longer than they are."""
    server = serve("basic", "--header-timeout", "1", "--body-timeout", "1", "--keep-alive", "1", "--send-timeout", "1")
    for _ in range(3):
        time.sleep(2.2)
        with server.connect() as c:
            request = build("POST", "/echo", body=b"hello")
            c.send(request[:20])
            time.sleep(0.3)
            c.send(request[20:-3])
            time.sleep(0.3)
            c.send(request[-3:])
            assert c.read_response().body == b"hello"
            time.sleep(0.3)
            assert c.request("GET", "/hello").status == 200
