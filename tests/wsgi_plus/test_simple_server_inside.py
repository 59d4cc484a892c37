"""simple_server in the process of the test: its interface, and moments that can be had only from inside."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from byhand import BOUND, eventually
from harness.client import Connection, NoResponse, build
from wsgi_plus.simple_server import After, Fate, Output, Request, Server
from wsgi_plus.simple_server import Connection as SimpleConnection

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

TEXT = [("Content-Type", "text/plain")]


class Parks:
    """Waits for ``future``; notes what happens to it."""

    def __init__(self, *, first: bytes = b"") -> None:
        self.future: Future[Any] = Future()
        self.first = first
        self.notes: list[str] = []

    def __call__(self, _: Environ, start_response: StartResponse) -> Iterator[Any]:
        self.notes.append("called")
        try:
            start_response("200 OK", TEXT)
            if self.first:
                yield self.first
            yield self.future
            yield b"done"
        except GeneratorExit:
            self.notes.append("left")
            raise
        finally:
            self.notes.append("closed")

    def closed(self) -> bool:
        return "closed" in self.notes


def hello(_: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", TEXT)
    return [b"hello"]


def test_a_request_that_cannot_be_made_ends_no_server(log: pytest.LogCaptureFixture) -> None:
    """A mistake in a class of somebody's own, or one of ours: the others are served."""

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


def parked(server: Server, number: int = 1) -> None:
    eventually(lambda: len(server.parked()) == number, f"{number} requests are parked")


def connect(server: Server, **how: Any) -> Connection:
    return Connection(server.address, timeout=BOUND, **how)


def begin(server: Server, target: str = "/", **how: Any) -> Connection:
    c = connect(server, **how)
    c.send_request("GET", target)
    return c


@pytest.fixture(autouse=True)
def quiet(log: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged that a test does not look at."""
    yield
    assert [record.getMessage() for record in log.get_records("call")] == []


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
    """S2.6: nobody else need refer to it."""
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
    with Server(app, threads=1, request_timeout=0.05) as server:
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
    """S12.4: what it yields is dropped, so nobody looks what it is."""
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
