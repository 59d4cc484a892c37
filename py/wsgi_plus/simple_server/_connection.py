"""A client of simple_server: what it sends, what it is sent, and how long that may take.  The loop's."""

from __future__ import annotations

import fcntl
import logging
import select
import socket
import struct
import sys
import termios
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .._types import is_tuple
from ._http import Phase, Reader, Refusal, answer
from ._output import Output
from ._request import After, Request

if TYPE_CHECKING:
    from ._server import Server

__all__ = ["Connection", "address_of"]

log = logging.getLogger("wsgi_plus.simple_server")


class Connection:
    """A client.  The loop's, but for ``changed``, ``output``, ``eof`` and ``peer``."""

    READ_AHEAD = 64 << 10  # bytes that are read behind a request in progress (S8.7)
    LINGER = 2.0  # seconds for the client to read the last response and to close

    def __init__(self, server: Server, sock: socket.socket, peer: Any) -> None:
        self.server, self.sock = server, sock
        # A Unix socket has no address, though it may have a name.
        self.peer: tuple[Any, ...] = peer if is_tuple(peer) else ()
        self.address = address_of(sock)
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


def address_of(sock: socket.socket) -> tuple[str, int]:
    """Where that is, for clients: a Unix socket has a name that is none of a host."""
    name = sock.getsockname()
    return name[:2] if is_tuple(name) else ("localhost", 80)
