"""PEP 3333: wsgi.file_wrapper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from wsgiref.util import FileWrapper

from . import Request, fault


def wrong_wrapper(name: str) -> Callable[[Any], Any]:
    """Registers a callable as what is wrong with wsgi.file_wrapper."""

    def register(wrapper: Any) -> Any:
        class WrongFiles(Request):
            def make_environ(self) -> dict[str, Any]:
                return {**super().make_environ(), "wsgi.file_wrapper": wrapper}

        fault(name)(WrongFiles)
        return wrapper

    return register


@wrong_wrapper("P29-start")
def from_the_start(file: Any, size: int = 8192) -> Any:
    """A file is sent from its beginning."""
    if hasattr(file, "seek"):
        file.seek(0)
    return FileWrapper(file, size)


@wrong_wrapper("P29-closed")
def not_closed(file: Any, size: int = 8192) -> Any:
    """A file is not closed."""
    return iter(lambda: file.read(size), b"")


@wrong_wrapper("P29-argument")
def one_argument(file: Any) -> Any:
    """The size of blocks cannot be given."""
    return FileWrapper(file)


@wrong_wrapper("P29-descriptor")
def only_files(file: Any, size: int = 8192) -> Any:
    """Only what has a descriptor can be wrapped."""
    file.fileno()
    return FileWrapper(file, size)


@wrong_wrapper("P29-blocks")
def whole_blocks(file: Any, size: int = 8192) -> Any:
    """The last block is lost if it is a short one."""
    return (block for block in FileWrapper(file, size) if len(block) == size)


class NotIterable:
    """Only the server knows what to do with it."""

    def __init__(self, file: Any, size: int = 8192) -> None:
        self.wrapped = FileWrapper(file, size)


@fault("P29-own")
class OwnKind(Request):
    """A wrapper is no iterable but for the server."""

    def make_environ(self) -> dict[str, Any]:
        return {**super().make_environ(), "wsgi.file_wrapper": NotIterable}

    def known_length(self, iterable: Any) -> int | None:
        self.iterable = getattr(iterable, "wrapped", iterable)
        return super().known_length(self.iterable)


@fault("P29-made")
class SendsWhenItIsMade(Request):
    """A wrapper begins to send when it is made."""

    def make_environ(self) -> dict[str, Any]:
        def wrapper(file: Any, size: int = 8192) -> Any:
            self.send(file.read(size))
            return FileWrapper(file, size)

        return {**super().make_environ(), "wsgi.file_wrapper": wrapper}
