"""The HTTP client and the event loop of both asynchronous proxies: aiohttp, on uvloop where that is installed.

async_wsgi_apps.py and starlette_app.py use the same, so that what differs is the servers.
Needs: aiohttp; uvloop is what uvicorn takes as well if it finds it.
"""

import asyncio
import os

import aiohttp
from yarl import URL


def new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class Client:
    """To be made and used in one event loop.  As many connections as there are requests, each kept and used again."""

    def __init__(self) -> None:
        self._base = "http://" + os.environ["UPSTREAM"]
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=60),
            auto_decompress=False,
        )

    async def fetch(self, path: str) -> tuple[int, str, bytes]:
        """The status, the content type and the body of what the upstream has at `path`."""
        async with self._session.get(URL(self._base + path, encoded=True)) as response:
            return response.status, response.content_type, await response.read()
