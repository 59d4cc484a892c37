"""S18: shutdown."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any

from . import Connection, Request, Server, fault


@fault("S18.1")
class GoesOnAccepting(Connection):
    """Idle connections stay open, and what comes on them is served."""

    def drain(self) -> None:
        pass

    def settle(self) -> None:
        since, self.server.draining_since = self.server.draining_since, None
        try:
            super().settle()
        finally:
            self.server.draining_since = since


@fault("S18.1-listens")
class GoesOnListening(Server):
    """New connections are accepted to the end."""

    def _drain(self) -> None:
        listeners = [listener.dup() for listener in self._listeners.values()]
        super()._drain()
        self._listeners = {listener.fileno(): listener for listener in listeners}
        for listener in listeners:
            self.poll.register(listener, 1)


@fault("S18.1-unaccepted")
class LeavesUnaccepted(Server):
    """Connections that wait to be accepted are not."""

    def _accept_waiting(self) -> None:
        pass


@fault("S18.1-unread")
class LeavesUnread(Connection):
    """What has not been read of an idle connection is not."""

    def drain(self) -> None:
        if self.request is None and self.closing is None:
            self.close()


@fault("S18.2")
class ParksNoMore(Request):
    """A request that parks again while the server drains is in error."""

    def await_future(self, future: Future[Any]) -> Any:
        if self.server.draining:
            raise RuntimeError("the server drains")
        return super().await_future(future)


@fault("S18.2-at-once")
class EndsAtOnce(Connection):
    """Draining ends what is parked."""

    def drain(self) -> None:
        super().drain()
        self.force()


@fault("S18.3")
class JustEnds(Connection):
    """At the graceful timeout connections are reset."""

    def force(self) -> None:
        self.abort()


@fault("S18.3-open")
class LeavesOpen(Request):
    """Requests that are ended then are not closed."""

    kept: list[Any] = []  # otherwise a generator is closed when nothing refers to it

    def close(self) -> None:
        if self.ended and self.server.forced:
            self.kept.append(self.iterable)
            self.iterable = None
        super().close()


@fault("S18.4")
class SaysNothing(Server):
    """What is left behind is not reported."""

    def _end(self) -> None:
        logging.getLogger("wsgi_plus.simple_server").disabled = True
        super()._end()


@fault("S18.5")
class SaysKeepAlive(Request):
    """Responses do not say that the connection will be closed."""

    def begin(self, known: int | None) -> None:
        since, self.server.draining_since = self.server.draining_since, None
        try:
            super().begin(known)
        finally:
            self.server.draining_since = since
