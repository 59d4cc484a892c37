"""A gateway to a language model: any number of clients are streamed its tokens as server-sent events, on two threads.

    build/fermata --threads 2 --venv .venv --pythonpath ../../py --chdir examples/llm_gateway app:app

The model is asked by the official SDK of OpenAI (https://github.com/openai/openai-python), which runs in an event loop
beside the server's threads.  What a client sees, what goes wrong and what is done about it is in README.md.  The
application (app, below) is plain code that waits: ``yield from`` is where a request is parked and holds no thread.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator, Iterator
from concurrent.futures import Future
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs

import httpx2
from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI, DefaultAsyncHttpxClient
from wsgi_plus import AsyncBridge, Opened, backoff, deadline, retry

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from openai.types.chat import ChatCompletionChunk

MODEL = os.environ.get("MODEL", "http://127.0.0.1:9000")
NAME = os.environ.get("MODEL_NAME", "toy")
PATIENCE = float(os.environ.get("PATIENCE", "30"))  # seconds that the model may keep silent
TRIES = 4
LONGEST = 5  # seconds: the longest pause that a busy model may ask for
PROMPT = 64 * 1024  # bytes, at most
STREAMS = 10_000  # to the model at a time; others wait for one of them to end

EVENTS = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")]
TEXT = ("Content-Type", "text/plain; charset=utf-8")

Tokens = AsyncGenerator[str, None]
T = TypeVar("T")

bridge = AsyncBridge()
model = AsyncOpenAI(
    base_url=f"{MODEL}/v1",
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
    max_retries=0,  # we do that, while the request is parked, and until the first token
    timeout=None,  # so is PATIENCE ours
    http_client=DefaultAsyncHttpxClient(limits=httpx2.Limits(max_connections=STREAMS, max_keepalive_connections=100)),
)


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


@dataclass
class Bill:
    """What a user has had of the model.  Changed in the asyncio thread only."""

    answers: int = 0  # whole ones
    cut: int = 0  # those that ended early, of which tokens had come
    prompt_tokens: int = 0
    completion_tokens: int = 0


bills: defaultdict[str, Bill] = defaultdict(Bill)


@dataclass
class Answer:
    """One to a prompt: its tokens, and when they have come, what the model says that it has cost."""

    user: str
    prompt: str
    tokens: int = 0
    usage: dict[str, int] = field(default_factory=dict)


# The application: runs in the server's threads, and never blocks one.


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes | Future[Any]]:
    if environ["PATH_INFO"] == "/usage":
        start_response("200 OK", [("Content-Type", "application/json")])
        yield json.dumps({user: asdict(bill) for user, bill in list(bills.items())}).encode() + b"\n"
        return
    try:
        answer = Answer(environ.get("HTTP_X_USER", "anonymous"), asked(environ))
        opened = yield from retry(lambda: begun(answer), tries=TRIES, on=Failure, pause=as_the_model_asks)
    except Failure as failure:
        start_response(failure.status, [TEXT, *failure.headers])
        yield f"{failure.status}: {failure}\n".encode()
        return
    start_response("200 OK", EVENTS)
    yield from bridge.iterate(events(answer, opened.value), opened)  # closes first the one, then the other


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
            str.encode(found)  # raises TypeError if it is no text, and UnicodeEncodeError for half a character: "\ud800"
        except (ValueError, TypeError, LookupError, RecursionError):
            found = None
    else:
        raise Failure("405 Method Not Allowed", "GET or POST", ("Allow", "GET, POST"))
    if not isinstance(found, str) or not found:
        raise Failure("400 Bad Request", 'there is no prompt: /generate?prompt=hello or POST {"prompt": "hello"}')
    return found


def begun(answer: Answer) -> Generator[Future[Any], None, Opened[Tokens]]:
    """The answer, when its first token is there.

    Nothing has been sent so far, so the status is still open, and what failed can be tried again.
    """
    try:
        opened: Opened[Tokens] = yield from deadline(PATIENCE, bridge.open(begin(answer)))
        return opened
    except TimeoutError:
        raise Late from None


def as_the_model_asks(number: int, error: Exception) -> float | None:
    """How long to wait for the next try.  None: it makes no sense, or takes too long."""
    again = error.again if isinstance(error, Failure) else None
    if again is None or again > LONGEST:
        return None
    return max(again, pause(number, error) or 0)


pause = backoff(0.2)


# The rest runs in the asyncio thread.


@asynccontextmanager
async def begin(answer: Answer) -> AsyncGenerator[Tokens, None]:
    """The tokens, the first of which has come.  Leaving it ends the generation."""
    with failures():
        stream = await model.chat.completions.create(
            model=NAME,
            messages=[{"role": "user", "content": answer.prompt}],
            stream=True,
            stream_options={"include_usage": True},
            user=answer.user,
        )
    async with stream, aclosing(said(answer, aiter(stream))) as tokens:
        first = await anext(tokens, None)
        if first is None:
            raise Failure("502 Bad Gateway", "the model said nothing")
        yield preceded(first, tokens)


async def preceded(first: str, rest: Tokens) -> Tokens:
    yield first
    async for token in rest:
        yield token


async def said(answer: Answer, chunks: AsyncIterator[ChatCompletionChunk]) -> Tokens:
    """The tokens of a stream.  However it ends, the user is charged for what has come."""
    ended = False
    try:
        while True:
            with failures():
                chunk = await anext(chunks, None)
                if chunk is None:
                    break
                if chunk.usage is not None:
                    answer.usage = {name: getattr(chunk.usage, name) for name in ("prompt_tokens", "completion_tokens")}
                content = "".join(choice.delta.content or "" for choice in chunk.choices)
                ended = ended or any(choice.finish_reason for choice in chunk.choices)
            if content:
                answer.tokens += 1
                yield content
        if not ended:
            raise Failure("502 Bad Gateway", "the model broke off", again=0)
    finally:
        charge(answer, ended)


def charge(answer: Answer, ended: bool) -> None:
    """What the model says that it has cost; of an answer that ended early it does not, so the tokens are counted."""
    if not ended and not answer.tokens:
        return
    bill = bills[answer.user]
    bill.answers += ended
    bill.cut += not ended
    bill.prompt_tokens += answer.usage.get("prompt_tokens", 0)
    bill.completion_tokens += answer.usage.get("completion_tokens", answer.tokens)


async def events(answer: Answer, tokens: Tokens) -> AsyncGenerator[bytes, None]:
    """Server-sent events.  The last one is ``done``, or ``error``: a client that has seen neither has not seen all.

    The response has begun, so there is no status left to say it with.  To break it off instead would do as well for
    those who read HTTP strictly, but a browser's EventSource would take that for an accident, and ask again.
    """
    async with aclosing(tokens):
        try:
            while (token := await in_time(anext(tokens, None))) is not None:
                yield event(token=token)
            yield event("done", tokens=answer.tokens, **answer.usage)
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


BUSY = {429: "503 Service Unavailable", 503: "503 Service Unavailable", 502: "502 Bad Gateway", 504: "502 Bad Gateway"}
"""Statuses of the model after which it is asked again, and what the client is told in the end."""


@contextmanager
def failures() -> Iterator[None]:
    """What the SDK, and the HTTP client in it, raise, as a Failure."""
    try:
        yield
    except APIStatusError as error:
        if error.status_code not in BUSY:
            raise Failure("502 Bad Gateway", f"the model said {error.status_code}") from error
        after = error.response.headers.get("retry-after", "")
        again = float(after) if re.fullmatch("[0-9]{1,6}", after) else 0
        why = f"the model said {error.status_code}"
        raise Failure(BUSY[error.status_code], why, ("Retry-After", f"{again:g}"), again=again) from error
    except (APIConnectionError, httpx2.TransportError) as error:
        cause = error.__cause__ if isinstance(error, APIConnectionError) else error
        if not isinstance(cause, httpx2.RemoteProtocolError):
            raise Failure("502 Bad Gateway", f"the connection to the model failed: {cause!r}", again=0) from error
        if "disconnected" in str(cause) or "closed connection" in str(cause):
            raise Failure("502 Bad Gateway", "the model broke off", again=0) from error
        raise Failure("502 Bad Gateway", f"the model talks nonsense: {cause}") from error
    except (APIError, ValueError, TypeError, AttributeError) as error:
        raise Failure("502 Bad Gateway", f"the model talks nonsense: {error}") from error
