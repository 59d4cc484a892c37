"""PEP 3333: wsgi.input and wsgi.errors."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

from . import Request, fault


class Stream:
    """wsgi.input with something wrong."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __iter__(self) -> Any:
        return iter(self.file)


def wrong_input(name: str) -> Callable[[type[Stream]], type[Stream]]:
    """Registers a class of streams as a fault."""

    def register(stream: type[Stream]) -> type[Stream]:
        def make_environ(self: Request) -> dict[str, Any]:
            return {**Request.make_environ(self), "wsgi.input": stream(self.body)}

        fault(name)(type(stream.__name__, (Request,), {"make_environ": make_environ}))
        return stream

    return register


@wrong_input("P6-size")
class IgnoresTheSize(Stream):
    """read(size) gives all."""

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.file.read()
        return data


@wrong_input("P6-zero")
class TakesZeroForAll(Stream):
    """read(0) gives all."""

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.file.read(size or -1)
        return data


@wrong_input("P6-large")
class LosesTheEnd(Stream):
    """Nothing is left behind 64 KiB."""

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.file.read(size if size >= 0 else 65536) if self.file.tell() < 65536 else b""
        return data


@wrong_input("P6-readline")
class StripsLines(Stream):
    """readline() gives lines without their ends."""

    def readline(self, size: int = -1) -> bytes:
        line: bytes = self.file.readline(size)
        return line.rstrip(b"\r\n")


@wrong_input("P6-iteration")
class IteratesByBlocks(Stream):
    """Iteration gives blocks."""

    def __iter__(self) -> Any:
        return iter(lambda: self.file.read(4), b"")


@wrong_input("P6-readlines")
class AllIsALine(Stream):
    """readlines() gives the body in one piece."""

    def readlines(self, hint: int = -1) -> list[bytes]:
        return [self.file.read()]


@wrong_input("P33-readlines")
class OneLineForAll(Stream):
    """readlines() gives one line."""

    def readlines(self, hint: int = -1) -> list[bytes]:
        return [self.file.readline()]


@wrong_input("P33-size")
class NeedsASize(Stream):
    """read() needs a size."""

    def read(self, size: int) -> bytes:
        data: bytes = self.file.read(size)
        return data


@wrong_input("P33-line")
class WholeLines(Stream):
    """readline(size) gives whole lines."""

    def readline(self, size: int = -1) -> bytes:
        line: bytes = self.file.readline()
        return line


@wrong_input("P33-end")
class RaisesAtTheEnd(Stream):
    """At the end read() raises."""

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.file.read(size)
        if size and not data:
            raise EOFError("the body has ended")
        return data


def with_errors(errors: Any) -> type[Request]:
    """A request with these wsgi.errors."""

    class WrongErrors(Request):
        def make_environ(self) -> dict[str, Any]:
            return {**super().make_environ(), "wsgi.errors": errors}

    return WrongErrors


class OnlyWrite:
    """No writelines, no flush."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)


class OnlyLatin1(io.StringIO):
    """Characters that ISO-8859-1 does not have raise."""

    def write(self, text: str) -> int:
        text.encode("latin-1")
        return len(text)


fault("P7")(with_errors(OnlyWrite()))
fault("P7-lost")(with_errors(io.StringIO()))
fault("P34")(with_errors(OnlyLatin1()))
