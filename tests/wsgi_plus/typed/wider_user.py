"""What a type checker makes of Topic, retry, TaskGroup, background and RequestBody.  Checked by test_types.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from concurrent.futures import Future
from functools import partial
from typing import Any

from typing_extensions import assert_type
from wsgi_plus import (
    Channel,
    ChannelClosed,
    RequestBody,
    TaskGroup,
    Topic,
    background,
    backoff,
    deadline,
    offload,
    retry,
    wait,
)

Waits = Generator[Future[Any], None, None]

news: Topic[bytes] = Topic(limit=10, slow="mark")


def messages(channel: Channel[int]) -> Waits:
    with news.subscribe() as subscribed:
        assert_type(subscribed, Channel[bytes])
        try:
            assert_type((yield from subscribed.get()), bytes)
            assert_type((yield from deadline(1, channel.get())), int)
        except ChannelClosed:
            assert_type(subscribed.missed, int)
    assert_type(news.publish(b"all"), int)
    assert_type(channel.put(3), bool)


def load(name: str) -> bytes:
    return name.encode()


def steps() -> Generator[Future[Any], None, int]:
    return len((yield from wait(offload(load, "a"))))


def again() -> Waits:
    assert_type((yield from retry(lambda: offload(load, "a"))), bytes)
    assert_type((yield from retry(steps, tries=2, on=(OSError, KeyError), pause=backoff(1, most=5))), int)
    assert_type((yield from retry(steps, on=OSError, pause=lambda number, error: None)), int)


def tasks(number: Future[int]) -> Waits:
    with TaskGroup(discard=print) as group:
        assert_type(group.add(number), Future[int])
        assert_type((yield from group.join()), tuple[Any, ...])


def after(number: Future[int]) -> None:
    background(load, "a")
    background(partial(load, "a"))
    background(number)


def body(environ: dict[str, Any]) -> None:
    with RequestBody(environ) as file:
        assert_type(file.read(10), bytes)
        assert_type(file.length, int | None)
        assert_type(file.pieces(), AsyncIterator[bytes])
        for piece in file:
            assert_type(piece, bytes)
