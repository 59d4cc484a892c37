"""PEP 3333: start_response, and what it is given."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import stage


class _Change(Exception):
    """Why an application changes its mind."""


def _change(start_response: stage.StartResponse, status: str, *headers: tuple[str, str]) -> BaseException:
    """Calls start_response with exc_info, as a handler of exceptions does; the exception."""
    try:
        raise _Change
    except _Change as why:
        start_response(status, [*stage.TEXT, *headers], sys.exc_info())
        return why


def arguments(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Gives the third argument, which is None, by its place."""
    write = start_response("200 OK", stage.TEXT, None)
    return [b"callable" if callable(write) else repr(write).encode()]


def replaced(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    start_response("200 OK", [("X-First", "1")])
    _change(start_response, "503 Changed", ("X-Second", "2"))
    return [b"changed"]


def length_replaced(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """The first response would have been shorter."""
    start_response("200 OK", [*stage.TEXT, ("Content-Length", "2")])
    _change(start_response, "503 Changed")
    return [b"chan", b"ged"]


def first_with_exc_info(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    _change(start_response, "503 At once")
    return [b"at once"]


def replaced_after_nothing(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[bytes]:
    """Replaces them when it has given only empty blocks."""
    start_response("200 OK", [("X-First", "1")])
    yield b""
    yield b""
    _change(start_response, "503 Changed", ("X-Second", "2"))
    yield b"changed"


def too_late(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[bytes]:
    """Would change its mind when a block has been taken."""
    key = stage.key_of(environ)
    start_response("200 OK", stage.TEXT)
    yield b"first"
    try:
        _change(start_response, "503 Too late")
    except BaseException as error:
        stage.record(key, "raised", type(error) is _Change)
        raise


def twice(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    start_response("200 OK", stage.TEXT)
    start_response("201 Again", stage.TEXT)
    return [b"twice"]


def twice_with_none(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[bytes]:
    """The same in the iteration, and with a third argument that is none."""
    start_response("200 OK", stage.TEXT)
    start_response("201 Again", stage.TEXT, None)
    yield b"twice"


def twice_after_an_error(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Goes on without exc_info, as if the first call had not been."""
    try:
        start_response("200 OK", [("X-Wrong", "a\r\nb")])
    except Exception:
        pass
    start_response("200 OK", stage.TEXT)
    return [b"twice"]


def forgets(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator[bytes]:
    start_response("200 OK", stage.TEXT)
    left = weakref.ref(_change(start_response, "503 Changed"))
    gc.collect()
    yield b"forgotten" if left() is None else b"kept"


def given(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Calls start_response with what ``what`` names, and records whether that raises."""
    asked = stage.arguments(environ)
    try:
        _GIVEN[asked["what"]](start_response)
    except BaseException:
        stage.record(asked["key"], "raised", asked["what"])
        raise
    return [b"given"]


def _header(name: Any, value: Any) -> Callable[[stage.StartResponse], object]:
    return lambda start_response: start_response("200 OK", [*stage.TEXT, (name, value)])


_GIVEN: dict[str, Callable[[stage.StartResponse], object]] = {
    # hop-by-hop
    "Connection": _header("Connection", "close"),
    "Keep-Alive": _header("Keep-Alive", "timeout=5"),
    "TE": _header("TE", "trailers"),
    "Transfer-Encoding": _header("Transfer-Encoding", "chunked"),
    "Upgrade": _header("Upgrade", "own/1"),
    # control characters
    "crlf-in-value": _header("X-A", "b\r\nX-Forged: yes"),
    "lf-in-value": _header("X-A", "b\nX-Forged: yes"),
    "cr-in-value": _header("X-A", "b\rX-Forged: yes"),
    "nul-in-value": _header("X-A", "b\0c"),
    "lf-at-the-end": _header("X-A", "b\n"),
    "crlf-in-name": _header("X-A: b\r\nX-Forged", "yes"),
    "lf-in-name": _header("X-A: b\nX-Forged", "yes"),
    "crlf-in-status": lambda start_response: start_response("200 OK\r\nX-Forged: yes", stage.TEXT),
    "lf-in-status": lambda start_response: start_response("200 OK\nX-Forged: yes", stage.TEXT),
    "cr-in-status": lambda start_response: start_response("200 OK\rX-Forged: yes", stage.TEXT),
    # of another kind
    "status-bytes": lambda start_response: start_response(b"200 OK", stage.TEXT),
    "status-number": lambda start_response: start_response(200, stage.TEXT),
    "status-without-number": lambda start_response: start_response("OK", stage.TEXT),
    "headers-none": lambda start_response: start_response("200 OK", None),
    "name-bytes": _header(b"X-A", "b"),
    "name-with-space": _header("X A", "b"),
    "name-with-colon": _header("X-A:", "b"),
    "value-bytes": _header("X-A", b"b"),
    "value-number": _header("X-A", 1),
    "value-none": _header("X-A", None),
    # beyond ISO-8859-1
    "wide-value": _header("X-A", "\u20ac"),
    "wide-name": _header("X-\u20ac", "b"),
    "wide-status": lambda start_response: start_response("200 \u20ac", stage.TEXT),
    # as it should be
    "latin-1": _header("X-A", "caf\xe9 \xff"),
    "own-status": lambda start_response: start_response("299 Own", stage.TEXT),
    "own-date": _header("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
    "own-headers": lambda start_response: start_response(
        "200 OK",
        [
            ("Set-Cookie", "a=1; Path=/"),
            ("X-Between", ' "quoted, with comma" '.strip()),
            ("set-cookie", "b=2, c"),
            ("Content-Type", "text/x-own"),
            ("X-Empty", ""),
            ("Set-Cookie", "a=3"),
        ],
    ),
}
