"""S12: deadlines."""

from __future__ import annotations

from typing import Any

from . import Connection, Request, Server, fault


@fault("S12.1")
class NoDeadlineWhileSending(Connection):
    """There is no deadline while a response is being sent."""

    def deadline(self) -> None:
        if not self.output.size:
            super().deadline()


@fault("S12.1-begin")
class CountsFromTheBeginning(Connection):
    """The time counts from the connection's beginning."""

    def read(self) -> None:
        before = self.request
        if not hasattr(self, "since"):
            self.since = self.progress
        super().read()
        if self.request is not None and self.request is not before:
            self.request.began = self.since


@fault("S12.2")
class NothingIsSaid(Connection):
    """At its deadline a request is reset."""

    def deadline(self) -> None:
        self.abort()


@fault("S12.2-open")
class NotClosed(Request):
    """What has met its deadline is not closed."""

    def close(self) -> None:
        if not self.ended:
            super().close()


@fault("S12.3")
class CalledInVain(Request):
    """The application is called though the deadline has passed."""

    def advance(self) -> Any:
        if self.ended and self.iterator is None:
            self.iterable = self.server.app(self.environ, lambda *_: bytes)
            next(iter(self.iterable), None)
        return super().advance()


@fault("S12.4")
class WaitsForTheStep(Connection):
    """The client is answered when the step has returned."""

    def deadline(self) -> None:
        if self.request is None or self.request.thread is None:
            super().deadline()


@fault("S12.4-silent")
class NoReport(Request):
    """The log does not say what runs."""

    def stack(self) -> str:
        return ""


@fault("S12.4-write")
class WritesInVain(Request):
    """write goes on as if there were a client to read it."""

    def write(self, data: bytes, /) -> None:
        if not self.ended:
            super().write(data)


@fault("S12.4-on")
class GoesOn(Request):
    """Steps follow though the deadline has passed."""

    def next_item(self) -> Any:
        item = super().next_item()
        if self.ended and self.iterator is not None:
            next(self.iterator, None)
        return item


@fault("S12.5")
class TakenForIdle(Connection):
    """A parked request's client is taken for one that takes nothing."""

    def tick(self, now: float) -> None:
        request, limit = self.request, self.server.send_timeout
        if request is not None and request.waits_for_future() and limit and now - request.began >= limit:
            self.abort()
        super().tick(now)


@fault("S12.6")
class ShowsNothing(Server):
    """What is parked is not shown."""

    def parked(self) -> list[Any]:
        return []
