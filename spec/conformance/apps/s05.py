"""S5: failed and cancelled futures."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

import stage

# How a future ends


def _fails(fut: Future[Any]) -> None:
    fut.set_exception(ValueError("failed on purpose"))


def _cancelled_by_hand(fut: Future[Any]) -> None:
    fut.cancel()


def _cancelled_by_an_executor(fut: Future[Any]) -> None:
    fut.cancel()
    fut.set_running_or_notify_cancel()


_ENDS: dict[str, Callable[[Future[Any]], None]] = {
    "failed": _fails,
    "cancelled": _cancelled_by_hand,
    "cancelled by an executor": _cancelled_by_an_executor,
    "done": lambda fut: fut.set_result(None),
}


def end(key: str, how: str) -> None:
    _ENDS[how](stage.future(key))


def catches(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Waits for the future by the key, and answers 502 when it fails.  Records what it has caught."""
    key = stage.key_of(environ)
    fut = stage.future(key)
    stage.record(key, "parking")
    try:
        yield fut
    except BaseException as error:
        if isinstance(error, GeneratorExit):
            raise
        stage.record(key, "caught", type(error).__name__)
        stage.record(key, "cancelled", type(error) is CancelledError)
        stage.record(key, "identical", fut.cancelled() or error is fut.exception(0))
        start_response("502 Bad Gateway", stage.TEXT)
        yield b"it has failed"
    else:
        start_response("200 OK", stage.TEXT)
        yield b"fine"


# What throw does


class _Thrown:
    """Gives the future by the key, which fails; then does in throw what it was told."""

    def __init__(self, told: dict[str, str], start_response: stage.StartResponse) -> None:
        self.key = told["key"]
        self.then = _THEN[told["then"]]
        self.items: list[Any] = [stage.future(self.key)]  # the last one comes first
        self.start_response = start_response
        if "before" in told:
            start_response("200 OK", stage.TEXT)
            self.items.append(b"before ")

    def __iter__(self) -> _Thrown:
        return self

    def __next__(self) -> Any:
        stage.record(self.key, "next")
        if not self.items:
            raise StopIteration
        return self.items.pop()

    def thrown(self, *arguments: Any, **more: Any) -> Any:
        error = stage.future(self.key).exception(0)
        fine = not more and len(arguments) == 1 and arguments[0] is error
        stage.record(self.key, "throw", "the exception" if fine else repr((arguments, more)))
        return self.then(self, error)

    def close(self) -> None:
        stage.record(self.key, "close")


class _Method(_Thrown):
    def throw(self, *arguments: Any, **more: Any) -> Any:
        return self.thrown(*arguments, **more)


class _OfTheInstance(_Thrown):
    def __init__(self, told: dict[str, str], start_response: stage.StartResponse) -> None:
        super().__init__(told, start_response)
        self.throw = self.thrown


class _OnDemand(_Thrown):
    def __getattr__(self, name: str) -> Any:
        if name == "throw":
            return self.thrown
        raise AttributeError(name)


_THROWS = {"a method": _Method, "an attribute of the object": _OfTheInstance, "made on demand": _OnDemand}


def throw_kinds() -> list[str]:
    return list(_THROWS)


def _gives_a_block(self: _Thrown, error: BaseException | None) -> Any:
    self.start_response("200 OK", stage.TEXT)
    return b"handled"


def _gives_a_future(self: _Thrown, error: BaseException | None) -> Any:
    self.start_response("200 OK", stage.TEXT)
    self.items = [b"handled"]
    return stage.future(f"{self.key}.1")


def _fails_again(self: _Thrown, error: BaseException | None) -> Any:
    fut: Future[Any] = Future()
    fut.set_exception(error)
    self.then = _gives_a_block
    return fut


def _ends(self: _Thrown, error: BaseException | None) -> Any:
    self.start_response("200 OK", stage.TEXT)
    raise StopIteration


def _raises(self: _Thrown, error: BaseException | None) -> Any:
    self.start_response("200 OK", stage.TEXT)
    raise LookupError("another exception")


def _raises_the_same(self: _Thrown, error: BaseException | None) -> Any:
    assert error is not None
    raise error


def _gives_nonsense(self: _Thrown, error: BaseException | None) -> Any:
    self.start_response("200 OK", stage.TEXT)
    return "neither bytes nor a future"


_THEN: dict[str, Callable[[_Thrown, BaseException | None], Any]] = {
    "gives a block": _gives_a_block,
    "gives a future": _gives_a_future,
    "gives a future that has failed": _fails_again,
    "ends": _ends,
    "raises": _raises,
    "raises the same": _raises_the_same,
    "gives nonsense": _gives_nonsense,
}


def thrown(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Waits for the future by the key, with a throw of this ``kind``, which does ``then``; a block comes ``before``."""
    told = stage.arguments(environ)
    stage.record(told["key"], "parking")
    return _THROWS[told.get("kind", "a method")](told, start_response)


# No throw


def _items(key: str, start_response: stage.StartResponse) -> stage.Items:
    stage.record(key, "parking")
    yield stage.future(key)
    stage.record(key, "resumed")
    start_response("200 OK", stage.TEXT)
    yield b"fine"


_WRAPPERS: dict[str, Callable[[stage.Items], Any]] = {
    "map": lambda items: map(lambda item: item, items),
    "chain": lambda items: itertools.chain(items),
    "filter": lambda items: filter(lambda item: True, items),
}


def wrapper_kinds() -> list[str]:
    return list(_WRAPPERS)


def wrapped(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """A generator that waits for the future by the key, in something that has no throw."""
    told = stage.arguments(environ)
    return _WRAPPERS[told["in"]](_items(told["key"], start_response))


def in_a_list(environ: stage.Environ, start_response: stage.StartResponse) -> list[Any]:
    """The future by the key, and a block behind it."""
    start_response("200 OK", stage.TEXT)
    return [stage.future(stage.key_of(environ)), b"fine"]


# An error when much is on its way


_yielded: dict[str, int] = {}


def yielded(key: str) -> int:
    """How many bytes the application has yielded by now."""
    return _yielded.get(key, 0)


def fails_after(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Yields so many bytes, ten thousand at a time, and fails."""
    told = stage.arguments(environ)
    key = told["key"]
    start_response("200 OK", stage.TEXT)
    for sum_of_them in range(10_000, int(told["size"]) + 1, 10_000):
        yield b"x" * 10_000
        _yielded[key] = sum_of_them
    stage.record(key, "failing")
    raise ValueError("failed on purpose")


# A future that is not done when it says so


class _Hollow(Future[Any]):
    """Calls its callbacks, and is not done.  Does not wait either, but notes it when a server would have."""

    def __init__(self, key: str, how: str) -> None:
        super().__init__()
        self.key, self.how = key, how
        self.raised: BaseException | None = None

    def done(self) -> bool:
        return self.how == "says that it is done"

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        if self.how == "calls at once":
            fn(self)
        elif self.how == "calls later":
            threading.Thread(target=fn, args=[self]).start()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        stage.record(self.key, "asked", timeout)
        try:
            return super().exception(timeout=0)
        except BaseException as error:
            self.raised = error
            raise


_HOLLOW = ("calls at once", "calls later", "says that it is done")


def hollow_kinds() -> tuple[str, ...]:
    return _HOLLOW


def hollow(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Waits for such a future; answers with the type of what it caught, and whether the future has raised it."""
    told = stage.arguments(environ)
    fut = _Hollow(told["key"], told["kind"])
    try:
        yield fut
        said = "nothing"
    except Exception as error:
        said = f"{type(error).__name__} {error is fut.raised}"
    start_response("200 OK", stage.TEXT)
    yield said.encode()


# What an application can do that cannot count on throw


def settled(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Waits, in something without throw, for a future that does not fail, and then looks at the other one."""
    return map(lambda item: item, _settled(stage.key_of(environ), start_response))


def _settled(key: str, start_response: stage.StartResponse) -> stage.Items:
    fut = stage.future(key)
    settles: Future[None] = Future()
    fut.add_done_callback(lambda _: settles.set_result(None))
    stage.record(key, "parking")
    yield settles
    good = not fut.cancelled() and fut.exception(0) is None
    start_response("200 OK" if good else "502 Bad Gateway", stage.TEXT)
    yield b"fine" if good else b"it has failed"


# Errors before there is an iterator


class _NoIterator:
    def __iter__(self) -> Any:
        raise ValueError("failed on purpose")


def no_iterator(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Fails in the call, or returns something that fails when it is to be iterated."""
    start_response("200 OK", stage.TEXT)
    where = stage.arguments(environ)["where"]
    if where == "the call":
        raise ValueError("failed on purpose")
    return _NoIterator() if where == "iter()" else 7
