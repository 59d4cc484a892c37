"""The command ``python -m wsgi_plus.simple_server``."""

from __future__ import annotations

import argparse
import ast
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

from .._types import Application
from ._server import Server

__all__ = ["main"]

log = logging.getLogger("wsgi_plus.simple_server")

Number = TypeVar("Number", int, float)

OPTIONS = {
    "threads": "threads that run the application",
    "request-timeout": "time from a complete request to the end of its response; 0 is off",
    "graceful-timeout": "time for requests to end after SIGTERM",
    "send-timeout": "time without the client taking a byte; 0 is off",
    "keep-alive": "how long an idle connection is kept",
    "header-timeout": "time for a whole request head; 0 is off",
    "body-timeout": "time without a byte of the request body; 0 is off",
    "limit-request-body": "largest request body, in bytes",
}


def _within(kind: Callable[[str], Number], least: Number, most: Number) -> Callable[[str], Number]:
    def parse(text: str) -> Number:
        with suppress(ValueError):
            if least <= kind(text) <= most:
                return kind(text)
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {least} to {most}")

    return parse


def _bind(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wsgi_plus.simple_server", allow_abbrev=False, description="Serves a WSGI or WSGI+ application."
    )
    parser.add_argument(
        "app",
        metavar="MODULE[:CALLABLE]",
        help="CALLABLE may be dotted, or a call with literals; else application or app",
    )
    parser.add_argument("-b", "--bind", metavar="HOST:PORT", type=_bind, default="127.0.0.1:8000", help="[%(default)s]")
    defaults = Server.__init__.__kwdefaults__ or {}
    for name, text in OPTIONS.items():
        default = defaults[name.replace("-", "_")]
        kind: Any = _within(int, 1, 1 << 40) if isinstance(default, int) else _within(float, 0.0, 1e9)
        metavar = "N" if isinstance(default, int) else "SEC"
        parser.add_argument(f"--{name}", metavar=metavar, type=kind, default=default, help=f"{text} [%(default)s]")
    parser.add_argument(
        "--allow-half-close", action="store_true", help="a client that ended its data still gets what is parked"
    )
    parser.add_argument("--chdir", metavar="DIR", default=".", help="change to it before the application is loaded")
    parser.add_argument("--pythonpath", metavar="DIRS", default="", help="to put on sys.path, separated by commas")
    return parser


def _load(target: str) -> Application:
    name, _, wanted = target.partition(":")
    module = importlib.import_module(name)
    tree = ast.parse(wanted or ("application" if hasattr(module, "application") else "app"), mode="eval").body
    call = tree if isinstance(tree, ast.Call) else None
    found: Any = module
    for part in ast.unparse(call.func if call else tree).split("."):
        found = getattr(found, part)
    if call is not None:
        words = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        found = found(*map(ast.literal_eval, call.args), **words)
    if not callable(found):
        raise TypeError(f"{target} is not callable")
    return cast(Application, found)


def main(arguments: Sequence[str] | None = None, *, server_class: type[Server] = Server) -> int:
    """The command.  Serves until SIGTERM or SIGINT, which drain; the second SIGINT ends at once.  SIGUSR1 logs what is
    parked (S12.6)."""
    logging.basicConfig(
        level=logging.INFO,
        format="[%(asctime)s] [%(process)d] [%(levelname)s] %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S %z",
    )
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    (host, port), target = options.pop("bind"), options.pop("app")
    try:
        os.chdir(options.pop("chdir"))
    except OSError as error:
        parser.error(f"argument --chdir: {error}")
    sys.path[:0] = [*filter(None, options.pop("pythonpath").split(",")), os.getcwd()]
    try:
        app = _load(target)
    except BaseException:
        traceback.print_exc()
        return 3
    try:
        server = server_class(app, host=host, port=port, **options)
    except OSError as error:
        log.error("Cannot listen on %s port %d: %s", host, port, error)
        return 1

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        server.shutdown()

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, lambda _number, _frame: server.shutdown())
    signal.signal(signal.SIGUSR1, lambda _number, _frame: server.call(server.log_parked))
    log.info("Listening at: %s", server.url)
    server.serve_forever()
    # The end may be asked for again.  Python gives its own handlers up when it is finalized, which would be death by the
    # signal; what is ignored stays ignored.
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    return 0
