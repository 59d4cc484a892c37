"""A streaming proxy for slow upstreams: any number of requests in flight, on two threads and an asyncio loop.

    build/fermata --threads 2 --chdir examples proxy:app
    curl "http://127.0.0.1:8000/slow?ms=300"
    for i in $(seq 200); do curl -s "http://127.0.0.1:8000/slow?ms=2000" & done; wait    # a few seconds in all
    curl -N http://127.0.0.1:8000/stream
    curl -i http://127.0.0.1:8000/fail

The upstream is http://HOST:PORT or https://HOST:PORT in UPSTREAM; without it the toy one of slow_upstream.py is
started on a free port in this process. UPSTREAM_TIMEOUT is how long it may keep silent, in seconds (30).

The application (app, below) is the whole idea; what follows it is a small HTTP/1.1 client for asyncio. Every
wait for the upstream is a future that the request is parked on, one piece of the body at a time: so a slow client
slows its upstream down, and a client that leaves takes its upstream request with it. Connections to the upstream
are not reused, to keep the example short.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import re
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Headers = list[tuple[str, str]]
P = ParamSpec("P")
T = TypeVar("T")

UPSTREAM = os.environ.get("UPSTREAM", "")
TIMEOUT = float(os.environ.get("UPSTREAM_TIMEOUT", "30"))
PIECE = 64 * 1024


# The application: runs in the server's threads, and never blocks one.


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes | Future[Any]]:
    upstream, body = Upstream(), environ["wsgi.input"]
    try:
        yield from wait(upstream.request(environ, body.read(PIECE)))
        while piece := body.read(PIECE):
            yield from wait(upstream.send(piece))
        status, headers = yield from wait(upstream.response())
        start_response(status, headers)
        while piece := (yield from wait(upstream.receive())):
            yield piece
    except UpstreamError as error:
        # Raises the error again if the response has begun: the server then breaks the connection off, and the
        # client can tell that something is missing.
        start_response(error.status, [("Content-Type", "text/plain")], sys.exc_info())
        yield f"{error.status}: {error}\n".encode()
    finally:
        upstream.close()


def wait(step: Coroutine[Any, Any, T]) -> Generator[Future[T], None, T]:
    """Have the asyncio thread run `step`, with the request parked meanwhile, and return its result."""
    future = asyncio.run_coroutine_threadsafe(step, background.loop())
    try:
        yield future  # what the step raised is raised here
    except GeneratorExit:  # the client has left, or the server is shutting down
        future.cancel()
        raise
    return future.result()


# The rest runs in the asyncio thread.


class UpstreamError(Exception):
    """The upstream cannot be reached, breaks off, or does not speak HTTP."""

    status = "502 Bad Gateway"


class UpstreamTimeout(UpstreamError):
    status = "504 Gateway Timeout"


def in_time(method: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Limit how long a step may take, and let whatever goes wrong with the upstream be an UpstreamError."""

    @functools.wraps(method)
    async def limited(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.wait_for(method(*args, **kwargs), TIMEOUT)
        except (TimeoutError, asyncio.TimeoutError) as error:  # not the same in Python 3.10
            raise UpstreamTimeout(f"the upstream kept silent for {TIMEOUT:g} s") from error
        except (OSError, EOFError, ValueError) as error:
            raise UpstreamError(str(error) or type(error).__name__) from error

    return limited


class Upstream:
    """One request to the upstream and the response to it, over a connection of its own."""

    def __init__(self) -> None:
        self._writer: asyncio.StreamWriter | None = None
        self._closed = False
        self._head_only = False  # the response has no body, being one to HEAD
        self._send_chunked = False
        self._receive_chunked = False
        self._left: int | None = 0  # bytes of the body, or of the chunk; None: until the connection ends

    # The request

    @in_time
    async def request(self, environ: WSGIEnvironment, piece: bytes) -> None:
        """Connect, and send the head of the request and the first piece of its body, if it has one."""
        url = urlsplit(UPSTREAM or await toy_upstream())
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"UPSTREAM is not http://HOST:PORT: {UPSTREAM!r}")
        tls = url.scheme == "https"
        self._reader, self._writer = await asyncio.open_connection(
            url.hostname, url.port or (443 if tls else 80), ssl=tls or None, limit=PIECE
        )
        if self._closed:
            self._writer.transport.abort()
        self._send_chunked = bool(piece) and not environ.get("CONTENT_LENGTH")
        await self._send(self._request_head(environ, url.netloc.rpartition("@")[2]) + self._framed(piece))

    @in_time
    async def send(self, piece: bytes) -> None:
        """One more piece of the request's body."""
        await self._send(self._framed(piece))

    def close(self) -> None:
        """In any thread: give up the connection, whatever state it is in."""
        background.loop().call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        self._closed = True
        if self._writer is not None:
            self._writer.transport.abort()

    def _framed(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._send_chunked else piece

    async def _send(self, data: bytes) -> None:
        assert self._writer is not None
        try:
            self._writer.write(data)
            await self._writer.drain()  # waits while the upstream does not take more
        except ConnectionError:
            pass  # it may have answered without reading all: response() will tell

    def _request_head(self, environ: WSGIEnvironment, host: str) -> bytes:
        """What the client asked for, with the headers that are about its own connection replaced."""
        method = environ["REQUEST_METHOD"]
        self._head_only = method == "HEAD"
        target = environ.get("REQUEST_URI", "")
        if not target.startswith("/"):  # absolute-form, or a server that has no REQUEST_URI
            query = environ.get("QUERY_STRING", "")
            path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
            target = quote(path.encode("latin-1"), safe="/:@!$&'()*+,;=~") + ("?" + query if query else "")

        received = [
            (key[5:].replace("_", "-").title(), value) for key, value in environ.items() if key.startswith("HTTP_")
        ]
        replaced = {"host", "expect", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "via"}
        replaced |= {"content-type", "content-length"}  # some servers let Content_Length pass for a header of its own
        headers = [(name, value) for name, value in end_to_end(received) if name.lower() not in replaced]
        headers += [
            ("Host", host),
            ("X-Forwarded-For", listed(environ.get("HTTP_X_FORWARDED_FOR"), environ.get("REMOTE_ADDR"))),
            ("X-Forwarded-Host", environ.get("HTTP_HOST", "")),
            ("X-Forwarded-Proto", environ["wsgi.url_scheme"]),
            ("Via", listed(environ.get("HTTP_VIA"), "1.1 proxy")),
            ("Connection", "close"),
            ("Content-Type", environ.get("CONTENT_TYPE", "")),
            ("Content-Length", environ.get("CONTENT_LENGTH", "")),
            ("Transfer-Encoding", "chunked" if self._send_chunked else ""),
        ]
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers if value), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    # The response

    @in_time
    async def response(self) -> tuple[str, Headers]:
        """End the request, and wait for the status and the headers that are for the client."""
        if self._send_chunked:
            await self._send(b"0\r\n\r\n")
        code = 100
        while 100 <= code < 200:
            code, reason = await self._receive_status()
            headers = await self._receive_headers()

        codings = [value.lower() for name, value in headers if name.lower() == "transfer-encoding"]
        lengths = sorted({value for name, value in headers if name.lower() == "content-length"})
        if codings not in ([], ["chunked"]):
            raise ValueError(f"transfer coding {', '.join(codings)}")
        if len(lengths) > 1 or not all(re.fullmatch("[0-9]{1,18}", length) for length in lengths):
            raise ValueError("malformed content length")
        headers = [(name, value) for name, value in end_to_end(headers) if name.lower() != "content-length"]
        if lengths and not codings:
            headers.append(("Content-Length", lengths[0]))
        if not self._head_only and code not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            self._receive_chunked = bool(codings)
            self._left = 0 if codings else int(lengths[0]) if lengths else None
        return f"{code} {reason or 'Unknown'}", headers

    @in_time
    async def receive(self) -> bytes:
        """The next piece of the body, as much as has come; b"" at its end."""
        if self._receive_chunked and self._left == 0:
            line = await self._line()
            size = line.partition(";")[0].strip()
            if not re.fullmatch("[0-9A-Fa-f]{1,15}", size):
                raise ValueError("malformed chunk")
            self._left = int(size, 16)
            if self._left == 0:
                self._receive_chunked = False
                await self._receive_headers()  # trailers are dropped
        if self._left == 0:
            return b""
        piece = await self._reader.read(PIECE if self._left is None else min(self._left, PIECE))
        if self._left is None:
            return piece
        if not piece:
            raise EOFError("the upstream broke off")
        self._left -= len(piece)
        if self._left == 0 and self._receive_chunked and await self._line():
            raise ValueError("malformed chunk")
        return piece

    async def _receive_status(self) -> tuple[int, str]:
        match = re.fullmatch(r"HTTP/1\.[0-9] ([1-9][0-9]{2})(?: ([^\x00-\x1f\x7f]*))?", await self._line())
        if match is None:
            raise ValueError("malformed status line")
        return int(match[1]), match[2]

    async def _receive_headers(self) -> Headers:
        headers: Headers = []
        while line := await self._line():
            match = re.fullmatch(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)", line)
            if match is None or len(headers) == 200:
                raise ValueError("malformed headers")
            headers.append((match[1], match[2].rstrip(" \t")))
        return headers

    async def _line(self) -> str:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the upstream broke off")
        return line.decode("latin-1").rstrip("\r\n")


HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


def end_to_end(headers: Headers) -> Headers:
    """Without the headers that concern one connection only (RFC 9110, section 7.6.1)."""
    options = ",".join(value for name, value in headers if name.lower() == "connection")
    dropped = HOP_BY_HOP.union(option.strip().lower() for option in options.split(","))
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def listed(*values: str | None) -> str:
    """A header that grows by a value with each proxy on the way."""
    return ", ".join(value for value in values if value)


class Background:
    """An asyncio event loop in a thread of its own, from its first use until the interpreter ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, args=[self._loop], name="asyncio", daemon=True)
                self._thread.start()
                atexit.register(self._stop)
            return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.close()

    def _stop(self) -> None:
        loop = self.loop()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()


background = Background()
toy: asyncio.Task[int] | None = None


async def toy_upstream() -> str:
    """The address of the toy upstream, which is started when it is first asked for."""
    global toy
    if toy is None:
        package = f"{__package__}." if __package__ else ""
        toy = asyncio.create_task(import_module(package + "slow_upstream").start())
    return f"http://127.0.0.1:{await asyncio.shield(toy)}"
