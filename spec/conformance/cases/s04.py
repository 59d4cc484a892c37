"""S4: the value of the yield."""

from __future__ import annotations

import json

from ..check import holds, same
from ..registry import case
from ..trial import Trial


@case("S4.1")
def send_is_not_called(t: Trial) -> None:
    """An iterator that has send is iterated all the same: only __next__ is called, and close() at the end."""
    c = t.park("acts.iterator", do="park start block done block park done block")
    t.complete()
    t.complete(f"{t.key}.1")
    same(c.response().body, b"block " * 3, "the body")
    t.wait_for("close")
    same(t.calls(), ["next"] * 8 + ["close"], "what is called of the iterator")


@case("S4.1")
def send_is_not_called_for_a_failure(t: Trial) -> None:
    """Nor is send called where a future has failed: throw is, and then __next__ again."""
    c = t.park("acts.iterator", do="park")
    t.fail()
    same(c.response().status, 500, "the status")
    t.wait_for("close")
    holds("send" not in t.events(), "send is not called")
    same(t.events()[-3:-1], ["throw", "left"], "what is called instead")


@case("S4.2")
def yield_gives_none(t: Trial) -> None:
    """The value of every yield is None, and the futures have their results without a wait."""
    c = t.park("s04.values")
    t.complete(value="waited for")
    same(json.loads(c.response().text), [None] * 5 + ["waited for", "was done"], "the values, and the results")
