"""What ``AsyncBridge`` runs in its loop: a task for a coroutine, for a stream, and for a context manager.

A task that is cancelled before its first step never begins, and so never closes what it was given.  Therefore those of
the last two are not cancelled from outside: ``stop`` and ``leave`` note that it is over, and cancel what has begun.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any, Generic, TypeVar

from ._unwaited import Heeded

__all__ = ["End", "Keeper", "Stream", "start"]

T = TypeVar("T")


# What asyncio raises and concurrent.futures has a class of its own for, as far as Python's version makes a difference
_CONVERTED: dict[type[BaseException], type[Exception]] = {
    asyncio.TimeoutError: concurrent.futures.TimeoutError,
    asyncio.InvalidStateError: concurrent.futures.InvalidStateError,
}


def start(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T], fut: Heeded[T]) -> None:
    """Has a coroutine run as a task, and ``fut`` end as that does.  In the loop's thread.

    As asyncio.run_coroutine_threadsafe, except that a result is not lost if ``fut`` is cancelled in the moment in which
    the task comes to it: then ``fut.late`` has it.
    """
    if fut.cancelled():
        coro.close()
        fut.set_running_or_notify_cancel()
        return
    task = loop.create_task(coro)
    task.add_done_callback(partial(_ended, fut))

    def cancel(fut: Future[T]) -> None:
        if fut.cancelled():
            with suppress(RuntimeError):  # the loop has been closed, and its tasks with it
                loop.call_soon_threadsafe(task.cancel)

    fut.add_done_callback(cancel)


def _ended(fut: Heeded[T], task: asyncio.Task[T]) -> None:
    if task.cancelled():
        fut.cancel()
    error = None if task.cancelled() else task.exception()
    if not fut.set_running_or_notify_cancel():
        if not task.cancelled() and error is None and fut.late is not None:
            fut.late.set_result(task.result())
    elif error is None:
        fut.set_result(task.result())
    else:
        known = _CONVERTED.get(type(error), type(error))
        fut.set_exception(error if known is type(error) else known(*error.args))


class End:
    """Comes after the last piece.  ``error`` is why it is the last, if that is not because there are no more."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Stream:
    """An asynchronous iterable on its way to a generator.  Its coroutines run as tasks of one loop.

    pump() iterates, take() gives the next piece; the queue between them never has more than one piece, and a place for
    the end, which can so be put there without waiting.  ``close`` is called in the end, whatever comes before.
    """

    def __init__(self, pieces: AsyncIterable[Any], close: Callable[[], object] | None) -> None:
        self._pieces = pieces
        self._close = close
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._task: asyncio.Task[Any] | None = None  # that of pump(), between its beginning and its end
        self._stopped = False

    def is_open(self) -> bool:
        """Whether there is anything that pump() would close.  Before it is run."""
        return self._close is not None or hasattr(self._pieces, "aclose") or not hasattr(self._pieces, "__anext__")

    def stop(self) -> None:
        """The request takes no more pieces.  In the loop's thread, or before pump() is run; and again."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def pump(self) -> None:
        self._task = asyncio.current_task()
        try:
            await self._iterate()
            self._queue.put_nowait(End(None))
        except BaseException as error:
            self._queue.put_nowait(End(error))
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._task = None
            if self._close is not None:
                self._close()

    async def _iterate(self) -> None:
        iterator: AsyncIterator[Any] = aiter(self._pieces)
        try:
            if self._stopped:
                self._leave_at_once(iterator)
            async for piece in iterator:
                if self._stopped:  # and the source has not heeded that it was cancelled
                    break
                self._queue.put_nowait(piece)
                await self._queue.join()  # until it has been taken
        finally:
            aclose = getattr(iterator, "aclose", None)
            if aclose is not None:
                await aclose()

    def _leave_at_once(self, iterator: AsyncIterator[Any]) -> None:
        """A generator that has not begun has to be begun, or its ``finally`` and its ``async with`` would do nothing.

        It is cancelled where it first waits; if that is not before its first piece, it is closed there.
        """
        if self._task is None or not inspect.isasyncgen(iterator):
            raise asyncio.CancelledError
        self._task.cancel()

    async def take(self) -> Any:
        item = await self._queue.get()
        self._queue.task_done()
        if isinstance(item, End) and item.error is not None:
            try:
                raise item.error
            finally:
                del item  # the traceback has this frame: no cycle with the exception
        return item


class Keeper(Generic[T]):
    """An asynchronous context manager that is entered and left by one task, keep(), which lasts as long as it is open.

    ``entered`` has what ``__aenter__`` gave or raised.
    """

    def __init__(self, manager: AbstractAsyncContextManager[T]) -> None:
        self.entered: Future[T] = Future()
        self._manager = manager
        self._entering: asyncio.Task[Any] | None = None
        self._cancelled = False  # how it is left
        self._left = asyncio.Event()

    def leave(self, cancelled: bool) -> None:
        """In the loop's thread; the first one counts.  What is being entered is cancelled."""
        if not self._left.is_set():
            self._cancelled = cancelled
            self._left.set()
            if self._entering is not None:
                self._entering.cancel()

    async def keep(self) -> None:
        if self._left.is_set():
            return  # before anything was opened
        self._entering = asyncio.current_task()
        try:
            value = await self._manager.__aenter__()
        except BaseException as error:
            self._failed(error)
            return
        finally:
            self._entering = None
        try:
            if self.entered.set_running_or_notify_cancel():
                self.entered.set_result(value)
            del value
            await self._left.wait()
            if self._cancelled:
                raise asyncio.CancelledError
        except BaseException as error:
            await self._manager.__aexit__(type(error), error, error.__traceback__)
        else:
            await self._manager.__aexit__(None, None, None)

    def _failed(self, error: BaseException) -> None:
        if not self.entered.set_running_or_notify_cancel():
            return
        if isinstance(error, asyncio.CancelledError):  # by the end of the bridge, or by itself
            error = CancelledError()
        self.entered.set_exception(error)
