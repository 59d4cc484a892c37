"""What PEP 3333 asks of environ, start_response and the two streams, with no regard to who has to answer for it.

The functions named ..._fault say what is wrong, in words that go after "an environ", "a status" and so on; None if
nothing is.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeGuard
from wsgiref.util import is_hop_by_hop

__all__ = [
    "Errors",
    "Input",
    "content_length",
    "environ_fault",
    "exc_info_fault",
    "has_no_body",
    "headers_fault",
    "is_tuple",
    "reads_socket",
    "status_fault",
]

Broken = Callable[..., Exception]
"""``broken(rule, **facts)``: what to raise."""

_DIGITS = re.compile(r"[0-9]+")
_STATUS = re.compile(r"[1-9][0-9][0-9] [^\x00-\x1f\x7f]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]*[0-9A-Za-z]")  # no punctuation at its end
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_REQUIRED = (
    "REQUEST_METHOD",
    "SERVER_NAME",
    "SERVER_PORT",
    "wsgi.version",
    "wsgi.url_scheme",
    "wsgi.input",
    "wsgi.errors",
    "wsgi.multithread",
    "wsgi.multiprocess",
    "wsgi.run_once",
)
_VALUES: tuple[tuple[str, Callable[[Any], object], str], ...] = (
    ("REQUEST_METHOD", lambda value: value, "not empty"),
    ("SERVER_NAME", lambda value: value, "not empty"),
    ("SERVER_PORT", lambda value: value, "not empty"),
    (
        "SCRIPT_NAME",
        lambda value: not value or (value.startswith("/") and value != "/"),
        "empty, or a path such as '/app'",
    ),
    ("PATH_INFO", lambda value: not value or value.startswith("/") or value == "*", "empty, or begins with '/'"),
    ("CONTENT_LENGTH", lambda value: not value or _DIGITS.fullmatch(value), "empty, or digits"),
    ("wsgi.version", lambda value: type(value) is tuple and value == (1, 0), "the tuple (1, 0)"),
    ("wsgi.url_scheme", lambda value: value in ("http", "https"), "'http' or 'https'"),
    ("wsgi.input", lambda value: _has(value, "read", "readline", "readlines", "__iter__"), "a stream to read from"),
    ("wsgi.errors", lambda value: _has(value, "write", "writelines", "flush"), "a stream to write to"),
)
_NATIVE = ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "REQUEST_METHOD", "CONTENT_TYPE")  # with all that are HTTP_


def _has(value: Any, *methods: str) -> bool:
    return all(hasattr(value, method) for method in methods)


def _is_dict(value: object) -> TypeGuard[dict[Any, Any]]:
    """PEP 3333: these types "exactly", and none derived from them."""
    return type(value) is dict


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return type(value) is list


def is_tuple(value: object) -> TypeGuard[tuple[Any, ...]]:
    return type(value) is tuple


def _is_native(value: object) -> bool:
    """PEP 3333: "native" strings are str, and hold bytes, as latin-1."""
    return type(value) is str and all(char <= "\xff" for char in value)


def environ_fault(environ: Any) -> str | None:
    if not _is_dict(environ):
        return f"that is a {type(environ).__name__}, not a dict"
    for name in _REQUIRED:
        if name not in environ:
            return f"without {name}"
    for name in ("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"):
        if name in environ:
            return f"with {name}, which goes by the name of {name[5:]}"
    for name, value in environ.items():
        if type(name) is not str:
            return f"with {name!r} among its names, which are str"
        if "." not in name and type(value) is not str:
            return f"whose {name} is a {type(value).__name__}, not a str"
        if (name in _NATIVE or name.startswith("HTTP_")) and not _is_native(value):
            return f"whose {name} is {value!r}, which has characters beyond latin-1"
    for name, fits, wanted in _VALUES:
        if name in environ and not fits(environ[name]):
            return f"whose {name} is {environ[name]!r}, and should be {wanted}"
    if not environ.get("SCRIPT_NAME") and "PATH_INFO" not in environ:
        return "with neither SCRIPT_NAME nor PATH_INFO"
    return None


def reads_socket(stream: Any) -> bool:
    """Whether a file is one that socket.makefile() gives: reading it waits for the client."""
    return isinstance(stream, socket.SocketIO) or isinstance(getattr(stream, "raw", None), socket.SocketIO)


def status_fault(status: Any) -> str | None:
    if type(status) is not str:
        return f"that is a {type(status).__name__}, not a str"
    if not _STATUS.fullmatch(status):
        return f"{status!r}, which is not three digits, a space and a reason"
    return None


def headers_fault(headers: Any) -> str | None:
    if not _is_list(headers):
        return f"that are a {type(headers).__name__}, not a list"
    return next(filter(None, map(_header_fault, headers)), None)


def _header_fault(header: Any) -> str | None:
    if not is_tuple(header) or len(header) != 2:
        return f"with {header!r}, not a tuple of two"
    name, value = header
    for part in header:
        if not _is_native(part):
            return f"with {header!r}, where {part!r} is not a str of latin-1 characters"
    if not _HEADER_NAME.fullmatch(name):
        return f"with {name!r}, which is not the name of a header"
    if _CONTROL.search(value):
        return f"with {header!r}, which has a control character"
    if name.lower() == "status":
        return "with Status, which is CGI's"
    if is_hop_by_hop(name):
        return f"with {name}, which is between the server and the client"
    if name.lower() == "content-length" and not _DIGITS.fullmatch(value):
        return f"with a Content-Length of {value!r}"
    return None


def exc_info_fault(exc_info: Any) -> str | None:
    if exc_info is None or (is_tuple(exc_info) and len(exc_info) == 3):
        return None
    return f"a {type(exc_info).__name__}"


def has_no_body(method: Any, status: str) -> bool:
    """S19.1: whatever is yielded is dropped."""
    return method == "HEAD" or status[:3] in ("204", "304")


def content_length(headers: Iterable[tuple[str, str]]) -> int | None:
    return next((int(value) for name, value in headers if name.lower() == "content-length"), None)


class Input:
    """wsgi.input with the methods that PEP 3333 has, each looked at from both sides."""

    def __init__(self, stream: Any, broken: Broken, is_over: Callable[[], bool]) -> None:
        self.stream = stream
        self._broken = broken
        self._is_over = is_over

    def read(self, *args: Any) -> bytes:
        return self._bytes("read", args)

    def readline(self, *args: Any) -> bytes:
        return self._bytes("readline", args)

    def readlines(self, *args: Any) -> list[bytes]:
        lines = self._call("readlines", args)
        if not _is_list(lines) or not all(isinstance(line, bytes) for line in lines):
            raise self._broken("input-type", what=f"readlines gave {lines!r:.100}")
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def close(self) -> None:
        raise self._broken("input-misuse", what="close()")

    def _bytes(self, method: str, args: tuple[Any, ...]) -> bytes:
        data = self._call(method, args)
        if not isinstance(data, bytes):
            raise self._broken("input-type", what=f"{method} gave a {type(data).__name__}")
        return data

    def _call(self, method: str, args: tuple[Any, ...]) -> Any:
        if len(args) > 1:
            raise self._broken("input-misuse", what=f"{method} with {len(args)} arguments")
        if getattr(self.stream, "closed", False) and not self._is_over():
            raise self._broken("input-closed")
        return getattr(self.stream, method)(*args)


class Errors:
    """wsgi.errors likewise."""

    def __init__(self, stream: Any, broken: Broken) -> None:
        self.stream = stream
        self._broken = broken

    def write(self, text: object) -> None:
        if not isinstance(text, str):
            raise self._broken("errors-misuse", what=f"write with a {type(text).__name__}")
        self.stream.write(text)

    def writelines(self, lines: Iterable[object]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self.stream.flush()

    def close(self) -> None:
        raise self._broken("errors-misuse", what="close()")
