"""Coroutines for applications that are none: an asyncio event loop in a thread of its own (S2, S8).

    bridge = AsyncBridge()

    def app(environ, start_response):
        price = yield from wait(bridge.run(ask("/price")))
        with (yield from bridge.open(client.stream("GET", "/report"))) as upstream:
            start_response("200 OK", [("X-Price", price)])
            yield from bridge.iterate(upstream.aiter_bytes())

One bridge for all, at module level, is how it is meant: nothing is started before the first use.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import inspect
import logging
import sys
import threading
from collections.abc import AsyncIterable, Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from ._bridge_tasks import End, Keeper, Stream, start
from ._fork import forget_in_child
from ._unwaited import Heeded, Unwaited, named
from ._wait import shield, wait

__all__ = ["AsyncBridge", "Opened"]

T = TypeVar("T")

# Loops of the parent process, in a forked child.  They are kept, because when they are collected they close what they
# share with the parent.
_inherited: list[asyncio.AbstractEventLoop] = []


class AsyncBridge:
    """An event loop in a daemon thread, from its first use until ``close``, or the end of the interpreter.

    It is uvloop's if that is installed.  In a forked child a bridge is as new: what runs in it belongs to requests of
    the parent.  Every method may be called in any thread, and none but ``close`` waits.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant, as garbage collection may call anything anywhere
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        forget_in_child(self._forget)

    def _forget(self) -> None:
        if self._loop is not None:
            _inherited.append(self._loop)
        self._lock, self._loop, self._thread = threading.RLock(), None, None

    def run(self, coro: Coroutine[Any, Any, T]) -> Future[T]:
        """Has a coroutine run as a task of the loop, in a copy of the caller's context variables.

        The future that is returned is done when the task is.  Cancelling it cancels the task: ``yield from
        wait(bridge.run(coro))`` takes the task along when the client leaves (S8).  If the task fails and the caller
        does not ask the future, or cancels it, that is logged.  Raises TypeError if it is not a coroutine, and
        RuntimeError if the bridge is closed.
        """
        if not asyncio.iscoroutine(coro):
            raise TypeError(f"run() takes a coroutine, not a {type(coro).__name__}. {_instead(coro)}".strip())
        fut = Heeded(named(coro), late=Future[T]())
        try:
            with self._lock:  # so that close() finds the task, or this finds it closed
                loop = self._started()
                loop.call_soon_threadsafe(start, loop, coro, fut)
                return fut
        except RuntimeError:
            coro.close()
            raise

    def open(self, manager: AbstractAsyncContextManager[T]) -> Generator[Future[Any], None, Opened[T]]:
        """``with (yield from bridge.open(manager)) as value:`` enters an asynchronous context manager.

        What it has opened is closed whenever the request ends: if the client leaves while it is being opened, when it
        has just been opened, or later, at any point within the ``with`` block (S8).  ``__aenter__`` and ``__aexit__``
        run in one task of the loop, in a copy of the caller's context variables.  What ``__aenter__`` raises is raised
        here.  Raises RuntimeError if the bridge is closed.

        Where a response outlives the function that opens it, as with Flask and Django, no ``with`` can be around it:
        keep the ``Opened`` that this gives, and pass it to ``iterate``.
        """
        if not isinstance(cast(object, manager), AbstractAsyncContextManager):  # not every caller checks types
            raise TypeError(f"an asynchronous context manager is required, not {type(manager).__name__}")
        return self._open(Unwaited("bridge.open"), manager)

    def _open(
        self, note: Unwaited, manager: AbstractAsyncContextManager[T]
    ) -> Generator[Future[Any], None, Opened[T]]:
        note.begun()
        keeper = Keeper(manager)
        over = self.run(keeper.keep())
        try:
            value = yield from wait(keeper.entered)
            return Opened(self, keeper, over, value)
        except BaseException:
            self._call(keeper.leave, True)
            raise

    def iterate(self, pieces: AsyncIterable[Any], opened: Opened[Any] | None = None) -> Generator[Any, None, None]:
        """``yield from bridge.iterate(pieces)`` inside the application: yields what the asynchronous iterable gives.

        Between the pieces it yields the futures of the next ones, on which the server parks the request.  What the
        iterable raises is raised here.  One piece is fetched ahead while the client is being sent the one before, and
        no more: a client that reads slowly slows the source down (S13).

        One task iterates from the beginning to the end, and closes the iterator (``aclose``, if it has that) when it
        ends, or when the client leaves (S8).  That is so at every moment: what is closed before its first step, as the
        body of a response to HEAD is, closes the iterator too.  An asynchronous generator is begun for that, and
        cancelled where it first waits, because otherwise its ``finally`` would not be run.

        ``opened`` is what ``open`` gave, to be closed when the iterator has been.  A ``with`` block around this does
        not wait for that: when the client leaves, the context manager is left while the iterator is being closed.  So
        where the manager closes an asynchronous generator that is iterated, give ``opened`` in place of the block.

        To change pieces on their way, wrap the iterable in an asynchronous generator.  For a type checker the items
        are ``Any``, so that this may be the body of a ``Response``, which is said to be of blocks only.
        """
        return _Pieces(self, Stream(pieces, None if opened is None else opened.close))

    def close(self, seconds: float = 5.0) -> None:
        """Cancels all tasks, closes the loop and waits for the thread, for so many seconds at most.

        The futures of the tasks are done then, as each task ended.  Further use raises RuntimeError.  Closing again
        does nothing.  Called at the exit of the interpreter.
        """
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
            thread, self._thread = self._thread, None
            if loop is None or thread is None:
                return
            loop.call_soon_threadsafe(loop.stop)
        atexit.unregister(self.close)
        if thread is not threading.current_thread():
            thread.join(seconds)

    def _call(self, function: Callable[..., object], *args: object) -> None:
        """Has the loop's thread call it, if there is a loop: without one nothing is left to be told."""
        with self._lock, suppress(RuntimeError):  # the loop has been closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function, *args)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise RuntimeError("the bridge is closed")
        if self._loop is None:
            loop = _new_event_loop()
            thread = threading.Thread(target=_main, args=[loop], name="wsgi_plus-asyncio", daemon=True)
            try:
                thread.start()
            except BaseException:
                loop.close()
                raise
            self._loop, self._thread = loop, thread
            atexit.register(self.close)
        return self._loop


class Opened(Generic[T]):
    """What ``AsyncBridge.open`` has opened: ``value`` is what the context manager gave for it.

    Made by the bridge.  As a context manager it gives the value, and closes it at the end.  One that is forgotten is
    closed then.  May be used in any thread.
    """

    def __init__(self, bridge: AsyncBridge, keeper: Keeper[T], over: Future[None], value: T) -> None:
        self.value = value
        self._bridge = bridge
        self._keeper = keeper
        self._over = over

    def close(self) -> Future[None]:
        """Has the loop leave the context manager, and does not wait for it.

        The future is done when that has been done, and has failed with what ``__aexit__`` has raised.  Closing again
        does nothing more.
        """
        self._bridge._call(self._keeper.leave, False)
        return shield(self._over)

    def __enter__(self) -> T:
        return self.value

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """As ``close``.  Where the block is left by an exception ``__aexit__`` gets a CancelledError of asyncio."""
        self._bridge._call(self._keeper.leave, kind is not None)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self._bridge._call(self._keeper.leave, True)


class _Pieces(Generator[Any, None, None]):
    """What ``iterate`` gives: a generator that closes its source even if it is closed before its first step."""

    def __init__(self, bridge: AsyncBridge, stream: Stream) -> None:
        self._bridge = bridge
        self._unbegun: Stream | None = stream
        self._steps = _steps(bridge, stream)

    def __next__(self) -> Any:
        self._unbegun = None
        return next(self._steps)

    def send(self, value: None) -> Any:
        self._unbegun = None
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        self._let_go()  # nothing has failed before the first step: this is its end
        return self._steps.throw(*error)

    def close(self) -> None:
        self._let_go()
        self._steps.close()

    def _let_go(self) -> None:
        stream, self._unbegun = self._unbegun, None
        if stream is not None:
            stream.stop()
            if stream.is_open():
                with suppress(RuntimeError):  # the bridge is closed, and all that was opened with it
                    self._bridge.run(stream.pump())

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self._let_go()


def _steps(bridge: AsyncBridge, stream: Stream) -> Generator[Any, None, None]:
    bridge.run(stream.pump())
    try:
        while True:
            piece = yield from wait(bridge.run(stream.take()))
            if isinstance(piece, End):
                return
            yield piece
    finally:
        bridge._call(stream.stop)


def _instead(item: object) -> str:
    """What to write where run() is given something else than a coroutine."""
    if isinstance(item, Future):
        return "It is a future already: wait for it."
    if isinstance(item, AsyncIterable):
        return "iterate() brings over what it gives."
    if inspect.isawaitable(item):
        return "Await it in a coroutine of yours."
    return "Call it: run(function(...))." if callable(item) else ""


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        source = importlib.import_module("uvloop")
    except ImportError:
        source = asyncio
    loop: asyncio.AbstractEventLoop = source.new_event_loop()
    return loop


# The rest runs in the bridge's thread.


def _main(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        while not _served(loop):
            pass
        # As asyncio.run() ends.
        _cancel_all(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _served(loop: asyncio.AbstractEventLoop) -> bool:
    """True when the loop has been stopped; False when a task has raised SystemExit or the like out of it."""
    try:
        loop.run_forever()
        return True
    except BaseException:
        logging.getLogger(__name__).exception("exception out of the event loop, which goes on")
        return False


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks))
