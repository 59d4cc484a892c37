"""S7: close()."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import acts
import stage


class _NoIterator:
    """Cannot be iterated, and has to be closed all the same."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __iter__(self) -> Any:
        stage.record(self.key, "iter")
        raise ValueError("failed on purpose")

    def close(self) -> None:
        stage.record(self.key, "close")


def no_iterator(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    return _NoIterator(stage.key_of(environ))


class _List(list[Any]):
    """A list that has to be closed."""

    key = ""

    def close(self) -> None:
        stage.record(self.key, "close")


def in_a_list(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """A list of ``n`` blocks, and what is to be closed is the list."""
    told = stage.arguments(environ)
    start_response("200 OK", stage.TEXT)
    found = _List([b"block "] * int(told["n"]))
    found.key = told["key"]
    return found


def too_long(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Promises ten bytes, and gives more."""
    start_response("200 OK", [*stage.TEXT, ("Content-Length", "10")])
    return acts.Iterator(acts.Role(environ, start_response))


class _ToFile(acts.Iterator):
    """Notes in a file that it is closed: the suite cannot ask when the server has ended."""

    path = ""

    def close(self) -> None:
        super().close()
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(file, b"closed ")
        os.close(file)


def to_file(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    found = _ToFile(acts.Role(environ, start_response))
    found.path = stage.arguments(environ)["path"]
    return found


def gated_call(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Does not return from the call of the application before the suite opens the gate."""
    role = acts.Role(environ, start_response)
    list(acts.ACTS["gate"](role))
    return acts.Iterator(role)


# Where the iterable and its iterator are two


class _Half(acts.Iterator):
    """The iterator: its calls are recorded with its name, as those of the iterable are."""

    def noted(self, name: str, function: Any, *arguments: Any) -> Any:
        self.role.record(f"iterator.{name}")
        return function(*arguments)


class _Unclosed:
    """Only its iterator has close()."""

    def __init__(self, role: acts.Role) -> None:
        self.role = role

    def __iter__(self) -> Iterator[Any]:
        self.role.record("iterable.iter")
        return self.iterator()

    def iterator(self) -> Iterator[Any]:
        return _Half(self.role)

    def throw(self, error: BaseException) -> Any:
        self.role.record("iterable.throw")
        raise error


class _Both(_Unclosed):
    def close(self) -> None:
        self.role.record("iterable.close")


class _OnlyItself(_Both):
    """Its iterator has neither throw nor close()."""

    def iterator(self) -> Iterator[Any]:
        return map(lambda item: item, acts.play(self.role))


class _Generating(_Both):
    """Its iterator is a generator."""

    def iterator(self) -> Iterator[Any]:
        return acts.play(self.role)


_TWO = {
    "both": _Both,
    "only the iterable": _OnlyItself,
    "only the iterator": _Unclosed,
    "a generator": _Generating,
}


def two(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """An iterable whose iterator is another object: ``both`` have throw and close(), or only one of them."""
    role = acts.Role(environ, start_response)
    return _TWO[stage.arguments(environ)["kind"]](role)


# Those who do not end when they are closed, and those who let go of what they have yielded


def yields_when_closed(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Yields a block, or the future by key.1, when it is closed while it waits for the one by the key."""
    told = stage.arguments(environ)
    key = told["key"]
    stage.record(key, "parking")
    try:
        yield stage.future(key)
    except GeneratorExit:
        stage.record(key, "closing")
        yield b"block" if told["what"] == "block" else stage.future(f"{key}.1")
        stage.record(key, "resumed")


class _Released:
    """Lets go in close() of what it yields from."""

    def __init__(self, key: str, size: int) -> None:
        self.key = key
        self.left = [b"%07d\n" % number * (size // 8 // 16) for number in range(16)]

    def __iter__(self) -> _Released:
        return self

    def __next__(self) -> bytes:
        if not self.left:
            raise StopIteration
        return self.left.pop(0)

    def close(self) -> None:
        self.left = []
        stage.record(self.key, "close")


def released(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    told = stage.arguments(environ)
    start_response("200 OK", stage.TEXT)
    return _Released(told["key"], int(told["size"]))
