"""S13: clients that read slowly."""

from __future__ import annotations

from wsgi_plus.simple_server import Fate

from . import Connection, Request, fault


@fault("S13.1")
class NeverEnough(Request):
    """An application is asked for more whatever is unsent."""

    def await_client(self) -> Fate:
        return Fate.AGAIN


@fault("S13.2")
class HoldsTheThread(Request):
    """The thread waits for the client."""

    def await_client(self) -> Fate:
        room = self.connection.output.room()
        if room is not None:
            room.result()
        return Fate.AGAIN


@fault("S13.2-lost")
class NeverAgain(Request):
    """Who has waited for a client is not resumed."""

    def await_client(self) -> Fate:
        fate = super().await_client()
        if fate is Fate.PARK and self.wait is not None:
            self.wait.take()
        return fate


@fault("S13.3")
class SmallWritesOnly(Request):
    """write refuses what cannot be sent at once."""

    def write(self, data: bytes, /) -> None:
        self.send(data)
        if self.connection.output.room() is not None:
            raise BlockingIOError("the client is slow")


@fault("S13.4")
class Patient(Connection):
    """A client may take nothing for ever."""

    def tick(self, now: float) -> None:
        self.progress = now
        self.unsent = (-1, -1)
        super().tick(now)


@fault("S13.4-impatient")
class Impatient(Connection):
    """A client that is only slow is ended, too."""

    def tick(self, now: float) -> None:
        request, limit = self.request, self.server.send_timeout
        if request is not None and self.output.size and limit and now - request.began >= limit:
            self.abort()
        super().tick(now)
