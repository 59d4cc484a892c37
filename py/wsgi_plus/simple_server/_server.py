"""The loop of simple_server, its pool, and the end of both (S18)."""

from __future__ import annotations

import logging
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from .._types import Application
from ._connection import Connection, address_of
from ._request import Request

__all__ = ["Server"]

log = logging.getLogger("wsgi_plus.simple_server")

TICK = 0.05  # seconds between two looks at the clock

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
        self.address = address_of(found[0])
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


def _name(future: Future[Any] | None) -> str:
    """Without a call of its methods (S1.5)."""
    return "its client" if future is None else f"{type(future).__name__} at {id(future):#x}"
