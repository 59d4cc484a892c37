"""A toy upstream that takes its time, streams slowly and fails on demand: something to try the proxy with.

    python3 examples/slow_upstream.py 9000        # or let proxy.py start it
    UPSTREAM=http://127.0.0.1:9000 build/fermata --chdir examples proxy:app

    /slow?ms=300                        an answer after 300 ms
    /stream?pieces=10&ms=200&size=0     a line every 200 ms, each followed by `size` bytes
    /fail?pieces=0                      breaks off after so many pieces, or instead of an answer
    /hang                               never answers
    /echo                               what was asked, as JSON
    /stats                              how many requests came, and how many clients left early
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

Send = Callable[[bytes], Awaitable[None]]

stats = {"requests": 0, "open": 0, "left": 0}


class Request(NamedTuple):
    method: str
    target: str
    headers: list[tuple[str, str]]
    body_length: int
    body_sha256: str

    def number(self, name: str, default: int) -> int:
        return int(parse_qs(urlsplit(self.target).query).get(name, [str(default)])[0])


class BreakOff(Exception):
    """Raised by a handler to end the connection in the middle."""


async def slow(request: Request, send: Send) -> None:
    await asyncio.sleep(request.number("ms", 300) / 1000)
    await send(response(b"Sorry to have kept you waiting.\n"))


async def stream(request: Request, send: Send) -> None:
    await send(head("200 OK", "Content-Type: text/plain", "Transfer-Encoding: chunked", "Keep-Alive: timeout=5"))
    for number in range(1, request.number("pieces", 10) + 1):
        await send(chunk(b"piece %d\n" % number + b"." * request.number("size", 0)))
        await asyncio.sleep(request.number("ms", 200) / 1000)
    await send(chunk(b""))


async def fail(request: Request, send: Send) -> None:
    pieces = request.number("pieces", 0)
    if pieces:
        await send(head("200 OK", "Content-Type: text/plain", "Transfer-Encoding: chunked"))
    for number in range(1, pieces + 1):
        await send(chunk(b"piece %d\n" % number))
        await asyncio.sleep(0.1)
    raise BreakOff


async def hang(request: Request, send: Send) -> None:
    await asyncio.Event().wait()


async def echo(request: Request, send: Send) -> None:
    headers = [f"{name}: {value}" for name, value in request.headers]
    await send(response(json.dumps({**request._asdict(), "headers": headers}, indent=2).encode() + b"\n"))


async def show_stats(request: Request, send: Send) -> None:
    await send(response(json.dumps(stats).encode() + b"\n"))


async def index(request: Request, send: Send) -> None:
    await send(response("".join(path + "\n" for path in HANDLERS).encode()))


HANDLERS: dict[str, Callable[[Request, Send], Coroutine[Any, Any, None]]] = {
    "/": index,
    "/slow": slow,
    "/stream": stream,
    "/fail": fail,
    "/hang": hang,
    "/echo": echo,
    "/stats": show_stats,
}


def head(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""]).encode()


def response(body: bytes, status: str = "200 OK") -> bytes:
    return head(status, "Content-Type: text/plain", f"Content-Length: {len(body)}") + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def read_request(reader: asyncio.StreamReader) -> Request:
    line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    method, target, _ = line.split(" ")
    headers = [(name, value.strip()) for name, _, value in (field.partition(":") for field in rest)]
    fields = {name.lower(): value for name, value in headers}
    length, digest = 0, hashlib.sha256()
    left = int(fields.get("content-length", 0))
    chunked = "transfer-encoding" in fields
    while left or chunked:
        if not left:
            left = int(await reader.readline(), 16)
            chunked = left > 0
        piece = await reader.read(left) if left else b""
        if left and not piece:
            raise EOFError
        length, left = length + len(piece), left - len(piece)
        digest.update(piece)
        if "transfer-encoding" in fields and not left:
            await reader.readexactly(2)
    return Request(method, target, headers, length, digest.hexdigest())


async def not_found(request: Request, send: Send) -> None:
    await send(response(b"There is no such page.\n", "404 Not Found"))


async def until_left(reader: asyncio.StreamReader) -> None:
    try:
        await reader.read(1)
    except ConnectionError:
        pass


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, one request. Notices at once when the client leaves."""

    async def send(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    tasks: list[asyncio.Task[None]] = []
    stats["open"] += 1
    try:
        request = await read_request(reader)
        stats["requests"] += 1
        handler = HANDLERS.get(urlsplit(request.target).path, not_found)
        tasks += [asyncio.create_task(step) for step in (handler(request, send), until_left(reader))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ConnectionError
        await tasks[0]
    except (BreakOff, ValueError, EOFError):
        writer.transport.abort()
    except ConnectionError:
        stats["left"] += 1
    finally:
        stats["open"] -= 1
        for task in tasks:
            task.cancel()
        writer.close()


async def start(port: int = 0) -> int:
    """Listen on the loopback interface, on a free port unless told which, and return the port."""
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=4096)
    servers.append(server)
    return int(server.sockets[0].getsockname()[1])


servers: list[asyncio.AbstractServer] = []  # keeps them alive


async def main() -> None:
    port = await start(int(sys.argv[1]) if len(sys.argv) > 1 else 9000)
    print(f"a slow upstream is at http://127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
