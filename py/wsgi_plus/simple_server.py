"""The WSGI+ specification as a server: for tests, and for those who want to read how it is done.  Not for production.

    with Server(application) as server:                          in a test
        urllib.request.urlopen(server.url)

    python -m wsgi_plus.simple_server [options] MODULE[:CALLABLE]

One thread, the loop, has the sockets: it reads requests whole, sends what there is to send, and notices clients that
leave and deadlines that pass.  The pool's threads run the applications' steps; a request that waits has none of them.

    Connection   a client: bytes to requests, output to bytes, timeouts.  Touched by the loop only.
    Request      one call of the application, from step to step (S1 to S7, S9).  Touched by the thread that runs its
                 step; what the loop may ask of it at any time are the methods under "In the loop".
    Wait         stands between a request that is parked and whoever wakes it (S10).
    Output       what has been accepted from the application and not yet been sent (S13).
    Server       the loop, the pool and the end of both (S18).

The numbers are those of the specification.  Each class and most methods are there to be overridden by those who want to
see what a test does with a server that is wrong.  Needs poll(), which Windows does not have.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import contextvars
import email.utils
import enum
import fcntl
import importlib
import inspect
import ipaddress
import logging
import os
import re
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
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from queue import SimpleQueue
from tempfile import SpooledTemporaryFile
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper

from ._types import Application, Environ

__all__ = ["Connection", "Output", "Request", "Server", "Wait", "main"]

log = logging.getLogger("wsgi_plus.simple_server")

SOFTWARE = "wsgi_plus.simple_server"
VERSION = (1, 0)  # of WSGI+ (S16.1)

MANY = 64  # items in a row before others have their turn (S3.2)
HIGH_WATER, LOW_WATER = 128 << 10, 32 << 10  # bytes not sent: above, a request is parked; below, it is resumed (S13)
READ_AHEAD = 64 << 10  # bytes that are read behind a request in progress (S8.7)
BODY_IN_MEMORY = 512 << 10  # bytes of a request body that are kept out of a file (S14.2)
LINE, FIELD, FIELDS = 8190, 8190, 100  # the longest request line and header field, and most fields
CHUNK_LINE, EXTENSIONS = 256, 16 << 10  # the longest line of a chunk, and all their extensions together
LENGTHS = 1 << 63  # no length is so large
TICK = 0.05  # seconds between two looks at the clock
LINGER = 2.0  # seconds for a client to read the last response and to close
LAST = 2.0  # seconds for everything to end after the graceful timeout

END = object()  # the iterable has ended


class Fate(enum.Enum):
    """What becomes of a request after an item."""

    AGAIN = enum.auto()
    PARK = enum.auto()
    OVER = enum.auto()


class After(enum.Enum):
    """What becomes of a connection after a response."""

    KEEP = enum.auto()
    CLOSE = enum.auto()
    RESET = enum.auto()


class Phase(enum.Enum):
    """What a connection reads."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


class Ended(ConnectionError):
    """What write() raises when nobody takes what it writes any more (S12.4)."""


# HTTP: RFC 9110 and 9112


class Refusal(Exception):
    """A request that is answered by the server, which closes the connection then."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TEXT = rb"[^\x00-\x08\x0a-\x1f\x7f]*"
_REQUEST_LINE = re.compile(rb"(%s) ([\x21-\x7e\x80-\xff]+) HTTP/([0-9]\.[0-9])" % _TOKEN)
_FIELD = re.compile(rb"(%s):(%s)" % (_TOKEN, _TEXT))
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_EXTENSION = rb"[ \t]*;[ \t]*%s(?:[ \t]*=[ \t]*(?:%s|%s))?" % (_TOKEN, _TOKEN, _QUOTED)
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)((?:%s)*)" % _EXTENSION)
_ABSOLUTE = re.compile(r"https?://([^/?]+)(/[^?]*)?(\?.*)?", re.IGNORECASE)
_HOST = re.compile(r"((?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})*|\[([0-9A-Fa-f:.]+)\])(?::([0-9]*))?")
_STATUS = re.compile(r"[2-5][0-9][0-9] [\t\x20-\x7e\x80-\xff]*")
_NAME = re.compile(_TOKEN.decode())
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

HOP_BY_HOP = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization"),
    *("proxy-connection", "te", "trailer", "trailers", "transfer-encoding", "upgrade"),
}
NO_TRAILERS = {"content-length", "host", "transfer-encoding"}


@dataclass
class Head:
    """A request head that has been understood."""

    method: str
    target: str
    version: str
    path: str
    query: str
    fields: dict[str, list[str]]  # by the name in lower case
    length: int | None  # of the body; None is chunked
    keep_alive: bool
    waits: bool  # for 100 Continue


def _parse_field(line: bytes) -> tuple[str, str]:
    found = _FIELD.fullmatch(line)
    if found is None:
        raise Refusal(400)
    return found[1].decode("ascii").lower(), found[2].strip(b" \t").decode("latin-1")


def _parse_head(line: bytes, lines: Iterable[bytes]) -> Head:
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise Refusal(400)
    method, target, version = (part.decode("latin-1") for part in found.groups())
    if version not in ("1.0", "1.1"):
        raise Refusal(505)
    fields: dict[str, list[str]] = {}
    for name, value in map(_parse_field, lines):
        fields.setdefault(name, []).append(value)
    hosts = fields.get("host", [])
    if len(hosts) > 1 or (not hosts and version == "1.1") or not all(map(_is_host, hosts)):
        raise Refusal(400)
    authority, path, query = _parse_target(method, target)
    if authority is not None:
        fields["host"] = [authority]  # it wins over Host (RFC 9112, 3.2.2)
    length = _parse_length(fields, version)
    options = {option.strip().lower() for value in fields.get("connection", []) for option in value.split(",")}
    expected = [value.lower() for value in fields.get("expect", [])] if version == "1.1" else []
    if any(value != "100-continue" for value in expected):
        raise Refusal(417)
    keep_alive = "close" not in options and (version == "1.1" or "keep-alive" in options)
    return Head(method, target, f"HTTP/{version}", path, query, fields, length, keep_alive, bool(expected))


def _parse_target(method: str, target: str) -> tuple[str | None, str, str]:
    """The authority, if there is one, the path and the query."""
    if method == "CONNECT":
        raise Refusal(501)
    if "#" in target:
        raise Refusal(400)
    if target.startswith("/"):
        path, _, query = target.partition("?")
        return None, path, query
    if target == "*" and method == "OPTIONS":
        return None, target, ""
    found = _ABSOLUTE.fullmatch(target)
    if found is None or not _is_host(found[1]):
        raise Refusal(400)
    return found[1], found[2] or "/", (found[3] or "?")[1:]


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    if found is None or int(found[3] or 0) > 65535 or (found[3] is not None and not found[1]):
        return False
    with suppress(ValueError):
        return found[2] is None or bool(ipaddress.IPv6Address(found[2]))
    return False


def _parse_length(fields: dict[str, list[str]], version: str) -> int | None:
    """How the body is framed: strictly, as two servers that differ over it can be played off against each other."""
    lengths, codings = fields.get("content-length", []), fields.get("transfer-encoding", [])
    if codings:
        if lengths or version == "1.0":
            raise Refusal(400)
        names = [name.strip().lower() for value in codings for name in value.split(",")]
        if names == ["chunked"]:
            return None
        raise Refusal(501 if names[-1] == "chunked" and names.count("chunked") == 1 else 400)
    if not lengths:
        return 0
    text = lengths[0]
    if len(lengths) > 1 or not (text.isascii() and text.isdigit()) or len(text) > 40 or int(text) >= LENGTHS:
        raise Refusal(400)
    return int(text)


def _message(status: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of a response."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1")


def _answer(status: int, *, with_body: bool = True) -> bytes:
    """A response of the server's own, which says nothing about the inside (S5.7)."""
    said = f"{status} {HTTPStatus(status).phrase}"
    body = f"{said}\n".encode()
    headers = [
        ("Date", email.utils.formatdate(usegmt=True)),
        ("Server", SOFTWARE),
        ("Connection", "close"),
        ("Content-Type", "text/plain"),
        ("Content-Length", str(len(body))),
    ]
    return _message(said, headers) + (body if with_body else b"")


class Output:
    """What has been accepted from the application and not yet been sent: any thread puts it in, the loop sends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: deque[memoryview] = deque()
        self._room: Future[None] | None = None
        self._dropped = False
        self.size = 0

    def put(self, data: bytes) -> None:
        with self._lock:
            if data and not self._dropped:
                self._blocks.append(memoryview(data))
                self.size += len(data)

    def room(self) -> Future[None] | None:
        """None, or, above the high-water mark, a future that is done when there is room again (S13.1)."""
        with self._lock:
            if self.size <= HIGH_WATER:
                return None
            if self._room is None:
                self._room = Future()
            return self._room

    def send(self, sock: socket.socket) -> None:
        """Sends what the kernel takes; not without end, though an application may put in more meanwhile."""
        with suppress(BlockingIOError):
            for _ in range(MANY):
                if not self._blocks:
                    break
                self._sent(sock.send(self._blocks[0]))

    def _sent(self, size: int) -> None:
        with self._lock:
            block = self._blocks.popleft()
            if size < len(block):
                self._blocks.appendleft(block[size:])
            self.size -= size
            room = self._room if self.size <= LOW_WATER else None
            if room is not None:
                self._room = None
        if room is not None:
            room.set_result(None)

    def drop(self) -> None:
        """Forgets everything, now and from now on; whoever waits for room has it."""
        with self._lock:
            self._dropped = True
            self._blocks.clear()
            self.size = 0
            room, self._room = self._room, None
        if room is not None:
            room.set_result(None)


class Wait:
    """Stands between a request that parks and whoever wakes it.

    Two must come before the request goes on: whoever wakes it first, and the thread that parks it, when it has let go.
    The last of the two gets the request, whichever that is.  So a future may call before, while and after
    add_done_callback() returns, in any thread, once or twice, at the same time as the loop ends the request (S10.1,
    S10.3).  Nothing here takes a lock or runs anybody's code (S10.2): what deque and SimpleQueue do is atomic.
    """

    def __init__(self, request: Request, *, for_client: bool) -> None:
        self._waker: deque[None] = deque([None])
        self._comers: deque[Request | None] = deque([request, None])
        self.for_client = for_client

    def __call__(self, _: object = None) -> None:
        """The done-callback, and what the loop calls: wakes the request, unless it has been woken."""
        if self.take():
            self.wake()

    def take(self) -> bool:
        """Whether the caller is the one who wakes it; then he has to."""
        try:
            self._waker.pop()
        except IndexError:
            return False
        return True

    def wake(self) -> None:
        request = self._comers.pop()
        if request is not None:
            request.server.run_queue.put(request)  # and no more: its next step belongs to the pool (S7.3, S11.2)

    def let_go(self) -> bool:
        """Whether it is parked now; otherwise it has been woken, and the caller still has the request (S3.3)."""
        return self._comers.pop() is None

    @property
    def parked(self) -> bool:
        return bool(self._waker) and len(self._comers) == 1


class Request:
    """One call of the application."""

    def __init__(self, connection: Connection, head: Head, body: SpooledTemporaryFile[bytes]) -> None:
        self.connection, self.server = connection, connection.server
        self.head, self.body = head, body
        self.environ = connection.environ(head, body)
        self.context = self.new_context()
        self.began = time.monotonic()
        # Of the application
        self.iterable: Any = None
        self.iterator: Iterator[Any] | None = None
        self.future: Future[Any] | None = None  # what it waits for: nobody else may refer to it (S2.6)
        self.wait: Wait | None = None  # the last one
        self.thread: int | None = None  # that runs a step of it
        # Of the response.  The lock decides whether an answer of the loop's or a block of the application's was first;
        # nothing of the application's runs under it (S2.1).
        self.lock = threading.Lock()
        self.ended = False  # it is to be closed, and nothing else
        self.status: str | None = None
        self.headers: list[tuple[str, str]] = []
        self.begun = False
        self.known: int | None = None  # the length of the only block
        self.has_body = True
        self.left: int | None = None  # bytes of Content-Length that have not come yet
        self.chunked = False
        self.surplus = False
        self.keep = head.keep_alive
        self.after: After | None = None  # set when the response is over

    def __str__(self) -> str:
        return f"{self.head.method} {self.head.target}"

    def new_context(self) -> contextvars.Context:
        """S9.5: nothing of other requests is in it."""
        return contextvars.Context()

    # Steps, in the pool

    def step(self) -> None:
        """One step.  When it is over the request belongs to somebody else."""
        for _ in range(MANY):
            fate = self.in_context(self.advance)
            if fate is Fate.OVER:
                self.over()
                return
            if fate is Fate.PARK and self.wait is not None and self.wait.let_go():
                return
        self.server.run_queue.put(self)  # behind those that are waiting to run (S3.2)

    def in_context(self, function: Callable[[], Fate]) -> Fate:
        self.thread = threading.get_ident()
        try:
            return self.context.run(function)  # S9.4
        finally:
            self.thread = None

    def advance(self) -> Fate:
        """Takes an item from the application, and does with it what is to be done; or closes the iterable."""
        try:
            item = END if self.ended else self.next_item()
            if not self.ended:
                return self.handle(item)
        except BaseException as error:
            self.fail(error)
        self.close()
        return Fate.OVER

    def handle(self, item: Any) -> Fate:
        if item is END:
            self.complete()
        elif isinstance(item, bytes):
            self.send(item)
            if not self.surplus:
                return self.await_room()
            self.complete()  # who has said enough is not asked for more (PEP 3333)
        elif isinstance(item, Future):
            return self.await_future(item)  # S1.1
        else:
            raise TypeError(self.explain(item))  # S1.3
        self.close()
        return Fate.OVER

    def next_item(self) -> Any:
        """The application's next item, or END."""
        if self.iterator is None:
            self.iterable = self.server.app(self.environ, self.start_response)
            if self.ended:
                return END  # S7.2
            self.known = self.known_length(self.iterable)
            self.iterator = iter(self.iterable)
        future, self.future = self.future, None
        error = None if future is None else self.failure(future)
        try:
            return next(self.iterator) if error is None else self.throw(self.iterator, error)  # S4.1, S5.1
        except StopIteration as end:
            if end is error:
                raise RuntimeError("the future failed with StopIteration") from error  # S5.5
            return END
        finally:
            del future, error  # the traceback has this frame: no cycle

    def failure(self, future: Future[Any]) -> BaseException | None:
        """How the future ended.  It is asked without waiting (S5.9)."""
        try:
            return future.exception(timeout=0)
        except BaseException as error:  # CancelledError (S5.3), or TimeoutError
            return error

    def throw(self, iterator: Any, error: BaseException) -> Any:
        """S5.2, S5.4: to where the application waits, if there is a way."""
        if not hasattr(iterator, "throw"):
            raise error
        return iterator.throw(error)

    def known_length(self, iterable: Any) -> int | None:
        """The length of a body of one block, if it is one (S1.6)."""
        if type(iterable) in (list, tuple) and len(iterable) == 1 and isinstance(iterable[0], bytes):
            return len(iterable[0])
        return None

    def explain(self, item: Any) -> str:
        """S1.3, S1.4."""
        said = f"yielded {type(item).__name__}, not bytes or a concurrent.futures.Future"
        if asyncio.isfuture(item) or inspect.iscoroutine(item):
            return f"{said}: yield what asyncio.run_coroutine_threadsafe() gives"
        if isinstance(item, (list, tuple)) and any(isinstance(one, Future) for one in item):
            return f"{said}: yield the futures one by one"
        return said

    def await_room(self) -> Fate:
        """S13.1, S13.2: a client that reads slowly is waited for as for a future."""
        room = self.connection.output.room()
        return Fate.AGAIN if room is None else self.park(room, for_client=True)

    def await_future(self, future: Future[Any]) -> Fate:
        self.future = future
        return Fate.AGAIN if future.done() else self.park(future, for_client=False)  # S3.1

    def park(self, future: Future[Any], *, for_client: bool) -> Fate:
        """Has the future wake the request.  It is parked when its thread has let go."""
        wait = self.wait = Wait(self, for_client=for_client)
        try:
            future.add_done_callback(wait)
        except BaseException:
            wait.take()  # S10.4: nobody is to wake it
            raise
        if self.ended:
            wait()  # end() may have looked for it too early
        elif self.connection.eof:
            self.server.attend(self.connection)  # S8.6: the loop may have, too
        return Fate.PARK

    def close(self) -> None:
        """S7: after the last step, on a pool thread, in the context, once."""
        self.thread = None  # it is not a step (S6.6)
        iterable, self.iterable, self.iterator, self.future = self.iterable, None, None, None
        try:
            if hasattr(iterable, "close"):
                iterable.close()  # S7.4
        except BaseException as error:
            log.error("Error in close() of %s", self, exc_info=error)  # S7.5

    def over(self) -> None:
        self.body.close()
        self.server.requests.discard(self)
        self.server.attend(self.connection)

    # What the application calls, in its steps

    def start_response(
        self, status: str, response_headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], None]:
        self.check_step()
        if exc_info:
            try:
                _, error, trace = exc_info
                if self.begun:  # S6.4
                    raise error.with_traceback(trace)
            finally:
                exc_info = error = trace = None  # no cycle
        elif self.status is not None:
            raise RuntimeError("start_response was called again without exc_info")
        self.check_head(status, response_headers)
        self.status, self.headers = status, list(response_headers)
        return self.write

    def check_step(self) -> None:
        """S6.6."""
        if self.thread != threading.get_ident():
            raise RuntimeError("start_response and write are for the request's own steps")

    def check_head(self, status: Any, headers: Any) -> None:
        """What is checked here cannot split a response (PEP 3333)."""
        if not isinstance(status, str) or not isinstance(headers, list):
            raise TypeError("start_response takes a str and a list of tuples")
        if not _STATUS.fullmatch(status):
            raise ValueError(f"no status: {status!r}")
        names = []
        for header in headers:
            if not isinstance(header, tuple) or [type(part) for part in header] != [str, str]:
                raise TypeError(f"no tuple of two str: {header!r}")
            name, value = header
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError(f"no header: {header!r}")
            if name.lower() in HOP_BY_HOP:
                raise ValueError(f"{name} is the server's, not the application's")
            if name.lower() == "content-length":
                if name.lower() in names or not re.fullmatch("[0-9]{1,18}", value):
                    raise ValueError(f"no Content-Length, or one too many: {value!r}")
            names.append(name.lower())

    def write(self, data: bytes, /) -> None:
        self.check_step()
        if not isinstance(data, bytes):
            raise TypeError(f"write takes bytes, not {type(data).__name__}")  # S1.8
        self.send(data)
        room = self.connection.output.room()
        if room is not None:
            room.result()  # S13.3
        if self.ended:
            raise Ended(f"{self} has ended")  # S12.4

    # The response

    def send(self, block: bytes) -> None:
        """Accepts a block.  It is on its way then (S2.2): the loop sends it without a further step."""
        with self.lock:
            if self.ended or not block:
                return  # S12.4; S6.3
            self.begin(self.known)
            if self.left is not None and len(block) > self.left:
                if not self.surplus:
                    log.error("%s: the body is longer than its Content-Length, and cut", self)
                block, self.surplus = block[: self.left], True
            if self.left is not None:
                self.left -= len(block)
            if self.has_body:
                self.put_block(block)
        self.server.attend(self.connection)

    def put_block(self, block: bytes) -> None:
        framed = b"%x\r\n%b\r\n" % (len(block), block) if self.chunked else block
        self.connection.output.put(framed)

    def begin(self, known: int | None) -> None:
        """Puts the head on its way, with the first block or at the end (S6.3).  Holds the lock."""
        if self.begun:
            return
        if self.status is None:
            raise RuntimeError("start_response was not called")  # S6.5
        headers, names = self.headers, {name.lower(): value for name, value in self.headers}
        code = self.status[:3]
        self.has_body = self.head.method != "HEAD" and code not in ("204", "304")  # S19.1
        if code == "204":
            headers = [header for header in headers if header[0].lower() != "content-length"]  # RFC 9110, 8.6
        elif "content-length" in names:
            self.left = int(names["content-length"]) if self.has_body else None
        elif known is not None and code != "304":
            self.left = known if self.has_body else None
            headers = [*headers, ("Content-Length", str(known))]
        elif self.has_body and self.head.version == "HTTP/1.1":
            self.chunked = True
            headers = [*headers, ("Transfer-Encoding", "chunked")]
        elif self.has_body:
            self.keep = False  # the end of the connection is the end of the body
        if not self.server.keep_alive or self.server.draining:
            self.keep = False  # S18.5
        added = {"Date": email.utils.formatdate(usegmt=True), "Server": SOFTWARE}
        headers = [*headers, *((name, value) for name, value in added.items() if name.lower() not in names)]
        if not self.keep or self.head.version == "HTTP/1.0":
            headers.append(("Connection", "keep-alive" if self.keep else "close"))
        self.begun = True
        self.connection.output.put(_message(self.status, headers))

    def complete(self) -> None:
        """The iterable has ended."""
        with self.lock:
            if self.ended:
                return
            if self.status is not None and not self.begun and self.head.method != "HEAD":
                self.check_complete(self.declared_length())  # it can still be a 500
            self.begin(0 if self.head.method != "HEAD" else None)
            self.check_complete(self.left)
            if self.chunked:
                self.connection.output.put(b"0\r\n\r\n")
            self.after = After.KEEP if self.keep else After.CLOSE
        self.server.attend(self.connection)

    def declared_length(self) -> int | None:
        if self.status is None or self.status[:3] in ("204", "304"):
            return None
        return next((int(value) for name, value in self.headers if name.lower() == "content-length"), None)

    def check_complete(self, left: int | None) -> None:
        if left:
            raise RuntimeError(f"the body is {left} bytes shorter than its Content-Length")

    def fail(self, error: BaseException) -> None:
        """S5.7: an application error."""
        if not isinstance(error, Ended):  # that is the client's doing, or the clock's
            log.error("Error handling request %s", self, exc_info=error)
        with self.lock:
            if self.ended:
                return
            if self.begun:
                self.after = self.broken()
            else:
                self.answer(500)
        self.server.attend(self.connection)

    def broken(self) -> After:
        """How the client can tell that the response has not come to its end (S5.8)."""
        return After.CLOSE if self.chunked or self.left else After.RESET

    def answer(self, status: int) -> None:
        """An answer of the server's in place of the application's.  Holds the lock."""
        self.connection.output.put(_answer(status, with_body=self.head.method != "HEAD"))
        self.begun, self.after = True, After.CLOSE

    # In the loop

    def end(self, status: int | None) -> bool:
        """Ends the request, whatever it is doing: no further step runs, and it is closed (S7.2, S8.2, S12.2, S18.3).

        Whether the client gets a whole response: the one there is, or one with that status if it has not begun.
        """
        with self.lock:
            self.ended = True
            if self.after is None and status is not None and not self.begun:
                self.answer(status)
            whole = self.after is not None
        wait = self.wait
        if wait is not None:
            wait()  # the future is left as it is (S8.3)
        return whole

    def end_if_parked(self) -> bool:
        """S8.5, S8.6: what the end of the client's data ends."""
        wait = self.wait
        if wait is None or wait.for_client or not wait.take():
            return False
        self.ended = True
        wait.wake()
        return True

    def waits_for_future(self) -> bool:
        return self.wait is not None and self.wait.parked and not self.wait.for_client

    def stack(self) -> str:
        """Where the step that runs is, or nothing."""
        thread = self.thread
        frame = sys._current_frames().get(thread) if thread is not None else None
        return "".join(traceback.format_stack(frame)) if frame is not None and self.thread == thread else ""


Reading = Generator["tuple[Head, SpooledTemporaryFile[bytes]] | None", None, None]
Needs = Generator[None, None, bytes]


class Connection:
    """A client.  Everything here is the loop's, but for ``output``, ``eof`` and ``environ``."""

    def __init__(self, server: Server, sock: socket.socket, peer: Any) -> None:
        self.server, self.sock, self.peer = server, sock, peer
        self.output = Output()
        self.buffer = bytearray()
        self.reading: Reading = self.read_requests()
        self.request: Request | None = None  # the one in progress; those behind it wait (S2.4)
        self.closing: After | None = None
        self.lingering = self.closed = False
        self.eof = False  # the client's data has ended
        self.phase = Phase.IDLE
        self.since = self.progress = time.monotonic()  # of the phase; of the last byte that the client took
        self.unsent = (0, 0)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.poll.register(sock, select.POLLIN)

    def attend(self, events: int = 0) -> None:
        """Does whatever there is to do."""
        if self.closed:
            return
        try:
            if events & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                raise ConnectionResetError  # S8.1
            if events & select.POLLIN:
                self.receive()
            self.output.send(self.sock)
            self.settle()
            self.read_on()
            self.notice_end_of_data()
            if not self.closed:
                self.server.poll.modify(self.sock, self.interest())
        except OSError:
            self.abort()  # S8.2

    def interest(self) -> int:
        """What poll() looks for; it looks for resets in any case."""
        ahead = self.request is None or len(self.buffer) < READ_AHEAD  # S8.7
        return (select.POLLIN if not self.eof and ahead else 0) | (select.POLLOUT if self.output.size else 0)

    def receive(self) -> None:
        try:
            data = self.sock.recv(READ_AHEAD)
        except BlockingIOError:
            return
        if not data:
            self.eof = True
        elif self.closing is None:  # otherwise it is only read so that the client can read our answer
            self.buffer += data

    def settle(self) -> None:
        """When the response has been sent: the next one, or the end."""
        request = self.request
        if self.output.size:
            return
        if request is not None and request.after is not None:
            self.request = None
            self.phase, self.since = Phase.IDLE, time.monotonic()
            if request.after is not After.KEEP or self.server.draining:
                self.closing = After.RESET if request.after is After.RESET else After.CLOSE
        if self.closing is After.RESET and not self.in_kernel():  # what came before it arrives (S5.8)
            self.abort()
        elif self.closing is After.CLOSE:
            self.linger()

    def linger(self) -> None:
        """Closes when the client has, or after a while: before, a reset could destroy what it has not read yet."""
        if not self.lingering:
            self.lingering, self.since = True, time.monotonic()
            self.sock.shutdown(socket.SHUT_WR)
        if self.eof:
            self.close()

    def notice_end_of_data(self) -> None:
        if not self.eof or self.closed or self.closing:
            return
        if self.request is None:
            self.close()  # S14.4: what there is of a request is not served
        elif not self.server.allow_half_close and self.request.end_if_parked():
            self.abort()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.server.poll.unregister(self.sock)
            self.server.connections.pop(self.sock.fileno())
            self.sock.close()
            self.reading.close()
            self.output.drop()

    def abort(self) -> None:
        """The client is gone, or is to see that what it has got is not all: a reset."""
        if not self.closed:
            with suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()
        request, self.request = self.request, None
        if request is not None:
            request.end(None)  # S8.2; those behind it are never read (S8.8)

    def in_kernel(self) -> int:
        """Bytes that have been sent and not been acknowledged."""
        try:
            answer = fcntl.ioctl(self.sock, termios.TIOCOUTQ, b"\0\0\0\0")
        except OSError:
            return 0
        return int.from_bytes(answer, sys.byteorder)

    # The clock

    def tick(self, now: float) -> None:
        """Whatever has taken too long: what it is, since when, for how many seconds at most, and what is done then."""
        unsent = (self.output.size, self.in_kernel()) if self.output.size or self.closing else (0, 0)
        parked = self.request is not None and self.request.waits_for_future()  # slow clients are no matter (S12.5)
        if unsent != self.unsent or not any(unsent) or parked:
            self.unsent, self.progress = unsent, now
        server, reading = self.server, self.request is None and self.closing is None
        idle = server.keep_alive or server.header_timeout
        request_began = self.request.began if self.request is not None else now
        for counts, since, limit, then in (
            (reading and self.phase is Phase.IDLE, self.since, idle, self.close),
            (reading and self.phase is Phase.HEAD, self.since, server.header_timeout, lambda: self.refuse(408)),
            (reading and self.phase is Phase.BODY, self.since, server.body_timeout, lambda: self.refuse(408)),
            (self.request is not None, request_began, server.request_timeout, self.hit_deadline),  # S12.1
            (any(unsent), self.progress, server.send_timeout, self.abort),  # S13.4
            (self.lingering, self.since, LINGER, self.close),
        ):
            if counts and limit and now - since >= limit:
                then()
                break
        if self.closing is After.RESET:
            self.attend()

    def hit_deadline(self) -> None:
        """S12.2 to S12.4."""
        request = self.request
        stack = request.stack() if request is not None else ""
        if stack:
            log.error("%s is still running at its deadline:\n%s", request, stack)
        self.end_request(504)

    def end_request(self, status: int) -> None:
        """Has the client know at once, whatever the request is doing."""
        request = self.request
        if request is not None and request.end(status):
            self.attend()
        if request is not None and self.request is request:
            self.abort()

    def drain(self) -> None:
        """S18.1: no request begins here any more, unless it has begun to arrive."""
        if self.request is None and self.phase is Phase.IDLE and self.closing is None:
            self.close()

    def force(self) -> None:
        """S18.3."""
        if self.request is not None:
            self.end_request(503)
        elif self.closing is None:
            self.abort()

    # Requests

    def refuse(self, status: int) -> None:
        self.output.put(_answer(status))
        self.closing = After.CLOSE
        self.reading.close()
        self.buffer.clear()
        self.server.attend(self)

    def read_on(self) -> None:
        if self.request is not None or self.closing is not None or self.closed:
            return
        try:
            found = next(self.reading)
        except Refusal as refusal:
            self.refuse(refusal.status)
            return
        if found is not None:
            self.request = self.server.request_class(self, *found)
            self.server.requests.add(self.request)
            self.server.run_queue.put(self.request)

    def read_requests(self) -> Reading:
        """Gives each request when it is whole (S14.1), and None when more bytes are needed."""
        while True:
            while not self.buffer:
                yield None
            self.phase, self.since = Phase.HEAD, time.monotonic()
            line = (yield from self.line(LINE, 414)) or (yield from self.line(LINE, 414))  # RFC 9112, 2.2
            lines: list[bytes] = []
            while field := (yield from self.line(FIELD, 431)):
                if len(lines) == FIELDS:
                    raise Refusal(431)
                lines.append(field)
            head = _parse_head(line, lines)
            if head.length is not None and head.length > self.server.limit_request_body:
                raise Refusal(413)
            if head.waits and head.length != 0 and not self.buffer:
                self.output.put(_message("100 Continue", []))
            body = SpooledTemporaryFile[bytes](max_size=BODY_IN_MEMORY)
            try:
                self.phase, self.since = Phase.BODY, time.monotonic()
                yield from self.chunks(body) if head.length is None else self.take(head.length, body)
                body.seek(0)
            except BaseException:
                body.close()
                raise
            yield head, body

    def line(self, limit: int, status: int) -> Needs:
        """A line without its CRLF, which is the only end of a line."""
        while (end := self.buffer.find(b"\n")) < 0 and len(self.buffer) <= limit + 1:
            yield
        if end < 0 or end > limit + 1:
            raise Refusal(status)
        line = bytes(self.buffer[: end + 1])
        if line.find(b"\r") != end - 1:
            raise Refusal(400)
        del self.buffer[: end + 1]
        return line[:-2]

    def take(self, size: int, body: SpooledTemporaryFile[bytes]) -> Needs:
        while size:
            while not self.buffer:
                yield
            piece = bytes(self.buffer[:size])
            del self.buffer[:size]
            size -= len(piece)
            self.since = time.monotonic()
            try:
                body.write(piece)
            except OSError as error:
                log.error("A request body cannot be kept", exc_info=error)
                raise Refusal(500) from None
        return b""

    def chunks(self, body: SpooledTemporaryFile[bytes]) -> Needs:
        extensions, size = 0, -1
        while size:
            found = _CHUNK.fullmatch((yield from self.line(CHUNK_LINE, 400)))
            if found is None:
                raise Refusal(400)
            size = int(found[1], 16)
            extensions += len(found[2])
            if size >= LENGTHS or extensions > EXTENSIONS:
                raise Refusal(400)
            if body.tell() + size > self.server.limit_request_body:
                raise Refusal(413)
            if size:
                yield from self.take(size, body)
                yield from self.line(0, 400)
        for _ in range(FIELDS + 1):
            trailer = yield from self.line(FIELD, 400)
            if not trailer:
                return b""
            if _parse_field(trailer)[0] in NO_TRAILERS:
                raise Refusal(400)
        raise Refusal(400)

    def environ(self, head: Head, body: SpooledTemporaryFile[bytes]) -> Environ:
        """PEP 3333, and what CGI says of it."""
        host, port = self.server.address
        environ = {
            "REQUEST_METHOD": head.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(head.path.encode("latin-1")).decode("latin-1"),
            "QUERY_STRING": head.query,
            "REQUEST_URI": head.target,
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": head.version,
            "SERVER_SOFTWARE": SOFTWARE,
            "REMOTE_ADDR": self.peer[0],
            "REMOTE_PORT": str(self.peer[1]),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": body,
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi_plus.version": VERSION,
        }
        for name, values in head.fields.items():
            if "_" not in name and name != "transfer-encoding":  # X_Y is not to be taken for X-Y; the body is decoded
                key = name.upper().replace("-", "_")
                key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
                environ[key] = ("; " if name == "cookie" else ", ").join(values)
        if head.length is None:
            body.seek(0, os.SEEK_END)
            environ["CONTENT_LENGTH"] = str(body.tell())
            body.seek(0)
        return environ


class Server:
    """Serves an application on one address, from its making on: ``address`` and ``url`` say where.

    serve_forever() serves in the calling thread until shutdown() is called; ``with`` does it in a thread of its own,
    and shuts down at the end.  Timeouts are in seconds, 0 is none:

        request_timeout    from a complete request to the end of its response (S12)
        graceful_timeout   for requests to end, after shutdown()  (S18)
        send_timeout       without the client taking a byte (S13.4)
        keep_alive         that an idle connection is kept; 0 closes after each response
        header_timeout     for a whole request head
        body_timeout       without a byte of the request body

    ``allow_half_close``: a client that has ended its data still gets the response of a parked request (S8.5).
    ``limit_request_body``: bytes.  Raises OSError if the address cannot be had.
    """

    request_class = Request
    connection_class = Connection

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
    ) -> None:
        self.app = app
        self.request_timeout, self.graceful_timeout = request_timeout, graceful_timeout
        self.send_timeout, self.keep_alive = send_timeout, keep_alive
        self.header_timeout, self.body_timeout = header_timeout, body_timeout
        self.allow_half_close, self.limit_request_body = allow_half_close, limit_request_body
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, port), family=family, backlog=1024)
        self.listener.setblocking(False)
        self.address: tuple[str, int] = self.listener.getsockname()[:2]
        self.run_queue: SimpleQueue[Request | None] = SimpleQueue()
        self.requests: set[Request] = set()  # that have been read and not been closed
        self.connections: dict[int, Connection] = {}
        self.draining = self.forced = False
        self.drained_since = 0.0
        self.poll = select.poll()
        self._calls: deque[Callable[[], object]] = deque()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._threads = [
            threading.Thread(target=self._work, name=f"wsgi_plus-server-{number}", daemon=True)
            for number in range(threads)
        ]
        self._loop: threading.Thread | None = None

    @property
    def url(self) -> str:
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Server:
        self._loop = threading.Thread(target=self.serve_forever, name="wsgi_plus-server-loop", daemon=True)
        self._loop.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        if self._loop is not None:
            self._loop.join()

    def shutdown(self) -> None:
        """Has serve_forever() drain, and return within the graceful timeout and a few seconds.

        In any thread, in a signal handler, again: returns at once.
        """
        self.call(self._drain)

    def parked(self) -> list[tuple[str, Future[Any] | None]]:
        """The requests that are parked, and on what: a future, or None, which is a slow client (S12.6).  In any thread."""
        found = []
        for request in list(self.requests):
            wait = request.wait
            if wait is not None and wait.parked:
                found.append((str(request), None if wait.for_client else request.future))
        return found

    def serve_forever(self) -> None:
        """Serves in this thread, once.  Other threads run the application."""
        for thread in self._threads:
            thread.start()
        self.poll.register(self.listener, select.POLLIN)
        self.poll.register(self._woken, select.POLLIN)
        tick = 0.0
        try:
            while not self._drained():
                self._turn()
                now = time.monotonic()
                if now - tick >= TICK:
                    tick = now
                    self._tick(now)
        finally:
            self._end()

    # From other threads

    def call(self, function: Callable[[], object]) -> None:
        """Has the loop call it soon."""
        self._calls.append(function)
        with suppress(OSError):  # it is full, so the loop will wake; or closed, so there is none
            self._waker.send(b"\0")

    def attend(self, connection: Connection) -> None:
        self.call(connection.attend)

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
            elif number == self.listener.fileno():
                self._accept()
            elif number in self.connections:
                self.connections[number].attend(events)
        for _ in range(len(self._calls)):
            self._calls.popleft()()

    def _accept(self) -> None:
        try:
            sock, peer = self.listener.accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                log.error("Cannot accept a connection: %s", error)
                self.poll.modify(self.listener, 0)  # until the next tick
            return
        self.connections[sock.fileno()] = self.connection_class(self, sock, peer)

    def _tick(self, now: float) -> None:
        for connection in list(self.connections.values()):
            connection.tick(now)
        if not self.draining:
            self.poll.modify(self.listener, select.POLLIN)
        elif not self.forced and now - self.drained_since >= self.graceful_timeout:
            self.forced = True
            for connection in list(self.connections.values()):
                connection.force()

    def _drain(self) -> None:
        if self.draining:
            return
        self.draining, self.drained_since = True, time.monotonic()
        log.info("Draining")
        self.poll.unregister(self.listener)
        self.listener.close()  # S18.1
        for connection in list(self.connections.values()):
            connection.drain()

    def _drained(self) -> bool:
        if not self.draining:
            return False
        late = time.monotonic() - self.drained_since >= self.graceful_timeout + LAST
        return late or not (self.connections or self.requests)

    def _end(self) -> None:
        for request in list(self.requests):  # S18.4
            log.error("%s is left behind, still running:\n%s", request, request.stack())
        for connection in list(self.connections.values()):
            connection.abort()
        for sock in (self.listener, self._woken, self._waker):
            sock.close()
        for _ in self._threads:
            self.run_queue.put(None)
        if not self.requests:
            for thread in self._threads:
                thread.join()

    def log_parked(self) -> None:
        """In the loop, or anywhere else."""
        found = self.parked()
        lines = [f"\n{request}: {future or 'its client'}" for request, future in found]
        log.info("%d requests are parked%s", len(found), "".join(lines))


# The command


def _load(target: str) -> Application:
    """MODULE[:CALLABLE], where CALLABLE is a dotted name, or a call of one with literal arguments."""
    name, _, wanted = target.partition(":")
    module = importlib.import_module(name)
    if not wanted:
        wanted = "application" if hasattr(module, "application") else "app"
    tree = ast.parse(wanted, mode="eval").body
    call = tree if isinstance(tree, ast.Call) else None
    found: Any = module
    for part in ast.unparse(tree if call is None else call.func).split("."):
        found = getattr(found, part)
    if call is not None:
        arguments = [ast.literal_eval(argument) for argument in call.args]
        found = found(*arguments, **{str(word.arg): ast.literal_eval(word.value) for word in call.keywords})
    if not callable(found):
        raise TypeError(f"{target} is not callable")
    application: Application = found
    return application


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no time in seconds")
    return seconds


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is less than 1")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wsgi_plus.simple_server", allow_abbrev=False, description="Serves a WSGI or WSGI+ application."
    )
    parser.add_argument("app", metavar="MODULE[:CALLABLE]", help="or a call such as MODULE:create_app('x')")
    parser.add_argument("-b", "--bind", metavar="HOST:PORT", type=_address, default=("127.0.0.1", 8000))
    parser.add_argument("--threads", metavar="N", type=_number, default=8)
    for name, default in (
        ("request-timeout", 0.0),
        ("graceful-timeout", 30.0),
        ("send-timeout", 30.0),
        ("keep-alive", 5.0),
        ("header-timeout", 10.0),
        ("body-timeout", 30.0),
    ):
        parser.add_argument(f"--{name}", metavar="SEC", type=_seconds, default=default)
    parser.add_argument("--allow-half-close", action="store_true")
    parser.add_argument("--limit-request-body", metavar="BYTES", type=_number, default=1 << 30)
    parser.add_argument("--chdir", metavar="DIR", default=".")
    parser.add_argument("--pythonpath", metavar="DIRS", default="")
    return parser


def main(arguments: Sequence[str] | None = None, *, server_class: type[Server] = Server) -> int:
    """The command: serves until SIGTERM or SIGINT, which drain; a second SIGINT ends at once; SIGUSR1 logs what is parked."""
    logging.basicConfig(
        level=logging.INFO,
        format="[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S %z",
    )
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    host, port = options.pop("bind")
    target, pythonpath = options.pop("app"), options.pop("pythonpath")
    try:
        os.chdir(options.pop("chdir"))
    except OSError as error:
        parser.error(f"argument --chdir: {error}")
    sys.path[:0] = [*(os.path.abspath(folder) for folder in pythonpath.split(",") if folder), os.getcwd()]
    try:
        app = _load(target)
    except BaseException:
        traceback.print_exc()
        return 3
    try:
        server = server_class(app, host=host, port=port, **options)
    except OSError as error:
        log.error("Cannot listen on %s:%d: %s", host, port, error)
        return 1

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        server.shutdown()

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, lambda *_: server.shutdown())
    signal.signal(signal.SIGUSR1, lambda *_: server.call(server.log_parked))
    log.info("Listening at: %s", server.url)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
