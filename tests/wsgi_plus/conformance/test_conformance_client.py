"""The client of the conformance suite: what it reads, what it refuses, and how long it waits."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from conformance.check import LONG, Failed, eventually
from conformance.client import Connection, NoResponse, request


def unsent(sock: socket.socket) -> int:
    """Bytes that have not been acknowledged: a reset throws them away."""
    left: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
    return left


@contextmanager
def answering(*pieces: bytes, end: str = "close", to: int = 1) -> Iterator[Connection]:
    """A connection to a server that, when so many requests have come, says these pieces and closes, resets or waits."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LONG)
        over = threading.Event()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(LONG)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                seen = b""
                while seen.count(b"\r\n\r\n") < to:
                    data = peer.recv(65536)
                    if not data:
                        return
                    seen += data
                for piece in pieces:
                    peer.sendall(piece)
                if end == "reset":
                    eventually(lambda: unsent(peer) == 0, "the client's machine has all that was said")
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if end == "wait":
                    over.wait(LONG)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            with Connection(listener.getsockname(), timeout=LONG) as c:
                yield c
        finally:
            over.set()
            thread.join(LONG)
            assert not thread.is_alive()


OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"Content-Length: 5\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CLOSE = OK + b"X-A: b\r\n\r\n"

READ = {
    # what is said, how the connection ends: the body, whether it is whole, and what frames it
    "length": (LENGTH + b"hello", "wait", b"hello", True, "length"),
    "length-0": (OK + b"content-length: 0\r\n\r\n", "wait", b"", True, "length"),
    "length-cut": (LENGTH + b"hel", "close", b"hel", False, "length"),
    "length-reset": (LENGTH + b"hel", "reset", b"hel", False, "length"),
    "length-no-body": (LENGTH, "close", b"", False, "length"),
    "chunked": (CHUNKED + b"3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\n\r\n", "wait", b"hello", True, "chunked"),
    "chunked-hex": (CHUNKED + b"1A\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n", "wait", b"x" * 26, True, "chunked"),
    "chunked-trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n", "wait", b"hello", True, "chunked"),
    "chunked-empty": (CHUNKED + b"0\r\n\r\n", "wait", b"", True, "chunked"),
    "chunked-cut-before-the-last": (CHUNKED + b"5\r\nhello\r\n", "close", b"hello", False, "chunked"),
    "chunked-reset": (CHUNKED + b"5\r\nhello\r\n", "reset", b"hello", False, "chunked"),
    "chunked-cut-in-a-chunk": (CHUNKED + b"5\r\nhello\r\n5\r\nwor", "close", b"hello", False, "chunked"),
    "chunked-cut-in-a-size": (CHUNKED + b"5\r\nhello\r\n5", "close", b"hello", False, "chunked"),
    "chunked-cut-behind-0": (CHUNKED + b"5\r\nhello\r\n0\r\n", "close", b"hello", False, "chunked"),
    "close": (CLOSE + b"hello", "close", b"hello", True, "close"),
    "close-empty": (CLOSE, "close", b"", True, "close"),
    "close-reset": (CLOSE + b"hello", "reset", b"hello", False, "close"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", "wait", b"", True, "none"),
    "304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "wait", b"", True, "none"),
}


@pytest.mark.parametrize("apart", [False, True], ids=["at-once", "byte-by-byte"])
@pytest.mark.parametrize("what", list(READ))
def test_client_reads(what: str, apart: bool) -> None:
    sent, end, body, complete, framing = READ[what]
    pieces = [sent[place : place + 1] for place in range(len(sent))] if apart else [sent]
    with answering(*pieces, end=end) as c:
        c.get("/")
        answer = c.response()
    assert (answer.body, answer.complete, answer.framing, answer.over) == (body, complete, framing, True)
    assert b"".join(answer.chunks) == (body if framing == "chunked" else b"")


def test_client_reads_the_head() -> None:
    with answering(
        b"HTTP/1.0 404 Not  Found\r\nSet-Cookie: a\r\nX-A:  b c \r\nset-cookie: d\r\nX-Caf\xe9: \xff\r\n\r\n"
    ) as c:
        c.get("/")
        answer = c.response()
    assert (answer.version, answer.status, answer.reason) == ("HTTP/1.0", 404, "Not  Found")
    assert answer.headers == [("Set-Cookie", "a"), ("X-A", "b c"), ("set-cookie", "d"), ("X-Caf\xe9", "\xff")]
    assert (answer.header("SET-COOKIE"), answer.header("x-a"), answer.header("X-B")) == ("a, d", "b c", None)


def test_client_knows_which_answer_is_to_head() -> None:
    with answering(LENGTH + LENGTH + b"hello" + LENGTH, to=3) as c:
        c.get("/", method="HEAD")
        c.get("/")
        c.get("/", method="HEAD")
        assert [(answer.body, answer.framing) for answer in (c.response(), c.response(), c.response())] == [
            (b"", "none"), (b"hello", "length"), (b"", "none"),
        ]  # fmt: skip


def test_client_sees_interim_responses() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with answering(early + LENGTH + b"hello") as c:
        c.get("/")
        assert c.response().body == b"hello"
        assert c.interim == [100, 103]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"what\r\n\r\n", "not a response: b'what'"),
        (b"HTTP/2 200 OK\r\n\r\n", "not a response"),
        (b"HTTP/1.1 OK\r\n\r\n", "not a response"),
        (b"HTTP/1.1 20", "not a response: b'HTTP/1.1 20'"),
        (b"HTTP/1.1 200 OK\r\nX-A: b", "ended within its headers"),
        (OK + b"Content-Length: 5, 5\r\n\r\nhello", "not a Content-Length: 5, 5"),
        (OK + b"Content-Length: -1\r\n\r\n", "not a Content-Length: -1"),
        (CHUNKED + b"hello\r\n", "not the size of a chunk: b'hello'"),
        (CHUNKED + b"5\r\nhello, world\r\n", "a chunk of 5 bytes goes on"),
        (b"", "ended without a response"),
    ],
)
def test_client_refuses(sent: bytes, said: str) -> None:
    with answering(sent) as c:
        c.get("/")
        with pytest.raises(Failed, match=said):
            c.response()


def test_client_waits_no_longer_than_it_is_to() -> None:
    with answering(LENGTH + b"hel", end="wait") as c:
        c.get("/")
        answer = c.start()
        assert c.part(answer, 3) == b"hel"
        c.timeout = 0.05
        c.socket.settimeout(0.05)
        with pytest.raises(Failed, match=r"no answer within 0.05 s"):
            c.finish(answer)


def test_client_where_perhaps_nothing_comes() -> None:
    with answering(LENGTH + b"hello") as c:
        c.get("/")
        answer = c.response_if_any()
        assert answer is not None
        assert answer.body == b"hello"
        assert c.response_if_any() is None
        with pytest.raises(NoResponse):
            c.start()


@pytest.mark.parametrize("head", [LENGTH, CLOSE, CHUNKED])
def test_client_reads_in_parts(head: bytes) -> None:
    """What is here is given, though more is to come."""
    body = b"3\r\nhel\r\n" if head is CHUNKED else b"hel"
    rest = b"2\r\nlo\r\n0\r\n\r\n" if head is CHUNKED else b"lo"
    with answering(head + body, end="wait") as c:
        c.get("/")
        answer = c.start()
        assert c.part(answer, 2)[:2] == b"he"
        assert c.part(answer, 3) == b"hel"
        assert not answer.over
    with answering(head + body, rest) as c:
        c.get("/")
        answer = c.start()
        c.part(answer, 1)
        assert c.part(answer, 100) == b"hello"
        assert c.finish(answer).complete
        assert answer.body == b"hello"


def test_client_knows_silence_and_the_end() -> None:
    with answering(LENGTH + b"hello", end="wait") as c:
        assert c.silent(0.01)
        c.get("/")
        c.response()
        assert c.silent(0.01)
        assert not c.ended(0.01)
    with answering(LENGTH + b"hello" + b"more") as c:
        c.get("/")
        assert not c.silent(LONG)
        assert not c.silent(LONG)
        assert c.response().body == b"hello"
        assert c.rest() == b"more"
        assert c.ended(LONG)


def test_client_says_what_it_is_told() -> None:
    assert request("GET", "/a?b", close=True) == b"GET /a?b HTTP/1.1\r\nHost: conformance\r\nConnection: close\r\n\r\n"
    sent = request("POST", "/", headers=(("X-A", "caf\xe9"),), body=b"12", version="HTTP/1.0")
    assert sent == b"POST / HTTP/1.0\r\nHost: conformance\r\nX-A: caf\xe9\r\nContent-Length: 2\r\n\r\n12"
    assert b"Content-Length" not in request("POST", "/", headers=(("Transfer-Encoding", "chunked"),), body=b"0\r\n\r\n")
