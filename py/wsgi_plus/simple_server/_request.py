"""A request of simple_server: the steps of an application, and the response that comes of them.

The loop is the thread that has the sockets; the pool's threads run steps.  See __init__.py.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import inspect
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, cast

from .._outcome import Throw
from .._types import Environ, is_future, is_list, is_tuple
from ._environ import build_environ
from ._http import Body, Head, answer, check_head, message
from ._wait import Wait

if TYPE_CHECKING:
    from ._connection import Connection

__all__ = ["After", "Fate", "Request"]

log = logging.getLogger("wsgi_plus.simple_server")

END = object()  # the iterable has ended
SURPLUS = "the body is longer than its Content-Length, and is cut"


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


class Ended(ConnectionError):
    """What write() raises when what is written is not sent any more (S12.4)."""


class Request:
    """One call of the application."""

    MANY = 64  # items in a row before others have their turn (S3.2)
    VERSION = (1, 0)  # of WSGI+ (S16.1)
    wait_class: type[Wait] = Wait

    def __init__(self, connection: Connection, head: Head, body: Body[bytes]) -> None:
        self.connection, self.server = connection, connection.server
        self.head, self.body = head, body
        self.began = time.monotonic()
        self.environ = self.make_environ()
        self.context = self.new_context()
        # Of the application
        self.iterable: Any = None
        self.iterator: Iterator[Any] | None = None
        self.thrown: Throw | None = None  # into the iterator, in this step
        self.future: Future[Any] | None = None  # that it waits for: perhaps the only reference to it (S2.6)
        self.wait: Wait | None = None  # the last one
        self.thread: int | None = None  # that runs a step of it
        # Of the response.  Who was first, an answer of the server's or a block of the application's, is decided under
        # the lock; nothing of the application's runs under it (S2.1).
        self.lock = threading.Lock()
        self.ended = False  # there is nothing left but to close it
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.left: int | None = None  # of its Content-Length, bytes that have not come
        self.started = self.begun = self.chunked = self.surplus = False
        self.known: int | None = None  # the length of the only block
        self.keep = head.keep_alive
        self.after: After | None = None  # set when the response is over

    def __str__(self) -> str:
        return f"{self.head.method} {self.head.target.partition('?')[0]}"

    def new_context(self) -> contextvars.Context:
        """S9.5: an empty one."""
        return contextvars.Context()

    # Steps, on pool threads

    def step(self) -> None:
        """One step.  When it returns the request is no longer this thread's."""
        for _ in range(self.MANY):
            fate = self.in_context(self.advance)
            if fate is Fate.OVER:
                return
            if fate is Fate.PARK and self.wait is not None and self.wait.let_go():
                return
        self.server.run_queue.put(self)  # behind what is waiting to run (S3.2)

    def in_context(self, function: Callable[[], Fate]) -> Fate:
        """Calls the function in this thread, and in the context of the request (S9.4)."""
        self.thread = threading.get_ident()
        try:
            return self.context.run(function)  # S9.4
        finally:
            self.thread = None

    def advance(self) -> Fate:
        """Takes an item from the application and does what is to be done with it; or closes, if there are no more."""
        fate = Fate.OVER
        try:
            item = END if self.ended else self.next_item()
            if not self.ended:  # S12.4
                fate = self.handle(item)
        except BaseException as error:
            self.fail(error)
        if self.thrown is not None:
            self.thrown.over()
            self.thrown = None
        if fate is Fate.OVER:
            self.thread = None  # what follows is no step (S6.6)
            self.close()
            self.over()
        return fate

    def handle(self, item: Any) -> Fate:
        """Does what is to be done with one item, or the end (S1)."""
        if is_future(item):  # S1.1
            return self.await_future(item)
        if isinstance(item, bytes):
            self.send(item)
            if not self.surplus:
                return self.await_client()
            log.error("%s: %s", self, SURPLUS)  # and the application is not asked for more (PEP 3333)
        elif item is not END:
            raise TypeError(self.explain(item))  # S1.3
        self.complete()
        return Fate.OVER

    def next_item(self) -> Any:
        """Calls the application, or resumes it from what it waited for; END if it has ended (S4, S5)."""
        if self.iterator is None:
            self.iterable = self.server.app(self.environ, self.start_response)
            if self.ended:
                return END  # S7.2
            self.known = self.known_length(self.iterable)
            self.iterator = iter(self.iterable)  # S1.2
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
        """How the future ended, without waiting (S5.9)."""
        try:
            return future.exception(timeout=0)
        except BaseException as error:  # CancelledError (S5.3), or TimeoutError
            return error

    def throw(self, iterator: Any, error: BaseException) -> Any:
        """Hands a failure to the application: raises it, or gives the next item (S5.2, S5.4)."""
        if not hasattr(iterator, "throw"):
            raise error  # S5.4
        self.thrown = Throw(error)  # until it has been logged, if it comes back
        return iterator.throw(error)  # S5.2

    def known_length(self, iterable: Any) -> int | None:
        """The length of a body that is one block (S1.6)."""
        if type(iterable) in (list, tuple) and len(iterable) == 1 and isinstance(iterable[0], bytes):
            return len(iterable[0])
        return None

    def explain(self, item: Any) -> str:
        """S1.3, S1.4."""
        said = f"yielded {type(item).__name__}, not bytes or a concurrent.futures.Future"
        if asyncio.isfuture(item) or inspect.iscoroutine(item):
            return f"{said}: yield what asyncio.run_coroutine_threadsafe() gives"
        if (is_list(item) or is_tuple(item)) and any(isinstance(one, Future) for one in item):
            return f"{said}: yield the futures one by one"
        if inspect.isgenerator(item):
            return f"{said}: write `yield from` in place of `yield`"
        return said

    def await_future(self, future: Future[Any]) -> Fate:
        """Goes on at once if the future is done (S3.1), else parks."""
        self.future = future
        return Fate.AGAIN if future.done() else self.park(future, for_client=False)  # S3.1

    def await_client(self) -> Fate:
        """S13.2: a client that reads slowly is waited for as for a future."""
        room = self.connection.output.room()
        return Fate.AGAIN if room is None else self.park(room, for_client=True)

    def park(self, future: Future[Any], *, for_client: bool) -> Fate:
        """Has the future wake the request, which is parked when its thread has let go of it."""
        wait = self.wait = self.wait_class(self, for_client=for_client)
        try:
            future.add_done_callback(wait)
        except BaseException:
            wait.take()  # so it is not woken: this is an application error (S10.4)
            raise
        if self.ended:
            wait()  # end() may have come too early to find it
        elif self.connection.eof:
            self.connection.changed()  # so may end_if_parked() (S8.6)
        return Fate.PARK

    def close(self) -> None:
        """S7: after the last step, once, on a pool thread and in the context."""
        iterable, self.iterable, self.iterator, self.future = self.iterable, None, None, None
        try:
            if hasattr(iterable, "close"):
                iterable.close()  # S7.4
        except BaseException as error:
            log.error("Error in close() of %s", self, exc_info=error)  # S7.5

    def over(self) -> None:
        """Releases what the request holds: its last step is over."""
        self.body.close()
        self.server.requests.discard(self)
        self.connection.changed()

    # What the application calls

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
        """PEP 3333's, in a step of this request only (S6)."""
        self.check_step()
        if exc_info:
            try:
                _, error, trace = exc_info
                if self.begun:  # S6.4
                    raise error.with_traceback(trace)
            finally:
                exc_info = error = trace = None  # no cycle
        elif self.started:
            raise RuntimeError("start_response was called again without exc_info")
        self.started = True  # for good, even if it fails (PEP 3333)
        self.left = check_head(status, headers)
        self.status, self.headers = status, list(headers)
        return self.write

    def write(self, data: bytes, /) -> None:
        """What start_response gives.  Holds the thread while the client is slow (S13.3)."""
        self.check_step()
        if not isinstance(cast(object, data), bytes):
            raise TypeError(f"write takes bytes, not {type(data).__name__}")  # S1.8
        self.send(data)
        room = self.connection.output.room()
        if room is not None:
            room.result()  # S13.3
        if self.ended:
            raise Ended(f"{self} has ended")  # S12.4
        if self.surplus:
            raise RuntimeError(SURPLUS)

    def check_step(self) -> None:
        """S6.6."""
        if self.thread != threading.get_ident():
            raise RuntimeError("start_response and write are for the steps of their request")

    # The response, on pool threads

    @property
    def has_body(self) -> bool:
        """Whether blocks are sent, or dropped (S19.1)."""
        return self.head.method != "HEAD" and self.status[:3] not in ("204", "205", "304")  # S19.1

    def send(self, block: bytes) -> None:
        """Accepts a block: the loop sends it, whatever the request does next (S2.2)."""
        with self.lock:
            if self.ended or not block:
                return
            self.begin(self.known)
            if self.has_body:
                if self.left is not None:
                    self.surplus |= len(block) > self.left
                    block = block[: self.left]
                    self.left -= len(block)
                self.connection.output.put(self.framed(block))
        self.connection.changed()

    def framed(self, block: bytes) -> bytes:
        """A block as it is sent."""
        return b"%x\r\n%b\r\n" % (len(block), block) if self.chunked else block

    def begin(self, known: int | None) -> None:
        """Puts the head on its way: with the first block that is not empty, or at the end (S6.3).  Holds the lock."""
        if self.begun:
            return
        if not self.status:
            raise RuntimeError("start_response was not called")  # S6.5
        headers = self.headers
        if self.status[:3] in ("204", "205"):
            headers = [header for header in headers if header[0].lower() != "content-length"]  # RFC 9110, 8.6
        if self.status.startswith("205"):
            headers = [*headers, ("Content-Length", "0")]  # RFC 9110, 15.3.6
        if self.has_body and self.left is None:
            if known is not None:
                self.left = known
                headers = [*headers, ("Content-Length", str(known))]
            elif self.head.version == "HTTP/1.1":
                self.chunked = True
                headers = [*headers, ("Transfer-Encoding", "chunked")]
            else:
                self.keep = False  # the end of the connection is that of the body
        if not self.server.keep_alive or self.server.draining:  # S18.5
            self.keep = False
        if not self.keep or self.head.version == "HTTP/1.0":
            headers = [*headers, ("Connection", "keep-alive" if self.keep else "close")]
        self.connection.output.put(message(self.status, headers))
        self.begun = True

    def complete(self) -> None:
        """The iterable has ended."""
        with self.lock:
            if self.ended:
                return
            if self.left and self.has_body:
                raise RuntimeError(f"the body is {self.left} bytes shorter than its Content-Length")
            self.begin(0)
            if self.chunked:
                self.connection.output.put(b"0\r\n\r\n")
            self.after = After.KEEP if self.keep else After.CLOSE
        self.connection.changed()

    def fail(self, error: BaseException) -> None:
        """S5.7: an application error."""
        if not isinstance(error, Ended):  # which is the client's doing, or the clock's
            log.error("Error handling request %s", self, exc_info=error)
        with self.lock:
            if self.ended:
                return
            if self.begun:
                self.after = self.broken_off()
            else:
                self.answer(500)
        self.connection.changed()

    def broken_off(self) -> After:
        """How the client can tell that the response has not come to its end (S5.8)."""
        return After.CLOSE if self.chunked or self.left else After.RESET

    def answer(self, status: int) -> None:
        """An answer of the server's own.  Holds the lock."""
        self.connection.output.put(answer(status, with_body=self.head.method != "HEAD"))
        self.begun, self.after = True, After.CLOSE

    # For the loop

    def end(self, status: int | None) -> bool:
        """Ends the request, whatever it is doing: no further step runs, and it is closed (S7.2, S8.2, S12.2, S18.3).

        If it has not begun it is answered with that status.  Returns whether the response only has to be sent now.
        """
        with self.lock:
            self.ended = True
            if not self.begun and status is not None:
                self.answer(status)
        wait = self.wait
        if wait is not None:
            wait()  # the future is left alone (S8.3)
        return self.after in (After.KEEP, After.CLOSE)

    def end_if_parked(self) -> bool:
        """What the end of the client's data does to it (S8.5, S8.6).  Returns whether it has ended."""
        wait = self.wait
        if wait is None or wait.for_client or not wait.take():
            return False
        self.ended = True
        wait.wake()
        return True

    def waits_for_future(self) -> bool:
        """Whether it is parked, and not on its client (S8.5)."""
        return self.wait is not None and self.wait.parked and not self.wait.for_client

    def stack(self) -> str:
        """Where the step is that runs, or nothing."""
        thread = self.thread
        frame = sys._current_frames().get(thread) if thread is not None else None
        return "".join(traceback.format_stack(frame)) if frame is not None and thread == self.thread else ""
    def make_environ(self) -> Environ:
        """What PEP 3333 asks for, and what CGI does."""
        address, peer = self.connection.address, self.connection.peer
        multithread = self.server.threads > 1
        return build_environ(self.head, self.body, address, peer, multithread=multithread, version=self.VERSION)
