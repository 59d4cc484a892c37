"""S6: start_response across suspensions."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from . import Request, fault


@fault("S6.1")
class BeforeTheFutureOnly(Request):
    """start_response cannot be called after a suspension."""

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
        if self.wait is not None:
            raise RuntimeError("too late")
        return super().start_response(status, headers, exc_info)


@fault("S6.2")
class AssumesItWasCalled(Request):
    """An empty block, too, needs start_response."""

    def send(self, block: bytes) -> None:
        if not self.started:
            raise RuntimeError("start_response was not called")
        super().send(block)


@fault("S6.3")
class HeadersWithEmptyBlocks(Request):
    """Headers leave with any block."""

    def send(self, block: bytes) -> None:
        if not block:
            with self.lock:
                self.begin(None)
            self.connection.changed()
        super().send(block)


@fault("S6.4")
class ForgetsHeaders(Request):
    """After a suspension start_response may be called again."""

    def await_future(self, future: Future[Any]) -> Any:
        self.started = False
        return super().await_future(future)


@fault("S6.4-replace")
class KeepsHeaders(Request):
    """After a suspension exc_info replaces nothing."""

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
        if exc_info and self.wait is not None and not self.begun:
            raise exc_info[1].with_traceback(exc_info[2])
        return super().start_response(status, headers, exc_info)


@fault("S6.5")
class SaysTwoHundred(Request):
    """A status is made up where the application gives none."""

    def begin(self, known: int | None) -> None:
        self.status = self.status or "200 OK"
        super().begin(known)


@fault("S6.6")
class AnyThread(Request):
    """start_response and write may be called from anywhere, at any time."""

    def check_step(self) -> None:
        pass


@fault("S6.6-over")
class AfterTheEnd(Request):
    """They may be called when the request is over."""

    def check_step(self) -> None:
        if self.after is None and not self.ended:
            super().check_step()


@fault("S6.6-parked")
class UntilTheEnd(Request):
    """They may be called from anywhere until the request is over."""

    def check_step(self) -> None:
        if self.after is not None or self.ended:
            super().check_step()
