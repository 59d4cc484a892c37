"""PEP 3333: applications that fail."""

from __future__ import annotations

from typing import Any

from wsgi_plus.simple_server._request import END, Ended

from . import Request, fault


@fault("P24")
class NothingHasHappened(Request):
    """After an exception before the first block the response is an empty one."""

    def fail(self, error: BaseException) -> None:
        if self.begun:
            super().fail(error)
        else:
            self.status = self.status or "200 OK"
            self.complete()


@fault("P24-started")
class StartedIsBegun(Request):
    """Once start_response was called, that is the response."""

    def fail(self, error: BaseException) -> None:
        if self.started and not self.begun:
            self.complete()
        else:
            super().fail(error)


@fault("P24-none")
class NoneIsNothing(Request):
    """None is as good as an empty list."""

    def next_item(self) -> Any:
        try:
            return super().next_item()
        except TypeError:
            return END


@fault("P25")
class AsIfItWereTheEnd(Request):
    """An exception is the end of a body in chunks."""

    def fail(self, error: BaseException) -> None:
        if self.begun and self.chunked:
            self.complete()
        else:
            super().fail(error)


@fault("P25-length")
class FillsUp(Request):
    """What is missing of Content-Length is blank."""

    def fail(self, error: BaseException) -> None:
        if self.begun and self.left:
            self.send(b" " * self.left)
            self.complete()
        else:
            super().fail(error)


@fault("P31")
class Started(Request):
    """Without start_response it is a 200."""

    def begin(self, known: int | None) -> None:
        self.status = self.status or "200 OK"
        super().begin(known)


@fault("P31-empty")
class EmptyIsFine(Request):
    """Without start_response and without a block it is a 204."""

    def complete(self) -> None:
        self.status = self.status or "204 No Content"
        super().complete()


@fault("P41")
class SaysNothing(Request):
    """Exceptions are not logged."""

    def fail(self, error: BaseException) -> None:
        super().fail(Ended())


@fault("P41-call")
class SaysWhatHappensLater(Request):
    """What the call of the application raises is not logged."""

    def fail(self, error: BaseException) -> None:
        super().fail(error if self.iterator is not None else Ended())
