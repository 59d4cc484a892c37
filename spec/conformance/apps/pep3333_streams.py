"""PEP 3333: wsgi.input and wsgi.errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import stage


def read(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Reads the body in the way that ``how`` names; what came, as a list."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    pieces: list[Any] = _WAYS[stage.arguments(environ)["how"]](environ["wsgi.input"], length)
    for piece in pieces:
        if type(piece) is not bytes:
            raise TypeError(f"wsgi.input gave {piece!r}")
    return stage.text(start_response, json.dumps([piece.decode("latin-1") for piece in pieces]))


def _sized(stream: Any, length: int) -> list[Any]:
    """Never asks for more than there is: the PEP wants applications not to."""
    pieces: list[Any] = []
    while length > 0:
        pieces.append(stream.read(min(100_000, length)))
        if not pieces[-1]:
            raise EOFError(f"{length} bytes are missing")
        length -= len(pieces[-1])
    return [b"".join(pieces)]


def _lines(stream: Any, length: int) -> list[Any]:
    found = list(stream.readlines(1))
    return [*found, *_sized(stream, length - sum(map(len, found)))]


def _beyond(stream: Any, length: int) -> list[Any]:
    found = [stream.read(length + 1000)]
    return [*found, stream.read(1), stream.readline(), *stream.readlines(), *stream, stream.read()]


_WAYS: dict[str, Callable[[Any, int], list[Any]]] = {
    "sized": _sized,
    "small": lambda stream, length: [stream.read(2), *_sized(stream, length - 2)],
    "none": lambda stream, length: [stream.read(0), *_sized(stream, length)],
    "line": lambda stream, length: [stream.readline(), stream.readline(), stream.readline()],
    "lines": _lines,
    "iterate": lambda stream, length: [line for _, line in zip(range(3), stream)],
    "mixed": lambda stream, length: [
        stream.readline(),
        stream.read(2),
        next(iter(stream)),
        *_sized(stream, length - 9),
    ],
    # the rest goes to the end of the body, and needs it to be one
    "all": lambda stream, length: [stream.read()],
    "all-lines": lambda stream, length: list(stream.readlines()),
    "hint": lambda stream, length: [*stream.readlines(1), *stream.readlines()],
    "iterate-all": lambda stream, length: list(stream),
    "line-sized": lambda stream, length: list(iter(lambda: stream.readline(3), b"")),
    "beyond": _beyond,
}


def complain(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Uses all that wsgi.errors must have."""
    key = stage.key_of(environ)
    errors = environ["wsgi.errors"]
    errors.write(f"{key} written\n")
    errors.writelines([f"{key} one of ", "several\n"])
    print(f"{key} printed", file=errors)
    errors.flush()
    return stage.text(start_response, "complained")


def complain_abroad(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Text that is in no 8-bit encoding."""
    errors = environ["wsgi.errors"]
    errors.write("caf\xe9 \u20ac \u4e2d\u6587 \U0001f3bc\n")
    errors.flush()
    return stage.text(start_response, "complained")
