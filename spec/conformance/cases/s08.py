"""S8: clients that go away."""

from __future__ import annotations

import time

from ..check import QUIET, Failed, holds, never, same
from ..client import Connection, request
from ..registry import case
from ..trial import Trial

LEAVES = ("reset", "close")


def leave(c: Connection, how: str) -> None:
    getattr(c, how)()


def check_left(t: Trial, key: str, future: str, what: str) -> None:
    """The request has been closed where it waits, and its future is as it was."""
    t.wait_for("close", "left", key=key)
    same(t.details("left", key), ["GeneratorExit"], f"what the application is left by after {what}")
    same(t.state(future), "pending", f"the future after {what}")


@case("S8.1", "S8.2")
def parked_request_whose_client_leaves(t: Trial) -> None:
    """A parked request is closed at once when its client resets or closes the connection, its future being pending."""
    for how in LEAVES:
        for do in ("park", "start park", "start block park", "start block empty park"):
            key = f"{t.key} {how} {do}"
            c = t.park("acts.iterator", key, do=do)
            if "block" in do:
                c.part(c.start(), 6)  # who has not read all closes with a reset
            leave(c, how)
            check_left(t, key, key, f"a {how} while parked, in: {do}")
            t.complete(key)


@case("S8.1", "S8.2")
def client_that_leaves_later(t: Trial) -> None:
    """So is a request that has been parked before, and one that is not the first of its connection."""
    for how in LEAVES:
        key = f"{t.key} {how}"
        c = t.connect()
        c.get(t.target("acts.iterator", f"{key} first", do="start block"))
        same(c.response().body, b"block ", "the body of the first request")
        c.get(t.target("acts.iterator", key, do="start park empty park"))
        t.complete(key)
        t.wait_for("parking", "parking", key=key)
        leave(c, how)
        check_left(t, key, f"{key}.1", f"a {how} while parked again")


@case("S8.1")
def clients_that_leave_much_later(t: Trial) -> None:
    """It is noticed while the request is long parked, and nothing goes on in the server or on the connection."""
    parked = [(how, t.park("acts.iterator", f"{t.key} {how}", do="start park")) for how in LEAVES]
    never(
        lambda: [how for how, _ in parked if "close" in t.calls(f"{t.key} {how}")],
        "it is closed before its client leaves",
    )
    for how, c in parked:
        leave(c, how)
        check_left(t, f"{t.key} {how}", f"{t.key} {how}", f"a {how} while parked")


@case("S8.1")
def many_clients_leave_at_once(t: Trial) -> None:
    """A hundred clients that leave at once are all noticed."""
    keys = [f"{t.key}-{number}" for number in range(100)]
    parked = [t.begin("acts.iterator", key, do="park") for key in keys]
    for key in keys:
        t.wait_for("parking", key=key)
    for number, c in enumerate(parked):
        leave(c, LEAVES[number % 2])
    for key in keys:
        check_left(t, key, key, "many clients that leave")


@case("S8.1", "S8.6")
def reader_that_resets(t: Trial) -> None:
    """A request that is parked because its client does not read is closed at once when the client resets."""
    for do in ("start large*60 park", "start large*60"):
        key = f"{t.key} {do}"
        c = t.begin("acts.iterator", key, do=do, receive_buffer=4096)
        going = 0
        while (now := t.events(key).count("going")) != going or not now:  # until the client holds it up
            going = now
            time.sleep(0.05)
        c.reset()
        t.wait_for("close", key=key)
        holds("parking" not in t.events(key), "the application is not iterated to the end without a client")


@case("S8.3")
def futures_are_not_cancelled(t: Trial) -> None:
    """The future that a request waits for is pending when its client has left, and can be completed then."""
    for how in LEAVES:
        for app in ("acts.generator", "acts.iterator", "acts.bare"):
            key = f"{t.key} {how} {app}"
            leave(t.park(app, key, do="park"), how)
            t.wait_for("left", key=key)
            same(t.get("acts.generator", do="start block").body, b"block ", "another request's body")
            same(t.state(key), "pending", f"the future of {app} after a {how}")
            t.complete(key)
            same(t.state(key), "done", f"the future of {app}, when it has been completed")


@case("S8.3", deadline=0.5)
def futures_are_not_cancelled_at_the_deadline(t: Trial) -> None:
    """Nor is it cancelled at the deadline."""
    c = t.park("acts.iterator", do="park")
    same(c.response().status, 504, "the status")
    t.wait_for("left")
    same(t.get("acts.generator", do="start block").body, b"block ", "another request's body")
    same(t.state(), "pending", "the future")
    t.complete()


OUTCOMES = ("done", "failed", "cancelled", "cancelled by an executor")


@case("S8.4")
def late_futures_find_nothing(t: Trial) -> None:
    """A future that ends after its request, in whatever way, resumes nothing, and its callbacks raise nothing."""
    for outcome in OUTCOMES:
        key = f"{t.key} {outcome}"
        t.park("s08.watched", key).reset()
        t.wait_for("left", key=key)
        same(t.get("acts.generator", do="start block").body, b"block ", "another request's body")
        t.control("s05.end", key, outcome)
        for number in range(3):
            same(t.play("park start block", f"{key} {number}").response().body, b"block ", "another request's body")
        same(t.events(key), ["parking", "left"], f"what happened, the future being {outcome} late")
        same(t.details("left", key), [False], "whether the future was done when the application was left")


@case("S8.4", needs=("log",))
def late_futures_log_nothing(t: Trial) -> None:
    """Nothing is logged when a future ends, in whatever way, after its request has."""
    for outcome in OUTCOMES:
        t.park("acts.iterator", f"{t.key} {outcome}", do="park").reset()
        t.wait_for("left", key=f"{t.key} {outcome}")
    same(t.get("acts.generator", do="start block").body, b"block ", "another request's body")
    before = t.log()
    for outcome in OUTCOMES:
        t.control("s05.end", f"{t.key} {outcome}", outcome)
    never(lambda: t.log()[len(before) :], "it is logged", during=0.1)


@case("S8.5")
def end_of_data_is_a_client_that_is_gone(t: Trial) -> None:
    """The end of a client's data, which may still listen, ends a request that is parked on a future."""
    for do in ("park", "start block park"):
        key = f"{t.key} {do}"
        t.park("acts.iterator", key, do=do).end()
        check_left(t, key, key, f"the end of the client's data, in: {do}")


@case("S8.5", may=["S8.5"], half_close=1)
def half_close_can_be_allowed(t: Trial) -> None:
    """With the setting for it a parked request is answered after the end of its client's data; not after a reset."""
    for do in ("park start block", "start block park"):
        key = f"{t.key} {do}"
        c = t.park("acts.iterator", key, do=do)
        c.end()
        never(lambda: "close" in t.calls(key), "the request is closed", during=0.1)
        t.complete(key)
        answer = c.response()
        same((answer.status, answer.body, answer.complete), (200, b"block ", True), f"the answer of: {do}")
    key = f"{t.key} reset"
    c = t.park("acts.iterator", key, do="park")
    c.end()
    c.reset()
    check_left(t, key, key, "a reset")


@case("S8.6")
def end_of_data_while_running(t: Trial) -> None:
    """The end of the client's data does not end a request that runs, or is about to: it is answered."""
    c = t.connect()
    t.defer(t.control, "open_gate", t.key)
    c.get(t.target("acts.iterator", do="start block gate block"))
    c.end()
    t.wait_for("at the gate")
    for _ in range(3):
        same(t.get("acts.generator", do="start block").body, b"block ", "another request's body")
    t.control("open_gate", t.key)
    answer = c.response()
    same((answer.body, answer.complete), (b"block block ", True), "the body, and whether it is complete")
    for number in range(20):
        c = t.connect()
        c.get(t.target("acts.iterator", f"{t.key}-{number}", do="start block done block"))
        c.end()
        same(c.response().body, b"block block ", "the body of a short request")


@case("S8.6", threads=1)
def end_of_data_while_queued(t: Trial) -> None:
    """A request that waits for a thread is answered though its client has ended its data, and ended by a reset."""
    t.defer(t.control, "open_gate", t.key)
    running = t.begin("acts.iterator", do="start gate block")
    t.wait_for("at the gate")
    queued = t.begin("acts.iterator", f"{t.key} queued", do="start block")
    queued.end()
    resets = t.begin("acts.iterator", f"{t.key} resets", do="start park")
    never(lambda: t.events(f"{t.key} queued"), "it has begun, though the only thread is taken", during=0.1)
    resets.reset()
    t.control("open_gate", t.key)
    same([c.response().body for c in (running, queued)], [b"block "] * 2, "the bodies")
    same(t.get("acts.generator", do="start block").body, b"block ", "another request's body")
    if t.calls(f"{t.key} resets"):  # it may have begun
        t.wait_for("close", key=f"{t.key} resets")


@case("S8.6")
def end_of_data_of_a_reader(t: Trial) -> None:
    """The end of the client's data does not end a request that waits until its client reads: all of it arrives."""
    c = t.begin("acts.iterator", do="start large*20 block", receive_buffer=65536)
    answer = c.start()
    c.end()
    holds(len(c.part(answer, 1_000_000)) >= 1_000_000, "a megabyte arrives")
    never(lambda: "close" in t.calls() and "ended" not in t.events(), "the request is closed", during=0.1)
    answer = c.finish(answer)
    same((len(answer.body), answer.complete), (20_000_006, True), "the length of the body, and whether it is complete")


@case("S8.6")
def reset_while_running(t: Trial) -> None:
    """A reset ends a request that runs, when it parks or as it goes on: its future is not waited for."""
    for do in ("gate park", "start gate block park", "start gate large*60 park"):
        key = f"{t.key} {do}"
        t.defer(t.control, "open_gate", key)
        c = t.begin("acts.iterator", key, do=do)
        t.wait_for("at the gate", key=key)
        c.reset()
        t.control("open_gate", key)
        t.wait_for("close", key=key)
        holds("resumed" not in t.events(key), "the future is not waited for")
        same(t.state(key), "pending", "the future")


@case("S8.6", "S8.5", should=["S8.6"])
def end_of_data_and_then_parked(t: Trial) -> None:
    """A request whose client has ended its data while it ran is closed when it parks on a future."""
    for do in ("gate park", "gate start block park"):
        key = f"{t.key} {do}"
        t.defer(t.control, "open_gate", key)
        c = t.begin("acts.iterator", key, do=do)
        t.wait_for("at the gate", key=key)
        c.end()
        same(t.get("acts.generator", do="start block").body, b"block ", "another request's body")
        t.control("open_gate", key)
        check_left(t, key, key, f"the end of the client's data while it ran: {do}")


@case("S8.7", should=["S8.7"])
def little_is_read_of_a_parked_connection(t: Trial) -> None:
    """Of what a client sends behind a parked request the server reads a bounded part."""
    _, sent = send_behind(t)
    holds(sent < BEHIND, f"the server does not read {BEHIND} bytes behind a parked request")


@case("S8.7")
def reset_behind_much_that_is_sent(t: Trial) -> None:
    """A reset is noticed, however much a client has sent before it, and nothing behind the parked request is begun."""
    c, _ = send_behind(t)
    c.reset()
    check_left(t, t.key, t.key, "a reset behind much that is not read")
    same(t.events(f"{t.key} behind"), [], "what the requests behind it did")


BEHIND = 32_000_000


def send_behind(t: Trial) -> tuple[Connection, int]:
    """A connection with a parked request, and how many bytes of further ones it takes, of so many at most."""
    c = t.park("acts.iterator", do="park")
    behind = request("GET", t.target("acts.generator", f"{t.key} behind", do="start block"))
    data = behind * (200_000 // len(behind))
    c.socket.settimeout(QUIET)
    sent = 0
    try:
        while sent < BEHIND:
            sent += c.socket.send(data)
    except TimeoutError:
        pass
    return c, sent


@case("S8.8")
def requests_behind_are_not_begun(t: Trial) -> None:
    """Requests behind a parked one whose client then leaves are not begun, not even when its future is done."""
    for how in (*LEAVES, "end"):
        for do in ("park", "start block park"):
            key = f"{t.key} {how} {do}"
            behind = [f"{key} behind {number}" for number in range(3)]
            c = t.connect()
            sent = [
                t.target("acts.iterator", key, do=do),
                *(t.target("acts.iterator", b, do="start block") for b in behind),
            ]
            c.send(b"".join(request("GET", target) for target in sent))
            t.wait_for("parking", key=key)
            leave(c, how)
            try:
                t.wait_for("close", key=key, within=1.0)
            except Failed:
                if how == "reset":
                    raise
                continue  # it has not read what is behind the parked one, so it does not see the end either (S8.7)
            t.complete(key)
            for _ in range(3):
                same(t.get("acts.generator", do="start block").body, b"block ", "another request's body")
            same([t.events(b) for b in behind], [[]] * 3, f"what those behind did after a {how}, in: {do}")


@case("S8.9")
def own_future_is_cancelled(t: Trial) -> None:
    """An application can cancel its own future while it is closed: it is not resumed by that, and others go on."""
    for how in LEAVES:
        key = f"{t.key} {how}"
        leave(t.park("s08.waits", key), how)
        t.wait_for("left", key=key)
        same(t.state(key), "cancelled", f"the future after a {how}")
        for number in range(3):
            same(t.play("park start block", f"{key} {number}").response().body, b"block ", "another request's body")
        same(t.events(key), ["parking", "left"], f"what the application did after a {how}")


@case("S8.9")
def shared_future_is_not_cancelled(t: Trial) -> None:
    """When the client of one request has left, another one that waits for the same future gets its result."""
    shared = f"{t.key} shared"
    stays = t.park("s08.waits", f"{t.key} stays", shared=shared)
    for how in LEAVES:
        leave(t.park("s08.waits", f"{t.key} {how}", shared=shared), how)
        t.wait_for("left", key=f"{t.key} {how}")
    t.complete(shared)
    same(stays.response().text, "fine", "the body of the one whose client stays")
    for how in LEAVES:
        same(t.events(f"{t.key} {how}"), ["parking", "left"], f"what the application did after a {how}")
