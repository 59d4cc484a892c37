"""wsgi_plus.blocking: a failure is never taken for the end of the body."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from wsgi_plus import blocking


def failed() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(StopIteration("of the future"))
    return future


class Throwing:
    """An iterator that is no generator, and lets what is thrown in pass."""

    def __init__(self) -> None:
        self._items = iter([b"half", failed(), b"rest"])

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._items)

    def throw(self, error: BaseException) -> Any:
        raise error


def generator() -> Iterator[Any]:
    yield b"half"
    yield failed()
    yield b"rest"


def catching() -> Iterator[Any]:
    yield b"half"
    try:
        yield failed()
    except StopIteration:
        return


@pytest.mark.parametrize("make", [lambda: iter([b"half", failed(), b"rest"]), Throwing, generator])
def test_a_future_that_failed_with_stop_iteration(make: Any) -> None:
    body = iter(blocking(lambda environ, start_response: make())({}, lambda *_: None))
    assert next(body) == b"half"
    with pytest.raises(RuntimeError):
        next(body)


def test_an_application_that_ends_then() -> None:
    assert list(blocking(lambda environ, start_response: catching())({}, lambda *_: None)) == [b"half"]
