"""S18: shutdown."""

from __future__ import annotations

import os
import re
import signal

from ..check import LONG, PROMPT, SLOW, Failed, eventually, holds, same
from ..client import Answer, Connection
from ..launcher import Server
from ..registry import case
from ..trial import Trial

SHORT = 0.5 * SLOW  # the graceful timeout where it is to pass
AMPLE = 30  # where it is not


def drain(t: Trial) -> None:
    """Asks the server to drain, and waits until it takes no new connections."""
    t.server.terminate()
    eventually(lambda: not served(t), "it still takes new connections when it has been told to end")


def served(t: Trial) -> bool:
    """Whether a request on a new connection is answered by the application."""
    try:
        with Connection(t.server.address, timeout=1.0 * SLOW) as c:
            c.get(t.target("s18.says", f"{t.key}-new"))
            return c.response().status == 200
    except (Failed, OSError):  # refused, ended, or left waiting
        return False


def ends(t: Trial, *connections: Connection) -> None:
    """Within the graceful timeout and some seconds, when these are closed."""
    for c in connections:
        c.close()
    holds(t.server.wait(LONG) is not None, "the process ends")


def have_read(t: Trial) -> None:
    """Has the server read what was sent before: to refuse what is no request it needs no thread."""
    for _ in range(2):
        c = t.connect(timeout=PROMPT)
        c.send(b"no request\r\n\r\n")
        c.ended(PROMPT)


def answer_of(c: Connection) -> Answer | None:
    """What comes on the connection, if anything does."""
    try:
        return c.response_if_any()
    except OSError:
        return None


def try_get(c: Connection, target: str) -> None:
    """Sends a request on a connection that the server may have closed."""
    try:
        c.get(target)
    except OSError:
        pass


@case("S18.1", needs=("process",), drain=AMPLE)
def no_new_connections_while_draining(t: Trial) -> None:
    """While it drains, new connections are not accepted, though a request is in progress."""
    c = t.park("s18.held")
    drain(t)
    for number in range(5):
        holds(not served(t), f"connection {number + 1} after the first that was not served is not served either")
    t.complete()
    same(c.response().text, "fine", "the body of the request in progress")
    ends(t, c)


@case("S18.1", needs=("process", "log"), drain=AMPLE)
def no_further_requests_while_draining(t: Trial) -> None:
    """While it drains, no further request is begun on connections from before, idle or with a request in progress."""
    idle = t.connect()
    idle.get(t.target("s18.says", f"{t.key}-before"))
    holds(idle.response().status == 200, "a request before is answered")
    busy = t.park("s18.held")
    drain(t)
    for c, name in ((idle, "idle"), (busy, "busy")):
        try_get(c, t.target("s18.says", f"{t.key}-{name}"))
    answer = answer_of(idle)
    holds(answer is None or answer.status == 503, f"a request on the idle connection is not answered with {answer}")
    t.complete()
    same(busy.response().text, "fine", "the body of the request in progress")
    answer = answer_of(busy)
    holds(answer is None or answer.status == 503, f"a request behind the one in progress is not answered with {answer}")
    ends(t, idle, busy)
    begun = re.findall(re.escape(f"conformance: {t.key}-") + "(idle|busy) was called", t.log())
    same(begun, [], "requests that were begun")


@case("S18.1", needs=("process",), drain=AMPLE)
def what_has_arrived_is_served(t: Trial) -> None:
    """Requests that have arrived when it is told to drain are answered: on an idle connection, and on connections that it
    has not accepted yet. It is stopped while they come."""
    idle = t.connect()
    idle.get(t.target("s18.says", f"{t.key}-before"))
    holds(idle.response().status == 200, "a request before is answered")
    os.kill(t.server.pid, signal.SIGSTOP)
    try:
        idle.get(t.target("s18.says", f"{t.key}-idle"))
        new = [t.begin("s18.says", f"{t.key}-{number}") for number in range(8)]
        t.server.terminate()
    finally:
        os.kill(t.server.pid, signal.SIGCONT)
    for c, name in ((idle, "an idle connection"), *((c, "a new connection") for c in new)):
        answer = answer_of(c)
        holds(
            answer is not None and answer.status == 200, f"a request on {name} is answered with 200, not with {answer}"
        )
    ends(t, idle, *new)


@case("S18.2", needs=("process",), drain=AMPLE)
def requests_in_progress_go_on(t: Trial) -> None:
    """While it drains, requests in progress go on: those that run, that wait again, and that are being sent."""
    running = t.begin("acts.generator", f"{t.key}-running", do="gate start block")
    t.defer(t.control, "open_gate", f"{t.key}-running")
    t.wait_for("at the gate", key=f"{t.key}-running")
    sending = t.begin("s13.blocks", f"{t.key}-sending", receive_buffer=65536, n=256, size=65536)
    eventually(lambda: t.control("s13.asked", f"{t.key}-sending"), "the application is not asked for a block")
    waiting = t.begin("s18.several_waits")
    t.wait_for("parking 0")
    drain(t)
    t.control("open_gate", f"{t.key}-running")
    same(running.response().text, "block ", "the body of one whose step ran")
    for number in range(3):
        t.wait_for(f"parking {number}")
        t.complete(f"{t.key}-{number}")
    answer = waiting.response()
    same((answer.text, answer.complete), ("0 1 2 ", True), "body and completeness of one that waits again")
    answer = sending.start()
    same(sending.drain(answer)[0], 256 * 65536, "the length of the body that was being sent")
    holds(answer.complete, "the response that was being sent is complete")
    ends(t, running, waiting, sending)


@case("S18.3", needs=("process", "log"), drain=SHORT)
def parked_at_the_graceful_timeout(t: Trial) -> None:
    """At the graceful timeout parked requests are answered 503, or broken off, and closed; futures are left alone."""
    before = t.park("s18.held", f"{t.key}-before")
    begun = t.park("s18.held", f"{t.key}-begun", begun=1)
    unread = t.begin("s18.streams", f"{t.key}-unread", receive_buffer=4096)
    t.wait_for("asked", key=f"{t.key}-unread")
    t.server.terminate()
    answer = before.response()
    same(
        (answer.status, answer.complete),
        (503, True),
        "status and completeness of one that has not begun",
    )
    broken = answer_of(begun)
    holds(broken is None or not broken.complete, "the response that has begun is broken off")
    broken = answer_of(unread)
    holds(broken is None or not broken.complete, "the response that the client did not read is broken off")
    ends(t, before, begun, unread)
    for name in ("before", "begun", "unread"):
        line = f"conformance: {t.key}-{name} was closed, its future pending"
        same(t.log().count(line), 1, f"how often the log says '{line}'")


@case("S18.3", "S18.4", needs=("process", "log"), drain=SHORT, threads=1)
def running_and_queued_at_the_graceful_timeout(t: Trial) -> None:
    """At the graceful timeout requests with a step that does not return, and those behind it, are answered 503."""
    stuck = t.park("s18.does_not_return", what="step")
    queued = t.begin("s18.says", f"{t.key}-queued")
    have_read(t)
    t.server.terminate()
    for c, name in ((stuck, "does not return"), (queued, "waits for a thread")):
        same(c.response().status, 503, f"the status of the one that {name}")
    ends(t, stuck, queued)
    holds(
        f"{t.key}-queued was called" not in t.log(), "the application is not called for the one that waits for a thread"
    )


@case("S18.4", needs=("process", "log"), drain=SHORT)
def what_is_left_behind_is_reported(t: Trial) -> None:
    """A process ends though a step or a close() does not return, but not without a word in its log."""
    usual, *unusual = [drained(t, what) for what in ("neither", "step", "close")]
    words = said_of_a_drain(usual)
    for other in unusual:
        holds(said_of_a_drain(other) - words, f"the log says more than usual when it is left behind: {other.key}")


def drained(t: Trial, what: str) -> Trial:
    """A server of its own that has been told to end with such a request."""
    server = Server(t.server.settings, t.server.options)
    t.defer(server.stop)
    other = Trial(server, what)
    t.defer(other.close)
    c = other.park("s18.does_not_return", what=what)
    server.terminate()
    same(c.response().status, 503, f"the status of the request ({what} does not return)")
    c.close()
    return other


def said_of_a_drain(t: Trial) -> set[str]:
    """The lines in the log of a server that has been told to end, numbers and names apart."""
    ends(t)
    lines = t.log().replace(t.key, "KEY")
    return {re.sub(r"\d+|what=\w+", "0", line) for line in lines.splitlines()}


@case("S18.5", needs=("process",), drain=AMPLE)
def responses_say_that_the_connection_ends(t: Trial) -> None:
    """Responses while it drains say that the connection will be closed, and then it is."""
    c = t.park("s18.held")
    drain(t)
    t.complete()
    answer = c.response()
    same(answer.text, "fine", "the body")
    same((answer.header("Connection") or "").lower(), "close", "the Connection header")
    same(c.rest(), b"", "what follows")
    ends(t, c)
