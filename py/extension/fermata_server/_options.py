"""From the keywords of `fermata_server.run` to a command line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from ._table import FLAGS

__all__ = ["arguments"]

# What a script does itself, in its own process.
_SCRIPTS_OWN = {
    "chdir": "os.chdir",
    "env": "os.environ",
    "preload": "the command's workers",
    "pythonpath": "sys.path",
    "reload": "the command",
    "venv": "the Python that runs it",
    "workers": "the command, fermata --workers: its workers are processes that start anew",
}


def arguments(options: Mapping[str, object]) -> list[str]:
    """The options as words of a command line.  None is as if it were not there; what a value may be is the C code's to
    say.  TypeError: there is no such option."""
    words: list[str] = []
    for name, value in options.items():
        if name not in FLAGS:
            instead = f"; that is for {_SCRIPTS_OWN[name]}" if name in _SCRIPTS_OWN else ""
            raise TypeError(f"run() has no option {name!r}{instead}")
        flag, how = FLAGS[name]
        if how == "flag":
            words += [flag] if value else []
        elif value is not None:
            words += [f"{flag}={text}" for text in _texts(how, value)]
    return words


def _texts(how: str, value: object) -> list[str]:
    if isinstance(value, (str, os.PathLike)):
        return [os.fspath(value)]
    if how == "octal" and isinstance(value, int):
        return [oct(value)]
    if isinstance(value, Iterable):
        texts = [str(one) for one in value]
        return texts if how == "repeat" else [",".join(texts)]
    return [str(value)]
