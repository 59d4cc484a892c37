"""S12: deadlines."""

from __future__ import annotations

import time

from ..check import DEADLINE, LONG, eventually, holds, same
from ..client import Connection, request
from ..registry import case
from ..trial import Trial


def broken_off(c: Connection) -> bool:
    """Whether the client can tell that the response is not whole; no response at all is one way."""
    answer = c.response_if_any()
    return answer is None or not answer.complete


def stuck(t: Trial, app: str, key: str | None = None, *, do: str = "") -> Connection:
    """A request with a step at a gate, which is opened at the end of the case at the latest."""
    c = t.begin(app, key, do=do)
    t.defer(t.control, "open_gate", key or t.key)
    t.wait_for("at the gate", key=key)
    return c


@case("S12.1", "S12.2", deadline=DEADLINE)
def deadline_while_parked(t: Trial) -> None:
    """A parked request that has not begun its response is answered 504 at its deadline, and closed."""
    acts = {"a": "park start block", "b": "start park block", "c": "start empty write-empty park block"}
    connections = {letter: t.park("acts.iterator", f"{t.key}-{letter}", do=do) for letter, do in acts.items()}
    for letter, c in connections.items():
        key = f"{t.key}-{letter}"
        answer = c.response()
        same((answer.status, answer.complete), (504, True), f"status and completeness of {acts[letter]!r}")
        t.wait_for("close", "left", key=key)
        same(t.details("left", key), ["GeneratorExit"], "what is raised where the application waits")
        same(t.state(key), "pending", "the future")
        t.complete(key)


@case("S12.1", "S12.2", deadline=DEADLINE)
def deadline_in_a_body(t: Trial) -> None:
    """A parked request whose response has begun is broken off at its deadline, however it is framed, and closed."""
    acts = {"a": "start block park block", "b": "sized block park block", "c": "start write park block"}
    connections = {letter: t.park("acts.iterator", f"{t.key}-{letter}", do=do) for letter, do in acts.items()}
    old = t.connect()
    old.send(request("GET", t.target("acts.iterator", f"{t.key}-old", do=acts["a"]), version="HTTP/1.0"))
    for letter, c in {**connections, "old": old}.items():
        holds(broken_off(c), f"the response to {acts.get(letter, 'HTTP/1.0')!r} is broken off")
        t.wait_for("close", "left", key=f"{t.key}-{letter}")
        same(t.details("left", f"{t.key}-{letter}"), ["GeneratorExit"], "what is raised where the application waits")


@case("S12.1", "S12.2", "S12.3", deadline=DEADLINE, threads=1)
def deadline_while_queued(t: Trial) -> None:
    """A request that waits for a thread is answered 504 at its deadline, and the application is not called for it."""
    parked = t.park("acts.iterator", f"{t.key}-parked", do="park start block")
    holder = stuck(t, "acts.generator", f"{t.key}-holder", do="gate start block")
    queued = t.begin("acts.generator", do="start block")
    t.complete(f"{t.key}-parked")
    for c, what in ((parked, "one that is to go on"), (queued, "one that has not begun")):
        same(c.response().status, 504, f"the status of {what}, while the only thread is held")
    t.control("open_gate", f"{t.key}-holder")
    same(holder.response().status, 504, "the status of the one that holds the thread")
    same(t.get("acts.generator", f"{t.key}-after", do="start block").text, "block ", "the body of the next one")
    same(t.events(), [], "what the application did for the one that had not begun")
    t.wait_for("close", key=f"{t.key}-parked")
    same(t.details("resumed", f"{t.key}-parked"), [], "steps after the deadline")


@case("S12.1", deadline=DEADLINE)
def deadline_while_sending(t: Trial) -> None:
    """A response that its client does not take is broken off at the deadline, also when the application has ended."""
    streamed = t.begin("s13.blocks", receive_buffer=4096, n=2048, size=65536)
    whole = t.begin("s12.large_block", f"{t.key}-whole", receive_buffer=4096)
    for key in (t.key, f"{t.key}-whole"):
        t.wait_for("closed", key=key)
    time.sleep(2 * DEADLINE)  # nothing says when the deadline of the one that has ended is over
    for c, what in ((streamed, "a body in blocks"), (whole, "one large block")):
        answer = c.response_if_any()
        holds(answer is None or answer.status == 504 or not answer.complete, f"{what} is broken off, and not {answer}")


@case("S12.1", deadline=DEADLINE)
def deadline_counts_from_the_complete_request(t: Trial) -> None:
    """The time that a request takes to arrive, and that before it on its connection, does not count."""
    c = t.connect()
    c.get(t.target("s12.upload"))
    first = c.response()
    same(first.text, "0 bytes", "the body of the first response")
    if first.last:
        c = t.connect()
    target = t.target("s12.upload", pause=DEADLINE / 3)
    c.send(request("POST", target, headers=(("Content-Length", "10"),)) + b"12345")
    time.sleep(1.5 * DEADLINE)
    c.send(b"67890")
    answer = c.response()
    same((answer.status, answer.text), (200, "10 bytes"), "the answer to an upload that is slower than the deadline")


@case("S12.1", "S12.2", "S12.4", deadline=DEADLINE)
def deadline_while_a_step_runs(t: Trial) -> None:
    """The client gets its 504 while a step runs; what that yields is dropped, no other follows, and then close()."""
    c = stuck(t, "acts.iterator", do="gate start block park block")
    answer = c.response()
    same((answer.status, answer.complete), (504, True), "the status, and whether it is complete")
    same(t.events(), ["next", "at the gate"], "what has happened at the deadline")
    t.control("open_gate", t.key)
    t.wait_for("close")
    if not answer.last:
        c.get(t.target("s12.upload"))
        same(c.response().text, "0 bytes", "what follows on the connection")
    else:
        same(c.rest(), b"", "what follows on the connection")
    same(t.events(), ["next", "at the gate", "close", "left"], "what has happened")


@case("S12.4", deadline=DEADLINE)
def deadline_while_a_step_runs_in_a_body(t: Trial) -> None:
    """The response is broken off while a step runs; a future that this yields is not waited for."""
    c = stuck(t, "acts.iterator", do="start block gate park block")
    holds(broken_off(c), "the response is broken off at the deadline")
    same(t.events(), ["next", "next", "at the gate"], "what has happened at the deadline")
    t.control("open_gate", t.key)
    t.wait_for("close")
    same(t.events(), ["next", "next", "at the gate", "parking", "close", "left"], "what has happened")


@case("S12.4", deadline=DEADLINE)
def deadline_while_the_call_runs(t: Trial) -> None:
    """What the call of the application returns after the deadline is closed, and not iterated."""
    c = stuck(t, "s12.late_call")
    same(c.response().status, 504, "the status")
    same(t.events(), ["at the gate"], "what has happened at the deadline")
    t.control("open_gate", t.key)
    t.wait_for("close")
    same(t.events(), ["at the gate", "close"], "what has happened")


@case("S12.4", deadline=DEADLINE)
def deadline_while_a_failure_is_handled(t: Trial) -> None:
    """The same for a step that began with throw."""
    c = stuck(t, "s12.late_failure")
    same(c.response().status, 504, "the status")
    same(t.events(), ["at the gate"], "what has happened at the deadline")
    t.control("open_gate", t.key)
    t.wait_for("close")
    same(t.events(), ["at the gate", "close"], "what has happened")


@case("S12.4", deadline=DEADLINE)
def write_after_the_deadline(t: Trial) -> None:
    """write raises an exception when the deadline has ended the request."""
    c = stuck(t, "s12.late_write")
    same(c.response().status, 504, "the status")
    t.control("open_gate", t.key)
    t.wait_for("close")
    same(t.events(), ["at the gate", "refused", "close"], "what has happened")


@case("S12.4", should=["S12.4"], needs=("log",), deadline=DEADLINE)
def report_of_a_step_beyond_its_deadline(t: Trial) -> None:
    """A step that runs beyond its deadline is logged, with its stack, while it runs."""
    c = stuck(t, "s12.stuck_on_purpose")
    same(c.response().status, 504, "the status")
    t.wait_log("in stuck_on_purpose")


@case("S12.5", send_timeout=1)
def parked_longer_than_clients_may_be_slow(t: Trial) -> None:
    """A request that is parked on a future, begun or not, waits longer than the time that a client has to take data."""
    waits_longer(t)


@case("S12.5", keep_alive=1)
def parked_longer_than_connections_may_be_idle(t: Trial) -> None:
    """A request that is parked on a future, begun or not, waits longer than the time that a connection may be idle."""
    waits_longer(t)


def waits_longer(t: Trial) -> None:
    connections = []
    for number, acts in enumerate(["park start block", "start block park"]):
        c = t.connect()
        c.get(t.target("acts.generator", do="start block"))
        if c.response().last:
            c = t.connect()
        c.get(t.target("acts.generator", f"{t.key}-{number}", do=acts))
        t.wait_for("parking", key=f"{t.key}-{number}")
        connections.append(c)
    time.sleep(1.7)
    for number, c in enumerate(connections):
        same([name for name in t.events(f"{t.key}-{number}") if name == "left"], [], "requests that have been ended")
        t.complete(f"{t.key}-{number}")
        same(c.response().text, "block ", "the body")


@case("S12.6")
def parked_requests_are_shown(t: Trial) -> None:
    """The server shows how many requests are parked on futures."""
    before = t.server.parked()
    keys = [f"{t.key}-{number}" for number in range(3)]
    connections = [t.park("acts.generator", key, do="park start block") for key in keys]
    eventually(lambda: t.server.parked() == before + 3, f"three more parked than {before} are not shown")
    for key, c in zip(keys, connections):
        t.complete(key)
        same(c.response().text, "block ", "the body")
    eventually(lambda: t.server.parked() == before, f"{before} are not shown when they have gone on")


@case("S12.6")
def requests_parked_on_clients_are_shown(t: Trial) -> None:
    """The server shows how many requests are parked on their clients, as something else."""
    on_futures, on_clients = t.server.parked(), t.server.parked("client")
    c = t.begin("s13.blocks", receive_buffer=4096, n=2048, size=65536)
    eventually(lambda: t.server.parked("client") == on_clients + 1, "it is not shown", within=LONG)
    same(t.server.parked(), on_futures, "how many are parked on futures")
    c.reset()
    eventually(lambda: t.server.parked("client") == on_clients, "it is still shown when its client has left")
