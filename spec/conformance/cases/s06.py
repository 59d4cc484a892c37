"""S6: start_response across suspensions."""

from __future__ import annotations

from functools import partial

from ..check import eventually, holds, same
from ..client import Connection, broken_off
from ..registry import case
from ..trial import Trial


@case("S6.1")
def status_before_or_after_suspensions(t: Trial) -> None:
    """start_response may be called before or after any number of suspensions, as long as no block has come."""
    for do in (
        "start block",
        "start park block",
        "park start block",
        "park park park start park park block",
        "done start block",
        "start done park done block",
        "park start park write block",
    ):
        answer = t.play(do, f"{t.key} {do}").response()
        wanted = (b"written " if "write" in do else b"") + b"block "
        same((answer.status, answer.reason, answer.body), (200, "First", wanted), f"the answer of: {do}")
        same(answer.header("X-First"), "1", f"a header of: {do}")


@case("S6.2")
def no_status_before_an_empty_block(t: Trial) -> None:
    """Futures and empty blocks may come before start_response is called, in whatever order."""
    for do in (
        "empty start block",
        "empty park empty start block",
        "done empty empty park start empty block",
        "park empty start",
    ):
        answer = t.play(do, f"{t.key} {do}").response()
        same((answer.status, answer.body), (200, b"block " if "block" in do else b""), f"the answer of: {do}")


@case("S6.3")
def headers_leave_with_the_first_block(t: Trial) -> None:
    """Status and headers arrive with the first block that is not empty, yielded or written, before the next future."""
    for do in ("start block park", "start park empty block park", "park empty start write park"):
        key = f"{t.key} {do}"
        c = t.begin("acts.generator", key, do=do)
        futures = [key] if do.count("park") == 1 else [key, f"{key}.1"]
        for future in futures[:-1]:
            t.wait_for("parking", key=key)
            t.complete(future)
        answer = c.start()
        same((answer.status, answer.reason), (200, "First"), f"the status that arrives before the last future of: {do}")
        same(t.state(futures[-1]), "pending", "the last future")
        t.complete(futures[-1])
        holds(c.finish(answer).complete, f"the response is complete, of: {do}")


@case("S6.3")
def headers_leave_at_the_end(t: Trial) -> None:
    """Where no block comes that is not empty status and headers are sent at the end."""
    for do in ("start", "start park", "park start", "start empty park empty", "start write-empty done park"):
        answer = t.play(do, f"{t.key} {do}").response()
        same((answer.status, answer.body, answer.complete), (200, b"", True), f"the answer of: {do}")
        same(answer.header("X-First"), "1", f"a header of: {do}")


@case("S6.3")
def status_is_still_the_servers(t: Trial) -> None:
    """After futures and empty blocks an error is still a 500, though the application has given a status."""
    for do in (
        "start park raise",
        "start empty park empty raise",
        "start write-empty done raise",
        "start park empty failed",
    ):
        answer = t.play(do, f"{t.key} {do}").response()
        same((answer.status, answer.complete), (500, True), f"the answer of: {do}")
        same(answer.header("X-First"), None, f"a header of the status that was not sent, of: {do}")


@case("S6.4")
def status_is_replaced(t: Trial) -> None:
    """With exc_info status and headers are replaced, as long as no block has come that is not empty."""
    for do in (
        "start replace block",
        "start park replace block",
        "start empty park empty replace park block",
        "start done replace done block",
        "start write-empty park replace block",
        "start park replace park replace block",
        "park replace block",
        "start park replace",
    ):
        key = f"{t.key} {do}"
        answer = t.play(do, key).response()
        same((answer.status, answer.reason), (503, "Second"), f"the status of: {do}")
        same((answer.header("X-First"), answer.header("X-Second")), (None, "2"), f"the headers of: {do}")
        same(answer.body, b"block " if "block" in do else b"", f"the body of: {do}")
        same(t.details("refused", key), [], f"what start_response raised in: {do}")


@case("S6.4")
def status_is_too_late(t: Trial) -> None:
    """After a block that is not empty start_response with exc_info raises what that holds; the response breaks off."""
    for do in (
        "start block replace block",
        "start block park replace block",
        "start write replace block",
        "park start write done park replace block",
        "start park replace block park replace block",
    ):
        key = f"{t.key} {do}"
        found = t.play(do, key).response_if_any()
        same(t.details("refused", key), [True], f"whether start_response raised what exc_info holds, in: {do}")
        holds(broken_off(found, 503 if do.count("replace") == 2 else 200), f"the response is broken off, of: {do}")


@case("S6.4")
def status_twice(t: Trial) -> None:
    """A second start_response without exc_info is an error, across suspensions as well."""
    for do in ("start start-again block", "start park start-again block", "park start empty done start-again block"):
        answer = t.play(do, f"{t.key} {do}").response()
        same(answer.status, 500, f"the status of: {do}")
    for do in (
        "start block start-again block",
        "start block park start-again block",
        "start write park start-again block",
    ):
        found = t.play(do, f"{t.key} {do}").response_if_any()
        holds(broken_off(found), f"the response is broken off, of: {do}")


@case("S6.5")
def no_status_at_all(t: Trial) -> None:
    """An application that yields a block that is not empty, or ends, without start_response is answered with a 500."""
    for do in ("block", "", "park block", "park", "done block", "done", "empty park block", "empty park park empty"):
        key = f"{t.key} {do}"
        answer = t.play(do, key).response()
        same((answer.status, answer.complete), (500, True), f"the answer of: {do or 'nothing'}")
        t.wait_for("close", key=key)
        same(
            t.events(key).count("ended"), 0 if "block" in do else 1, f"whether the application came to its end in: {do}"
        )


USES = ("start_response", "write")


def refused(t: Trial, key: str, what: str) -> bool:
    """Whether an exception is raised, when another thread calls what the application has lent."""
    return bool(t.control("s06.use", key, what) != "accepted")


@case("S6.6")
def nothing_after_the_end(t: Trial) -> None:
    """When the request is over start_response and write raise an exception, in whatever thread, and do nothing else."""
    c = t.connect()
    c.get(t.target("s06.lends"))
    t.complete()
    same(c.response().text, "fine", "the body")
    for _ in range(2):
        c.get(t.target("acts.generator", do="start block"))
        same(c.response().body, b"block ", "the body of the next request of the connection")
        for what in USES:
            holds(refused(t, t.key, what), f"{what} raises an exception in another thread")


@case("S6.6")
def no_status_after_the_end(t: Trial) -> None:
    """start_response raises an exception though it was never called, after an error or when the client has left."""
    key = f"{t.key} error"
    t.complete(key)
    same(t.get("s06.lends", key, unused=1).status, 500, "the status where none was given")
    t.wait_for("close", key=key)
    eventually(partial(refused, t, key, "start_response"), "start_response raises an exception after the error")
    holds(t.get("s06.borrows", key, what="start_response").text != "accepted", "and in another request's step")
    key = f"{t.key} left"
    t.park("s06.lends", key, unused=1).reset()
    t.wait_for("close", key=key)
    eventually(
        partial(refused, t, key, "start_response"), "start_response raises an exception when the client has left"
    )
    holds(t.get("s06.borrows", key, what="start_response").text != "accepted", "and in another request's step")


@case("S6.6")
def nothing_for_others(t: Trial) -> None:
    """Nor do they do anything in another request's step, when theirs is over."""
    for unused in ({}, {"unused": 1}):
        key = f"{t.key} {unused}"
        c = t.park("s06.lends", key, **unused)
        ends_untouched(t, c, key, bool(unused))
        borrowed_in_vain(t, key, "over")


@case("S6.6", should=["S6.6"])
def nothing_for_others_while_parked(t: Trial) -> None:
    """The same while theirs is parked; and it ends as if nothing had been tried."""
    for unused in ({}, {"unused": 1}):
        key = f"{t.key} {unused}"
        c = t.park("s06.lends", key, **unused)
        borrowed_in_vain(t, key, "parked")
        ends_untouched(t, c, key, bool(unused))


def borrowed_in_vain(t: Trial, key: str, when: str) -> None:
    for what in USES:
        for _ in range(10):
            said = t.get("s06.borrows", key, what=what).text
            holds(said != "accepted", f"{what} raises in another request's step, when its own is {when}")


def ends_untouched(t: Trial, c: Connection, key: str, unused: bool) -> None:
    """Completes what s06.lends waits for, and looks at its answer."""
    t.complete(key)
    answer = c.response()
    wanted = (500, None) if unused else (200, "fine")
    same((answer.status, answer.text if not unused else None), wanted, "the answer")
    same(answer.header("X-Stolen"), None, "a header that another request has set")
    t.wait_for("close", key=key)


@case("S6.6")
def write_when_the_client_is_gone(t: Trial) -> None:
    """When the client has left, and the application has been closed, write raises an exception."""
    t.park("s06.lends").reset()
    t.wait_for("close")
    eventually(partial(refused, t, t.key, "write"), "write raises an exception")


@case("S6.6", should=["S6.6"])
def not_from_other_threads(t: Trial) -> None:
    """While a step runs, or the request is parked, they raise an exception in another thread, and change nothing."""
    for what in USES:
        key = f"{t.key} {what} in a step"
        answer = t.get("s06.in_a_thread", key, what=what)
        holds(t.details("said", key) not in ([], ["accepted"]), f"{what} raises in another thread while a step runs")
        same((answer.reason, answer.text), ("OK", "fine"), f"the answer when {what} is called while a step runs")
        key = f"{t.key} {what} parked"
        c = t.park("s06.lends", key)
        holds(refused(t, key, what), f"{what} raises in another thread while the request is parked")
        t.complete(key)
        answer = c.response()
        same(
            (answer.reason, answer.text),
            ("OK", "fine"),
            f"the answer when {what} is called while the request is parked",
        )
    key = f"{t.key} unused"
    c = t.park("s06.lends", key, unused=1)
    holds(
        refused(t, key, "start_response"), "start_response raises in another thread, though it is the first to call it"
    )
    t.complete(key)
    same(c.response().status, 500, "the status where the application gives none")
