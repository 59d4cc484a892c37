"""Starts those servers that have no command of their own, or none with the settings that they need.

    python scripts/bench/launch.py bjoern|fastpysgi|fastwsgi|freastal MODULE:CALLABLE PORT

Runs with the interpreter and the packages of build/bench/venv.
"""

import importlib
import sys
from typing import Any


def bjoern(app: Any, port: int) -> None:
    import bjoern as server  # type: ignore

    server.run(app, "127.0.0.1", port)


def fastwsgi(app: Any, port: int) -> None:
    import fastwsgi as package  # type: ignore

    # As every other server here does, and to its advantage where a response is more than one write.
    package.server.tcp_nodelay = 1
    package.server.backlog = 4096  # the kernel makes it less where that is too many
    package.run(app, host="127.0.0.1", port=port, loglevel=package.LL_ERROR)


def fastpysgi(app: Any, port: int) -> None:
    import fastpysgi as package  # type: ignore

    package.server.tcp_nodelay = 1
    package.server.backlog = 4096
    package.run(app, host="127.0.0.1", port=port, loglevel=package.LL_ERROR)


def freastal(app: Any, port: int) -> None:
    import freastal as server  # type: ignore

    server.serve(app, "127.0.0.1", port)


SERVERS = {run.__name__: run for run in (bjoern, fastpysgi, fastwsgi, freastal)}


def main() -> None:
    name, where, port = sys.argv[1:]
    module, _, attribute = where.partition(":")
    SERVERS[name](getattr(importlib.import_module(module), attribute), int(port))


if __name__ == "__main__":
    main()
