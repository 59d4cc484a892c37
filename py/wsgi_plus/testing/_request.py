"""One request of a test: what has happened to it, and what happens next."""

from __future__ import annotations

import io
import json as jsons
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any
from wsgiref.headers import Headers as ResponseHeaders

from .._hints import hint
from .._outcome import failure as failure_of
from .._types import Application, Environ, is_future
from ._output import Output
from ._steps import (
    Block,
    Closed,
    DeadlinePassed,
    Disconnected,
    Failed,
    Parked,
    Ready,
    Resumed,
    ShutDown,
    Step,
    Written,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MisuseError", "Request", "abandoned"]

MANY = 100_000  # items in a row: an application that gives more has no end


class MisuseError(AssertionError):
    """A request was asked for something that it cannot do now, such as to go on before its future is done."""


class Request:
    """A request in progress, or one that is over: then it is the response as well.  Made by a ``Client``.

    As a context manager it disconnects at the end, if it is not over.  One that is forgotten before it is over is
    closed then, with a ResourceWarning.  Its methods may be called in any thread; those that make it go on raise
    MisuseError while another one does, and those that end it take effect when the step that runs has returned (S7.2).
    """

    def __init__(
        self,
        app: Application,
        environ: Environ,
        title: str,
        log: io.StringIO,
        *,
        raise_errors: bool,
        threads: bool,
        timeout: float,
    ) -> None:
        self.environ = environ
        self.close_error: BaseException | None = None
        self._app = app
        self._title = title
        self._log = log
        self._raise_errors = raise_errors
        self._threads = threads
        self._timeout = timeout
        self._context = Context()  # S9.4, S9.5
        self._output = Output(environ["REQUEST_METHOD"])
        self._iterable: Any = None
        self._iterator: Any = None
        self._future: Future[Any] | None = None
        self._wake = threading.Event()  # the future has called back, or another thread has ended the request
        self._more = False  # the last step has used up all items that it was granted
        self._busy = False  # a thread runs a step, or close(); guarded by the output's lock
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._try_to_end(Disconnected())

    def __repr__(self) -> str:
        future, status = self.parked, self.status or "not answered"
        state = "over" if self.over else "in progress" if future is None else f"parked on {future!r}"
        return f"<{self._title}: {status}, {state}>"

    # What has happened so far

    @property
    def parked(self) -> Future[Any] | None:
        """The future that the application has yielded and not been resumed from; None if there is none."""
        return self._future

    @property
    def steps(self) -> list[Step]:
        """Everything that has happened, in order."""
        return list(self._output.steps)

    @property
    def status(self) -> str | None:
        """Such as "200 OK": as start_response has set it, or as the server does where the application has failed."""
        return self._output.status

    @property
    def status_code(self) -> int | None:
        """The same as a number."""
        return None if self.status is None else int(self.status[:3])

    @property
    def headers(self) -> ResponseHeaders:
        """A copy, to be asked by name in any case: ``request.headers["Content-Type"]``, ``.get_all("Set-Cookie")``."""
        return ResponseHeaders(list(self._output.headers))

    @property
    def blocks(self) -> list[bytes]:
        """What was yielded and written, without the empty ones."""
        return [step.data for step in self._output.steps if isinstance(step, (Block, Written)) and step.data]

    @property
    def body(self) -> bytes:
        """What the client has been sent: no more than Content-Length, and nothing after HEAD, 204 and 304 (S19.1)."""
        return self._output.body()

    @property
    def text(self) -> str:
        """The body, as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body, as JSON."""
        return jsons.loads(self.body)

    @property
    def log(self) -> str:
        """What the application has written to wsgi.errors."""
        return self._log.getvalue()

    @property
    def begun(self) -> bool:
        """The status cannot be changed any more."""
        return self._output.begun

    @property
    def over(self) -> bool:
        """Nothing more will happen: close() has been called."""
        return self._closed.is_set()

    @property
    def broken_off(self) -> bool:
        """The response has ended before its end (S5.8), or the client has left."""
        return self._output.broken_off

    @property
    def error(self) -> BaseException | None:
        """What the application has raised.  What its close() has raised is ``close_error`` (S7.5)."""
        return self._output.error

    # What happens next

    def resume(self) -> Self:
        """Goes on, up to the next future that is not done, or the end.

        Raises MisuseError if the future that it is parked on is not done, if it is over, and after very many items
        without an end; TimeoutError, with the stack, if the step does not return in time.
        """
        self._go(MANY)
        if self._more:
            raise MisuseError(f"{self!r} has given {MANY} items without an end: take them one by one, with step()")
        return self

    def step(self) -> Step:
        """Goes on by one item, and gives the last record.  Raises as ``resume`` does."""
        self._go(1)
        return self._output.steps[-1]

    def complete(self, value: Any = None) -> Self:
        """The future that it is parked on has a result; goes on.  Raises as ``resume`` does."""
        return self._settle(lambda future: future.set_result(value))

    def fail(self, error: BaseException) -> Self:
        """The future that it is parked on has failed; goes on (S5).  Raises as ``resume`` does."""
        return self._settle(lambda future: future.set_exception(error))

    def cancel(self) -> Self:
        """The future that it is parked on is cancelled; goes on (S5.3).  Raises as ``resume`` does."""
        return self._settle(_cancel)

    def run(self, *, timeout: float | None = None) -> Self:
        """Goes on to the end, and waits for the futures on the way: others complete them.

        Raises TimeoutError if the end is not reached within so many seconds, the client's ``timeout`` by default; the
        request can then go on.
        """
        seconds = self._timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        while not self.over:
            if self._output.ended:
                awaited = self._closed
            elif not self._woken():
                awaited = self._wake
            else:
                self._resume_unless_ended()
                continue
            if not awaited.wait(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"{self!r} after {seconds:g} s")
        return self

    def disconnect(self) -> Self:
        """The client leaves: close(), which is GeneratorExit at the yield of a generator (S8)."""
        return self._end(Disconnected())

    def deadline(self) -> Self:
        """The deadline passes: 504, or broken off; and close().  The application is not called any more (S12)."""
        return self._end(DeadlinePassed(), "504 Gateway Timeout")

    def shutdown(self) -> Self:
        """The server stops and cannot wait: 503, or broken off; and close() (S18)."""
        return self._end(ShutDown(), "503 Service Unavailable")

    # How

    def _settle(self, complete: Callable[[Future[Any]], object]) -> Self:
        future = self._future
        if future is None:
            raise MisuseError(f"{self!r} is not parked on a future")
        try:
            complete(future)
        except InvalidStateError:
            raise MisuseError(f"{future!r} is done already: resume()") from None
        return self.resume()

    def _resume_unless_ended(self) -> None:
        try:
            self.resume()
        except MisuseError:
            if not self._output.ended:  # by another thread, in this moment
                raise

    def _woken(self) -> bool:
        future = self._future
        return future is None or self._wake.is_set() or future.done()

    def _go(self, items: int) -> None:
        if not self._output.ended and not self._woken():
            raise MisuseError(f"{self!r} cannot go on: complete the future, or let run() wait for it")
        with self._output.lock:
            if self._output.ended:
                raise MisuseError(f"{self!r} cannot go on")
            if self._busy:
                raise MisuseError(f"{self!r} cannot go on: a step of it is running")
            self._busy = True
        self._in_step(partial(self._advance, items))

    def _end(self, why: Step, status: str | None = None) -> Self:
        if not self._try_to_end(why, status):
            raise MisuseError(f"{self!r} cannot be ended: it has ended")
        return self

    def _try_to_end(self, why: Step, status: str | None = None) -> bool:
        with self._output.lock:
            if self._output.ended:
                return False
            self._output.end(why, status)
            busy, self._busy = self._busy, True
        self._wake.set()
        if not busy:
            self._in_step(self._let_go)
        return True

    def _in_step(self, work: Callable[[], None]) -> None:
        """Calls what raises nothing and gives up ``_busy``; then raises what the application has raised."""
        if not self._threads:
            self._context.run(work)
        else:
            thread = threading.Thread(target=self._context.run, args=[work], name="wsgi_plus-testing", daemon=True)
            thread.start()
            thread.join(self._timeout)
            if thread.is_alive():
                frame = sys._current_frames().get(thread.ident or 0)
                stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
                raise TimeoutError(f"{self!r}: a step has not returned after {self._timeout:g} s\n{stack}")
        error = self.error or self.close_error
        if error is not None and self._raise_errors:
            raise error

    # In the thread and the context of the step

    def _advance(self, items: int) -> None:
        output = self._output
        output.thread = threading.get_ident()
        self._more = False
        for _ in range(items):
            try:
                self._take_item()
            except BaseException as error:
                output.fail(error)
            if output.ended or not self._woken():
                break
        else:
            self._more = True
        output.thread = None
        self._let_go()

    def _take_item(self) -> None:
        if self._iterator is None:
            self._iterable = self._app(self.environ, self._output.start_response)
            if self._output.ended:  # meanwhile: it is closed and not iterated (S7.2)
                return
            self._iterator = iter(self._iterable)
        future, self._future = self._future, None
        failure = None if future is None else self._resumed_from(future)
        try:
            if failure is None:
                item = next(self._iterator)  # S4
            elif hasattr(self._iterator, "throw"):
                item = self._iterator.throw(failure)  # S5.2
            else:
                raise failure  # S5.4
        except StopIteration as end:
            if end is failure:  # S5.5
                raise RuntimeError("the future failed with StopIteration") from end
            self._output.finish()
            return
        if is_future(item):
            self._wait_for(item)
        elif isinstance(item, bytes):
            self._output.accept(Block(item))
        else:
            raise TypeError(
                f"S1.3: yielded {type(item).__name__}, not bytes or a concurrent.futures.Future. {hint(item)}"
            )

    def _resumed_from(self, future: Future[Any]) -> BaseException | None:
        failure = failure_of(future, 0)  # S5.3, S5.9
        self._output.steps.append(Resumed(future) if failure is None else Failed(future, failure))
        return failure

    def _wait_for(self, future: Future[Any]) -> None:
        self._future = future
        if future.done():
            self._output.steps.append(Ready(future))
            return
        self._wake = wake = threading.Event()
        self._output.steps.append(Parked(future))
        future.add_done_callback(lambda _: wake.set())  # S8.4, S10: it knows nothing but the event

    def _let_go(self) -> None:
        with self._output.lock:
            self._busy = self._output.ended
            if not self._busy:
                return
        try:
            if hasattr(self._iterable, "close"):
                self._iterable.close()  # S7.4: of the iterable
        except BaseException as error:
            self.close_error = error
        self._future = self._iterator = self._iterable = None
        self._output.steps.append(Closed())
        self._closed.set()

    def __del__(self) -> None:
        if self._iterable is not None and not sys.is_finalizing():
            said = f"{self!r} was forgotten: end it with run(), disconnect() or a with block"
            self._output.end(Disconnected())
            self._context.run(self._let_go)
            warnings.warn(said, ResourceWarning, stacklevel=2)


@contextmanager
def abandoned(request: Request) -> Generator[None, None, None]:
    """If this fails, the test does not get the request, and could not end it."""
    try:
        yield
    except BaseException:
        request.__exit__()
        raise


def _cancel(future: Future[Any]) -> None:
    if not future.cancel():
        raise MisuseError(f"{future!r} cannot be cancelled any more")
