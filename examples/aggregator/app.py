"""A product page's data from five services at once, in Flask: what came in time, and what did not, by name.

    build/fermata --venv /tmp/flask --threads 2 --pythonpath ../../py --chdir examples/aggregator app:app

What a client sees is in README.md.  The view (product, below) asks all five, and is parked until each has answered or
failed; its thread serves others meanwhile.  What follows it runs in the asyncio thread, and is a small HTTP client.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from flask import Flask, request
from flask.typing import ResponseReturnValue
from wsgi_plus import AsyncBridge, gather
from wsgi_plus.flask import suspending, suspends

UPSTREAMS = urlsplit(os.environ.get("UPSTREAMS", "http://127.0.0.1:9000"))
PATIENCE = float(os.environ.get("PATIENCE", "2"))  # seconds that a service may take
MOST = 1 << 20  # bytes of an answer
AT_ONCE = 200  # requests to each service: thousands that wait here must not all be there at the same time

SERVICES = ["price", "stock", "reviews", "shipping", "similar"]

app = suspending(Flask(__name__))
bridge = AsyncBridge()
places = {name: asyncio.Semaphore(AT_ONCE) for name in SERVICES}


class Failure(NamedTuple):
    """In place of an answer."""

    status: int
    why: str


@app.get("/products/<int:number>")
@suspends
def product(number: int) -> Generator[Future[Any], None, ResponseReturnValue]:
    target = f"{number}?{request.query_string.decode('latin-1')}"
    answers = yield from gather(*(bridge.run(ask(name, target)) for name in SERVICES))
    parts = dict(zip(SERVICES, answers, strict=True))
    found = {name: part for name, part in parts.items() if not isinstance(part, Failure)}
    failed = {name: part for name, part in parts.items() if isinstance(part, Failure)}
    status = 200
    if not found:  # nothing is left to show
        status = 504 if all(failure.status == 504 for failure in failed.values()) else 502
    return {"product": number, **found, "failed": {name: failure.why for name, failure in failed.items()}}, status


# The rest runs in the asyncio thread.


async def ask(service: str, target: str) -> Any:
    """The answer of a service, or a Failure.  Cancelled when the client leaves, and the connection is closed."""
    try:
        return await asyncio.wait_for(fetch(service, target), PATIENCE)
    except (TimeoutError, asyncio.TimeoutError):  # not the same in Python 3.10
        return Failure(504, f"no answer within {PATIENCE:g} s")
    except EOFError:
        return Failure(502, "broke off")
    except (OSError, ValueError, asyncio.LimitOverrunError) as error:
        return Failure(502, str(error))


async def fetch(service: str, target: str) -> Any:
    async with places[service]:
        reader, writer = await asyncio.open_connection(UPSTREAMS.hostname, UPSTREAMS.port or 80, limit=MOST)
        try:
            writer.write(
                f"GET {UPSTREAMS.path}/{service}/{target} HTTP/1.1\r\nHost: {UPSTREAMS.netloc}\r\n"
                "Connection: close\r\n\r\n".encode("latin-1")
            )
            line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            status = line.partition(" ")[2]
            if not status.startswith("200"):
                raise ValueError(f"said {status}")
            headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
            length = headers.get("content-length", "unknown")
            if not length.isdecimal() or int(length) > MOST:
                raise ValueError(f"its answer has a length of {length}")
            return json.loads(await reader.readexactly(int(length)))
        finally:
            writer.transport.abort()
