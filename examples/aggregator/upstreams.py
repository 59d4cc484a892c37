"""Five toy services of a shop in one server: each knows something about a product, takes its time, and fails on demand.

    python3 examples/aggregator/upstreams.py 9000

    GET /price/NUMBER       and /stock, /reviews, /shipping, /similar: JSON
    GET /stats              how many requests came, are open, and were left by their client, for each of them

The query says how a service is to behave, by its name (/stock/42?stock=hang; what is said of others is of no interest):

    NUMBERms    answers after so many milliseconds (100)
    hang        never answers
    fail        breaks off
    flaky       breaks off every second time
    busy        says 503
    nonsense    does not speak JSON
    endless     never stops talking
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

SERVICES: dict[str, Callable[[int], object]] = {
    "price": lambda number: {"amount": 100 + number % 900, "currency": "EUR"},
    "stock": lambda number: {"pieces": number % 10},
    "reviews": lambda number: {"stars": 1 + number % 5, "count": number % 100},
    "shipping": lambda number: {"days": 1 + number % 3},
    "similar": lambda number: {"products": [number + 1, number + 2]},
}

stats = {name: {"requests": 0, "open": 0, "left": 0} for name in SERVICES}
turns = {name: itertools.count() for name in SERVICES}


class BreakOff(Exception):
    """Ends the connection in the middle."""


async def answer(name: str, number: int, manner: str, writer: asyncio.StreamWriter) -> None:
    if manner == "hang":
        await asyncio.Event().wait()
    pause = re.fullmatch("([0-9]{1,6})ms", manner)
    await asyncio.sleep(int(pause[1]) / 1000 if pause else 0.1)
    if manner == "fail" or (manner == "flaky" and next(turns[name]) % 2 == 0):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        await writer.drain()
        raise BreakOff
    if manner == "busy":
        writer.write(response(b"too busy\n", 503))
    elif manner == "nonsense":
        writer.write(response(b"<p>I do not speak JSON.\n"))
    elif manner == "endless":
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            writer.write(b"." * 65536)
            await writer.drain()
    else:
        writer.write(response(json.dumps(SERVICES[name](number)).encode() + b"\n"))


def response(body: bytes, status: int = 200) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def until_left(reader: asyncio.StreamReader) -> None:
    try:
        await reader.read(1)
    except ConnectionError:
        pass


async def one_of_five(
    name: str, number: int, manner: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    mine = stats[name]
    mine["requests"] += 1
    mine["open"] += 1
    answering = asyncio.create_task(answer(name, number, manner, writer))
    leaving = asyncio.create_task(until_left(reader))
    try:
        await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            mine["left"] += 1
        else:
            answering.result()
    finally:
        mine["open"] -= 1
        answering.cancel()
        leaving.cancel()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, one request."""
    try:
        line, *_ = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        url = urlsplit(line.split(" ")[1])
        found = re.fullmatch("/([a-z]+)/([0-9]{1,9})", url.path)
        if url.path == "/stats":
            writer.write(response(json.dumps(stats).encode() + b"\n"))
        elif found and found[1] in SERVICES:
            manner = parse_qs(url.query).get(found[1], [""])[0]
            await one_of_five(found[1], int(found[2]), manner, reader, writer)
        else:
            writer.write(response(b'"There is no such page."\n', 404))
    except (BreakOff, ConnectionError, EOFError, IndexError):
        writer.transport.abort()
    finally:
        writer.close()


async def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=4096)
    print(f"the services are at http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
