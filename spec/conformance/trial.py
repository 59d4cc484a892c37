"""What a case has at hand: the server, connections to it, and what the application has recorded."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlencode

from .check import PROMPT, Failed, NotSupported, eventually, holds
from .client import Answer, Connection
from .launcher import Server

__all__ = ["Trial"]

_numbers = itertools.count(1)


class Trial:
    """One run of one case.  Connections are closed at its end."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.key = f"{name}-{os.getpid()}-{next(_numbers)}"
        """What the application records under, and what its futures are called, for this run alone."""
        self._stack = ExitStack()
        self._log_start = server.log_size()

    def close(self) -> None:
        with suppress(Failed, NotSupported, OSError):  # a server that has ended needs no cleaning up
            self._stack.close()

    # Requests: an application is named by its module and function, "s05.failed"

    def target(self, app: str, key: str | None = None, **query: object) -> str:
        module, _, name = app.partition(".")
        return f"/{module}/{name.replace('_', '-')}?{urlencode({'key': key or self.key, **query})}"

    def connect(self, **how: Any) -> Connection:
        """A connection on which nothing has been sent."""
        return self._stack.enter_context(Connection(self.server.address, **how))

    def begin(
        self, app: str, key: str | None = None, *, receive_buffer: int | None = None, **query: object
    ) -> Connection:
        """A connection on which a GET has been sent."""
        c = self.connect(receive_buffer=receive_buffer)
        c.get(self.target(app, key, **query))
        return c

    def park(
        self, app: str, key: str | None = None, *, receive_buffer: int | None = None, **query: object
    ) -> Connection:
        """The same, when the application has recorded ``parking``.

        The request may still be on its way to being parked: a case that needs it parked must look the same either way.
        """
        c = self.begin(app, key, receive_buffer=receive_buffer, **query)
        self.wait_for("parking", key=key)
        return c

    def get(self, app: str, key: str | None = None, **query: object) -> Answer:
        """A whole exchange, on a connection of its own."""
        with Connection(self.server.address) as c:
            c.get(self.target(app, key, **query))
            return c.response()

    def success(self, app: str, key: str | None = None, **query: object) -> Answer | None:
        """A whole exchange: its answer if that says it went well, and None if it is a 5xx, broken off or not there."""
        with Connection(self.server.address) as c:
            c.get(self.target(app, key, **query))
            answer = c.response_if_any()
            return None if answer is None or answer.status >= 500 or not answer.complete else answer

    def fails(self, app: str, key: str | None = None, **query: object) -> bool:
        """A whole exchange: whether the client can tell that it has failed, be it by a 5xx or by an early end."""
        return self.success(app, key, **query) is None

    def shows_failure(self, app: str, key: str | None = None, **query: object) -> None:
        """A whole exchange of which the client has to be able to tell that it has failed."""
        answer = self.success(app, key, **query)
        holds(answer is None, f"the client can tell that the request failed, and does not get {answer}")

    def play(self, do: str, key: str | None = None, *, app: str = "acts.iterator", **query: Any) -> Connection:
        """As ``begin`` with an application of apps/acts.py, whose futures have been completed as it came to them."""
        c = self.begin(app, key, do=do, **query)
        for number in range(do.split().count("park")):
            self.wait_for(*["parking"] * (number + 1), key=key)
            self.complete(f"{key or self.key}.{number}" if number else key)
        return c

    # The application's side

    def control(self, function: str, *arguments: Any) -> Any:
        """Calls a function of apps/stage.py in the server."""
        return self.server.control(function, *arguments)

    def events(self, key: str | None = None) -> list[str]:
        """The names of what has been recorded, in order."""
        return [name for name, _ in self.control("events", key or self.key)]

    def details(self, event: str, key: str | None = None) -> list[Any]:
        """What was noted with each event of this name."""
        return [detail for name, detail in self.control("events", key or self.key) if name == event]

    def calls(self, key: str | None = None) -> list[str]:
        """What has been called of the iterator of an application of apps/acts.py, in order."""
        return [name for name in self.events(key) if name in ("next", "send", "throw", "close", "overlap")]

    def wait_for(self, *wanted: str, key: str | None = None, within: float = PROMPT) -> None:
        """Until each of these has been recorded, as often as it is named."""

        def there() -> bool:
            names = self.events(key)
            return all(names.count(name) >= wanted.count(name) for name in wanted)

        eventually(there, f"the application does not come to {', '.join(wanted)}", within=within)

    def complete(self, key: str | None = None, value: Any = None) -> None:
        """Completes the future by this key, in a thread that knows nothing of the server."""
        self.control("complete", key or self.key, value)

    def fail(self, key: str | None = None, message: str = "failed on purpose") -> None:
        self.control("fail", key or self.key, message)

    def state(self, key: str | None = None) -> str:
        """pending, running, done or cancelled."""
        said: str = self.control("state", key or self.key)
        return said

    # The server's side

    def log(self) -> str:
        """What the server has written since the case began."""
        return self.server.log(self._log_start)

    def wait_log(self, *words: str) -> None:
        """Until the log has all of these."""
        eventually(lambda: all(word in self.log() for word in words), f"the log does not have {', '.join(words)}")

    def defer(self, function: Callable[..., object], *arguments: object) -> None:
        """Calls it when the case is over, whatever its end."""
        self._stack.callback(function, *arguments)
