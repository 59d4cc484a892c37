"""What the command does to the Python that it finds running.  Called by the C code (src/py/host.c), on the main thread."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

__all__ = ["again", "prepare"]


def prepare(venv: bytes | None, arguments: Iterable[bytes], variables: Iterable[bytes]) -> str | None:
    """Has os.environ follow --env, and sys.argv be the application's; or says why --venv cannot be taken.

    :param venv: what --venv names
    :param arguments: those that follow --
    :param variables: the environment as the C code has it, NAME=VALUE each
    """
    if venv is not None and not _is_ours(venv):
        return (
            f"--venv {os.fsdecode(venv)}: this fermata belongs to the Python in {sys.prefix}; "
            "install fermata-server in that environment, and start the one there"
        )
    _follow(variables)
    _open_streams()
    sys.argv[1:] = map(os.fsdecode, arguments)
    return None


def again(argv: list[bytes]) -> list[str | bytes]:
    """The arguments of a Python that does the same as this one: an arbiter's workers.

    This is ``python -m fermata_server`` but for the current directory, which -m would put in front of sys.path while
    Python is still about to start: a project's own ``types.py`` would be taken for the library's.
    """
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]  # as multiprocessing does

    if not sys.executable:
        raise RuntimeError("sys.executable is empty: this Python does not know which program it is")
    main = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
    return [sys.executable, *_args_from_interpreter_flags(), main, *argv[1:]]


def _is_ours(venv: bytes) -> bool:
    try:
        return os.path.samefile(venv, os.fsencode(sys.prefix))
    except OSError:
        return False


def _open_streams() -> None:
    """Python has none where the command was started without; the C code has opened /dev/null there since."""
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))


def _follow(variables: Iterable[bytes]) -> None:
    """os.environ is a copy, which was made when Python started."""
    now = dict(text.split(b"=", 1) for text in variables if b"=" in text[1:])
    for name in [name for name in os.environb if name not in now]:
        del os.environb[name]
    for name, value in now.items():
        if os.environb.get(name) != value:
            os.environb[name] = value
            if name.startswith(b"PYTHON"):
                said = f"fermata: --env {os.fsdecode(name)}: Python has read its environment when it started"
                print(f"{said}; set it before the command", file=sys.stderr, flush=True)
