"""S1: what suspends."""

from __future__ import annotations

import types
from concurrent.futures import Future
from typing import Any

from . import Request, fault


@fault("S1.1")
class OneClassOnly(Request):
    """Subclasses are no futures."""

    def handle(self, item: Any) -> Any:
        return super().handle(None if isinstance(item, Future) and type(item) is not Future else item)


@fault("S1.2")
class GeneratorsOnly(Request):
    """Other iterables may not yield futures."""

    def handle(self, item: Any) -> Any:
        generator = isinstance(self.iterator, types.GeneratorType)
        return super().handle(None if isinstance(item, Future) and not generator else item)


@fault("S1.3")
class SkipsNonsense(Request):
    """What is neither a block nor a future is passed over."""

    def handle(self, item: Any) -> Any:
        return super().handle(b"" if isinstance(item, (str, int, type(None), list)) else item)


@fault("S1.3-unnamed")
class SaysNotWhat(Request):
    """The type of the item is not told."""

    def explain(self, item: Any) -> str:
        return "the application has yielded something wrong"


@fault("S1.4")
class SaysNotWhatInstead(Request):
    """No advice."""

    def explain(self, item: Any) -> str:
        return f"yielded {type(item).__name__}, not bytes or a concurrent.futures.Future"


@fault("S1.5")
class LooksForTruth(Request):
    """A future is asked whether it is true."""

    def await_future(self, future: Future[Any]) -> Any:
        return super().await_future(future if future else Future())


@fault("S1.5-result")
class AsksForTheResult(Request):
    """More of it is used than needed."""

    def failure(self, future: Future[Any]) -> BaseException | None:
        try:
            future.result(timeout=0)
        except BaseException as error:
            return error
        return None


@fault("S1.6")
class OneItemIsOneBlock(Request):
    """A list of one is taken for a block."""

    def known_length(self, iterable: Any) -> int | None:
        known = super().known_length(iterable)
        if known is None and type(iterable) in (list, tuple) and len(iterable) == 1:
            raise TypeError("one block was to be expected")
        return known


@fault("S1.7", "S15.7")
class NotBeforeStartResponse(Request):
    """A future is accepted after start_response only."""

    def await_future(self, future: Future[Any]) -> Any:
        if not self.started:
            raise RuntimeError("start_response was not called")
        return super().await_future(future)


@fault("S1.8")
class WritesFutures(Request):
    """write takes a future, and does nothing with it."""

    def write(self, data: Any, /) -> None:
        super().write(b"" if isinstance(data, Future) else data)
