"""Reads a configuration file and prints what it sets.  Compiled into the binary; runs once, in a process of its own,
which a file that hangs, exits or crashes takes with it, and nothing else."""

from __future__ import annotations

import ast
import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

__all__ = ["execute", "main"]

_HERE = "<fermata/settings.py>"  # what the C code calls it: no file, which coverage would look for
_MODULE = "__config__"  # what gunicorn calls a file

Record = tuple[str, int, str, str]  # name, line, type, value; src/config/settings.c has the letters


class _Refused(Exception):
    """The file cannot be read; the message says why."""


def main(location: str, fd: int) -> int:
    """Writes the settings of the file to fd, as src/config/settings.c reads them; the exit code."""
    os.set_inheritable(fd, False)
    wrong = ""
    records: list[Record] = []
    try:
        records = list(_read(location))
    except _Refused as reason:
        wrong = str(reason)
    except BaseException as error:
        traceback.print_exception(type(error), error, _trimmed(error), file=sys.stderr)
        wrong = f"{_place(location, error)}: {_said(error)}"
    if wrong:
        records = [("!", 0, "s", wrong)]
    _write(fd, records)
    return 2 if wrong else 0


def execute(location: str) -> dict[str, Any]:
    """The names that a file in Python defines, as gunicorn executes it; {} for one in TOML."""
    if _is_toml(location):
        return {}
    if location.startswith("python:"):
        return vars(importlib.import_module(location.removeprefix("python:")))
    path = location.removeprefix("file:")
    module = ModuleType(_MODULE)
    module.__file__ = path
    sys.modules[_MODULE] = module
    exec(compile(_text(path), path, "exec"), module.__dict__)
    return vars(module)


def _read(location: str) -> Iterator[Record]:
    if _is_toml(location):
        yield from _toml(location.removeprefix("file:"))
        return
    found = execute(location)
    path = found.get("__file__") or ""
    names = _names(path) if path else {}
    for name, value in list(found.items()):
        line, is_unused = names.get(name, (0, False))
        if not name.startswith("_") and not isinstance(value, ModuleType):
            for kind, text in _values(value, name):
                yield name, line, kind + ("u" if is_unused else ""), text


# ---- files ----


def _is_toml(location: str) -> bool:
    return location.endswith(".toml")


def _text(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise _Refused(f"--config {path}: {error.strerror}") from None


def _toml(path: str) -> Iterator[Record]:
    """The file's table, or of pyproject.toml that of the tool."""
    text = _text(path)
    try:
        found = _parser()(text.decode())
    except (ValueError, RecursionError) as error:
        raise _Refused(f"{path}: {error}") from None
    is_project = os.path.basename(path) == "pyproject.toml"
    if is_project:
        found = found.get("tool", {}).get("fermata")
        if not isinstance(found, dict):
            raise _Refused(f"{path}: there is no table [tool.fermata]")
    lines = _toml_lines(text.decode(), "tool.fermata" if is_project else "")
    for name, value in found.items():
        for kind, shown in _values(value, name):
            yield name, lines.get(name, 0), kind + "u", shown


def _parser() -> Any:
    for name in ("tomllib", "tomli"):
        try:
            return importlib.import_module(name).loads
        except ModuleNotFoundError:
            continue
    version = ".".join(map(str, sys.version_info[:2]))
    raise _Refused(f"a file in TOML takes Python 3.11, or the package tomli for this one, which is Python {version}")


def _toml_lines(text: str, wanted: str) -> dict[str, int]:
    """On which line each key of a table stands: the parser does not say."""
    table, lines = "", dict[str, int]()
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line.startswith("["):
            table = line.strip("[] \t").split("]")[0].strip()
            inner = table.removeprefix(f"{wanted}.") if wanted else table
            if inner != table or not wanted:
                lines.setdefault(inner.split(".")[0].strip("\"' "), number)
        elif table == wanted and "=" in line:
            lines.setdefault(line.partition("=")[0].split(".")[0].strip("\"' \t"), number)
    return lines


# ---- names ----


def _names(path: str) -> dict[str, tuple[int, bool]]:
    """Each name that the file sets: on which line, the last time, and whether nothing in it uses the name."""
    try:
        tree = ast.parse(_text(path))
    except (SyntaxError, ValueError, _Refused):
        return {}  # it is compiled already, or what a module was made of
    lines: dict[str, int] = {}
    imported: set[str] = set()
    for node in _outside_of_functions(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines[node.name] = node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            lines[node.id] = node.lineno
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                name = (alias.asname or alias.name).partition(".")[0]
                lines[name] = node.lineno
                imported.add(name)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store)}
    return {name: (line, name not in used | imported) for name, line in lines.items()}


def _outside_of_functions(tree: ast.AST) -> Iterator[ast.AST]:
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    inner += (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, inner):
            yield from _outside_of_functions(node)


# ---- values ----


def _values(value: object, name: str) -> Iterator[tuple[str, str]]:
    """The letter of its type, and its text; several of a list or a dictionary."""
    if isinstance(value, (list, tuple)) and value:
        yield from (("l", _element(item)) for item in value)
    elif isinstance(value, Mapping) and value and name == "logconfig_dict":
        yield "j", json.dumps(value, default=_element)
    elif isinstance(value, Mapping) and value:
        yield from (("d", f"{key}={_element(item)}") for key, item in value.items())
    elif isinstance(value, (list, tuple, Mapping)):
        yield "e", ""
    elif value is None:
        yield "n", ""
    elif isinstance(value, bool):
        yield "b", str(value).lower()
    elif isinstance(value, int):
        yield "i", str(int(value))
    elif isinstance(value, float):
        yield "f", repr(float(value))
    elif isinstance(value, (str, os.PathLike)):
        yield "s", str(os.fspath(value))
    elif isinstance(value, type):
        yield "c", f"{value.__module__}.{value.__qualname__}"
    elif callable(value):
        yield "h", ""
    else:
        yield "o", type(value).__name__


def _element(value: object) -> str:
    return str(os.fspath(value)) if isinstance(value, os.PathLike) else str(value)


def _write(fd: int, records: list[Record]) -> None:
    texts = []
    for name, line, kind, value in [*records, (".", 0, "n", "")]:
        if "\0" in name + value:
            texts += ["!", "0", "s", f"{name} has a zero character in it"]
        else:
            texts += [name, str(line), kind, value]
    data = "".join(f"{text}\0" for text in texts).encode("utf-8", "surrogateescape")
    while data:
        data = data[os.write(fd, data) :]


# ---- what went wrong ----


def _trimmed(error: BaseException) -> Any:
    """The traceback without the frames of this file."""
    tb = error.__traceback__
    while tb is not None and ("importlib" in tb.tb_frame.f_code.co_filename or tb.tb_frame.f_code.co_filename == _HERE):
        tb = tb.tb_next
    return tb


def _place(location: str, error: BaseException) -> str:
    """Where in the file it was raised: FILE:LINE of the innermost frame that is in it."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}:{error.lineno}"
    path, line = location.removeprefix("file:"), 0
    for frame, number in traceback.walk_tb(_trimmed(error)):
        if frame.f_code.co_filename == path:
            line = number
    return f"{path}:{line}" if line else path


def _said(error: BaseException) -> str:
    text = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()[-1]
    return text if not isinstance(error, SystemExit) else f"it ended with SystemExit({error.code!r})"
