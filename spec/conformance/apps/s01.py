"""S1: what suspends."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import stage


class _Derived(Future[Any]):
    pass


class _MoreDerived(_Derived):
    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


def subclass(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Waits for a future of a class of its own."""
    key = stage.key_of(environ)
    fut = _MoreDerived(key)
    stage.adopt(key, fut)
    stage.record(key, "parking")
    yield fut
    stage.record(key, "resumed", fut.done())
    start_response("200 OK", stage.TEXT)
    yield b"fine"


# Iterables


class _Iterator:
    def __init__(self, items: Iterable[Any]) -> None:
        self._items = iter(items)

    def __iter__(self) -> _Iterator:
        return self

    def __next__(self) -> Any:
        return next(self._items)


class _Iterable:
    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)


class _Generating:
    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        yield from self._items


class _Indexed:
    """No __iter__."""

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def __getitem__(self, index: int) -> Any:
        return self._items[index]


class _ListOfItsOwn(list[Any]):
    """A list whose iterator gives something else than what is in it."""

    def __init__(self, items: list[Any]) -> None:
        super().__init__([b"not this"])
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)


_ITERABLES: dict[str, Callable[[list[Any]], Any]] = {
    "a list": list,
    "a tuple": tuple,
    "a deque": deque,
    "an iterator of a list": iter,
    "a generator": lambda items: (item for item in items),
    "map": lambda items: map(lambda item: item, items),
    "chain": lambda items: itertools.chain(items[:1], items[1:]),
    "an iterator": _Iterator,
    "an object with __iter__": _Iterable,
    "an object whose __iter__ is a generator": _Generating,
    "an object with __getitem__ only": _Indexed,
    "a list with its own __iter__": _ListOfItsOwn,
}


def iterable_kinds() -> list[str]:
    return list(_ITERABLES)


def iterables(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Gives "before", the future by the key, and "after", in whatever holds them."""
    told = stage.arguments(environ)
    start_response("200 OK", stage.TEXT)
    return _ITERABLES[told["kind"]]([b"before ", stage.future(told["key"]), b"after"])


class _Sized:
    """Says that it holds one item."""

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)


_FUTURE_FIRST: dict[str, Callable[[Future[Any]], Any]] = {
    "a list of one future": lambda fut: [fut],
    "a tuple of one future": lambda fut: (fut,),
    "an object of length one": lambda fut: _Sized([fut]),
    "a list of a future and a block": lambda fut: [fut, b"after"],
    "a tuple of a future and a block": lambda fut: (fut, b"after"),
}


def future_first_kinds() -> list[str]:
    return list(_FUTURE_FIRST)


def future_first(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Gives something of known length, in which the future by the key is the first item."""
    told = stage.arguments(environ)
    start_response("200 OK", stage.TEXT)
    return _FUTURE_FIRST[told["kind"]](stage.future(told["key"]))


# Neither bytes nor futures


class _Duck:
    """As a future, and it is none."""

    def done(self) -> bool:
        return True

    def exception(self, timeout: float | None = None) -> None:
        pass

    def result(self, timeout: float | None = None) -> None:
        pass

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        callback(self)


async def _async() -> None:
    pass


def _coroutine() -> Any:
    made = _async()
    made.close()  # or Python complains some time later that it was never awaited
    return made


_loop = threading.local()


def _asyncio_future() -> asyncio.Future[None]:
    if not hasattr(_loop, "loop"):
        _loop.loop = asyncio.new_event_loop()
    fut: asyncio.Future[None] = _loop.loop.create_future()
    fut.set_result(None)
    return fut


_WRONG: dict[str, tuple[str, Callable[[], Any]]] = {
    # what it is, how its type is called, and how it is made
    "a string": ("str", lambda: "text"),
    "a number": ("int", lambda: 7),
    "None": ("NoneType", lambda: None),
    "a bytearray": ("bytearray", lambda: bytearray(b"bytes")),
    "a memoryview": ("memoryview", lambda: memoryview(b"bytes")),
    "an object that is like a future": ("_Duck", _Duck),
    "a class of futures": ("type", lambda: Future),
    "an asyncio future": ("Future", _asyncio_future),
    "a coroutine": ("coroutine", _coroutine),
    "a list of futures": ("list", lambda: [Future(), Future()]),
    "a tuple of futures": ("tuple", lambda: (Future(), Future())),
    "a generator of blocks": ("generator", lambda: (block for block in [b"block"])),
}


def wrong_kinds() -> dict[str, str]:
    return {kind: name for kind, (name, _) in _WRONG.items()}


def wrong(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Yields what is neither, after a block if ``after`` is said; in a ``list``, it is all that there is."""
    told = stage.arguments(environ)
    item = _WRONG[told["kind"]][1]()
    if told.get("in") == "list":
        start_response("200 OK", stage.TEXT)
        return [item]
    return _wrong(told["key"], item, "after" in told, start_response)


def _wrong(key: str, item: Any, after: bool, start_response: stage.StartResponse) -> stage.Items:
    if after:
        start_response("200 OK", stage.TEXT)
        yield b"before"
    try:
        yield item
        stage.record(key, "went on")
    except BaseException as error:
        stage.record(key, "left", type(error).__name__)
        raise
    if not after:
        start_response("200 OK", stage.TEXT)
    yield b"went on"


# A future that is used by its rules


_ALLOWED = {"done", "add_done_callback", "exception", "__class__"}
_SPECIAL = (
    *("__bool__", "__len__", "__iter__", "__call__", "__getitem__", "__contains__", "__index__", "__bytes__"),
    *("__eq__", "__ne__", "__lt__", "__hash__", "__repr__", "__str__", "__setattr__", "__delattr__", "__enter__"),
)
_own = threading.local()  # whether this thread is in a method of such a future


def _inside(function: Callable[..., Any], *arguments: Any, inside: bool = True) -> Any:
    before, _own.inside = getattr(_own, "inside", False), inside
    try:
        return function(*arguments)
    finally:
        _own.inside = before


def _used(fut: Future[Any], name: str) -> bool:
    """Notes it, unless the future itself uses it."""
    if getattr(_own, "inside", False):
        return False
    stage.record(object.__getattribute__(fut, "key"), "used", name)
    return True


class _Strict(Future[Any]):
    """Notes whatever is used of it but the three methods, and forbids what has to do with its value."""

    def __init__(self, key: str) -> None:
        object.__setattr__(self, "key", key)
        _inside(super().__init__)

    def __getattribute__(self, name: str) -> Any:
        if name not in _ALLOWED:
            _used(self, name)
        return object.__getattribute__(self, name)

    def done(self) -> bool:
        return bool(_inside(super().done))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        error: BaseException | None = _inside(super().exception, timeout)
        return error

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        _inside(super().add_done_callback, lambda _: _inside(fn, self, inside=False))

    def finish(self, error: BaseException | None) -> None:
        if error is None:
            super().set_result(None)
        else:
            super().set_exception(error)


def _forbidden(name: str) -> Callable[..., Any]:
    inherited: Any = getattr(Future, name, None)

    def method(self: _Strict, *arguments: Any) -> Any:
        if _used(self, name):
            raise TypeError(f"{name} of a future")
        return inherited(self, *arguments)

    return method


for _name in _SPECIAL:
    setattr(_Strict, _name, _forbidden(_name))


def finish_strict(key: str, how: str) -> None:
    """The future by this key is ``done``, or has ``failed``."""
    fut: Any = stage.future(key)
    error = ValueError("failed on purpose") if how == "failed" else None
    _inside(lambda: fut.finish(error))


def strict(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Waits for a future that notes how it is used: it is ``pending``, or done or failed already."""
    told = stage.arguments(environ)
    key = told["key"]
    fut = _Strict(key)
    stage.adopt(key, fut)
    if told["when"] != "pending":
        finish_strict(key, told["when"])
    stage.record(key, "parking")
    try:
        yield fut
    except ValueError:
        stage.record(key, "caught")
    except GeneratorExit:
        stage.record(key, "left")
        raise
    start_response("200 OK", stage.TEXT)
    yield b"fine"


def write_future(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Gives write() the future by the key, and records what comes of it."""
    key = stage.key_of(environ)
    write = start_response("200 OK", stage.TEXT)
    try:
        write(stage.future(key))
        stage.record(key, "written", "accepted")
    except Exception as error:
        stage.record(key, "written", type(error).__name__)
    return [b"fine"]
