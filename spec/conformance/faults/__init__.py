"""The reference server with one thing wrong, so that it can be seen that the suite sees it.

    python -m conformance.faults --fault S5.1 [options of wsgi_plus.simple_server] MODULE:CALLABLE

A fault is a class that overrides a piece of wsgi_plus.simple_server, registered under the number of the requirement that
it breaks, with a word where there are several: "S5.6-fast".  Its docstring says what is wrong.  For each the cases of that
requirement are run in tests/wsgi_plus/conformance/test_conformance_faults.py: one of them has to fail.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from wsgi_plus import simple_server
from wsgi_plus.simple_server import Connection, Output, Request, Server, Wait
from wsgi_plus.simple_server._http import Reader

__all__ = ["FAULTS", "Connection", "Output", "Reader", "Request", "Server", "Wait", "fault", "load", "server_class"]

T = TypeVar("T", bound=type)

FAULTS: defaultdict[str, list[type]] = defaultdict(list)
"""By name: the classes that replace those of simple_server."""


def fault(*names: str) -> Callable[[T], T]:
    """Registers a class as what is wrong under each of these names."""

    def register(made: T) -> T:
        for name in names:
            FAULTS[name].append(made)
        return made

    return register


def load() -> dict[str, list[type]]:
    """All of them."""
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")):
        importlib.import_module(f"{__name__}.{module}")
    return dict(FAULTS)


def server_class(name: str) -> type[Server]:
    """The server with that fault: several classes under one name go together."""
    base: type[Server] = Server
    made: dict[str, Any] = {}
    for wrong in FAULTS[name]:
        if issubclass(wrong, Server):
            base = wrong
        elif issubclass(wrong, Connection):
            made["connection_class"] = wrong
        elif issubclass(wrong, Request):
            made["request_class"] = wrong
        elif issubclass(wrong, Wait):
            made["request_class"] = type("WrongRequest", (Request,), {"wait_class": wrong})
        else:
            raise TypeError(f"{wrong} replaces nothing")
    return type("WrongServer", (base,), made)


def main(arguments: list[str]) -> int:
    """The command."""
    found = load()
    if len(arguments) < 2 or arguments[0] != "--fault" or arguments[1] not in found:
        raise SystemExit(f"usage: --fault {{{','.join(found)}}} [options] MODULE:CALLABLE")
    return simple_server.main(arguments[2:], server_class=server_class(arguments[1]))
