"""PEP 3333: the iterable, its blocks, its close(), and write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import stage

BINARY = bytes(range(256)) + b"\r\n\n\r\0\x1a\xef\xbb\xbf"


def _blocks() -> Iterator[bytes]:
    yield b"one "
    yield b"two"


class _Iterable:
    """Has __iter__, and is no iterator."""

    def __iter__(self) -> Iterator[bytes]:
        return _blocks()


class _Iterator:
    """Has __next__, and is no generator."""

    def __init__(self) -> None:
        self._left = [b"two", b"one "]

    def __iter__(self) -> _Iterator:
        return self

    def __next__(self) -> bytes:
        if not self._left:
            raise StopIteration
        return self._left.pop()


class _Sequence:
    """Has __getitem__ and nothing else."""

    def __getitem__(self, index: int) -> bytes:
        return (b"one ", b"two")[index]


class _WithLength(_Iterable):
    """Says that it gives one item, as it does."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"one two"])


_KINDS: dict[str, Callable[[], Any]] = {
    "list": lambda: [b"one ", b"two"],
    "tuple": lambda: (b"one ", b"two"),
    "one": lambda: [b"one two"],
    "generator": _blocks,
    "map": lambda: map(bytes, _blocks()),
    "dict": lambda: {b"one ": 1, b"two": 2},
    "iterable": _Iterable,
    "iterator": _Iterator,
    "getitem": _Sequence,
    "length": _WithLength,
}


def kind(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    start_response("200 OK", stage.TEXT)
    return _KINDS[stage.arguments(environ)["kind"]]()


class AsClass:
    """The application is a class, and the iterable an instance of it."""

    def __init__(self, environ: stage.Environ, start_response: stage.StartResponse) -> None:
        self._start_response = start_response

    def __iter__(self) -> Iterator[bytes]:
        self._start_response("200 OK", stage.TEXT)
        yield b"one "
        yield b"two"


def first_iteration(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[bytes]:
    """Calls start_response when it is first iterated, and not before."""
    start_response("201 Late", stage.TEXT)
    yield b"late"


def empty_blocks(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[bytes]:
    start_response("200 OK", stage.TEXT)
    yield from [b"", b"one ", b"", b"", b"two", b""]


def binary(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [BINARY, b"\r\n", BINARY]


def no_bytes(environ: stage.Environ, start_response: stage.StartResponse) -> list[Any]:
    start_response("200 OK", stage.TEXT)
    odd: dict[str, Any] = {"str": "text", "int": 5, "none": None, "list": [b"nested"]}
    return [odd[stage.arguments(environ)["what"]]]


def step_by_step(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[bytes]:
    """A block, and after the gate another."""
    asked = stage.arguments(environ)
    start_response("200 OK", [*stage.TEXT, ("Content-Length", asked["length"])] if "length" in asked else stage.TEXT)
    yield b"first "
    stage.gate(asked["key"])
    yield b"second"


def written_step_by_step(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    write = start_response("200 OK", stage.TEXT)
    write(b"first ")
    stage.gate(stage.key_of(environ))
    write(b"second")
    return []


def written(environ: stage.Environ, start_response: stage.StartResponse) -> Iterable[bytes]:
    """Writes, and gives one block: the only one of the iterable, and not of the response."""
    write = start_response("200 OK", [*stage.TEXT, ("X-Own", "yes")])
    write(b"one ")
    write(b"two ")
    return [b"three"]


def written_only(environ: stage.Environ, start_response: stage.StartResponse) -> Iterable[bytes]:
    start_response("200 OK", stage.TEXT)(b"written")
    return []


# close()


class _Closing:
    """Records its close(), which its iterator does not have."""

    def __init__(self, key: str, blocks: Iterable[Any]) -> None:
        self._key = key
        self._blocks = blocks

    def __iter__(self) -> Iterator[Any]:
        for block in self._blocks:
            yield block
        stage.record(self._key, "ended")

    def close(self) -> None:
        stage.record(self._key, "closed")


def _failing(after: int) -> Iterator[bytes]:
    for _ in range(after):
        yield b"block"
    raise ValueError("failed on purpose")


def _many() -> Iterator[bytes]:
    """More than sockets take, and until no client can be interested any more."""
    until = time.monotonic() + stage.LIMIT / 3
    while time.monotonic() < until:
        yield b"x" * 65536


def closing(environ: stage.Environ, start_response: stage.StartResponse) -> Iterable[bytes]:
    asked = stage.arguments(environ)
    made: dict[str, Callable[[], Iterable[Any]]] = {
        "whole": lambda: [b"block", b"block"],
        "empty": lambda: [],
        "unstarted": lambda: [b"block"],
        "fails": lambda: _failing(0),
        "fails-late": lambda: _failing(1),
        "no-bytes": lambda: [b"block", 5],
        "long": _many,
    }
    if asked["kind"] != "unstarted":
        start_response("200 OK", stage.TEXT)
    return _Closing(asked["key"], made[asked["kind"]]())


class _Watched:
    """Records which of its attributes are asked for by name."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._left = [b"two", b"one "]

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__(self, "__dict__")
        if not name.startswith("__"):
            stage.record(own["_key"], "asked", name)
        return object.__getattribute__(self, name)

    def __iter__(self) -> _Watched:
        return self

    def __next__(self) -> bytes:
        left = object.__getattribute__(self, "__dict__")["_left"]
        if not left:
            raise StopIteration
        block: bytes = left.pop()
        return block

    def close(self) -> None:
        pass


def watched(environ: stage.Environ, start_response: stage.StartResponse) -> Iterable[bytes]:
    start_response("200 OK", stage.TEXT)
    return _Watched(stage.key_of(environ))


# Content-Length


def sized(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Blocks of the sizes that ``blocks`` lists, under a Content-Length of 5."""
    start_response("200 OK", [*stage.TEXT, ("Content-Length", "5")])
    digits = iter("1234567890" * 3)
    return ["".join(next(digits) for _ in range(int(size))).encode() for size in stage.arguments(environ)["blocks"]]


def asked_on(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[bytes]:
    """Gives all that Content-Length says at once, and records whenever it is asked for more."""
    start_response("200 OK", [*stage.TEXT, ("Content-Length", "5")])
    try:
        yield b"12345"
        for _ in range(5):
            stage.record(stage.key_of(environ), "asked")
            yield b"more"
    finally:
        stage.record(stage.key_of(environ), "closed")


def written_past(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    write = start_response("200 OK", [*stage.TEXT, ("Content-Length", "5")])
    write(b"12345")
    try:
        write(b"67890")
        stage.record(stage.key_of(environ), "taken")
    except Exception:
        stage.record(stage.key_of(environ), "raised")
        raise
    finally:
        stage.record(stage.key_of(environ), "over")
    return []
