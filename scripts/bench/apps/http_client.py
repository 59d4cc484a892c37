"""The HTTP clients and the event loop of both asynchronous proxies: on uvloop where that is installed.

async_wsgi_apps.py and starlette_app.py use the same, so that what differs is the servers. BENCH_HTTP_CLIENT chooses:

    aiohttp   what people use; it takes most of the time of a proxied request, whatever the server is
    small     the one below, which leaves more of it to the server

Needs: aiohttp, unless it is `small`; uvloop is what uvicorn takes as well if it finds it.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Protocol, cast

Fetched = tuple[int, str, bytes]
"""The status, the content type and the body."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def plain(path: str) -> str:
    """It comes decoded from the client of the proxy, and must not end the request line."""
    if not path.isascii() or not path.isprintable() or " " in path:
        raise ValueError("no path that can be asked for")
    return path


class Client(Protocol):
    """To be made and used in one event loop.  As many connections as there are requests, each kept and used again."""

    async def fetch(self, path: str) -> Fetched: ...


class AiohttpClient:
    def __init__(self, upstream: str) -> None:
        import aiohttp
        from yarl import URL

        self._url = URL
        self._base = "http://" + upstream
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=60),
            auto_decompress=False,
        )

    async def fetch(self, path: str) -> Fetched:
        async with self._session.get(self._url(self._base + plain(path), encoded=True)) as response:
            return response.status, response.content_type, await response.read()


class Connection(asyncio.Protocol):
    """One response at a time, which has to have a Content-Length."""

    def __init__(self) -> None:
        self._got = b""
        self._head_end = 0
        self._end = 0
        self._answer: asyncio.Future[Fetched] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's looks like one

    def request(self, request: bytes) -> "asyncio.Future[Fetched]":
        self._got, self._end = b"", 0
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._end and not self._measure():
            return
        if len(self._got) >= self._end and self._answer and not self._answer.done():
            self._answer.set_result(self._fetched())

    def _measure(self) -> bool:
        """Look for the end of the head, and where the body ends."""
        self._head_end = self._got.find(b"\r\n\r\n") + 4
        if self._head_end < 4:
            return False
        length = self._field(b"content-length")
        if not length.isdigit():
            self._transport.abort()
            return False
        self._end = self._head_end + int(length)
        return True

    def _field(self, name: bytes) -> bytes:
        _, _, rest = self._got[: self._head_end].lower().partition(b"\r\n" + name + b":")
        return rest.partition(b"\r\n")[0].strip()

    def _fetched(self) -> Fetched:
        status = int(self._got[9:12])
        return status, self._field(b"content-type").decode("latin-1"), self._got[self._head_end : self._end]

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the upstream broke off"))

    def closed(self) -> bool:
        return self._transport.is_closing()


class SmallClient:
    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.partition(":")
        self._address = host, int(port)
        self._host = upstream
        self._idle: list[Connection] = []

    async def fetch(self, path: str) -> Fetched:
        connection = self._idle.pop() if self._idle else None
        if connection is None or connection.closed():
            _, connection = await asyncio.get_running_loop().create_connection(Connection, *self._address)
        fetched = await connection.request(f"GET {plain(path)} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode("latin-1"))
        self._idle.append(connection)
        return fetched


CLIENTS: dict[str, Callable[[str], Client]] = {"aiohttp": AiohttpClient, "small": SmallClient}


def new_client() -> Client:
    return CLIENTS[os.environ.get("BENCH_HTTP_CLIENT", "aiohttp")](os.environ["UPSTREAM"])
