"""S20: futures that are yielded more than once."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from . import Request, fault


@fault("S20.1")
class OneAtATime(Request):
    """A future belongs to the first request that waits for it."""

    taken: dict[int, Any] = {}

    def await_future(self, future: Future[Any]) -> Any:
        if self.taken.setdefault(id(future), (self, future))[0] is not self:
            raise RuntimeError("another request waits for this future")
        return super().await_future(future)


@fault("S20.1-again")
class OnceEach(Request):
    """A request may yield a future once."""

    def await_future(self, future: Future[Any]) -> Any:
        if getattr(self, "before", None) is future:
            raise RuntimeError("this future was yielded before")
        self.before = future
        return super().await_future(future)


@fault("S20.2")
class TakesItAlong(Request):
    """A request that is ended cancels the future for all."""

    def close(self) -> None:
        future = self.future
        super().close()
        if self.ended and future is not None:
            future.cancel()


@fault("S20.2-first")
class OneFailureForOne(Request):
    """A failure reaches the first request that asks for it."""

    told: dict[int, Any] = {}

    def failure(self, future: Future[Any]) -> BaseException | None:
        error = super().failure(future)
        if error is not None and self.told.setdefault(id(future), (self, future))[0] is not self:
            return RuntimeError("the future has failed")
        return error
