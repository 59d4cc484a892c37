"""S2: what the server does meanwhile."""

from __future__ import annotations

import weakref
from concurrent.futures import Future
from typing import Any

from . import Connection, Request, fault


@fault("S2.1")
class WaitsInTheThread(Request):
    """The thread waits for the future."""

    def await_future(self, future: Future[Any]) -> Any:
        try:
            future.exception()
        except BaseException:
            pass
        return super().await_future(future)


@fault("S2.2")
class HoldsBlocksBack(Request):
    """A block leaves with the next one, or at the end."""

    def send(self, block: bytes) -> None:
        held, self.held = getattr(self, "held", b""), block
        super().send(held)

    def complete(self) -> None:
        super().send(getattr(self, "held", b""))
        super().complete()


@fault("S2.3")
class ShowsSuspensions(Request):
    """Headers leave when the request suspends."""

    def await_future(self, future: Future[Any]) -> Any:
        if self.started:
            with self.lock:
                self.begin(None)
            self.connection.changed()
        return super().await_future(future)


@fault("S2.3-header")
class TellsOfSuspensions(Request):
    """A header tells of them."""

    def await_future(self, future: Future[Any]) -> Any:
        if not self.begun:
            self.headers.append(("X-Suspended", "1"))
        return super().await_future(future)


@fault("S2.4")
class AnswersOutOfOrder(Connection):
    """A request behind one that is parked is begun at once."""

    def read(self) -> None:
        if self.request is not None and self.request.waits_for_future():
            self.request = None
        super().read()


@fault("S2.5")
class OnceOnly(Request):
    """A request may suspend once."""

    def await_future(self, future: Future[Any]) -> Any:
        if getattr(self, "suspended", False):
            raise RuntimeError("suspended already")
        self.suspended = True
        return super().await_future(future)


@fault("S2.6")
class ForgetsTheFuture(Request):
    """The server does not refer to the future while the request waits for it."""

    found: weakref.ref[Future[Any]] | None = None

    def await_future(self, future: Future[Any]) -> Any:
        fate = super().await_future(future)
        self.future, self.found = None, weakref.ref(future)
        return fate

    def next_item(self) -> Any:
        if self.found is not None:
            self.future, self.found = self.found(), None
        return super().next_item()
