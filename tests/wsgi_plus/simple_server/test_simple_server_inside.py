"""simple_server in the process of the test: its interface, and moments that can be had only from inside."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from byhand import BOUND, eventually
from harness.client import Connection, build
from simple_server_parts import TEXT, Environ, Parks, StartResponse, begin, connect, hello, parked, quiet
from wsgi_plus.simple_server import Fate, Request, Server

__all__ = ["quiet"]  # a fixture

# The interface


def test_address_and_url() -> None:
    """They are there before it serves, and true."""
    server = Server(hello)
    assert server.url == f"http://127.0.0.1:{server.address[1]}"
    with server:
        with urllib.request.urlopen(server.url, timeout=BOUND) as answer:
            assert answer.read() == b"hello"
    with pytest.raises(ConnectionRefusedError):
        connect(server)


def test_ipv6() -> None:
    with Server(hello, host="::1") as server:
        assert server.url.startswith("http://[::1]:")
        with urllib.request.urlopen(server.url, timeout=BOUND) as answer:
            assert answer.read() == b"hello"


def test_address_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError):
        Server(hello, port=taken.getsockname()[1])


def test_shutdown_before_it_serves() -> None:
    """It ends at once, however often it was told to."""
    server = Server(hello)
    server.shutdown()
    server.shutdown()
    server.serve_forever()
    server.shutdown()


def test_listeners_of_others(tmp_path: Path) -> None:
    """Several, one of which is no TCP socket: environ has what PEP 3333 asks for, and all are closed at the end."""
    seen: list[tuple[str, str, str]] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.append((environ["SERVER_NAME"], environ["SERVER_PORT"], environ["REMOTE_ADDR"]))
        return hello(environ, start_response)

    path = str(tmp_path / "socket")
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(path)
    unix.listen()
    tcp = socket.create_server(("127.0.0.1", 0))
    port = tcp.getsockname()[1]
    with Server(app, listeners=[tcp, unix]) as server:
        assert server.address == ("127.0.0.1", port)
        for address in (server.address, path):
            with Connection(address, timeout=BOUND) as c:
                assert c.request("GET", "/").body == b"hello"
    assert seen == [("127.0.0.1", str(port), "127.0.0.1"), ("localhost", "80", "")]
    assert (tcp.fileno(), unix.fileno()) == (-1, -1)


def test_so_many_connections() -> None:
    """Others wait until one of them ends."""

    class Few(Server):
        most_connections = 1

    with Few(hello) as server, connect(server) as one:
        assert one.request("GET", "/").body == b"hello"
        with connect(server) as two:
            two.send(build("GET", "/"))
            assert not two.readable(0.2)
            one.close()
            assert two.read_response().body == b"hello"


def test_nothing_is_left() -> None:
    """No thread and no descriptor outlives it."""
    before = set(threading.enumerate())
    with Server(hello) as server, connect(server) as c:
        assert c.request("GET", "/").body == b"hello"
        sockets = [*server._listeners.values(), server._woken, server._waker]
    assert set(threading.enumerate()) == before
    assert [sock.fileno() for sock in sockets] == [-1, -1, -1]


def test_application_in_a_class_of_its_own() -> None:
    """What a server does can be changed from outside."""

    class Louder(Request):
        def framed(self, block: bytes) -> bytes:
            return super().framed(block.upper())

    class Loud(Server):
        request_class = Louder

    with Loud(hello) as server, connect(server) as c:
        assert c.request("GET", "/").body == b"HELLO"


def test_a_request_that_cannot_be_made_ends_no_server(log: pytest.LogCaptureFixture) -> None:
    """A mistake in a subclass, or one of ours: the others are served."""

    class Breaks(Request):
        def make_environ(self) -> Environ:
            if self.head.target == "/breaks":
                raise KeyError("breaks")
            return super().make_environ()

    class Broken(Server):
        request_class = Breaks

    with Broken(hello) as server:
        with begin(server, "/breaks") as c:
            assert c.read_response().status == 500
        with begin(server, "/other") as c:
            assert c.read_response().body == b"hello"
    assert [record.exc_info[0] for record in log.records if record.exc_info] == [KeyError]
    log.clear()


# Parking


def test_reset_content_has_no_content() -> None:
    """RFC 9110, 15.3.6: and it says so, whatever the application has said."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("205 Reset Content", [("Content-Length", "4")])
        return [b"drop"]

    with Server(app) as server, connect(server) as c:
        for _ in range(2):
            answer = c.request("GET", "/")
            assert (answer.status, answer.header("Content-Length"), answer.body) == (205, "0", b"")


def test_two_hundred_parked_on_two_threads() -> None:
    """S2.1, S12.6: they hold no thread, and can be seen."""
    app = Parks()
    with Server(app, threads=2) as server, ExitStack() as stack:
        held = [stack.enter_context(begin(server, f"/{n}")) for n in range(200)]
        parked(server, 200)
        assert sorted(server.parked()) == sorted((f"GET /{n}", app.future) for n in range(200))
        assert len([thread for thread in threading.enumerate() if thread.name.startswith("wsgi_plus-pool")]) == 2
        app.future.set_result(None)
        assert [c.read_response().body for c in held] == [b"done"] * 200
        eventually(lambda: not server.requests, "all are over")
        assert app.notes.count("closed") == 200 and "left" not in app.notes


def test_failure_is_thrown() -> None:
    """S5.2: it is the future's exception itself, and what is made of it is the response."""
    future: Future[Any] = Future()
    error = ValueError("failed on purpose")
    caught: list[BaseException] = []

    def app(_: Environ, start_response: StartResponse) -> Iterator[Any]:
        try:
            yield future
        except ValueError as why:
            caught.append(why)
        start_response("502 Bad Gateway", TEXT)
        yield b"no upstream"

    with Server(app) as server, begin(server) as c:
        parked(server)
        future.set_exception(error)
        answer = c.read_response()
        assert (answer.status, answer.body) == (502, b"no upstream")
    assert caught == [error] and caught[0] is error


def test_future_is_kept() -> None:
    """S2.6: the application need not refer to it."""
    made: list[int] = []

    class Mine(Future[Any]):
        def __del__(self) -> None:
            made.append(0)

    def app(_: Environ, start_response: StartResponse) -> Iterator[Any]:
        yield Mine()

    with Server(app) as server:
        with begin(server):
            parked(server)
            ((_, future),) = server.parked()
            assert isinstance(future, Mine) and made == []
            del future
        eventually(lambda: made == [0], "it is given up when its request is")


def test_parked_on_a_client() -> None:
    """S12.6, S13.2."""

    def app(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        for _number in range(400):
            yield b"x" * 65536

    with Server(app) as server, begin(server, receive_buffer=4096) as c:
        parked(server)
        assert server.parked() == [("GET /", None)]
        assert len(c.read_response().body) == 400 * 65536


# Moments


class Held(Request):
    """Is held just before it parks."""

    def park(self, future: Future[Any], *, for_client: bool) -> Fate:
        server = self.server
        assert isinstance(server, HeldServer)
        server.held.append(self)
        assert server.let_go.wait(BOUND)
        return super().park(future, for_client=for_client)


class HeldServer(Server):
    request_class = Held

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self.held: list[Request] = []
        self.let_go = threading.Event()


@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
def test_client_leaves_just_before_it_parks(how: str) -> None:
    """S8.2, S8.6, S10: though the loop has found nothing parked it is closed, and its future is never done."""
    app = Parks()
    with HeldServer(app) as server, begin(server) as c:
        eventually(lambda: server.held, "it is about to park")
        getattr(c, how)()
        eventually(lambda: server.held[0].connection.eof or server.held[0].ended, "the loop has noticed")
        server.let_go.set()
        eventually(app.closed, "it is closed")
    assert app.notes == ["called", "left", "closed"] and not app.future.done()


def test_deadline_just_before_it_parks(log: pytest.LogCaptureFixture) -> None:
    """S12: the client has its 504, and close() follows."""
    app = Parks()
    with HeldServer(app, request_timeout=0.05) as server, begin(server) as c:
        assert c.read_response().status == 504
        assert app.notes == ["called"]
        server.let_go.set()
        eventually(app.closed, "it is closed")
    assert "is still running at its deadline" in log.text and "in park" in log.text
    log.clear()


def test_deadline_after_a_block() -> None:
    """S12.2: nothing of a second response is sent."""
    app = Parks(first=b"first")
    with Server(app, request_timeout=0.1) as server, begin(server) as c:
        data, _ = c.drain()
        assert data.count(b"HTTP/1.1 ") == 1 and data.endswith(b"5\r\nfirst\r\n")
        eventually(app.closed, "it is closed")


def test_half_close_allowed_just_before_it_parks() -> None:
    """S8.5: where it is allowed the end of the data means nothing."""
    app = Parks()
    with HeldServer(app, allow_half_close=True) as server, begin(server) as c:
        eventually(lambda: server.held, "it is about to park")
        c.half_close()
        eventually(lambda: server.held[0].connection.eof, "the loop has noticed")
        server.let_go.set()
        parked(server)
        app.future.set_result(None)
        assert c.read_response().body == b"done"


@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
@pytest.mark.parametrize("first", [b"", b"first"])
def test_client_leaves_while_it_is_parked(how: str, first: bytes) -> None:
    """S8.1 to S8.4: it is closed without waiting; the future is left alone, and may be done later."""
    app = Parks(first=first)
    with Server(app) as server, begin(server) as c:
        parked(server)
        getattr(c, how)()
        eventually(app.closed, "it is closed")
        eventually(lambda: not server.requests, "and nothing is left of it")
        assert app.future.set_running_or_notify_cancel()  # it has not been cancelled
        app.future.set_exception(ValueError("late"))
        app.future.cancel()
    assert app.notes == ["called", "left", "closed"]


def test_data_ends_while_it_is_woken() -> None:
    """S8.6: a future that is done just before the data ends: the request is not parked any more, and goes on."""
    app = Parks()
    with Server(app, threads=1) as server:
        with begin(server) as c:
            parked(server)
            (request,) = server.requests
            assert request.wait is not None and request.wait.take()
            c.half_close()
            eventually(lambda: request.connection.eof, "the loop has noticed")
            assert not request.ended
            request.wait.wake()
            app.future.set_result(None)
            assert c.read_response().body == b"done"


class Unregistered(Future[Any]):
    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        super().add_done_callback(fn)
        raise RuntimeError("not registered on purpose")


def test_data_ends_after_it_could_not_park(log: pytest.LogCaptureFixture) -> None:
    """S10.4, S8.6: it is not parked, so its client gets the 500; the future may be done whenever it likes."""
    future = Unregistered()
    held, let_go = threading.Event(), threading.Event()

    class Fails(Request):
        def fail(self, error: BaseException) -> None:
            held.set()
            assert let_go.wait(BOUND)
            super().fail(error)

    class FailsServer(Server):
        request_class = Fails

    def app(_: Environ, start_response: StartResponse) -> list[Any]:
        return [future]

    with FailsServer(app) as server, begin(server) as c:
        assert held.wait(BOUND)
        (connection,) = server.connections.values()
        c.half_close()
        eventually(lambda: connection.eof, "the loop has noticed")
        future.set_result(None)
        let_go.set()
        assert c.read_response().status == 500
        eventually(lambda: not server.requests, "it is over")
    assert "not registered on purpose" in log.text
    log.clear()


def test_data_ends_while_it_is_parked_on_its_client() -> None:
    """S8.6: who has only ended his data reads on."""

    def app(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        for _number in range(200):
            yield b"x" * 65536

    with Server(app) as server, begin(server, receive_buffer=4096) as c:
        parked(server)
        (connection,) = server.connections.values()
        c.half_close()
        eventually(lambda: connection.eof, "the loop has noticed")
        assert len(c.read_response().body) == 200 * 65536
        assert c.ended() == "eof"


def test_reset_behind_much_that_is_not_read() -> None:
    """S8.7: what a client sends behind a parked request is not all read; that it has gone is noticed nevertheless."""
    app = Parks()
    with Server(app) as server, begin(server) as c:
        parked(server)
        (connection,) = server.connections.values()
        c.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            for _ in range(2000):
                c.sock.sendall(build("GET", "/") * 1000)
        assert len(connection.reader.buffer) < 2 * connection.READ_AHEAD
        assert app.notes == ["called"]
        c.reset()
        eventually(app.closed, "it is closed")
    assert app.notes == ["called", "left", "closed"]
