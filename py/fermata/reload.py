"""What --reload needs of a worker: where the application's own files are, and a page that says why it could not be
loaded.  Compiled into the binary; runs on the main thread, and `page` where requests do."""

from __future__ import annotations

import importlib.machinery
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from types import ModuleType, TracebackType
from typing import Any

__all__ = ["begin", "page", "report"]

_LIBRARIES = ("site-packages", "dist-packages")
_PASSED_OVER = ("__pycache__", "node_modules", *_LIBRARIES)
_MOST = 5000  # directories
_RACY = 2  # seconds

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 16px/1.5 sans-serif; margin: 2em }} pre {{ font: 13px/1.5 monospace; white-space: pre-wrap;
border-left: 4px solid #c33; padding-left: 1em }}</style></head>
<body><h1>{title}</h1>
<pre>{text}</pre>
<p>It is loaded again when a file changes. Fermata was started with <code>--reload</code>, which is for development.</p>
</body></html>
"""


def begin() -> None:
    """Before the application is loaded: what was saved just now is not kept compiled. Python tells by seconds and size
    whether that is still true, so a change in the same second, of the same size, would not be seen."""
    loader = importlib.machinery.SourceFileLoader
    keep = getattr(loader, "_cache_bytecode", None)
    if keep is None:
        return

    def keep_old(self: object, source: str, compiled: str, data: bytes) -> None:
        if time.time() - os.stat(source).st_mtime > _RACY:
            keep(self, source, compiled, data)

    loader._cache_bytecode = keep_old  # type: ignore[attr-defined]


def page(text: str) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    """An application that answers every request with the text, and 500."""
    made = _PAGE.format(title="The application could not be loaded", text=text.translate(_ESCAPES))
    body = made.encode("utf-8", "backslashreplace")
    fields = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
    ]

    def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("500 Internal Server Error", list(fields))
        return [body]

    return application


def report(fd: int, error: BaseException | None) -> None:
    """Writes the directories that the application was loaded from, or was to be, to the file: each with a NUL behind it."""
    found: dict[str, None] = {}
    for place in [*_search_path(), *_of_modules(), *_of_error(error)]:
        if place not in found and len(found) < _MOST and _is_own(place) and os.path.isdir(place):
            found[place] = None
    os.pwrite(fd, b"".join(os.fsencode(place) + b"\0" for place in found), 0)


def _is_own(path: str) -> bool:
    """Neither Python's own, nor installed."""
    standard = os.path.dirname(os.__file__)
    return not (
        _is_below(path, standard)
        or (sys.prefix != sys.base_prefix and _is_below(path, sys.prefix))
        or any(part in _LIBRARIES for part in path.split(os.sep))
    )


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top + os.sep)


def _search_path() -> list[str]:
    """Where the application is looked for: it may not have been found."""
    return [os.path.abspath(path) for path in sys.path if isinstance(path, str)]


def _of_modules() -> Iterable[str]:
    for module in list(sys.modules.values()):
        if not isinstance(module, ModuleType):
            continue
        names = vars(module)  # getattr would load a module that waits for its first use
        file, path = names.get("__file__"), names.get("__path__")
        if isinstance(file, str):
            yield os.path.dirname(os.path.abspath(file))
        try:
            places = [place for place in path or () if isinstance(place, str)]
        except Exception:  # whatever the module has put there
            continue
        for place in places:
            if _is_own(os.path.abspath(place)):
                yield from _below(os.path.abspath(place))


def _below(top: str) -> Iterable[str]:
    """The directories of a package, also of what is imported later."""
    for directory, names, files in os.walk(top):
        names[:] = [name for name in names if name[:1] != "." and name not in _PASSED_OVER]
        if directory == top or any(name.endswith(".py") for name in files):
            yield directory


def _of_error(error: BaseException | None) -> Iterable[str]:
    """The files that its tracebacks name, and that a SyntaxError is about."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield from _of_traceback(error.__traceback__)
        if isinstance(error, SyntaxError) and error.filename:
            yield os.path.dirname(os.path.abspath(error.filename))
        error = error.__cause__ or error.__context__


def _of_traceback(tb: TracebackType | None) -> Iterable[str]:
    for frame, _ in traceback.walk_tb(tb):
        if not frame.f_code.co_filename.startswith("<"):
            yield os.path.dirname(os.path.abspath(frame.f_code.co_filename))
