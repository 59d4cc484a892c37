"""Fermata as a module of the Python that runs: the command is in ``__main__``, and a script calls `run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["run"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from typing_extensions import Unpack

    from ._table import Options

_given: dict[str, Callable[..., Iterable[Any]]] = {}  # to `run`, by its name: the loader takes it from here


def run(application: Callable[..., Iterable[Any]] | str, /, **options: Unpack[Options]) -> int:
    """Serves until SIGTERM, SIGINT or SIGQUIT, drains, and returns.

    The options are those of the command line, with underscores: ``run(app, bind="0.0.0.0:8000", threads=16)``.  What a
    script does by itself is none of them: its directory, its environment, ``sys.path``, processes.

    It runs once in a process, in the main thread of the main interpreter.  Signals, and the limit of open files, are the
    server's meanwhile; handlers are put back at the end.  A server that cannot do its last steps within two seconds of
    ``graceful_timeout`` ends the process, as the command does; so does an application named by a string that cannot be
    imported.

    :param application: a WSGI or WSGI+ callable, or ``"MODULE:CALLABLE"``
    :return: what the command would exit with: 0 when it has drained, 2 if an option is wrong and 1 if it could not
        start, both of which is said on standard error
    :raises RuntimeError: not here, or not once more
    :raises TypeError: an option that there is not, or an application that cannot be called
    """
    import signal

    from . import _server
    from ._options import arguments

    _server.check()
    if not isinstance(application, str) and not callable(application):
        raise TypeError(f"application is {type(application).__name__}, which cannot be called")
    name = _name(application)
    argv = ["fermata", *arguments(options), "--", name]
    if not isinstance(application, str):
        _given[name] = application
    sigint, wakeup = signal.getsignal(signal.SIGINT), signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    code = _server.run(argv)
    _given.clear()
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    if sigint is not None:  # one of C's, which the server has put back itself
        signal.signal(signal.SIGINT, sigint)
    return code


def _name(application: Callable[..., Iterable[Any]] | str) -> str:
    """How it is named, on the command line and in the log."""
    if isinstance(application, str):
        return application
    names = [getattr(application, name, getattr(type(application), name)) for name in ("__module__", "__qualname__")]
    return ":".join(map(str, names))
