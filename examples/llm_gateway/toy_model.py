"""A toy model server: it answers every prompt with the same story, token by token, and fails on demand.

    python3 examples/llm_gateway/toy_model.py 9000

    POST /v1/chat/completions           as that of OpenAI, streamed; with usage if that is asked for
    POST /generate with {"prompt": "..."}, or GET /generate?prompt=...
        data: {"token": "Once "}        an event for each token, a chunk for each event
        data: [DONE]                    the end
    GET /stats                          how many generations were begun, finished, cancelled; how many are open

Words of the prompt say how the answer is to be (`tokens=5 ms=10 fail=3`):

    tokens=20   how many tokens
    ms=100      milliseconds before each token
    size=0      bytes to add to each token
    fail=N      breaks off after N tokens; fail=0: instead of an answer
    hang=N      keeps silent after N tokens; hang=0: does not answer
    busy=N      the first N requests with this prompt are told to come back
    status=503  with this status
    after=0     in so many seconds
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

STORY = "Once upon a time there was a thread that waited for an answer and could do nothing else.".split()
MOST = 1 << 20  # bytes of a request's body

stats = {"requests": 0, "generations": 0, "finished": 0, "cancelled": 0, "open": 0, "tokens": 0}
asked: Counter[str] = Counter()  # how often, for each prompt that is busy


class Plain:
    """How tokens are said."""

    def token(self, text: str) -> bytes:
        return event(json.dumps({"token": text}))

    def end(self, prompt: str, tokens: int) -> bytes:
        return event("[DONE]")


class Chat(Plain):
    """As the API of OpenAI says them: https://platform.openai.com/docs/api-reference/chat-streaming."""

    def __init__(self, with_usage: bool) -> None:
        self._with_usage = with_usage
        self._id = f"chatcmpl-{stats['requests']}"

    def token(self, text: str) -> bytes:
        return self._chunk([{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}])

    def end(self, prompt: str, tokens: int) -> bytes:
        said = self._chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if self._with_usage:
            words = len(prompt.split())
            usage = {"prompt_tokens": words, "completion_tokens": tokens, "total_tokens": words + tokens}
            said += self._chunk([], usage=usage)
        return said + event("[DONE]")

    def _chunk(self, choices: list[object], **more: object) -> bytes:
        said = {"id": self._id, "object": "chat.completion.chunk", "created": 0, "model": "toy", "choices": choices}
        return event(json.dumps({**said, **more}))


class BreakOff(Exception):
    """Ends the connection in the middle."""


async def answer(prompt: str, how: Plain) -> AsyncGenerator[bytes, None]:
    """The response to a prompt, piece by piece."""
    orders = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", prompt)}
    if asked[prompt] < orders.get("busy", 0):
        asked[prompt] += 1
        yield response(b"too busy\n", orders.get("status", 503), f"Retry-After: {orders.get('after', 0)}")
        return
    stats["generations"] += 1
    tokens = orders.get("tokens", 20)
    try:
        for number, word in enumerate(itertools.islice(itertools.cycle(STORY), tokens)):
            await obey(number, orders)
            await asyncio.sleep(orders.get("ms", 100) / 1000)
            begin = b"" if number else head(200, "Content-Type: text/event-stream", "Transfer-Encoding: chunked")
            yield begin + how.token(word + " " + "." * orders.get("size", 0))
            stats["tokens"] += 1
        await obey(tokens, orders)
    except (asyncio.CancelledError, GeneratorExit):
        stats["cancelled"] += 1
        raise
    stats["finished"] += 1
    yield how.end(prompt, tokens) + chunk(b"")


async def obey(number: int, orders: dict[str, int]) -> None:
    if orders.get("fail") == number:
        raise BreakOff
    if orders.get("hang") == number:
        await asyncio.Event().wait()


def head(status: int, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *headers, "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode()


def response(body: bytes, status: int = 200, *headers: str) -> bytes:
    return head(status, "Content-Type: text/plain", f"Content-Length: {len(body)}", *headers) + body


def event(data: str) -> bytes:
    return chunk(f"data: {data}\n\n".encode())


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def read_request(reader: asyncio.StreamReader) -> tuple[str, str, Plain]:
    """The path, the prompt, and how it is to be answered."""
    line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    method, target, _ = line.split(" ")
    url = urlsplit(target)
    if method == "GET":
        return url.path, parse_qs(url.query).get("prompt", [""])[0], Plain()
    headers = {name.lower(): value for name, _, value in (field.partition(":") for field in fields)}
    body = await reader.readexactly(min(int(headers["content-length"]), MOST))
    sent = json.loads(body)
    if url.path != "/v1/chat/completions":
        return url.path, str(sent["prompt"]), Plain()
    with_usage = bool((sent.get("stream_options") or {}).get("include_usage"))
    return url.path, str(sent["messages"][-1]["content"]), Chat(with_usage)


async def until_left(reader: asyncio.StreamReader) -> None:
    try:
        await reader.read(1)
    except ConnectionError:
        pass


async def generate(prompt: str, how: Plain, writer: asyncio.StreamWriter) -> None:
    async with aclosing(answer(prompt, how)) as pieces:
        async for piece in pieces:
            writer.write(piece)
            await writer.drain()  # waits while the client does not take more


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, one request.  A client that leaves is noticed at once."""
    try:
        path, prompt, how = await read_request(reader)
        if path == "/stats":
            writer.write(response(json.dumps(stats).encode() + b"\n"))
        elif path in ("/generate", "/v1/chat/completions"):
            stats["requests"] += 1
            stats["open"] += 1
            tasks = [asyncio.create_task(step) for step in (generate(prompt, how, writer), until_left(reader))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            stats["open"] -= 1
            if not tasks[0].cancelled():
                tasks[0].result()
        else:
            writer.write(response(b"There is no such page.\n", 404))
    except (BreakOff, ValueError, EOFError, KeyError, ConnectionError):
        writer.transport.abort()
    finally:
        writer.close()


async def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=4096)
    print(f"a toy model is at http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
