"""Finds the application that the command line names.  Compiled into the C code; runs once, on the main thread."""

from __future__ import annotations

import ast
import importlib
import io
import os
import signal
import sys
import traceback
import warnings
from types import TracebackType
from typing import Any, TextIO

__all__ = ["cause", "failure", "gil_module", "load", "prepare", "set_up_logging", "watch_signals"]

_HERE = "<fermata/loader.py>"  # what the C code calls it: no file, which coverage would look for
_DEFAULT_NAMES = ("application", "app")

# Libraries that put cooperative threads in the place of real ones: the module, its function that says whether it has
# done so, what that takes for threads.
_GREEN_THREADS = (
    ("gevent.monkey", "is_module_patched", ("threading", "_thread", "thread")),
    ("eventlet.patcher", "is_monkey_patched", ("thread",)),
)


class _Refused(Exception):
    """The specification leads to no application; the message says why."""


class _Stopped(KeyboardInterrupt):
    """The process was told to end while the application was being loaded."""


_loading = False
_failed: tuple[BaseException, TracebackType | None, str] | None = None  # of the last load: why, where, what was said


# In a free-threaded Python the GIL is off when it starts, and a library in C that does not say that it can do without
# turns it on.  CPython names it in a warning.
_gil_is_off = not getattr(sys, "_is_gil_enabled", lambda: True)()
_gil_warning = "The global interpreter lock (GIL) has been enabled to load module '"
_gil_module = ""


def gil_module() -> str | None:
    """The module for which the GIL was turned on, "" if none is known; None if Python was started with a GIL."""
    return _gil_module if _gil_is_off else None


def _watch_gil() -> None:
    shown = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        global _gil_module
        text = str(message)
        if not _gil_module and text.startswith(_gil_warning):
            _gil_module = text[len(_gil_warning) :].partition("'")[0]
        shown(message, category, filename, lineno, file, line)

    warnings.showwarning = show


def _stop(_number: int, _frame: object) -> None:
    if _loading:
        raise _Stopped


def prepare() -> None:
    """Has Python call _stop on the main thread when the server simulates a SIGINT, which is how it interrupts an import.
    The server then takes the signal itself back."""
    signal.signal(signal.SIGINT, _stop)
    if _gil_is_off:
        _watch_gil()


def set_up_logging(
    config: str | None, config_json: str | None, config_dict: str | None, by_lines: bool = False
) -> bool:
    """Applies what the options say to Python's logging; False after saying on standard error why it cannot be applied.

    As with gunicorn the dictionary comes before the JSON file, which comes before the ini file, in which %(here)s is its
    directory; loggers that there are stay enabled.
    """
    global _loading
    if by_lines:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(line_buffering=True)
    option = (
        "logconfig_dict"
        if config_dict
        else f"--log-config-json {config_json}"
        if config_json
        else f"--log-config {config}"
    )
    try:
        try:
            _loading = True

            if config_dict:
                _apply(_from_json(config_dict))
            elif config_json:
                with open(config_json, encoding="utf-8") as file:
                    _apply(_from_json(file.read()))
            elif config:
                _apply_ini(config)
        finally:
            _loading = False
    except _Stopped:
        return False  # the server says so
    except Exception as error:
        why: BaseException | None = error
        while why is not None:  # logging.config says where, and the cause why
            print(f"fermata: {option}: {type(why).__name__}: {why}", file=sys.stderr)
            why = why.__cause__
        return False
    return True


def _from_json(text: str) -> object:
    import json  # here, as what follows: only who asks for it is to have it, and a project may have a json.py

    return json.loads(text)


def _apply(found: object) -> None:
    from logging.config import dictConfig

    if not isinstance(found, dict):
        raise TypeError(f"it is a {type(found).__name__}, and takes a dictionary")
    dictConfig({"version": 1, "disable_existing_loggers": False, **found})


def _apply_ini(path: str) -> None:
    from logging.config import fileConfig

    defaults = {"__file__": path, "here": os.path.dirname(path)}
    defaults = {name: value.replace("%", "%%") for name, value in defaults.items()}
    fileConfig(path, defaults=defaults, disable_existing_loggers=False)


def load(spec: str) -> Any:
    """Returns the callable that ``MODULE[:CALLABLE]`` names, or None after saying on standard error why not.

    CALLABLE is a name, dotted or not, or one call of it with literal arguments: ``shop:create_app("prod", debug=True)``.
    Without it ``application``, then ``app``, is looked for.
    """
    global _loading
    try:
        try:
            _loading = True
            given = getattr(sys.modules.get("fermata_server"), "_given", {})  # by a script that calls `run`
            return given.pop(spec) if spec in given else _load(spec)
        finally:
            _loading = False
            _refuse_green_threads()  # which is why the import may have failed
    except _Stopped:
        pass  # the server says so
    except _Refused as reason:
        _fail(reason, None, f"cannot load {spec!r}: {reason}")
    except SystemExit as exit:
        _fail(exit, exit.__traceback__, f"cannot load {spec!r}: it ended with SystemExit({exit.code!r})")
    except BaseException as error:
        _fail(error, _trimmed(error), f"cannot load {spec!r}: see the traceback above{_advice(spec, error)}")
    return None


def failure() -> str | None:
    """What the last load has said; None if it has not failed."""
    if _failed is None:
        return None
    error, tb, said = _failed
    lines = [] if isinstance(error, _Refused) else traceback.format_exception(type(error), error, tb)
    return f"{''.join(lines)}fermata: {said}\n"


def cause() -> BaseException | None:
    """The exception of it."""
    return _failed[0] if _failed is not None else None


def _fail(error: BaseException, tb: TracebackType | None, said: str) -> None:
    global _failed
    _failed = error, tb, said
    if not isinstance(error, _Refused):
        traceback.print_exception(type(error), error, tb)
    print(f"fermata: {said}", file=sys.stderr, flush=True)


def watch_signals(fd: int) -> bool | None:
    """Has Python write a byte to fd for each signal that the application handles; whether it does. None: there are none.

    Handlers run on the main thread, which sleeps; but a signal may be taken by any thread, SIGCHLD by the one that has
    forked.  Handlers can only be set on the main thread, so there will be no others later.
    """
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    if not any(callable(handler) and handler is not _stop for handler in handlers):
        return None
    before = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    if before != -1:
        signal.set_wakeup_fd(before)
    return before == -1


def _trimmed(error: BaseException) -> TracebackType | None:
    """The traceback without the frames of this file and of importlib, which say nothing about the application."""
    tb = error.__traceback__
    while tb is not None and ("importlib" in tb.tb_frame.f_code.co_filename or tb.tb_frame.f_code.co_filename == _HERE):
        tb = tb.tb_next
    return tb


def _load(spec: str) -> Any:
    module_name, colon, expression = spec.partition(":")
    if not module_name or (colon and not expression.strip()):
        raise _Refused("it must be MODULE[:CALLABLE]")
    if "/" in module_name:
        raise _Refused(f"that is the name of a file, not of a module: {_of_file(module_name, colon + expression)}")
    module = importlib.import_module(module_name)
    if not colon:
        return _default(module)
    found = _evaluate(module, module_name, expression)
    if not callable(found):
        raise _Refused(f"{expression!r} is {type(found).__name__}, which cannot be called")
    return found


def _of_file(path: str, rest: str) -> str:
    """How the module in that file is named on the command line."""
    path = path.removesuffix(".py").removeprefix("./")
    if path.startswith(("/", ".")):
        directory, _, name = path.rpartition("/")
        return f"--chdir {directory or '/'} {name}{rest}"
    return path.replace("/", ".") + rest


def _advice(spec: str, error: BaseException) -> str:
    """What to do about the error, where that is likely."""
    if not isinstance(error, ModuleNotFoundError):
        return ""
    module_name, colon, expression = spec.partition(":")
    if error.name == module_name and module_name.endswith(".py"):
        return f"; a module is named without .py: {_of_file(module_name, colon + expression)}"
    if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
        return ""  # the application itself is not there
    if sys.prefix != sys.base_prefix:
        return ""
    if "fermata_server" in sys.modules:  # which is installed in one, or not
        return f"; {sys.executable} is what runs, and no virtual environment's"
    return "; no virtual environment is in use: --venv DIR names one"


def _refuse_green_threads() -> None:
    """Raises if the application's import has replaced what the server's threads are made of."""
    for name, function, wanted in _GREEN_THREADS:
        module = sys.modules.get(name)
        is_patched = getattr(module, function, None)
        if is_patched is not None and any(is_patched(what) for what in wanted):
            library = name.partition(".")[0]
            raise _Refused(
                f"it has replaced Python's threads by those of {library}; threads are real here, and waiting requests "
                f"need none: take the monkey-patching of {library} out of the application"
            )


def _default(module: Any) -> Any:
    """``from .application import app`` in a package makes ``application`` a name of the package too: a module is passed
    over."""
    modules = []
    for name in _DEFAULT_NAMES:
        found = getattr(module, name, None)
        if isinstance(found, type(sys)):
            modules.append(found.__name__)
        elif found is not None:
            if not callable(found):
                raise _Refused(f"{name!r} is {type(found).__name__}, which cannot be called")
            return found
    hint = f"name the callable as {modules[0] if modules else 'MODULE'}:CALLABLE"
    raise _Refused(f"module {module.__name__!r} has neither 'application' nor 'app'; {hint}")


def _evaluate(module: Any, module_name: str, expression: str) -> Any:
    try:
        node: ast.expr = ast.parse(expression.strip(), mode="eval").body
    except SyntaxError:
        raise _Refused(f"{expression!r} is neither a name nor a call") from None
    if not isinstance(node, ast.Call):
        return _look_up(module, module_name, node, expression)
    factory = _look_up(module, module_name, node.func, expression)
    try:
        args = [ast.literal_eval(arg) for arg in node.args]
        kwargs = {str(kw.arg): ast.literal_eval(kw.value) for kw in node.keywords if kw.arg is not None}
    except ValueError:
        raise _Refused(f"the arguments in {expression!r} must be literals") from None
    if len(kwargs) != len(node.keywords):
        raise _Refused(f"the arguments in {expression!r} must be literals")
    if not callable(factory):
        raise _Refused(f"{ast.unparse(node.func)!r} is {type(factory).__name__}, which cannot be called")
    return factory(*args, **kwargs)


def _look_up(module: Any, module_name: str, node: ast.expr, expression: str) -> Any:
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise _Refused(f"{expression!r} is neither a name nor a call of one")
    names.append(node.id)
    found, path = module, module_name
    for name in reversed(names):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise _Refused(f"{path!r} has no attribute {name!r}") from None
        path = f"{path}.{name}"
    return found
