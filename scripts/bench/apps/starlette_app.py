"""What async_wsgi_apps.py has, for an ASGI server: Starlette, and for the proxy the same HTTP client.

    uvicorn --app-dir scripts/bench/apps starlette_app:app

Needs: starlette; for /proxy/... what http_client.py needs.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from http_client import Client

HELLO = b"Hello, world!\n"


async def hello(request: Request) -> Response:
    return PlainTextResponse(HELLO)


async def futures(request: Request) -> Response:
    await asyncio.sleep(0.1)
    return PlainTextResponse(HELLO)


# ---- proxy ----

clients: "list[Client]" = []


async def proxy(request: Request) -> Response:
    if not clients:
        from http_client import new_client

        clients.append(new_client())
    try:
        status, content_type, body = await clients[0].fetch("/" + request.path_params["path"])
    except Exception as error:  # noqa: BLE001
        return PlainTextResponse(f"{error!r}\n", 502)
    return Response(body, status, media_type=content_type)


# ---- park ----


class Gate:
    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.waiting = 0

    async def wait(self) -> None:
        self.waiting += 1
        try:
            await self.opened.wait()
        finally:
            self.waiting -= 1

    def open(self) -> None:
        opened, self.opened = self.opened, asyncio.Event()
        opened.set()


gate = Gate()


async def park(request: Request) -> Response:
    await gate.wait()
    return PlainTextResponse(HELLO)


async def parked(request: Request) -> Response:
    return PlainTextResponse(b"%d" % gate.waiting)


async def release(request: Request) -> Response:
    gate.open()
    return PlainTextResponse(HELLO)


# ---- sse ----


class Tick:
    """An event to come.  When it is made it says so, and knows the one after it."""

    def __init__(self) -> None:
        self.made = asyncio.Event()
        self.event = b""
        self.next = self


class Ticker:
    def __init__(self) -> None:
        self.next = Tick()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        due = time.monotonic()
        while True:
            due += 1
            await asyncio.sleep(max(0, due - time.monotonic()))
            this, self.next = self.next, Tick()
            this.next = self.next
            this.event = b"data: %d\n\n" % time.monotonic_ns()
            this.made.set()


ticker = Ticker()


async def stream() -> AsyncIterator[bytes]:
    tick = ticker.next
    yield b": welcome\n\n"
    while True:
        await tick.made.wait()
        yield tick.event
        tick = tick.next


async def events(request: Request) -> Response:
    ticker.start()
    return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


app = Starlette(
    routes=[
        Route("/futures", futures),
        Route("/proxy/{path:path}", proxy),
        Route("/park", park),
        Route("/parked", parked),
        Route("/release", release),
        Route("/events", events),
        Route("/hello", hello),
        Route("/", hello),
    ]
)
