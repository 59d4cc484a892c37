"""S20: futures that are yielded more than once."""

from __future__ import annotations

from ..check import holds, same
from ..registry import case
from ..trial import Trial


@case("S20.1")
def future_of_many_requests(t: Trial) -> None:
    """Many requests that wait for one future go on when it is done, and so does one that comes later."""
    keys = [f"{t.key}-{number}" for number in range(20)]
    connections = [t.park("s20.shares", key, of=t.key) for key in keys]
    t.complete(value="shared")
    connections.append(t.begin("s20.shares", f"{t.key}-late", of=t.key))
    for key, c in zip([*keys, f"{t.key}-late"], connections):
        same(c.response().text, "shared", "the body")
        t.wait_for("close", key=key)
        same(t.events(key).count("next"), 3, "how often each was resumed, its begin and end included")


@case("S20.1")
def future_yielded_again(t: Trial) -> None:
    """One request may yield the same future again and again: each yield is one resume, and one failure."""
    c = t.park("s20.again")
    t.complete()
    same(c.response().text, "True", "the body")
    t.wait_for("close")
    same(t.events(), ["next", "parking", *["next"] * 5, "close"], "the steps")
    key = f"{t.key}-failed"
    c = t.park("s20.again_failed", key)
    t.fail(key)
    same(c.response().text, "failed 3 times", "the body, when the future fails")
    t.wait_for("close", key=key)
    same(t.events(key), ["next", "parking", *["throw"] * 3, "next", "close"], "the steps, when the future fails")


@case("S20.2")
def others_go_on_when_one_is_left(t: Trial) -> None:
    """Of requests that wait for one future, some are left by their clients: the others go on when it is done."""
    keys = [f"{t.key}-{number}" for number in range(6)]
    connections = [t.park("s20.shares", key, of=t.key) for key in keys]
    for number in (0, 2, 5):
        connections[number].reset()
        t.wait_for("close", key=keys[number])
    same(t.state(), "pending", "the future")
    t.complete(value="shared")
    for number in (1, 3, 4):
        same(connections[number].response().text, "shared", "the body")
    for number in (0, 2, 5):
        same(t.events(keys[number]), ["next", "parking", "close"], "what those did which were left")


@case("S20.2")
def others_go_on_when_one_goes_wrong(t: Trial) -> None:
    """Of requests that wait for one future, some then fail or do not come back: the others go on all the same."""
    ways = ["raises", "", "exits", "raises in close()", "is stuck", ""]
    keys = [f"{t.key}-{number}" for number in range(len(ways))]
    connections = [t.park("s20.shares", key, of=t.key, then=way) for key, way in zip(keys, ways)]
    t.defer(t.control, "open_gate", keys[4])
    t.complete(value="shared")
    t.wait_for("at the gate", key=keys[4])
    for key, c, way in zip(keys, connections, ways):
        if way == "is stuck":
            t.control("open_gate", key)
        answer = c.response()
        if way in ("raises", "exits"):
            same(answer.status, 500, f"the status of the one that {way}")
        else:
            same(answer.text, "shared", f"the body of one that {way or 'goes on'}")
        t.wait_for("close", key=key)


@case("S20.2")
def failure_reaches_each(t: Trial) -> None:
    """The failure of a future reaches each of the requests that wait for it, as the same exception."""
    keys = [f"{t.key}-{number}" for number in range(6)]
    connections = [t.park("s20.shares", key, of=t.key) for key in keys]
    connections[3].reset()
    t.wait_for("close", key=keys[3])
    t.fail()
    for number, (key, c) in enumerate(zip(keys, connections)):
        if number != 3:
            same(c.response().status, 502, "the status")
            same(t.details("failed", key), t.details("failed", keys[0]), "the exception, by its id")
    holds("throw" not in t.events(keys[3]), "it does not reach one that was left before")
