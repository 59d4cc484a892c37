"""S13: clients that read slowly."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..check import LONG, PROMPT, QUIET, eventually, holds, same
from ..client import Connection
from ..registry import case
from ..trial import Trial

SIZE = 65536
KINDS = {" and nothing else": "", ", each with a future that is done": "done", ", each with one that is not": "pending"}


def readers(t: Trial, n: int, receive_buffer: int) -> dict[str, Connection]:
    """Requests for so many blocks, alone and with futures of each kind between them, by their keys."""
    return {
        f"{t.key}-{kind}": t.begin(
            "s13.blocks", f"{t.key}-{kind}", receive_buffer=receive_buffer, n=n, size=SIZE, between=kind
        )
        for kind in KINDS.values()
    }


def still(t: Trial, keys: list[str], *, begun: Callable[[list[int]], bool] = all) -> list[int]:
    """How many blocks each has been asked for, when they have begun and that does not change any more."""
    seen: list[list[int]] = []

    def same_again() -> list[int]:
        seen.append([t.control("s13.asked", key) for key in keys])
        if len(seen) > 1 and seen[-1] == seen[-2] and begun(seen[-1]):
            return seen[-1]
        time.sleep(QUIET)
        return []

    return eventually(same_again, "applications whose clients do not read are asked for ever more", within=LONG)


@case("S13.1")
def items_stop_when_nobody_reads(t: Trial) -> None:
    """When its client does not read, an application is not asked for more blocks, with or without futures between."""
    n = 512
    connections = readers(t, n, 4096)
    for kind, count in zip(KINDS, still(t, list(connections))):
        holds(count < n, f"it was asked for all {count} blocks of 64 KiB{kind}")
    for key, c in connections.items():
        c.reset()
        t.wait_for("closed", key=key)


@case("S13.2", threads=1)
def slow_readers_hold_no_thread(t: Trial) -> None:
    """Requests whose clients do not read leave the only thread to others, and go on to their ends when these read."""
    n = 256
    connections = readers(t, n, SIZE)
    still(t, list(connections), begun=any)  # where one holds the thread, the others may not begin
    other = t.connect(timeout=PROMPT)
    other.get(t.target("acts.generator", f"{t.key}-other", do="start block"))
    same(other.response().text, "block ", "the body of a request beside them")
    wanted = tuple(t.control("s13.digest", n, SIZE))
    for c in connections.values():
        answer = c.start()
        same(c.drain(answer), wanted, "the length and the SHA-256 of the body")
        holds(answer.complete, "the response is complete")


@case("S13.2")
def slow_readers_get_all(t: Trial) -> None:
    """A client that stops reading now and then gets the whole body, of large blocks as of small ones."""
    kinds = {f"{t.key}-small": (3000, 1024), f"{t.key}-large": (3, 2 << 20)}
    connections = [t.begin("s13.blocks", key, receive_buffer=SIZE, n=n, size=size) for key, (n, size) in kinds.items()]
    answers = [c.start() for c in connections]
    still(t, list(kinds))
    for c, answer, (n, size) in zip(connections, answers, kinds.values()):
        same(c.drain(answer), tuple(t.control("s13.digest", n, size)), "the length and the SHA-256 of the body")
        holds(answer.complete, "the response is complete")


@case("S13.3")
def large_bodies_by_write(t: Trial) -> None:
    """A large body that is given to write arrives, whether or not this holds the thread meanwhile."""
    n = 512
    c = t.begin("s13.writes", receive_buffer=SIZE, n=n, size=SIZE)
    answer = c.start()
    same(c.drain(answer), tuple(t.control("s13.digest", n, SIZE)), "the length and the SHA-256 of the body")
    holds(answer.complete, "the response is complete")


@case("S13.4", send_timeout=1)
def clients_that_take_nothing(t: Trial) -> None:
    """A request whose client takes nothing for the time that is set is ended; one whose client is only slow is not."""
    stalled = t.begin("s13.blocks", f"{t.key}-stalled", receive_buffer=4096, n=1024, size=SIZE)
    slow = t.begin("s13.blocks", f"{t.key}-slow", n=256, size=SIZE)
    answer = slow.start()
    count = 0
    for _ in range(16):  # longer than the time that is set
        time.sleep(0.1)
        count += len(slow.part(answer, 8 * SIZE))
        answer.body = b""
    t.wait_for("closed", key=f"{t.key}-stalled")
    holds(not stalled.response().complete, "the response that the client did not take is broken off")
    same(count + slow.drain(answer)[0], 256 * SIZE, "the length of the body that was read slowly")
    holds(answer.complete, "the response that was read slowly is complete")
