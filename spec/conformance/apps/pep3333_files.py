"""PEP 3333: wsgi.file_wrapper."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import stage

CONTENT = bytes(i % 251 for i in range(300_000))


class _File:
    """A file whose close() is recorded.  It has all else that the file has, its descriptor, too."""

    def __init__(self, file: Any, key: str) -> None:
        self._file = file
        self._key = key

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        stage.record(self._key, "closed")
        self._file.close()


class _OnlyRead:
    """The least that a file is: read(size)."""

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


def _real() -> Any:
    file = tempfile.TemporaryFile()
    file.write(CONTENT)
    file.seek(0)
    return file


_FILES: dict[str, Callable[[], Any]] = {
    "real": _real,
    "memory": lambda: io.BytesIO(CONTENT),
    "read": lambda: _OnlyRead(CONTENT),
    "empty": tempfile.TemporaryFile,
}


def there(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    return stage.text(start_response, "yes" if "wsgi.file_wrapper" in environ else "no")


def file(environ: stage.Environ, start_response: stage.StartResponse) -> Iterable[bytes]:
    """kind: of file; at: where it stands; length: Content-Length; block: the size to read it in."""
    asked = stage.arguments(environ)
    found = _FILES[asked["kind"]]()
    if "at" in asked:
        found.read(int(asked["at"]))
    headers = [("Content-Type", "application/octet-stream")]
    start_response("200 OK", [*headers, ("Content-Length", asked["length"])] if "length" in asked else headers)
    if asked["kind"] != "read":
        found = _File(found, asked["key"])
    size = [int(asked["block"])] if "block" in asked else []
    made: Iterable[bytes] = environ["wsgi.file_wrapper"](found, *size)
    return made


def not_returned(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Makes one and does not return it."""
    start_response("200 OK", stage.TEXT)
    environ["wsgi.file_wrapper"](io.BytesIO(b"not for the client"))
    return [b"something else"]


def iterated(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Iterates it itself, as middleware may."""
    start_response("200 OK", stage.TEXT)
    return [block.upper() for block in environ["wsgi.file_wrapper"](io.BytesIO(b"in the middle"), 4)]
