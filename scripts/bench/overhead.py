"""An application called in a loop, in one process, without a server: the CPU time that no server can save.

    python scripts/bench/overhead.py MODULE:CALLABLE [--seconds S] [-H 'Name: value']...

Prints JSON.  The CPU time per call is what the application's own code takes: copying the environ for each call, which
is the server's work, is measured separately and taken off.
"""

import argparse
import importlib
import io
import json
import sys
import time
from collections.abc import Callable
from typing import Any

BATCH = 200


def make_environ(headers: list[str]) -> dict[str, Any]:
    """What a server makes of a GET with these header fields."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "loop",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1:8000",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for header in headers:
        name, _, value = header.partition(": ")
        environ["HTTP_" + name.upper().replace("-", "_")] = value
    return environ


def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
    if not status.startswith("200"):
        raise SystemExit(f"the application says {status}")


def call(app: Callable[..., Any], environ: dict[str, Any]) -> None:
    items = app(environ, start_response)
    for _ in items:
        pass
    if hasattr(items, "close"):
        items.close()


def cpu_per_call(action: Callable[[], object], seconds: float) -> tuple[float, int]:
    """Seconds of CPU for one call, and how often it was called."""
    end, calls, began = time.monotonic() + seconds, 0, time.process_time()
    while time.monotonic() < end:
        for _ in range(BATCH):
            action()
        calls += BATCH
    return (time.process_time() - began) / calls, calls


def main() -> None:
    parser = argparse.ArgumentParser(description="An application called in a loop, without a server.")
    parser.add_argument("app", metavar="MODULE:CALLABLE")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("-H", dest="headers", action="append", default=[], metavar="'NAME: VALUE'")
    options = parser.parse_args()
    sys.path.insert(0, "scripts/bench/apps")
    module, _, attribute = options.app.partition(":")
    app = getattr(importlib.import_module(module), attribute)
    environ = make_environ(options.headers)
    cpu_per_call(lambda: call(app, environ.copy()), min(0.4, options.seconds))  # warm-up
    copying, _ = cpu_per_call(environ.copy, options.seconds / 8)
    calling, calls = cpu_per_call(lambda: call(app, environ.copy()), options.seconds)
    print(json.dumps({"cpu_us": (calling - copying) * 1e6, "requests": calls, "seconds": options.seconds}))


if __name__ == "__main__":
    main()
