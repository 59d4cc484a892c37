"""simple_server in the process of the test: what comes or ends too late, and what a client can tell."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from byhand import BOUND, eventually
from harness.client import NoResponse, build
from simple_server_parts import TEXT, Environ, Parks, StartResponse, begin, connect, hello, parked, quiet
from wsgi_plus.simple_server import After, Output, Request, Server
from wsgi_plus.simple_server import Connection as SimpleConnection

__all__ = ["quiet"]  # a fixture

# What is called from elsewhere


def test_start_response_and_write_elsewhere() -> None:
    """S6.6: they raise in another thread, while the request is parked, in close(), and when it is over."""
    future: Future[Any] = Future()
    kept: list[Any] = []
    raised: list[str] = []

    def attempt(where: str) -> None:
        for call in (lambda: kept[0]("200 OK", TEXT, None), lambda: kept[1](b"stray")):
            try:
                call()
            except RuntimeError:
                raised.append(where)

    class Body:
        def __init__(self) -> None:
            self.items = iter([b"one", future, b"two"])

        def __iter__(self) -> Iterator[Any]:
            return self.items

        def close(self) -> None:
            attempt("close")

    def app(_: Environ, start_response: StartResponse) -> Body:
        kept[:] = [start_response, start_response("200 OK", TEXT)]
        thread = threading.Thread(target=attempt, args=["thread"])
        thread.start()
        thread.join(BOUND)
        return Body()

    with Server(app) as server, begin(server) as c:
        parked(server)
        attempt("parked")
        future.set_result(None)
        assert c.read_response().body == b"onetwo"
        eventually(lambda: not server.requests, "it is over")
        attempt("over")
    assert raised == ["thread"] * 2 + ["parked"] * 2 + ["close"] * 2 + ["over"] * 2


# Steps that do not return


class Stuck:
    """Its first step returns when the test wants it to."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()
        self.notes: list[str] = []

    def __call__(self, environ: Environ, start_response: StartResponse) -> Any:
        if environ["PATH_INFO"] == "/hello":
            return hello(environ, start_response)
        return self.body(start_response)

    def body(self, start_response: StartResponse) -> Iterator[bytes]:
        try:
            self.entered.set()
            assert self.release.wait(BOUND)
            write = start_response("200 OK", TEXT)
            try:
                write(b"too late")
            except ConnectionError as error:
                self.notes.append(str(error))
            yield b"dropped"
            self.notes.append("went on")
        finally:
            self.notes.append("closed")


def test_step_beyond_its_deadline(log: pytest.LogCaptureFixture) -> None:
    """S12.4: 504 at once, the stack in the log; what it yields is dropped, write raises, and it is closed."""
    app = Stuck()
    with Server(app, threads=1, request_timeout=0.3) as server:  # the second request is to meet it
        with begin(server) as c:
            answer = c.read_response()
            assert (answer.status, answer.keeps_alive) == (504, False)
            assert c.ended() == "eof"
        assert app.notes == []
        assert "in body" in log.text and "GET / is still running at its deadline" in log.text
        app.release.set()
        with begin(server, "/hello") as c:  # the thread is free again
            assert c.read_response().body == b"hello"
        eventually(lambda: app.notes == ["GET / has ended", "closed"], "it is closed, and no other step runs")
    log.clear()


@pytest.mark.parametrize("wrong", [None, "text"])
def test_call_beyond_its_deadline(wrong: Any, log: pytest.LogCaptureFixture) -> None:
    """S7.2: what it returns is closed and not iterated, whatever it is."""
    release = threading.Event()
    notes: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[Any]:
            notes.append("iterated")
            return iter([wrong])

        def close(self) -> None:
            notes.append("closed")

    def app(_: Environ, start_response: StartResponse) -> Any:
        assert release.wait(BOUND)
        start_response("200 OK", TEXT)  # it cannot know
        return Body()

    with Server(app, request_timeout=0.05) as server:
        with begin(server) as c:
            assert c.read_response().status == 504
        log.clear()
        release.set()
        eventually(lambda: notes, "it is closed")
    assert notes == ["closed"]


def test_step_that_yields_nonsense_beyond_its_deadline(log: pytest.LogCaptureFixture) -> None:
    """S12.4: what it yields is dropped, so the server does not look what it is."""
    release = threading.Event()
    notes: list[str] = []

    def app(_: Environ, start_response: StartResponse) -> Iterator[Any]:
        assert release.wait(BOUND)
        try:
            yield "text"
        finally:
            notes.append("closed")

    with Server(app, request_timeout=0.05) as server:
        with begin(server) as c:
            assert c.read_response().status == 504
        log.clear()
        release.set()
        eventually(lambda: notes, "it is closed")


def test_step_beyond_the_end(log: pytest.LogCaptureFixture) -> None:
    """S18.4: it is answered 503, reported and left behind."""
    app = Stuck()
    server = Server(app, threads=1, graceful_timeout=0.05)
    server.LAST = 0.1
    with server:
        c = begin(server)
        assert app.entered.wait(BOUND)
    with c:
        assert c.read_response().status == 503
    assert "GET / is left behind, still running" in log.text and "in body" in log.text
    app.release.set()
    eventually(lambda: "closed" in app.notes, "it is closed all the same")
    eventually(lambda: not any(t.name.startswith("wsgi_plus-pool") for t in threading.enumerate()), "its thread ends")
    log.clear()


@pytest.mark.parametrize("how", ["reset", "close"])
def test_write_to_a_client_that_leaves(how: str) -> None:
    """S13.3, S12.4: write() that waits for a client raises when it has gone; that is no error of the application."""
    notes: list[str] = []

    def app(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        write = start_response("200 OK", TEXT)
        notes.append("writes")
        try:
            while True:
                write(b"x" * 65536)
        finally:
            notes.append("raised")
        yield b""

    with Server(app) as server:
        with begin(server, receive_buffer=4096) as c:
            c.read_head()
            eventually(lambda: any(connection.output._room for connection in server.connections.values()), "it waits")
            getattr(c, how)()
            eventually(lambda: notes == ["writes", "raised"], "it raises")
        eventually(lambda: not server.requests, "it is over")


# Timeouts


def test_slow_client_of_a_parked_request() -> None:
    """S12.5, S13.4: the time for taking data runs while a request is parked on its client, and not on a future."""
    app = Parks(first=b"x" * 8_000_000)
    with Server(app, send_timeout=0.2) as server:
        with begin(server, receive_buffer=4096) as c:
            parked(server)
            assert server.parked() == [("GET /", None)]  # the block is too large: this is the client's
            eventually(app.closed, "it is ended")
            assert c.read_cut() is not None
        assert app.notes == ["called", "left", "closed"]
        app.notes.clear()

        class Roomy(SimpleConnection):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                self.output.HIGH_WATER = 1 << 30

        server.connection_class = Roomy
        with begin(server, receive_buffer=4096) as c:
            parked(server)
            assert server.parked() == [("GET /", app.future)]
            time.sleep(0.6)  # much longer than the client may be slow
            assert app.notes == ["called"]
            app.future.set_result(None)
            assert c.read_response().body == b"x" * 8_000_000 + b"done"


def test_client_that_reads_steadily() -> None:
    """S13.4: what counts is that it takes something, and not that the response comes to its end soon."""

    def app(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", str(40 * 65536))])
        for _number in range(40):
            yield b"x" * 65536

    with Server(app, send_timeout=0.3) as server, begin(server, receive_buffer=4096) as c:
        head = c.read_head()
        size = 0
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            size += len(c.read(2048))
            time.sleep(0.01)
        assert size + len(b"".join([c.received, c.read(40 * 65536 - size)])) == 40 * 65536
        assert head.status == 200


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"GET / HT", b"HTTP/1.1 408 "),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12", b"HTTP/1.1 408 "),
    ],
)
def test_clients_that_do_not_go_on(sent: bytes, answer: bytes) -> None:
    """Idle ones are closed, half a request is answered 408, and no application is called."""
    app = Parks()
    with Server(app, keep_alive=0.1, header_timeout=0.1, body_timeout=0.1) as server, connect(server) as c:
        c.send(sent)
        data, how = c.drain()
        assert data.startswith(answer) and bool(data) == bool(answer) and how == "eof"
    assert app.notes == []


# What the client can tell


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_blocks_before_a_failure_arrive(version: str, log: pytest.LogCaptureFixture) -> None:
    """S5.8: all of them, though they are more than the kernel takes, and then what tells that it is not all."""

    def app(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        for _number in range(100):
            yield b"x" * 65536
        raise ValueError("failed on purpose")

    with Server(app) as server, connect(server, receive_buffer=65536) as c:
        c.send_request("GET", "/", version=version)
        data, how = c.drain()
        assert data.count(b"x" * 65536) == 100 or data.count(b"x") >= 100 * 65536
        assert how == ("reset" if version == "1.0" else "eof")
        assert not data.endswith(b"0\r\n\r\n")
    assert "failed on purpose" in log.text
    log.clear()


def test_reset_waits_for_what_the_client_has_not_read(log: pytest.LogCaptureFixture) -> None:
    """S5.8: where a reset tells that it is not all, it does not destroy what the kernel still has to deliver."""

    def app(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"x" * 100_000
        raise ValueError("failed on purpose")

    with Server(app) as server, connect(server, receive_buffer=4096) as c:
        c.send_request("GET", "/", version="1.0")
        eventually(lambda: "failed on purpose" in log.text, "it has failed")
        (connection,) = server.connections.values()
        eventually(lambda: connection.closing is After.RESET, "all of it is with the kernel")
        assert connection.in_kernel() > 0
        time.sleep(0.2)  # the server is in no hurry
        data, how = c.drain()
        assert data.endswith(b"\r\n\r\n" + b"x" * 100_000) and how == "reset"
    log.clear()


def test_next_request_of_a_client_that_left_is_not_begun() -> None:
    """S8.8."""
    app = Parks()
    with Server(app) as server:
        with connect(server) as c:
            c.send(build("GET", "/") * 3)
            parked(server)
            c.half_close()
            eventually(app.closed, "the first is closed")
            with pytest.raises((NoResponse, ConnectionResetError)):
                c.read_response()
    assert app.notes == ["called", "left", "closed"]


class Failing:
    """A listener that fails to accept, once."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.failures = [OSError(24, "Too many open files")]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.listener, name)

    def accept(self) -> Any:
        if self.failures:
            raise self.failures.pop()
        return self.listener.accept()


def test_connection_that_cannot_be_accepted(log: pytest.LogCaptureFixture) -> None:
    """It is logged, and tried again."""
    server = Server(hello)
    ((number, listener),) = server._listeners.items()
    server._listeners[number] = Failing(listener)  # type: ignore[assignment]
    with server, connect(server) as c:
        assert c.request("GET", "/").body == b"hello"
    assert "Too many open files" in log.text
    log.clear()


class Trap(Output):
    """Lets the response come to its end while the loop looks whether there is anything to send."""

    armed: threading.Event | None = None
    request: Request | None = None

    @property
    def size(self) -> int:
        size = self._size
        in_loop = threading.current_thread().name == "wsgi_plus-loop" and not self._lock.locked()
        if in_loop and self.armed is not None:
            armed, self.armed = self.armed, None
            armed.set()
            eventually(lambda: self.request is not None and self.request.after is not None, "it has come to its end")
        return size

    @size.setter
    def size(self, size: int) -> None:
        self._size = size


def test_end_while_the_loop_looks() -> None:
    """The last chunk is sent before the connection is closed, even if it comes between two looks."""
    release = threading.Event()

    def app(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"first "
        assert release.wait(BOUND)
        yield b"last"

    class Trapped(SimpleConnection):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.output = Trap()

    class TrappedServer(Server):
        connection_class = Trapped

    with TrappedServer(app) as server, connect(server) as c:
        c.send_request("GET", "/", [("Connection", "close")])
        blocks = c.iter_body(c.read_head())
        assert next(blocks) == b"first "
        ((connection,), (request,)) = server.connections.values(), server.requests
        assert isinstance(connection.output, Trap)
        connection.output.request, connection.output.armed = request, release
        c.send(b"x")  # so the loop looks
        assert b"".join(blocks) == b"last"
