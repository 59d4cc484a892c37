"""Requests that are sent in the moment before a signal: whatever has arrived has to be answered."""

from __future__ import annotations

import os
import signal
from collections import Counter

from .client import Connection, NoResponse, Truncated, build
from .limits import LONG
from .server import Server

KINDS = {
    "new": "on a connection that is made now",
    "fresh": "the first one on a connection that was made before",
    "kept": "the next one on a connection that is kept",
    "pipelined": "the next two on a connection that is kept, sent together",
}


class Burst:
    """`number` requests of each kind. The log of the server is not asked: what counts is what clients see."""

    def __init__(self, server: Server, number: int, *, target: str = "/hello", kinds: tuple[str, ...] = tuple(KINDS)):
        self.server, self.number, self.kinds = server, number, kinds
        self.one = build("GET", target)
        self.outcomes: Counter[str] = Counter()

    def run(self, sent: int = signal.SIGTERM, *, stopped: bool = False) -> Burst:
        """Sends all of them, then the signal, and reads the answers; to a server that is ``stopped`` until then, so that it
        has read none of them."""
        address, connections = self.server.address, []
        made_before = [kind for kind in self.kinds if kind != "new"]
        ready = {kind: [Connection(address, timeout=LONG) for _ in range(self.number)] for kind in made_before}
        for kind in ("kept", "pipelined"):
            for c in ready.get(kind, ()):
                c.send(self.one)
            for c in ready.get(kind, ()):
                c.read_response()
        if stopped:
            os.kill(self.server.pid, signal.SIGSTOP)
        for kind in self.kinds:
            for c in ready.get(kind) or (Connection(address, timeout=LONG) for _ in range(self.number)):
                c.send(self.one * (2 if kind == "pipelined" else 1))
                connections.append((kind, c))
        os.kill(self.server.pid, sent)
        if stopped:
            os.kill(self.server.pid, signal.SIGCONT)
        for kind, c in connections:
            for i in range(2 if kind == "pipelined" else 1):
                self.outcomes[f"{kind}: {self._outcome(c, last=i == (kind == 'pipelined'))}"] += 1
            c.close()
        return self

    def _outcome(self, c: Connection, *, last: bool) -> str:
        """The status, if the connection then ends as it should, without a reset."""
        try:
            answer = c.read_response()
            if last and c.ended() == "reset":
                return f"{answer.status}, then a reset"
            if not last and not answer.keeps_alive:
                return f"{answer.status}, but the next request is not served"
        except ConnectionResetError:
            return "reset"
        except NoResponse:
            return "no answer"
        except (Truncated, OSError) as error:
            return type(error).__name__
        return str(answer.status)

    @property
    def lost(self) -> dict[str, int]:
        """The requests that were not answered with 200."""
        return {what: n for what, n in self.outcomes.items() if not what.endswith(": 200")}
