"""What a type checker makes of AsyncBridge.  Checked by test_types.py, never run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from typing_extensions import assert_type
from wsgi_plus import AsyncBridge, Opened, gather, wait

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

bridge = AsyncBridge()


class Answer:
    status: int

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        yield b""


async def ask(path: str) -> Answer:
    return Answer()


async def lines() -> AsyncIterator[str]:
    yield ""


def runs() -> Generator[Future[Any], None, None]:
    assert_type(bridge.run(ask("/")), Future[Answer])
    assert_type((yield from wait(bridge.run(ask("/")))), Answer)
    assert_type((yield from gather(bridge.run(ask("/")), bridge.run(asyncio.sleep(1, "slept")))), tuple[Answer, str])


def iterates(answer: Answer, blocks: AsyncIterable[bytes]) -> None:
    """The items are Any: neither of blocks nor of futures only would be true, and both together no framework takes."""
    assert_type(bridge.iterate(answer), Generator[Any, None, None])
    assert_type(bridge.iterate(blocks), Generator[Any, None, None])
    assert_type(bridge.iterate(lines()), Generator[Any, None, None])
    bridge.close()
    bridge.close(seconds=0.5)


@asynccontextmanager
async def connected(path: str) -> AsyncGenerator[Answer, None]:
    yield Answer()


def opens() -> Generator[Future[Any], None, None]:
    opened = yield from bridge.open(connected("/"))
    assert_type(opened, Opened[Answer])
    assert_type(opened.value, Answer)
    assert_type(opened.close(), Future[None])
    with opened as answer:
        assert_type(answer, Answer)
    bridge.iterate(answer, opened)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Generator[bytes | Future[Any], None, None]:
    answer = yield from wait(bridge.run(ask(environ["PATH_INFO"])))
    start_response(f"{answer.status} Whatever", [])
    yield from bridge.iterate(answer)
