"""Runs the hooks that a configuration file defines.  Compiled into the binary; in a worker, and in the hook process of an
arbiter, each of which executes the file for its functions."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import _fermata_settings as settings

__all__ = ["call", "load", "serve", "wrap"]

_HOOKS = {  # with how many arguments each may be called, the most first
    "on_starting": (1,),
    "when_ready": (1,),
    "pre_fork": (2,),
    "child_exit": (2,),
    "on_reload": (1,),
    "nworkers_changed": (3,),
    "on_exit": (1,),
    "post_fork": (2,),
    "post_worker_init": (1,),
    "worker_int": (1,),
    "worker_abort": (1,),
    "worker_exit": (2,),
    "pre_request": (2,),
    "post_request": (4, 3, 2),
}

_LEVELS = {"debug": 0, "info": 1, "warning": 2, "warn": 2, "error": 3, "critical": 4, "exception": 3}
_LOGGING = {10: 0, 20: 1, 30: 2, 40: 3, 50: 4}  # numbers of the logging module


class _Log:
    """What hooks take for gunicorn's logger: lines go to the server's log."""

    def __init__(self, emit: Callable[[int, str], object]) -> None:
        self._emit = emit
        self.error_log = self.access_log = self

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in _LEVELS:
            raise AttributeError(name)

        def write(message: object, *arguments: Any, exc_info: object = None, **_: object) -> None:
            self._write(_LEVELS[name], message, arguments, exc_info or name == "exception")

        return write

    def log(self, level: object, message: object, *arguments: Any, exc_info: object = None, **_: object) -> None:
        number = _LEVELS.get(str(level).lower(), _LOGGING.get(level, 1) if isinstance(level, int) else 1)
        self._write(number, message, arguments, exc_info)

    def _write(self, level: int, message: object, arguments: tuple[Any, ...], exc_info: object) -> None:
        one = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], dict) else arguments
        text = str(message) % one if arguments else str(message)
        if exc_info:
            text += "\n" + traceback.format_exc().rstrip()
        for line in text.splitlines() or [""]:
            self._emit(level, line)


class _Config:
    """All settings under gunicorn's names, what else the file defines, and None for gunicorn's that there are not."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)
        self.settings = values


_functions: dict[str, tuple[Callable[..., object], int]] = {}
_server = SimpleNamespace()
_worker = SimpleNamespace()


def load(location: str, shown: str, pid: int, age: int, emit: Callable[[int, str], object]) -> None:
    """Executes the file.  shown is what --print-config prints, pid the arbiter's, age the worker's slot."""
    values = dict(_shown(shown))
    defined = settings.execute(location)
    names = {name: value for name, value in defined.items() if not name.startswith("_")}
    log, config = _Log(emit), _Config({**names, **values})
    _functions.update(_hooks(defined))
    _server.__dict__.update(
        log=log,
        cfg=config,
        pid=pid,
        num_workers=values.get("workers") or 1,
        address=values.get("bind") or [],
        proc_name=values.get("proc_name") or "fermata",
        app=SimpleNamespace(cfg=config),
        WORKERS={},
    )
    _worker.__dict__.update(_new_worker(os.getpid(), age, log, config).__dict__)


def _new_worker(pid: int, age: int, log: _Log, config: _Config) -> SimpleNamespace:
    return SimpleNamespace(
        log=log, cfg=config, pid=pid or "[booting]", ppid=_server.pid, age=age, alive=True, booted=True, nr=0, timeout=0
    )


def _shown(text: str) -> Iterator[tuple[str, Any]]:
    decoder = json.JSONDecoder()
    for line in text.splitlines():
        name, equals, rest = line.removeprefix("# ").partition(" = ")
        if not equals:
            continue
        yield name, None if line.startswith("# ") else decoder.raw_decode(rest)[0]


def _hooks(defined: dict[str, Any]) -> Iterator[tuple[str, tuple[Callable[..., object], int]]]:
    for name, arities in _HOOKS.items():
        hook = defined.get(name)
        if isinstance(hook, str):
            module, _, attribute = hook.rpartition(".")
            hook = getattr(importlib.import_module(module), attribute)
        if hook is not None:
            yield name, (hook, _arity(hook, arities))


def _arity(hook: Callable[..., object], arities: tuple[int, ...]) -> int:
    """With how many arguments it is called: as many as it takes, where that is a number that the hook may have."""
    code = getattr(hook, "__code__", None)
    taken = code.co_argcount - (hasattr(hook, "__self__")) if code else arities[0]
    return taken if taken in arities else arities[0]


def call(name: str, *numbers: int) -> bool:
    """Calls a hook, if there is one: what it raises is logged.  Whether it has raised nothing.

    numbers: of child_exit and pre_fork the worker's pid and slot, of nworkers_changed the new and the old number."""
    if name not in _functions:
        return True
    arguments: tuple[object, ...] = (_server,)
    if name in ("pre_fork", "child_exit") and numbers:
        arguments = (_server, _new_worker(numbers[0], numbers[1], _server.log, _server.cfg))
    elif name == "nworkers_changed":
        _server.num_workers = numbers[0]
        arguments = (_server, *numbers)
    elif name in ("post_fork", "worker_exit", "pre_fork", "child_exit"):
        arguments = (_server, _worker)
    elif name in ("post_worker_init", "worker_int", "worker_abort"):
        arguments = (_worker,)
    return _run(name, *arguments)


def _run(name: str, *arguments: object) -> bool:
    hook, arity = _functions[name]
    try:
        hook(*arguments[:arity])
    except Exception:
        _server.log.exception("Exception in the hook %s", name)
        return False
    return True


# ---- around requests ----


class _Request:
    """What hooks take for gunicorn's request."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ
        self.method = environ["REQUEST_METHOD"]
        self.uri = environ.get("REQUEST_URI", "")
        self.path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        self.query = environ.get("QUERY_STRING", "")
        self.fragment = ""
        self.scheme = environ.get("wsgi.url_scheme", "http")
        self.version = tuple(int(part) for part in environ["SERVER_PROTOCOL"].partition("/")[2].split("."))
        self.remote_addr = (environ.get("REMOTE_ADDR", ""), environ.get("REMOTE_PORT", ""))

    @property
    def headers(self) -> list[tuple[str, str]]:
        found = [(name[5:], value) for name, value in self.environ.items() if name.startswith("HTTP_")]
        found += [(name, self.environ[name]) for name in ("CONTENT_TYPE", "CONTENT_LENGTH") if self.environ.get(name)]
        return [(name.replace("_", "-"), value) for name, value in found]


class _Response:
    """What hooks take for gunicorn's response, as far as the application's part of it goes."""

    def __init__(self) -> None:
        self.status = ""
        self.status_code = 0
        self.headers: list[tuple[str, str]] = []
        self.response_length: int | None = None
        self.sent = 0

    def start(self, status: str, headers: list[tuple[str, str]]) -> None:
        self.status, self.headers = status, list(headers)
        self.status_code = int(status[:3]) if status[:3].isdigit() else 0
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        self.response_length = int(lengths[0]) if lengths and lengths[0].isdigit() else None


class _Closing:
    """An iterable that calls back when the server has closed it.  What is iterated is the application's own iterator."""

    def __init__(self, iterable: Iterable[Any], over: Callable[[], None]) -> None:
        self._iterable, self._over = iterable, over

    def __iter__(self) -> Iterator[Any]:
        return iter(self._iterable)

    def close(self) -> None:
        try:
            close = getattr(self._iterable, "close", None)
            if close is not None:
                close()
        finally:
            self._over()


def wrap(application: Callable[..., Iterable[Any]]) -> Callable[..., Iterable[Any]]:
    """The application with pre_request and post_request around it; itself where there is neither."""
    before, after = "pre_request" in _functions, "post_request" in _functions
    if not (before or after):
        return application

    numbers = itertools.count(1)

    def wrapped(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[Any]:
        request, response = _Request(environ), _Response()

        def start(status: str, headers: list[tuple[str, str]], *rest: Any, **more: Any) -> Any:
            written = start_response(status, headers, *rest, **more)
            response.start(status, headers)
            return written

        def over() -> None:
            _run("post_request", _worker, request, environ, response)

        _worker.nr = next(numbers)
        if before:
            hook, arity = _functions["pre_request"]
            hook(*(_worker, request)[:arity])  # what it raises is the request's failure
        if not after:
            return application(environ, start_response)
        iterable: Iterable[Any] = ()
        try:
            iterable = application(environ, start)
        except BaseException:
            over()
            raise
        # What has no close() of its own is given back as it is, so that its length is known, or a file is sent as one.
        if type(iterable) in (list, tuple) or type(iterable) is environ.get("wsgi.file_wrapper"):
            if type(iterable) in (list, tuple):
                response.sent = sum(len(block) for block in iterable if isinstance(block, bytes))
            over()
            return iterable
        return _Closing(iterable, over)

    return wrapped


# ---- the hook process ----


def serve(fd: int) -> int:
    """Calls the hooks that lines from fd name, in their order, and answers each with a byte, until the other side
    closes.  The exit code."""
    os.set_inheritable(fd, False)
    with open(fd, "rb") as lines, contextlib.suppress(ConnectionError):
        for line in lines:
            name, *numbers = line.decode().split()
            call(name, *map(int, numbers))
            sys.stdout.flush()
            sys.stderr.flush()
            with contextlib.suppress(ConnectionError):  # another file is read: what was told before is called still
                os.write(fd, b"\n")
    return 0
