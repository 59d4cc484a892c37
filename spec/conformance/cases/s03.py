"""S3: futures that are done already."""

from __future__ import annotations

from ..check import LONG, eventually, holds, never, same
from ..registry import case
from ..trial import Trial


@case("S3.1")
def done_future_is_not_waited_for(t: Trial) -> None:
    """A future that is done is not waited for: it does not matter that its callback would never be called."""
    c = t.begin("s03.unanswering")
    t.wait_for("resumed")
    same(c.response().text, "fine", "the body")


@case("S3.1", threads=1)
def done_future_does_not_queue(t: Trial) -> None:
    """After a future that is done a request goes on at once, and not behind those that wait for the only thread."""
    c = t.begin("s03.first_in_line")
    t.defer(t.control, "open_gate", t.key)
    t.wait_for("at the gate")
    others = [t.begin("s03.other") for _ in range(3)]
    never(lambda: "other" in t.events(), "another request is served by the only thread, which is taken", during=0.1)
    t.control("open_gate", t.key)
    same([other.response().text for other in (c, *others)], ["fine"] * 4, "the bodies")
    same(t.events(), ["at the gate", "resumed", "other", "other", "other"], "the order of things")


def check_others_are_served(t: Trial, number: int, kind: str) -> None:
    """So many requests go on from future to future without end, and others are served beside them."""
    key = f"{t.key} {kind}"
    t.defer(t.control, "open_gate", key)
    endless = [t.begin("s03.endless", key, kind=kind, name=n) for n in range(number)]
    t.wait_for(*["began"] * number, key=key, within=LONG)
    same(t.get("s03.other").text, "fine", f"another request's body, beside those with futures {kind}")
    t.control("open_gate", key)
    same([c.response().text for c in endless], ["stopped"] * number, f"the bodies of those with futures {kind}")


@case("S3.2", threads=1)
def done_futures_without_end_leave_the_only_thread(t: Trial) -> None:
    """With one thread others are served, though a request yields done futures without end."""
    check_others_are_served(t, 1, "done")


@case("S3.2")
def done_futures_without_end(t: Trial) -> None:
    """Others are served beside sixteen requests that yield done futures without end."""
    check_others_are_served(t, 16, "done")


@case("S3.2", threads=1)
def turns_go_round(t: Trial) -> None:
    """Of requests that yield done futures without end each has its turn after the others that wait for the thread."""
    t.defer(t.control, "open_gate", t.key)
    endless = [t.begin("s03.endless", kind="done", name=name) for name in "abc"]
    t.wait_for(*["began"] * 3, key=t.key, within=LONG)
    turns = eventually(
        lambda: (seen := t.control("s03.turns", t.key))[59:] and seen, "each has had many turns", within=LONG
    )
    t.control("open_gate", t.key)
    same([c.response().text for c in endless], ["stopped"] * 3, "the bodies")
    same({*turns}, {*"abc"}, "who has had a turn")
    began = next(n for n in range(len(turns)) if {*turns[:n]} == {*"abc"})
    same({*turns[began:][:3]}, {*"abc"}, "who has a turn when all have had one")
    ahead, behind = turns[began:-3], turns[began + 3 :]
    holds(ahead and ahead == behind, f"the turns go round: {' '.join(turns)}")


@case("S3.3", threads=1)
def completed_in_registration_leaves_the_only_thread(t: Trial) -> None:
    """Futures that are completed while the server registers its callback, without end, do not keep others from it."""
    for kind in t.control("s03.registering_kinds"):
        check_others_are_served(t, 1, kind)


@case("S3.3")
def completed_in_registration(t: Trial) -> None:
    """Nor do they where sixteen requests yield them."""
    for kind in t.control("s03.registering_kinds"):
        check_others_are_served(t, 16, kind)
