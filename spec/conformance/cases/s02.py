"""S2: what the server does meanwhile."""

from __future__ import annotations

from ..check import QUIET, holds, same
from ..client import Answer, Connection, request, silent
from ..registry import case
from ..trial import Trial


def check_served(t: Trial, what: str) -> None:
    """Others are served: such as do not wait, such as do, and such as leave."""
    same(t.get("acts.generator", f"{t.key} {what}", do="start block").body, b"block ", f"another's body {what}")
    c = t.park("acts.generator", f"{t.key} waits {what}", do="park start block")
    t.complete(f"{t.key} waits {what}")
    same(c.response().body, b"block ", f"the body of another that waits {what}")
    t.park("acts.generator", f"{t.key} leaves {what}", do="park").reset()
    t.wait_for("left", key=f"{t.key} leaves {what}")


@case("S2.1", threads=1)
def parked_requests_leave_the_only_thread(t: Trial) -> None:
    """With one thread, and requests that are parked, others are served."""
    keys = [f"{t.key}-{number}" for number in range(3)]
    parked = [t.park("acts.generator", key, do="park start block park") for key in keys]
    check_served(t, "beside some that are parked")
    t.control("s02.complete_all", keys)
    answers = [c.start() for c in parked]
    same([c.part(answer, 6) for c, answer in zip(parked, answers)], [b"block "] * 3, "what comes when they go on")
    check_served(t, "beside some that are parked again")
    t.control("s02.complete_all", [f"{key}.1" for key in keys])
    holds(all(c.finish(answer).complete for c, answer in zip(parked, answers)), "their responses are complete")


@case("S2.1")
def parked_requests_take_no_threads(t: Trial) -> None:
    """While 150 requests are parked the process has no such number of threads, and others are served."""
    number = 150
    check_served(t, "before")
    before = t.control("s02.threads")
    keys = [f"{t.key}-{n}" for n in range(number)]
    parked = [t.begin("acts.generator", key, do="park start block") for key in keys]
    for key in keys:
        t.wait_for("parking", key=key)
    check_served(t, "beside many that are parked")
    more = t.control("s02.threads") - before
    holds(more < number // 2, f"{number} parked requests take few threads, and not {more}")
    t.control("s02.complete_all", keys)
    same([c.response().body for c in parked], [b"block "] * number, "their bodies")


@case("S2.2")
def blocks_before_parking_are_sent(t: Trial) -> None:
    """What has been yielded or written arrives while the request is parked behind it."""
    for do, wanted in (
        ("start block park", b"block "),
        ("start write park", b"written "),
        ("start block block empty write block done empty park", b"block block written block "),
        ("park start block park", b"block "),
    ):
        key = f"{t.key} {do}"
        c = t.park("acts.generator", key, do=do)
        last = key
        if do.startswith("park"):
            t.complete(key)
            last = f"{key}.1"
        answer = c.start()
        same(c.part(answer, len(wanted)), wanted, f"what arrives before the future is done, of: {do}")
        same(t.state(last), "pending", "the future")
        t.complete(last)
        answer = c.finish(answer)
        same((answer.body, answer.complete), (wanted, True), f"the body of: {do}, and whether it is complete")


@case("S2.2")
def large_block_before_parking_is_sent(t: Trial) -> None:
    """A block that no buffer of the kernel's holds arrives to its end while the request is parked behind it."""
    size = 10_000_000
    c = t.begin("s02.large", size=size, receive_buffer=65536)
    answer = c.start()
    same(len(c.part(answer, size)), size, "the bytes that arrive before the future is done")
    t.wait_for("parking")
    t.complete()
    holds(c.finish(answer).complete, "the response is complete")


@case("S2.2")
def blocks_are_sent_before_others_have_their_turn(t: Trial) -> None:
    """A block arrives though a thousand done futures follow, and then a step that does not come back."""
    c = t.begin("acts.generator", do="start block done*1000 gate block")
    t.defer(t.control, "open_gate", t.key)
    t.wait_for("at the gate")
    answer = c.start()
    same(c.part(answer, 6), b"block ", "what arrives while the step runs")
    same(t.events(), ["at the gate"], "what the application did")
    t.control("open_gate", t.key)
    same(c.finish(answer).body, b"block block ", "the body")


def seen(answer: Answer) -> tuple[int, str, list[tuple[str, str]], bytes]:
    """What a client can tell, but for the time."""
    return answer.status, answer.reason, [pair for pair in answer.headers if pair[0].lower() != "date"], answer.body


@case("S2.3")
def suspensions_cannot_be_seen(t: Trial) -> None:
    """A response with suspensions, at any place, has the same status, headers and body as one without."""
    plain = t.get("acts.generator", do="start block empty block")
    for do in (
        "park start block empty block",
        "start park block empty block",
        "start block park empty block park",
        "park start park block park empty park block park",
        "done start done block done empty block done",
    ):
        c = t.play(do, f"{t.key} {do}")
        answer = c.response()
        same(seen(answer), seen(plain), f"the response of: {do}")
        same(c.interim, [], f"the 1xx responses of: {do}")
        holds(len(answer.chunks) <= 2, f"no more chunks than blocks, of: {do}")


@case("S2.3", "S6.3")
def nothing_is_sent_for_a_future(t: Trial) -> None:
    """A request that is parked before its first block that is not empty sends nothing, though it has a status."""
    parked = []
    for do in (
        "park start block",
        "start park block",
        "start empty park block",
        "start done park empty",
        "start write-empty park",
    ):
        key = f"{t.key} {do}"
        parked.append((key, t.park("acts.generator", key, do=do)))
    holds(silent([c for _, c in parked], QUIET), "nothing arrives before the future is done")
    for key, c in parked:
        t.complete(key)
        same(c.response().status, 200, "the status")


@case("S2.4")
def order_of_responses(t: Trial) -> None:
    """A request behind one that is parked waits, be it sent with it or later, and the responses come in order."""
    first, second, third = f"{t.key}-1", f"{t.key}-2", f"{t.key}-3"
    c = t.connect()
    c.send(
        request("GET", t.target("acts.generator", first, do="park start block"))
        + request("GET", t.target("acts.generator", second, do="start write"))
    )
    t.wait_for("parking", key=first)
    c.get(t.target("acts.generator", third, do="start block block"))
    same(t.get("acts.generator", do="start block").body, b"block ", "another connection's body")
    holds(c.silent(QUIET), "nothing is answered before the first request is")
    same(t.events(second) + t.events(third), [], "what the applications of those behind did")
    t.complete(first)
    bodies = [c.response().body for _ in range(3)]
    same(bodies, [b"block ", b"written ", b"block block "], "the bodies, in order")


@case("S2.4")
def other_connections_do_not_wait(t: Trial) -> None:
    """Requests of other connections, which came later, are answered before one that is parked."""
    c = t.park("acts.generator", f"{t.key}-first", do="start block park")
    others = [t.park("acts.generator", f"{t.key}-{number}", do="park start block") for number in range(5)]
    for number, other in reversed(list(enumerate(others))):
        t.complete(f"{t.key}-{number}")
        same(other.response().body, b"block ", "another connection's body")
    same(t.state(f"{t.key}-first"), "pending", "the first one's future")
    t.complete(f"{t.key}-first")
    same(c.response().body, b"block ", "the first one's body")


@case("S2.5")
def many_suspensions(t: Trial) -> None:
    """A request suspends a thousand times, each time for a future that is completed by another thread."""
    number = 1000
    answer = t.get("s02.many", n=number)
    same(answer.text, "".join(f"{n} " for n in range(0, number, 3)), "the body")


@case("S2.5")
def many_requests_of_a_connection(t: Trial) -> None:
    """A connection goes on after responses with suspensions."""
    c: Connection = t.connect()
    for number in range(20):
        key = f"{t.key}-{number}"
        c.get(t.target("acts.generator", key, do="park start block park"))
        for future in (key, f"{key}.1"):
            t.complete(future)
        same(c.response().body, b"block ", "the body")


@case("S2.6")
def future_is_kept(t: Trial) -> None:
    """A future that only the server refers to is still there when a thread wants to complete it."""
    c = t.begin("s02.nobody_elses")
    t.wait_for("registered")
    for _ in range(3):
        same(t.get("acts.generator", do="start block").body, b"block ", "another request's body")
    holds(t.control("s02.complete_nobody_elses", t.key), "the future is still there while the request waits for it")
    same(c.response().text, "fine", "the body")
