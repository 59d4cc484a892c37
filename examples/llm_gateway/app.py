"""A gateway to a language model: any number of clients are streamed its tokens as server-sent events, on two threads.

    build/fermata --threads 2 --pythonpath ../../py --chdir examples/llm_gateway app:app

What a client sees, what goes wrong and what is done about it is in README.md.  The application (app, below) is plain
code that waits: ``yield from`` is where a request is parked and holds no thread.  What follows it runs in the asyncio
thread, and is a small HTTP client.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections.abc import AsyncGenerator, Awaitable, Generator, Iterator
from concurrent.futures import Future
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from wsgi_plus import AsyncBridge, sleep, timeout, wait

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MODEL = os.environ.get("MODEL", "http://127.0.0.1:9000")
PATIENCE = float(os.environ.get("PATIENCE", "30"))  # seconds that the model may keep silent
PAUSES = [0.1, 0.2, 0.4]  # seconds between tries, more or less
LONGEST = 5  # the longest pause that a busy model may ask for
PROMPT = 64 * 1024  # bytes, at most
LINE = 1 << 20  # bytes that a line or a chunk of the model's answer has, at most

EVENTS = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")]
TEXT = ("Content-Type", "text/plain; charset=utf-8")

Tokens = AsyncGenerator[str, None]
T = TypeVar("T")

bridge = AsyncBridge()


class Failure(Exception):
    """Why there is no answer: a status, and headers that go with it."""

    def __init__(self, status: str, why: str, *headers: tuple[str, str], again: float | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.headers = headers
        self.again = again  # seconds after which it makes sense to try again, or None


class Late(Failure):
    def __init__(self) -> None:
        super().__init__("504 Gateway Timeout", f"the model kept silent for {PATIENCE:g} s")


# The application: runs in the server's threads, and never blocks one.


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes | Future[Any]]:
    try:
        tokens = yield from begun(asked(environ))
    except Failure as failure:
        start_response(failure.status, [TEXT, *failure.headers])
        yield f"{failure.status}: {failure}\n".encode()
        return
    start_response("200 OK", EVENTS)
    yield from bridge.iterate(events(tokens))


def asked(environ: WSGIEnvironment) -> str:
    """What the client wants to be answered."""
    if environ["PATH_INFO"] != "/generate":
        raise Failure("404 Not Found", "try /generate?prompt=hello")
    if environ["REQUEST_METHOD"] == "GET":
        found = parse_qs(environ.get("QUERY_STRING", "")).get("prompt", [""])[0]
    elif environ["REQUEST_METHOD"] == "POST":
        body = environ["wsgi.input"].read(PROMPT + 1)
        if len(body) > PROMPT:
            raise Failure("413 Content Too Large", f"a prompt has up to {PROMPT} bytes")
        try:
            found = json.loads(body)["prompt"]
        except (ValueError, TypeError, LookupError):
            found = None
    else:
        raise Failure("405 Method Not Allowed", "GET or POST", ("Allow", "GET, POST"))
    if not isinstance(found, str) or not found:
        raise Failure("400 Bad Request", 'there is no prompt: /generate?prompt=hello or POST {"prompt": "hello"}')
    return found


def begun(prompt: str) -> Generator[Future[Any], None, Tokens]:
    """The answer, when its first token is there.

    Nothing has been sent so far, so the status is still open, and what failed can be tried again.
    """
    pauses = iter(PAUSES)
    while True:
        try:
            tokens: Tokens = yield from timeout(PATIENCE, bridge.run(begin(prompt)), discard=forget)
            return tokens
        except TimeoutError:
            raise Late from None
        except Failure as failure:
            pause = next(pauses, None)
            if pause is None or failure.again is None or failure.again > LONGEST:
                raise
            pause = max(failure.again, pause * random.uniform(0.5, 1.5))  # not all clients at once
        yield from sleep(pause)


def forget(tokens: Tokens) -> None:
    """The client, or our patience, has left in the moment in which the first token came."""
    bridge.run(tokens.aclose())


# The rest runs in the asyncio thread.


async def begin(prompt: str) -> Tokens:
    """The tokens, the first of which has come."""
    tokens = generate(prompt)
    first = await anext(tokens, None)
    if first is None:
        raise Failure("502 Bad Gateway", "the model said nothing")
    return preceded(first, tokens)


async def preceded(first: str, rest: Tokens) -> Tokens:
    async with aclosing(rest):
        yield first
        async for token in rest:
            yield token


async def events(tokens: Tokens) -> AsyncGenerator[bytes, None]:
    """Server-sent events.  The last one is ``done``, or ``error``: whoever has seen neither has not seen all.

    The response has begun, so there is no status left to say it with.  To break it off instead would do as well for
    those who read HTTP strictly, but a browser's EventSource would take that for an accident, and ask again.
    """
    number = 0
    async with aclosing(tokens):
        try:
            while (token := await in_time(anext(tokens, None))) is not None:
                number += 1
                yield event(token=token)
            yield event("done", tokens=number)
        except Failure as failure:
            yield event("error", status=int(failure.status[:3]), why=str(failure))


async def in_time(step: Awaitable[T]) -> T:
    """As asyncio.wait_for, which before Python 3.12 loses a cancellation that comes at the same time as the result."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.wait([task], timeout=PATIENCE)
    finally:
        task.cancel()  # does nothing if it is done
        await asyncio.wait([task])
    if task.cancelled():
        raise Late
    return task.result()


def event(kind: str = "", **data: object) -> bytes:
    name = f"event: {kind}\n" if kind else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


async def generate(prompt: str) -> Tokens:
    """One request to the model, on a connection of its own.  Closing it, or cancelling, ends the generation."""
    url = urlsplit(MODEL)
    tls = url.scheme == "https"
    try:
        reader, writer = await asyncio.open_connection(url.hostname, url.port or (443 if tls else 80), ssl=tls or None)
        try:
            body = json.dumps({"prompt": prompt, "stream": True}).encode()
            writer.write(
                f"POST {url.path}/generate HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            chunked = await receive_head(reader)
            async for line in lines(blocks(reader, chunked)):
                if line == b"data: [DONE]":
                    return
                if line.startswith(b"data:"):
                    yield str(json.loads(line[5:])["token"])
            raise EOFError
        finally:
            writer.transport.abort()
    except EOFError as error:
        raise Failure("502 Bad Gateway", "the model broke off", again=0) from error
    except OSError as error:
        raise Failure("502 Bad Gateway", f"the connection to the model failed: {error}", again=0) from error
    except (ValueError, TypeError, LookupError, asyncio.LimitOverrunError) as error:
        raise Failure("502 Bad Gateway", f"the model talks nonsense: {error}") from error


BUSY = {429: "503 Service Unavailable", 503: "503 Service Unavailable", 502: "502 Bad Gateway", 504: "502 Bad Gateway"}
"""Statuses of the model after which it is asked again, and what the client is told in the end."""


async def receive_head(reader: asyncio.StreamReader) -> bool:
    """Whether what follows is chunked."""
    line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    status = int(line.split(" ")[1])
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    if status in BUSY:
        after = headers.get("retry-after", "")
        again = float(after) if re.fullmatch("[0-9]{1,6}", after) else 0
        raise Failure(BUSY[status], f"the model said {line}", ("Retry-After", f"{again:g}"), again=again)
    if status != 200:
        raise Failure("502 Bad Gateway", f"the model said {line}")
    return headers.get("transfer-encoding", "").lower() == "chunked"


async def blocks(reader: asyncio.StreamReader, chunked: bool) -> AsyncGenerator[bytes, None]:
    """The body, as it comes."""
    if not chunked:
        while block := await reader.read(64 * 1024):
            yield block
        return
    while size := int((await reader.readuntil(b"\n")).partition(b";")[0], 16):
        if size > LINE:
            raise ValueError("too long a chunk")
        yield (await reader.readexactly(size + 2))[:-2]


async def lines(blocks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The lines of a body, without their ends."""
    rest = b""
    async for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        if len(rest) > LINE:
            raise ValueError("too long a line")
        for line in whole:
            yield line.rstrip(b"\r")
