"""The WSGI+ specification as a server that can be read: for tests, and for those who write another.

    with Server(application) as server:                          in a test
        urllib.request.urlopen(server.url)

    python -m wsgi_plus.simple_server [options] MODULE[:CALLABLE]

One thread, the loop, has the sockets: it reads requests whole, sends what there is to send, notices clients that leave,
and looks at the clock.  The pool's threads run the steps of applications.  A request that waits has neither.

In the order of reading:

    Server       the loop, the pool, and the end of both (S18)
    Connection   a client: what it sends, what it is sent, and how long that may take (S8, S12, S13).  The loop's
    Request      one call of the application, step by step (S1 to S7, S9), and its response, in _simple_request
    Wait         what stands between a parked request and the future that wakes it (S10)
    Output       what has been accepted from the application and not been sent (S13)
    Reader       the requests in the bytes of a connection (S14), in _simple_http

Numbers are those of the specification.  What another server would decide otherwise, and what a test wants to see done
wrong, is a method or a constant of its class: override it, and give ``main`` the class of the server.
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import importlib
import logging
import os
import select
import signal
import socket
import struct
import sys
import termios
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from ._simple_http import Phase, Reader, Refusal, answer
from ._simple_request import After, Fate, Output, Request, Wait
from ._types import Application, is_tuple

__all__ = ["After", "Connection", "Fate", "Output", "Request", "Server", "Wait", "main"]

log = logging.getLogger("wsgi_plus.simple_server")

TICK = 0.05  # seconds between two looks at the clock


class Connection:
    """A client.  The loop's, but for ``changed``, ``output``, ``eof`` and ``peer``."""

    READ_AHEAD = 64 << 10  # bytes that are read behind a request in progress (S8.7)
    LINGER = 2.0  # seconds for the client to read the last response and to close

    def __init__(self, server: Server, sock: socket.socket, peer: Any) -> None:
        self.server, self.sock = server, sock
        # A Unix socket has no address, though it may have a name.
        self.peer: tuple[Any, ...] = peer if is_tuple(peer) else ()
        self.address = _address(sock)
        self.output = Output()
        self.reader = Reader(limit=server.limit_request_body, put=self.output.put)
        self.request: Request | None = None  # in progress, until its response is sent; others wait behind it (S2.4)
        self.closing: After | None = None  # CLOSE or RESET, when the output is sent
        self.eof = False  # the client's data has ended
        self.closed = False
        self.lingers_since: float | None = None
        self.progress = time.monotonic()  # when the client has last taken a byte, or had none to take
        self.unsent = (0, 0)
        sock.setblocking(False)
        with suppress(OSError):  # it may have been reset
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.poll.register(sock, select.POLLIN)

    def changed(self) -> None:
        """In any thread: has the loop attend to it."""
        self.server.call(self.attend)

    def attend(self, events: int = 0) -> None:
        """Does whatever there is to do."""
        if self.closed:
            return
        try:
            if events & ~(select.POLLIN | select.POLLOUT) and self.lingers_since is None:
                raise ConnectionResetError  # S8.1: poll() tells it without being asked
            if events & ~select.POLLOUT:
                self.receive()
            with suppress(BlockingIOError):
                self.output.send(self.sock.send)
            self.settle()
            self.read()
            if self.eof:
                self.data_has_ended()
        except OSError:
            self.abort()
        if not self.closed:
            self.server.poll.modify(self.sock, self.interest())

    def interest(self) -> int:
        """What poll() is to look for: data, unless it has ended or enough is read ahead (S8.7), and room."""
        full = self.request is not None and len(self.reader.buffer) >= self.READ_AHEAD  # S8.7
        return (0 if self.eof or full else select.POLLIN) | (select.POLLOUT if self.output.size else 0)

    def receive(self) -> None:
        """Takes what the client has sent."""
        with suppress(BlockingIOError):
            data = self.sock.recv(self.READ_AHEAD)
            self.eof = not data
            if self.closing is None:  # otherwise it is read so that nothing unread destroys our answer
                self.reader.buffer += data

    def read(self) -> None:
        """The next request, if it is its turn."""
        if self.request is not None or self.closing is not None or self.closed:
            return
        try:
            found = self.reader.next()
            self.request = None if found is None else self.server.request_class(self, *found)
        except Refusal as refusal:
            self.refuse(refusal.status)
            return
        except Exception:
            log.exception("No request could be made of what has come from %s", self.peer)
            self.refuse(500)
            return
        if self.request is not None:
            self.server.requests.add(self.request)
            self.server.run_queue.put(self.request)

    def refuse(self, status: int) -> None:
        """Answers what is no request with this status, and closes."""
        self.output.put(answer(status, with_body=not self.reader.is_head))  # RFC 9110, 9.3.2
        self.closing = After.CLOSE
        self.changed()

    def settle(self) -> None:
        """When everything is sent: what comes after the response."""
        after = self.request.after if self.request is not None else None  # first: what came before it is in the output
        if self.output.size:
            return
        if after is not None:
            self.request = None
            if after is not After.KEEP or self.server.draining:
                self.closing = After.RESET if after is After.RESET else After.CLOSE
        if self.closing is After.RESET and not self.in_kernel():  # which a reset would destroy (S5.8)
            self.abort()
        elif self.closing is After.CLOSE and self.lingers_since is None:
            self.lingers_since = time.monotonic()
            self.sock.shutdown(socket.SHUT_WR)

    def data_has_ended(self) -> None:
        """The client will send nothing more: ends what is parked on a future (S8.5), unless that is allowed."""
        if self.lingers_since is not None or (self.request is None and self.closing is None):
            self.close()  # S14.4: what there is of a request is not served
        elif self.request is not None and not self.server.allow_half_close and self.request.end_if_parked():
            self.abort()

    def abort(self) -> None:
        """The client is gone, or must see that what it has got is not all (S5.8): a reset."""
        if not self.closed:
            with suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()
        request, self.request = self.request, None
        if request is not None:
            request.end(None)  # S8.2; those behind it have not begun, and will not (S8.8)

    def close(self) -> None:
        """Forgets the client, and all that is unsent."""
        if not self.closed:
            self.closed = True
            self.server.poll.unregister(self.sock)
            del self.server.connections[self.sock.fileno()]
            self.sock.close()
            self.reader.close()
            self.output.drop()

    def in_kernel(self) -> int:
        """Bytes that the kernel has and the client has not acknowledged."""
        try:
            size = fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4))
        except OSError:
            return 0
        return int.from_bytes(size, sys.byteorder)

    # The clock

    def tick(self, now: float) -> None:
        """Ends what takes too long."""
        request, reader, server = self.request, self.reader, self.server
        unsent = (self.output.size, self.in_kernel()) if self.output.size or self.closing else (0, 0)
        waits = request is not None and request.waits_for_future()  # then its client need not take anything (S12.5)
        if unsent != self.unsent or not any(unsent) or waits:
            self.unsent, self.progress = unsent, now
        phase = reader.phase if request is None and self.closing is None else None
        # when it counts, since when, for how many seconds at most (0 is for ever), and what is done then
        for counts, since, limit, then in (
            (phase is Phase.IDLE, reader.since, server.keep_alive or server.header_timeout, self.close),
            (phase is Phase.HEAD, reader.since, server.header_timeout, lambda: self.refuse(408)),
            (phase is Phase.BODY, reader.since, server.body_timeout, lambda: self.refuse(408)),
            (request is not None, request.began if request else now, server.request_timeout, self.deadline),
            (any(unsent), self.progress, server.send_timeout, self.abort),  # S13.4
            (self.lingers_since is not None, self.lingers_since or now, self.LINGER, self.close),
        ):
            if counts and limit and now - since >= limit:
                then()
                return
        if self.closing is After.RESET:
            self.attend()

    def deadline(self) -> None:
        """S12.2 to S12.4."""
        stack = self.request.stack() if self.request is not None else ""
        if stack:
            log.error("%s is still running at its deadline:\n%s", self.request, stack)
        self.end_request(504)

    def end_request(self, status: int) -> None:
        """Ends the request, and has the client know at once."""
        request = self.request
        if request is not None and request.end(status):
            self.attend()
        if request is not None and self.request is request:  # not sent, or not whole
            self.abort()

    # Shutdown

    def drain(self) -> None:
        """S18.1: what has begun to arrive is still served."""
        self.attend(select.POLLIN)
        if self.request is None and self.closing is None and self.reader.phase is Phase.IDLE:
            self.close()

    def force(self) -> None:
        """S18.3."""
        if self.request is not None:
            self.end_request(503)
        elif self.closing is None:
            self.close()


Self = TypeVar("Self", bound="Server")


class Server:
    """Serves an application on one address, which it has from its making on: ``address``, ``url``.

    Instead of an address it takes ``listeners``: sockets that listen, of TCP or Unix, which it closes when it drains.

    serve_forever() serves in the calling thread until shutdown(); ``with`` does it in another thread, and shuts down at
    the end.  Of the options these are seconds, and 0 is no limit:

        request_timeout    from a whole request to the end of its response (S12)
        graceful_timeout   for requests to end in, after shutdown() (S18); 0 is none
        send_timeout       without the client taking a byte (S13)
        keep_alive         that a connection may be idle; 0 closes it after each response
        header_timeout     for a whole request head
        body_timeout       without a byte of the request's body

    ``threads`` run steps.  ``allow_half_close``: who has ended his data still gets the response of a parked request
    (S8.5).  ``limit_request_body`` is in bytes (S14.2).  Raises OSError if the address cannot be had.
    """

    most_connections = sys.maxsize  # then no more are accepted until one ends
    LAST = 2.0  # seconds for everything to end after the graceful timeout
    connection_class: type[Connection] = Connection
    request_class: type[Request] = Request

    def __init__(
        self,
        app: Application,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        threads: int = 8,
        request_timeout: float = 0.0,
        graceful_timeout: float = 30.0,
        send_timeout: float = 30.0,
        keep_alive: float = 5.0,
        header_timeout: float = 10.0,
        body_timeout: float = 30.0,
        allow_half_close: bool = False,
        limit_request_body: int = 1 << 30,
        listeners: Sequence[socket.socket] = (),
    ) -> None:
        self.app = app
        self.request_timeout, self.graceful_timeout = request_timeout, graceful_timeout
        self.send_timeout, self.keep_alive = send_timeout, keep_alive
        self.header_timeout, self.body_timeout = header_timeout, body_timeout
        self.allow_half_close, self.limit_request_body = allow_half_close, limit_request_body
        self.threads = threads
        self.run_queue: SimpleQueue[Request | None] = SimpleQueue()
        self.requests: set[Request] = set()  # that have not been closed
        self.connections: dict[int, Connection] = {}
        self.draining_since: float | None = None
        self.forced = False
        self.poll = select.poll()
        self._calls: deque[Callable[[], object]] = deque()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = listeners or [socket.create_server((host, port), family=family, backlog=1024)]
        self._listeners = {sock.fileno(): sock for sock in found}
        self._woken, self._waker = socket.socketpair()
        for sock in (self._woken, self._waker, *found):
            sock.setblocking(False)
        self.address = _address(found[0])
        names = (f"wsgi_plus-pool-{number}" for number in range(threads))
        self._pool = [threading.Thread(target=self._work, name=name, daemon=True) for name in names]
        self._loop: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it is: ``http://HOST:PORT``, without a slash at the end."""
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def draining(self) -> bool:
        """Whether shutdown() has been called, and the loop knows of it (S18.1)."""
        return self.draining_since is not None

    def __enter__(self: Self) -> Self:
        self._loop = threading.Thread(target=self.serve_forever, name="wsgi_plus-loop", daemon=True)
        self._loop.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        if self._loop is not None:
            self._loop.join()

    def serve_forever(self) -> None:
        """Serves in this thread, once."""
        for thread in self._pool:
            thread.start()
        for sock in (self._woken, *self._listeners.values()):
            self.poll.register(sock, select.POLLIN)
        looked = 0.0
        try:
            while not self._at_end():
                self._turn()
                now = time.monotonic()
                if now - looked >= TICK:
                    looked = now
                    self._tick(now)
        finally:
            self._end()

    # In any thread

    def shutdown(self) -> None:
        """Has serve_forever() drain and return, after the graceful timeout and ``LAST`` at the latest.

        Returns at once.  May be called by signal handlers, and again.
        """
        self.call(self._drain)

    def parked(self) -> list[tuple[str, Future[Any] | None]]:
        """Requests that are parked, and the future that each waits for; None is its client (S12.6)."""
        waits = [(request, request.wait, request.future) for request in list(self.requests)]
        return [
            (str(request), None if wait.for_client else future)
            for request, wait, future in waits
            if wait is not None and wait.parked
        ]

    def log_parked(self) -> None:
        """Writes to the log what ``parked`` gives (S12.6)."""
        found = self.parked()
        lines = (f"\n{request}: {_name(future)}" for request, future in found)
        log.info("%d requests are parked%s", len(found), "".join(lines))

    def call(self, function: Callable[[], object]) -> None:
        """Has the loop call it soon."""
        self._calls.append(function)
        with suppress(OSError):  # full, so the loop is about to wake; or closed, so there is no loop
            self._waker.send(b"\0")

    # The pool

    def _work(self) -> None:
        while (request := self.run_queue.get()) is not None:
            request.step()
            del request

    # The loop

    def _turn(self) -> None:
        for number, events in self.poll.poll(TICK * 1000):
            if number == self._woken.fileno():
                self._woken.recv(4096)
            elif number in self._listeners:
                self._accept(self._listeners[number])
            elif number in self.connections:
                self.connections[number].attend(events)
        for _ in range(len(self._calls)):
            self._calls.popleft()()

    def _accept(self, listener: socket.socket) -> None:
        if len(self.connections) >= self.most_connections:
            self.poll.modify(listener, 0)  # until the next tick
            return
        try:
            sock, peer = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            log.error("Cannot accept a connection: %s", error)
            self.poll.modify(listener, 0)
            return
        self.connections[sock.fileno()] = self.connection_class(self, sock, peer)

    def _accept_waiting(self) -> None:
        """Accepts the connections that wait: requests may have arrived on them (S18.1)."""
        for listener in self._listeners.values():
            before = -1
            while before < len(self.connections):
                before = len(self.connections)
                self._accept(listener)

    def _tick(self, now: float) -> None:
        for connection in list(self.connections.values()):
            connection.tick(now)
        if self.draining_since is None:
            for listener in self._listeners.values():
                self.poll.modify(listener, select.POLLIN)
        elif not self.forced and now - self.draining_since >= self.graceful_timeout:
            self.forced = True
            for connection in list(self.connections.values()):
                connection.force()

    def _drain(self) -> None:
        if self.draining_since is None:
            log.info("Draining")
            self.draining_since = time.monotonic()
            self._accept_waiting()
            for listener in self._listeners.values():
                self.poll.unregister(listener)
                listener.close()  # S18.1
            for connection in list(self.connections.values()):
                connection.drain()

    def _at_end(self) -> bool:
        if self.draining_since is None:
            return False
        late = time.monotonic() - self.draining_since >= self.graceful_timeout + self.LAST
        return late or not (self.connections or self.requests)

    def _end(self) -> None:
        for request in list(self.requests):  # S18.4
            log.error("%s is left behind, still running:\n%s", request, request.stack())
        for connection in list(self.connections.values()):
            connection.abort()
        for sock in (*self._listeners.values(), self._woken, self._waker):
            sock.close()
        for _ in self._pool:
            self.run_queue.put(None)
        if not self.requests:
            for thread in self._pool:
                thread.join()


def _address(sock: socket.socket) -> tuple[str, int]:
    """Where that is, for clients: a Unix socket has a name that is none of a host."""
    name = sock.getsockname()
    return name[:2] if is_tuple(name) else ("localhost", 80)


def _name(future: Future[Any] | None) -> str:
    """Without a call of its methods (S1.5)."""
    return "its client" if future is None else f"{type(future).__name__} at {id(future):#x}"


# The command

Number = TypeVar("Number", int, float)

OPTIONS = {
    "threads": "threads that run the application",
    "request-timeout": "time from a complete request to the end of its response; 0 is off",
    "graceful-timeout": "time for requests to end after SIGTERM",
    "send-timeout": "time without the client taking a byte; 0 is off",
    "keep-alive": "how long an idle connection is kept",
    "header-timeout": "time for a whole request head; 0 is off",
    "body-timeout": "time without a byte of the request body; 0 is off",
    "limit-request-body": "largest request body, in bytes",
}


def _within(kind: Callable[[str], Number], least: Number, most: Number) -> Callable[[str], Number]:
    def parse(text: str) -> Number:
        with suppress(ValueError):
            if least <= kind(text) <= most:
                return kind(text)
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {least} to {most}")

    return parse


def _bind(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wsgi_plus.simple_server", allow_abbrev=False, description="Serves a WSGI or WSGI+ application."
    )
    parser.add_argument(
        "app",
        metavar="MODULE[:CALLABLE]",
        help="CALLABLE may be dotted, or a call with literals; else application or app",
    )
    parser.add_argument("-b", "--bind", metavar="HOST:PORT", type=_bind, default="127.0.0.1:8000", help="[%(default)s]")
    defaults = Server.__init__.__kwdefaults__ or {}
    for name, text in OPTIONS.items():
        default = defaults[name.replace("-", "_")]
        kind: Any = _within(int, 1, 1 << 40) if isinstance(default, int) else _within(float, 0.0, 1e9)
        metavar = "N" if isinstance(default, int) else "SEC"
        parser.add_argument(f"--{name}", metavar=metavar, type=kind, default=default, help=f"{text} [%(default)s]")
    parser.add_argument(
        "--allow-half-close", action="store_true", help="a client that ended its data still gets what is parked"
    )
    parser.add_argument("--chdir", metavar="DIR", default=".", help="change to it before the application is loaded")
    parser.add_argument("--pythonpath", metavar="DIRS", default="", help="to put on sys.path, separated by commas")
    return parser


def _load(target: str) -> Application:
    name, _, wanted = target.partition(":")
    module = importlib.import_module(name)
    tree = ast.parse(wanted or ("application" if hasattr(module, "application") else "app"), mode="eval").body
    call = tree if isinstance(tree, ast.Call) else None
    found: Any = module
    for part in ast.unparse(call.func if call else tree).split("."):
        found = getattr(found, part)
    if call is not None:
        words = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        found = found(*map(ast.literal_eval, call.args), **words)
    if not callable(found):
        raise TypeError(f"{target} is not callable")
    return cast(Application, found)


def main(arguments: Sequence[str] | None = None, *, server_class: type[Server] = Server) -> int:
    """The command.  Serves until SIGTERM or SIGINT, which drain; the second SIGINT ends at once.  SIGUSR1 logs what is
    parked (S12.6)."""
    logging.basicConfig(
        level=logging.INFO,
        format="[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S %z",
    )
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    (host, port), target = options.pop("bind"), options.pop("app")
    try:
        os.chdir(options.pop("chdir"))
    except OSError as error:
        parser.error(f"argument --chdir: {error}")
    sys.path[:0] = [*filter(None, options.pop("pythonpath").split(",")), os.getcwd()]
    try:
        app = _load(target)
    except BaseException:
        traceback.print_exc()
        return 3
    try:
        server = server_class(app, host=host, port=port, **options)
    except OSError as error:
        log.error("Cannot listen on %s port %d: %s", host, port, error)
        return 1

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        server.shutdown()

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, lambda _number, _frame: server.shutdown())
    signal.signal(signal.SIGUSR1, lambda _number, _frame: server.call(server.log_parked))
    log.info("Listening at: %s", server.url)
    server.serve_forever()
    # The end may be asked for again.  Python gives its own handlers up when it is finalized, which would be death by the
    # signal; what is ignored stays ignored.
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
