"""Requests that wait, sleep, or hold the GIL, for scripts/bench/status."""

import contextlib
import ctypes
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any
from urllib.parse import parse_qs

HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "5")]
gate: "Future[None]" = Future()

# Waits at as many lines as there are: each is a place of its own.
LINES = 4000
source = "def wait_at(n):\n" + "".join(f"    if n == {n}:\n        yield gate\n" for n in range(LINES))
places: dict[str, Any] = {"gate": gate}
exec(compile(source, "places.py", "exec"), places)  # noqa: S102


def wait(start_response: Callable[..., Any], n: int) -> Iterator[Any]:
    if n < LINES:
        yield from places["wait_at"](n)
    else:
        yield gate
    start_response("200 OK", HEADERS)
    yield b"over\n"


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[Any]:
    path, query = environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"])
    seconds = float(query.get("s", ["0"])[0])
    if path == "/park":
        return wait(start_response, int(query.get("line", [str(LINES)])[0]))
    if path == "/sleep":
        time.sleep(seconds)
    elif path == "/gil":  # PyDLL keeps the GIL while it calls
        with contextlib.suppress(OSError):
            ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    start_response("200 OK", HEADERS)
    return [b"hello"]
