"""S10: where a done-callback may run."""

from __future__ import annotations

import _thread
import asyncio
import functools
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import stage

Callback = Callable[[Future[Any]], object]

SOON = 3.0  # seconds: a callback that has not returned by then waits for something

_others = ThreadPoolExecutor(4, thread_name_prefix="conformance-others")  # threads that know nothing of the server
_inside = threading.local()  # callback: whether this thread is in a callback of the server


def _returns(function: Callable[..., object], *arguments: Any) -> bool:
    """Whether a call comes back soon, in a thread of its own."""
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    thread.join(SOON)
    return not thread.is_alive()


# Futures that look at how they are used


class _Watched(Future[Any]):
    """Records what the server's callback raises, and what is called within it; keeps the callback to call it again."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.callbacks: list[Callback] = []

    def add_done_callback(self, fn: Callback) -> None:
        _look(self.key, "add_done_callback()")
        self.callbacks.append(fn)
        super().add_done_callback(functools.partial(self._call, fn))

    def _call(self, fn: Callback, fut: Future[Any]) -> None:
        _inside.callback = True
        try:
            fn(fut)
        except BaseException as error:
            stage.record(self.key, "raised", repr(error))
        finally:
            _inside.callback = False

    def again(self) -> None:
        for fn in self.callbacks:
            self._call(fn, self)

    def done(self) -> bool:
        _look(self.key, "done()")
        return super().done()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        _look(self.key, "exception()")
        return super().exception(timeout)


def _look(key: str, name: str) -> None:
    if getattr(_inside, "callback", False):
        stage.record(key, "in the callback", name)


class _Looks(stage.Steps):
    """Steps that record themselves."""

    def __init__(self, key: str, items: stage.Items) -> None:
        super().__init__(items)
        self.key = key

    def step(self, name: str, run: Callable[[], Any]) -> Any:
        _look(self.key, name)
        stage.record(self.key, name)
        return run()


def call_again(key: str) -> bool:
    """Has a watched future call its callbacks once more; whether they return."""
    fut = stage.future(key)
    assert isinstance(fut, _Watched)
    return _returns(fut.again)


def watched(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Waits for KEY-0, KEY-1 and KEY-2, and lets the last two fail."""
    key = stage.key_of(environ)

    def items() -> stage.Items:
        for number in range(3):
            fut = stage.adopt(f"{key}-{number}", _Watched(key))
            stage.record(key, f"parking {number}")
            try:
                yield fut
            except ValueError:
                pass
        start_response("200 OK", stage.TEXT)
        yield b"fine"

    return _Looks(key, items())


# In any thread


def waits(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    key = stage.key_of(environ)
    stage.record(key, "parking")
    yield stage.future(key)
    start_response("200 OK", stage.TEXT)
    yield b"fine"


def complete_in(kind: str, key: str) -> None:
    """Completes a future in a thread of this kind."""
    fut = stage.future(key)
    if kind == "a thread":
        threading.Thread(target=fut.set_result, args=[None]).start()
    elif kind == "a thread that threading does not know":
        _thread.start_new_thread(fut.set_result, (None,))
    elif kind == "a thread of an executor":
        _others.submit(fut.set_result, None)
    elif kind == "the thread of an event loop":
        threading.Thread(target=asyncio.run, args=[_complete_in_loop(fut)]).start()
    elif kind == "a finalizer":
        threading.Thread(target=lambda: _Last(fut)).start()
    else:
        raise ValueError(kind)


async def _complete_in_loop(fut: Future[Any]) -> None:
    asyncio.get_running_loop().call_soon(fut.set_result, None)
    await asyncio.sleep(0)


class _Last:
    """Completes a future when it is collected."""

    def __init__(self, fut: Future[Any]) -> None:
        self.fut = fut

    def __del__(self) -> None:
        self.fut.set_result(None)


def completes(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Completes the future ``of`` another request, in a step."""
    stage.complete(stage.arguments(environ)["of"])
    return stage.text(start_response, "completed")


# Before, while and after add_done_callback runs


class _AtOnce(Future[Any]):
    """Not done when it is looked at, done when add_done_callback returns, or about then."""

    def __init__(self, key: str, when: str) -> None:
        super().__init__()
        self.key = key
        self.when = when

    def add_done_callback(self, fn: Callback) -> None:
        if self.when == "before it is registered":
            self.set_result(None)
            super().add_done_callback(fn)
        elif self.when == "after it is registered":
            super().add_done_callback(fn)
            self.set_result(None)
        elif self.when == "with a failure":
            super().add_done_callback(fn)
            self.set_exception(ValueError("failed on purpose"))
        elif self.when == "in another thread":
            super().add_done_callback(fn)
            if not _returns(self.set_result, None):
                stage.record(self.key, "stuck")
        elif self.when == "long before it returns":
            super().add_done_callback(fn)
            _others.submit(self.set_result, None)
            threading.Event().wait(0.02)
        else:  # at about the same time
            super().add_done_callback(fn)
            _others.submit(self.set_result, None)


def registering(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Many futures that are done ``when`` the server registers its callback."""
    asked = stage.arguments(environ)
    count = 0
    for _ in range(int(asked["n"])):
        fut = _AtOnce(asked["key"], asked["when"])
        try:
            yield fut
        except ValueError:
            pass
        count += fut.done()
    start_response("200 OK", stage.TEXT)
    yield f"{count} were done".encode()


# Locks


class _Gated(Future[Any]):
    """One of its methods does not come back until the suite says so."""

    def __init__(self, key: str, where: str) -> None:
        super().__init__()
        self.key = key
        self.where = where

    def _gate(self, where: str) -> None:
        if where == self.where:
            self.where = ""
            _at_the_gate(self.key)

    def done(self) -> bool:
        self._gate("done()")
        return super().done()

    def add_done_callback(self, fn: Callback) -> None:
        self._gate("add_done_callback()")
        super().add_done_callback(fn)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._gate("exception()")
        return super().exception(timeout)


def _at_the_gate(key: str) -> None:
    stage.record(key, "at the gate")
    stage.gate(key)


def holds(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Holds its thread ``where`` it is told to, until the suite says so."""
    asked = stage.arguments(environ)
    key, where = asked["key"], asked["where"]

    def items() -> stage.Items:
        if where == "__next__":
            _at_the_gate(key)
        fut = _Gated(key, where)
        if where == "throw":
            fut.set_exception(ValueError("failed on purpose"))
        elif where != "add_done_callback()":
            fut.set_result(None)
        else:
            _others.submit(_complete_behind, key, fut)
        try:
            yield fut
        except ValueError:
            _at_the_gate(key)
        start_response("200 OK", stage.TEXT)
        try:
            yield b"held"
        finally:
            if where == "close()":
                _at_the_gate(key)

    if where == "the call":
        _at_the_gate(key)
    return items()


def _complete_behind(key: str, fut: Future[Any]) -> None:
    stage.gate(key)
    fut.set_result(None)


def complete_soon(key: str) -> bool:
    """Whether completing this future comes back soon."""
    return _returns(stage.future(key).set_result, None)


def lines_to_complete(key: str) -> int:
    """How many lines of Python run to complete this future."""
    fut = stage.future(key)
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += 1
        return trace

    def complete() -> None:
        sys.settrace(trace)
        try:
            fut.set_result(None)
        finally:
            sys.settrace(None)

    if not _returns(complete):
        raise TimeoutError("the callback does not return")
    return count


# Twice


class _Twice(Future[Any]):
    """Calls the callback twice, one after the other."""

    def add_done_callback(self, fn: Callback) -> None:
        super().add_done_callback(fn)
        super().add_done_callback(fn)
        _others.submit(self.set_result, None)


class _BothAtOnce(Future[Any]):
    """Calls the callback in two threads at once."""

    def add_done_callback(self, fn: Callback) -> None:
        _others.submit(self._both, fn)

    def _both(self, fn: Callback) -> None:
        self.set_result(None)
        barrier = threading.Barrier(2)
        thread = threading.Thread(target=self._one, args=[barrier, fn])
        thread.start()
        self._one(barrier, fn)
        thread.join()

    def _one(self, barrier: threading.Barrier, fn: Callback) -> None:
        barrier.wait(SOON)
        fn(self)


_TWICE: dict[str, Callable[[], Future[Any]]] = {"in a row": _Twice, "at once": _BothAtOnce}


def twice(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Futures that call their callbacks twice, and between them plain ones, where an early resume is noticed."""
    asked = stage.arguments(environ)
    key = asked["key"]

    def items() -> stage.Items:
        for number in range(int(asked["n"])):
            fut: Future[Any] = Future() if number % 2 else _TWICE[asked["how"]]()
            if number % 2:
                _others.submit(fut.set_result, None)
            yield fut
            if not fut.done():
                stage.record(key, "resumed early")
        start_response("200 OK", stage.TEXT)
        yield b"fine"

    return _Looks(key, items())


def again_and_again(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Waits for KEY-0, which is watched; the next step takes its time; then it waits for KEY-1."""
    key = stage.key_of(environ)

    def items() -> stage.Items:
        stage.record(key, "parking 0")
        yield stage.adopt(f"{key}-0", _Watched(key))
        _at_the_gate(key)
        stage.record(key, "parking 1")
        fut = stage.future(f"{key}-1")
        yield fut
        if not fut.done():
            stage.record(key, "resumed early")
        start_response("200 OK", stage.TEXT)
        yield b"fine"

    return _Looks(key, items())


# Futures that raise


_ERRORS = {"ValueError": ValueError, "SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}


class _Raises(Future[Any]):
    """One of its methods raises."""

    def __init__(self, key: str, where: str, error: str) -> None:
        super().__init__()
        self.key = key
        self.where = where
        self.error = _ERRORS[error]

    def _raise(self, where: str) -> None:
        stage.record(self.key, where)
        if where == self.where:
            raise self.error(f"{where} raised on purpose")

    def done(self) -> bool:
        self._raise("done()")
        return super().done()

    def add_done_callback(self, fn: Callback) -> None:
        self._raise("add_done_callback()")
        super().add_done_callback(fn)
        if self.where == "add_done_callback() when it has registered":
            raise self.error("add_done_callback() raised on purpose")


def raises(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Yields a future that raises ``where`` it is told to; ``begun``: after a block."""
    asked = stage.arguments(environ)
    key = asked["key"]

    def items() -> stage.Items:
        if "begun" in asked:
            start_response("200 OK", stage.TEXT)
            yield b"begun"
        fut = stage.adopt(key, _Raises(key, asked["where"], asked["error"]))
        if asked["where"] == "done()":
            fut.set_result(None)  # a server that need not ask may go on
        yield fut
        stage.record(key, "went on")
        if "begun" not in asked:
            start_response("200 OK", stage.TEXT)
        yield b"fine"

    return _Looks(key, items())
