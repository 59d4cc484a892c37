"""Coroutines for applications that are none: an asyncio event loop in a thread of its own (S2, S8).

    bridge = AsyncBridge()

    def app(environ, start_response):
        status, headers, pieces = yield from wait(bridge.run(fetch("/price")))
        start_response(status, headers)
        yield from bridge.iterate(pieces)

One bridge for all, at module level, is how it is meant: nothing is started before the first use.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import logging
import threading
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Generator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from ._fork import forget_in_child
from ._wait import wait

__all__ = ["AsyncBridge"]

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
        wait(bridge.run(coro))`` takes the task along when the client leaves (S8).  Raises TypeError if it is not a
        coroutine, and RuntimeError if the bridge is closed.
        """
        if not asyncio.iscoroutine(coro):
            raise TypeError(f"a coroutine is required, not {type(coro).__name__}")
        try:
            with self._lock:  # so that close() finds the task, or this finds it closed
                return asyncio.run_coroutine_threadsafe(coro, self._started())
        except RuntimeError:
            coro.close()
            raise

    def iterate(self, pieces: AsyncIterable[T]) -> Generator[Future[Any] | T, None, None]:
        """``yield from bridge.iterate(pieces)`` inside the application: yields what the asynchronous iterable gives.

        Between the pieces it yields the futures of the next ones, on which the server parks the request.  What the
        iterable raises is raised here.  One piece is fetched ahead while the client is being sent the one before, and
        no more: a client that reads slowly slows the source down (S13).

        One task iterates from the beginning to the end, and closes the iterator (``aclose``, if it has that) when it
        ends, or when the client leaves and the task is cancelled (S8).  To change pieces on their way, wrap the
        iterable in an asynchronous generator.
        """
        stream = _Stream(pieces)
        task = self.run(stream.pump())
        try:
            while True:
                piece = yield from wait(self.run(stream.take()))
                if isinstance(piece, _End):
                    return
                yield piece
        finally:
            task.cancel()

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


class _End:
    """Comes after the last piece.  ``error`` is why it is the last, if that is not because there are no more."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Stream(Generic[T]):
    """An asynchronous iterable on its way to a generator.  Its coroutines run as tasks of one loop.

    pump() iterates, take() gives the next piece; the queue between them never has more than one piece, and a place for
    the end, which can so be put there without waiting.
    """

    def __init__(self, pieces: AsyncIterable[T]) -> None:
        self._pieces = pieces
        self._queue: asyncio.Queue[T | _End] = asyncio.Queue()

    async def pump(self) -> None:
        try:
            await self._iterate()
            self._queue.put_nowait(_End(None))
        except BaseException as error:
            self._queue.put_nowait(_End(error))
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _iterate(self) -> None:
        iterator: AsyncIterator[T] = aiter(self._pieces)
        try:
            async for piece in iterator:
                self._queue.put_nowait(piece)
                await self._queue.join()  # until it has been taken
        finally:
            aclose = getattr(iterator, "aclose", None)
            if aclose is not None:
                await aclose()

    async def take(self) -> T | _End:
        item = await self._queue.get()
        self._queue.task_done()
        if isinstance(item, _End) and item.error is not None:
            try:
                raise item.error
            finally:
                del item  # the traceback has this frame: no cycle with the exception
        return item
