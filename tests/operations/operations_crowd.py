"""Clients of every kind, which send requests without end through whatever happens to the server, and what became of each.

A request has an id, sent once.  What came back is answered (200, whole, of that id, by the process that began it) or
lost, with what the client saw; what the application has begun it writes down itself (apps/counted.py).  Held against each
other at the end: nothing is doubled, nothing is answered that was not begun, and nothing lost, but what a fault excuses:

- of a worker that was killed, what it had begun, or what was on a connection of its own, and what was on its way when it
  was killed and was begun by none;
- of a server that was told to end, what was sent afterwards and was begun by none.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.client import Address, Connection, NoResponse, Response, Truncated, build
from harness.limits import LONG, eventually

PAUSE = 0.005  # seconds between two requests of a client: the processors are for the server, too
IDLE = 0.9  # so long, and a moment more, a server that drains keeps an idle connection for the next request


@dataclass
class Loss:
    id: str
    what: str
    pid: int | None  # of the worker whose connection it was on, if that was known
    began: float  # when its connection was asked for, or a request on one that was there
    sent: float  # when it had been, as far as it is sent in one piece, or that had failed


@dataclass
class Ledger:
    answered: dict[str, int] = field(default_factory=dict)  # id -> the process that says to have answered
    losses: list[Loss] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # what cannot be, whatever happens
    stale: int = 0  # connections that were closed as idle while a client slept
    visits: Counter[str] = field(default_factory=Counter)  # client -> how often it has come


class Asked:
    """One request: its id, its bytes in the pieces in which they are sent, and what its answer says behind id and pid."""

    def __init__(self, id_: str, target: str, body: bytes | None = None, pieces: int = 1, more: str = "") -> None:
        self.id, self.more = id_, more
        data = build("GET" if body is None else "POST", target, body=body)
        size = -(-len(data) // pieces)
        self.pieces = [data[i : i + size] for i in range(0, len(data), size)]

    def judge(self, answer: Response) -> int:
        """The process that answered; ValueError says what is wrong."""
        if answer.status != 200:
            raise ValueError(f"{answer.status} {answer.body[:100]!r}")
        name, pid, *rest = answer.text.split()
        if name != self.id or " ".join(rest) != self.more:
            raise ValueError(f"the answer of another: {answer.text!r}")
        return int(pid)


class Streamed(Asked):
    """Server-sent events: all of them, in their order, from one process."""

    def __init__(self, id_: str, count: int, seconds: float) -> None:
        super().__init__(id_, f"/events/{id_}?count={count}&seconds={seconds}")
        self.count = count

    def judge(self, answer: Response) -> int:
        if answer.status != 200:
            raise ValueError(f"{answer.status} {answer.body[:100]!r}")
        pid = answer.text.split()[2]
        if answer.text != "".join(f"data: {self.id} {pid} {i}\n\n" for i in range(self.count)):
            raise ValueError(f"other events: {answer.text!r}")
        return int(pid)


class Client(threading.Thread):
    """One of them.  `kind` says what it does in a visit."""

    def __init__(self, crowd: Crowd, kind: str, number: int) -> None:
        super().__init__(name=f"{kind}{number}", daemon=True)
        self.crowd, self.visit = crowd, KINDS[kind]
        self.next = 0
        self.c: Connection | None = None
        self.pid: int | None = None  # of the worker that this connection is with, once it has answered
        self.last = 0.0  # when the last request on it was begun to be sent

    def run(self) -> None:
        ledger = self.crowd.ledger
        try:
            while not self.crowd.over.is_set():
                self.visit(self)
                ledger.visits[self.name] += 1
                time.sleep(PAUSE)
        except Ended:
            pass
        except BaseException as error:
            ledger.wrong.append(f"{self.name}: {error!r}")
        finally:
            self.leave()

    def new_id(self) -> str:
        self.next += 1
        return f"{self.name}-{self.next}"

    def leave(self) -> None:
        if self.c is not None:
            self.c.close()
        self.c = self.pid = None

    def ask(self, *all_of_it: Asked, pause: float = 0.0) -> None:
        """Sends them together, on the connection that there is or a new one, and reads the answers."""
        if self.c is not None and self.c.readable(0):
            self.leave()  # closed as idle: a client that looks first loses nothing
        reused, began, sent = self.last if self.c is not None else None, time.monotonic(), 0.0
        try:
            if self.c is None:
                self.c = Connection(self.crowd.address, timeout=LONG)
            self.last = began
            pieces = all_of_it[0].pieces if len(all_of_it) == 1 else [b"".join(a.pieces[0] for a in all_of_it)]
            for piece in pieces:
                self.c.send(piece)
                sent = sent or time.monotonic()
                if pause:
                    time.sleep(pause)
        except OSError as error:
            # What was answered before it was whole, as 408 or 503, comes before the reset.
            self.lose(all_of_it, f"{_named(error)}{self.said()}", began, sent or time.monotonic(), reused)
            return
        for i, asked in enumerate(all_of_it):
            try:
                answer = self.c.read_response()
                self.pid = self.crowd.ledger.answered[asked.id] = asked.judge(answer)
            except (Truncated, OSError, ValueError) as error:
                self.lose(all_of_it[i:], _named(error), began, sent, reused if i == 0 else None)
                return
            if not answer.keeps_alive:
                if all_of_it[i + 1 :]:
                    self.lose(all_of_it[i + 1 :], "not answered behind Connection: close", began, sent, None)
                self.leave()
                return

    def said(self) -> str:
        with contextlib.suppress(Exception):
            if self.c is not None and self.c.readable(0):
                return f", after {self.c.read_head().status}"
        return ""

    def lose(self, asked: tuple[Asked, ...], what: str, began: float, sent: float, reused: float | None) -> None:
        """Of those it is not known what became.  A connection that has been idle for a second may be closed at any moment,
        also in that in which the client, which was kept from its processor, sends at last."""
        pid, ledger = self.pid, self.crowd.ledger
        self.leave()
        if reused is not None and sent - reused >= IDLE and what in SILENT:
            ledger.stale += 1
            self.crowd.unsure |= {a.id for a in asked}
            return
        ledger.losses += [Loss(a.id, what, pid, began, sent) for a in asked]
        if self.crowd.ending:
            raise Ended


class Ended(Exception):
    """The server has been told to end, and a client has found that it has."""


SILENT = ("no response", "ConnectionResetError", "BrokenPipeError")


def _named(error: Exception) -> str:
    if isinstance(error, NoResponse):
        return "no response"
    return str(error) if isinstance(error, (ValueError, Truncated)) else type(error).__name__


# ---- what each kind does ----


def new(client: Client) -> None:
    id_ = client.new_id()
    client.ask(Asked(id_, f"/now/{id_}"))
    client.leave()


def kept(client: Client) -> None:
    id_ = client.new_id()
    client.ask(Asked(id_, f"/now/{id_}"))
    if client.next % 20 == 0:
        client.leave()


def pipelined(client: Client) -> None:
    ids = [client.new_id() for _ in range(3)]
    client.ask(*(Asked(id_, f"/now/{id_}") for id_ in ids))


def upload(client: Client) -> None:
    id_, body = client.new_id(), bytes(range(256)) * 40
    client.ask(Asked(id_, f"/uploaded/{id_}", body, 5, f"{len(body)} {zlib.crc32(body)}"), pause=0.02)


def events(client: Client) -> None:
    client.ask(Streamed(client.new_id(), 5, 0.03))


def parked(client: Client) -> None:
    id_ = client.new_id()
    client.ask(Asked(id_, f"/parked/{id_}?seconds=0.1"))


KINDS: dict[str, Callable[[Client], None]] = {f.__name__: f for f in (new, kept, pipelined, upload, events, parked)}
NUMBERS = {"new": 2, "kept": 2}  # of the others there is one each


class Crowd:
    """All of them, from start() to stop().  `counted` is the file in which the application notes what it has begun."""

    def __init__(self, address: Address, counted: Path) -> None:
        self.address, self.counted = address, counted
        self.ledger = Ledger()
        self.over = threading.Event()
        self.ending = False
        self.unsure: set[str] = set()
        self.clients = [Client(self, kind, i) for kind in KINDS for i in range(NUMBERS.get(kind, 1))]

    def start(self) -> Crowd:
        for client in self.clients:
            client.start()
        return self

    def stop(self) -> None:
        self.over.set()
        for client in self.clients:
            client.join(2 * LONG)
            assert not client.is_alive(), f"{client.name} hangs"

    def go_on(self, times: int = 2, *, some: int | None = None) -> None:
        """Returns when each of them (or `some` of them) has come so many times more: they are served."""
        before = dict(self.ledger.visits)
        wanted = len(self.clients) if some is None else some

        def come() -> list[str] | None:
            assert not self.ledger.wrong, self.ledger.wrong
            done = [c.name for c in self.clients if self.ledger.visits[c.name] >= before.get(c.name, 0) + times]
            return done if len(done) >= wanted else None

        eventually(come, f"{wanted} of {len(self.clients)} clients come {times} times more", within=LONG)

    def begun(self) -> dict[str, list[int]]:
        """Id -> the processes that have begun it."""
        found: dict[str, list[int]] = {}
        for line in self.counted.read_text().splitlines():
            name, pid = line.split()
            found.setdefault(name, []).append(int(pid))
        return found

    def judge(self, victims: dict[int, float], told: float | None) -> list[str]:
        """What is wrong.  victims: workers that were killed, and when they were gone; told: when the server was to end."""
        begun, ledger = self.begun(), self.ledger
        wrong = list(ledger.wrong)
        wrong += [f"{id_} was begun {len(pids)} times, by {pids}" for id_, pids in begun.items() if len(pids) > 1]
        wrong += [
            f"{id_} was answered by {pid}, and begun by {begun.get(id_)}"
            for id_, pid in ledger.answered.items()
            if begun.get(id_) != [pid]
        ]
        wrong += [f"{id_} was begun on a connection that had been closed as idle" for id_ in self.unsure & begun.keys()]
        wrong += [
            f"{loss.id} was lost: {loss.what}, begun by {begun.get(loss.id)}, connection of {loss.pid}"
            for loss in ledger.losses
            if not _is_excused(loss, begun.get(loss.id, []), victims, told)
        ]
        return wrong

    def summary(self) -> str:
        kinds = Counter(id_.rpartition("-")[0].rstrip("0123456789") for id_ in self.ledger.answered)
        said = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
        return f"answered: {said}; lost: {len(self.ledger.losses)}; stale: {self.ledger.stale}"


def _is_excused(loss: Loss, begun: list[int], victims: dict[int, float], told: float | None) -> bool:
    if begun:
        return begun[0] in victims
    if loss.pid in victims:
        return True
    if told is not None and loss.sent >= told:
        return True
    return loss.pid is None and any(loss.began <= gone for gone in victims.values())


def listeners(port: int) -> Iterator[str]:
    """Sockets that listen on this port of 127.0.0.1."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[1] == f"0100007F:{port:04X}":
            yield fields[9]


def refused(address: Address) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=LONG):  # type: ignore[arg-type]
        return False
    return True
