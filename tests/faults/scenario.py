"""What the server is made to do while something fails: many small parts, each with a connection of its own.

A part ends in one of three ways: right (every answer was what it should be), refused (a 5xx of the server, or a response
that is visibly cut off, or a closed connection), or wrong, which is never allowed, and includes that nothing comes.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Callable, Iterator

from harness.client import Connection, Response, Truncated, build, chunked
from harness.limits import PROMPT, eventually
from harness.server import Server

BLOCK = bytes(range(256)) * 4096
_keys = itertools.count()

Part = Callable[[Server], None]
PARTS: list[Part] = []
LATE: list[Part] = []  # for a server with a short --request-timeout


class Refused(Exception):
    """The server has said that it cannot, or ended the connection."""


def part(f: Part) -> Part:
    PARTS.append(f)
    return f


def late(f: Part) -> Part:
    LATE.append(f)
    return f


def expect(answer: Response, body: bytes | str, status: int = 200) -> None:
    if answer.status in (500, 503) and answer.status != status:
        raise Refused(f"{answer.status}")
    wanted = body.encode() if isinstance(body, str) else body
    assert answer.status == status, f"{answer.status} {answer.reason}"
    assert answer.body == wanted, f"{answer.body[:100]!r} ({len(answer.body)} bytes), not {wanted[:100]!r}"


@part
def keep_alive(server: Server) -> None:
    with server.connect() as c:
        for _ in range(3):
            expect(c.request("GET", "/hello"), "hello")


@part
def pipelined(server: Server) -> None:
    with server.connect() as c:
        c.send(build("GET", "/park") + build("GET", "/hello") * 3)
        expect(c.read_response(), "before between after")
        for _ in range(3):
            expect(c.read_response(), "hello")


@part
def head_in_pieces(server: Server) -> None:
    fields = [(f"X-Number-{i}", str(i)) for i in range(40)] + [("Cookie", "a=1"), ("Cookie", "b=2")]
    wanted = [(f"HTTP_X_NUMBER_{i}", str(i)) for i in range(40)] + [("HTTP_COOKIE", "a=1; b=2"), ("QUERY_STRING", "q=%20")]
    head = build("GET", "/he%61ders?q=%20", fields)
    with server.connect() as c:
        for at in range(0, len(head), 500):
            c.send(head[at : at + 500])
            time.sleep(0.001)
        expect(c.read_response(), repr(sorted(wanted)))


@part
def many_fields(server: Server) -> None:
    wanted = [(f"HTTP_X_NUMBER_{i}", str(i)) for i in range(40)] + [("QUERY_STRING", "")]
    with server.connect() as c:
        fields = [(f"X-Number-{i}", str(i)) for i in range(40)]
        expect(c.request("GET", "/headers", fields), repr(sorted(wanted)))


@part
def post(server: Server) -> None:
    body = b"a line\nand another\n" * 3000
    with server.connect() as c:
        expect(c.request("POST", "/echo", (), body[:19]), body[:19])
        c.send(build("POST", "/echo", [("Expect", "100-continue"), ("Content-Length", str(len(body)))]))
        assert c.readable(PROMPT)
        c.send(body)
        expect(c.read_response(), body)


@part
def post_spilled(server: Server) -> None:
    """More than is kept in memory."""
    with server.connect() as c:
        send_all(c, build("POST", "/size", [("Content-Length", str(9 << 20))]), *[BLOCK] * 9)
        expect(c.read_response(), str(9 << 20))


@part
def post_chunked(server: Server) -> None:
    body = b"a line\nand another\n" * 3000
    with server.connect() as c:
        data = build("POST", "/echo", [("Transfer-Encoding", "chunked")]) + chunked(body, body, trailers=[("X", "y")])
        for at in range(0, len(data), 10_001):
            send_all(c, data[at : at + 10_001])
            time.sleep(0.0005)
        expect(c.read_response(), body * 2)


@part
def slow_clients(server: Server) -> None:
    """They read late, so the server keeps what they do not take: a large block, many blocks, a file."""
    with contextlib.ExitStack() as stack:
        connections = {}
        for target in ("/big", "/blocks", "/file"):
            connections[target] = stack.enter_context(server.connect(receive_buffer=8192))
            connections[target].send(build("GET", target))
        time.sleep(0.02)
        for c in connections.values():
            expect(c.read_response(), BLOCK)


@part
def writes(server: Server) -> None:
    with server.connect(receive_buffer=8192) as c:
        c.send(build("GET", "/write"))
        time.sleep(0.005)
        expect(c.read_response(), BLOCK[: 1 << 17])


@part
def files(server: Server) -> None:
    with server.connect() as c:
        expect(c.request("GET", "/filelike"), BLOCK[:70_000])
        expect(c.request("HEAD", "/file"), b"")


@part
def parked(server: Server) -> None:
    with server.connect() as c:
        expect(c.request("GET", "/park"), "before between after")
        expect(c.request("GET", "/failed"), "CancelledError")
        expect(c.request("GET", "/closing"), "one two three")
    with server.connect() as c:
        expect(c.request("GET", "/park", version="1.0"), "before between after")


@part
def stalling(server: Server) -> None:
    """A step that blocks its thread, while others come."""
    with server.connect() as slow, server.connect() as quick:
        slow.send(build("GET", "/busy?s=0.03"))
        time.sleep(0.005)
        expect(quick.request("GET", "/hello"), "hello")
        expect(slow.read_response(), "late")


@part
def raising(server: Server) -> None:
    with server.connect() as c:
        expect(c.request("GET", "/raising"), "Internal Server Error\n", 500)


@part
def logging(server: Server) -> None:
    with server.connect() as c:
        expect(c.request("GET", "/errors"), "logged")


@part
def refused(server: Server) -> None:
    with server.connect() as c:
        c.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        expect(c.read_response(), "Bad Request\n", 400)


@part
def leaving(server: Server) -> None:
    """A client that goes away while its request is parked, and one with more to say than it is asked."""
    key = f"leaving-{next(_keys)}"
    with server.connect() as c:
        c.send(build("GET", f"/forever?key={key}"))
        deadline = time.monotonic() + PROMPT
        while not any(event[0] == "parking" for event in server.events(key)):
            if c.readable(0.002):
                expect(c.read_response(), "")  # it was refused, or cut off
            assert time.monotonic() < deadline, "the request is not begun"
        c.reset()
    eventually(lambda: any(event[0] == "closed" for event in server.events(key)), "the request is closed", every=0.003)


@part
def half_closed(server: Server) -> None:
    with server.connect() as c:
        c.send(build("POST", "/echo", (), b"0123456789"))
        expect(c.read_response(), b"0123456789")
        c.half_close()
        assert c.ended() in ("eof", "reset")


@part
def admin(server: Server) -> None:
    address = server.admin_address()
    assert address is not None
    with Connection(address) as c:
        expect(c.request("GET", "/healthz"), "ok\n")
        answer = c.request("GET", "/metrics")
        if answer.status == 503:
            raise Refused("503")
        assert answer.status == 200 and b"\nfermata_ready 1\n" in answer.body
        c.send(b"bad\r\n\r\n")
        expect(c.read_response(), "Bad Request\n", 400)


@late
def parked_too_long(server: Server) -> None:
    with server.connect() as c:
        c.send(build("GET", f"/forever?key=late-{next(_keys)}"))
        answer = c.read_response()
        expect(answer, "Gateway Timeout\n", 504)


@late
def running_too_long(server: Server) -> None:
    with server.connect() as c:
        c.send(build("GET", "/busy?s=1.8"))
        expect(c.read_response(), "Gateway Timeout\n", 504)
    eventually(lambda: server.admin.metrics().in_flight("running") == 0, "the step has ended")


def send_all(c: Connection, *pieces: bytes) -> None:
    """A server that has refused what comes closes the connection, and its answer is what counts."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for piece in pieces:
            c.send(piece)


def run(server: Server, parts: list[Part]) -> Iterator[tuple[str, str]]:
    """Each part by name with its outcome: "", "refused: ..." or "wrong: ..."."""
    for one in parts:
        try:
            one(server)
            outcome = ""
        except (Refused, Truncated, ConnectionError) as error:
            outcome = f"refused: {type(error).__name__}: {error}"
        except (AssertionError, TimeoutError, socket.timeout, OSError) as error:
            outcome = f"wrong: {type(error).__name__}: {error}"
        yield one.__name__, outcome
