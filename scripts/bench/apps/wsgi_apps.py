"""The WSGI applications that are measured: one callable a workload, so that no routing is measured with it.

Each does as little as it can, and exactly the same on every server.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

TEXT = ("Content-Type", "text/plain")
BINARY = ("Content-Type", "application/octet-stream")

HELLO = b"Hello, world!\n"
BLOCK = b"x" * 100
BODY_64K = b"x" * (64 * 1024)
BODY_1M = b"x" * (1024 * 1024)
FILE_BLOCK = 64 * 1024


class Timed:
    """An application that says at /cpu how often it was called and what CPU time its own code has taken.

    Calling it, iterating and closing its response are all timed; the server's start_response is not.  The servers get a
    response that is finished, so what they do is the same as for any list of one block.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self._times: list[int] = []  # append is atomic, += is not

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/cpu":
            return self.report(start_response)
        head: list[Any] = []
        began = time.thread_time_ns()
        items = self.app(environ, lambda *arguments: head.extend(arguments))
        body = list(items)
        if hasattr(items, "close"):
            items.close()
        self._times.append(time.thread_time_ns() - began)
        start_response(*head)
        return body

    def report(self, start_response: StartResponse) -> Iterable[bytes]:
        """Calls and nanoseconds since the last report."""
        times, self._times = self._times, []
        said = b"%d %d\n" % (len(times), sum(times))
        start_response("200 OK", [TEXT, ("Content-Length", str(len(said)))])
        return [said]


def hello(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """One small block with its length."""
    start_response("200 OK", [TEXT, ("Content-Length", "14")])
    return [HELLO]


def blocks3(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """A generator of 3 blocks; its length is not known beforehand."""
    start_response("200 OK", [TEXT])
    for _ in range(3):
        yield BLOCK


def blocks100(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """A generator of 100 blocks."""
    start_response("200 OK", [TEXT])
    for _ in range(100):
        yield BLOCK


def body64k(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """64 KB that are in memory already."""
    start_response("200 OK", [BINARY, ("Content-Length", str(len(BODY_64K)))])
    return [BODY_64K]


def body1m(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """1 MB that is in memory already."""
    start_response("200 OK", [BINARY, ("Content-Length", str(len(BODY_1M)))])
    return [BODY_1M]


def file_blocks(file: Any, size: int) -> Iterator[bytes]:
    """What an application does where the server has no file_wrapper."""
    with file:
        while block := file.read(size):
            yield block


def file100m(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The file BENCH_FILE, by the server's file_wrapper if there is one."""
    path = os.environ["BENCH_FILE"]
    start_response("200 OK", [BINARY, ("Content-Length", str(os.path.getsize(path)))])
    wrapper = environ.get("wsgi.file_wrapper", file_blocks)
    return wrapper(open(path, "rb"), FILE_BLOCK)  # type: ignore[no-any-return]


def echo(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """What was posted, sent back."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [BINARY, ("Content-Length", str(len(body)))])
    return [body]


REALISTIC_HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Length", "14"),
    ("Cache-Control", "no-cache, private"),
    ("Vary", "Accept-Encoding, Cookie"),
    ("ETag", '"5d8c72a5edda8d6a"'),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Set-Cookie", "seen=1; Path=/; HttpOnly; SameSite=Lax"),
]


def realistic(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A head as browsers send it, and one as frameworks answer with: cookies looked at, eight fields sent."""
    environ.get("HTTP_COOKIE", "").partition("=")
    environ.get("HTTP_ACCEPT_LANGUAGE", "")
    start_response("200 OK", list(REALISTIC_HEADERS))
    return [HELLO]


def sleep5(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Waits 5 ms, as for a database."""
    time.sleep(0.005)
    start_response("200 OK", [TEXT, ("Content-Length", "14")])
    return [HELLO]


def short(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """/800 waits 0.8 ms, as for an answer of Redis or a small query."""
    time.sleep(int(environ["PATH_INFO"][1:] or 0) / 1e6)
    start_response("200 OK", [TEXT, ("Content-Length", "14")])
    return [HELLO]


def mixed(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """/block waits 200 ms, everything else says hello at once."""
    if environ["PATH_INFO"] == "/block":
        time.sleep(0.2)
    start_response("200 OK", [TEXT, ("Content-Length", "14")])
    return [HELLO]
