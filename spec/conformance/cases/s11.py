"""S11: recursion."""

from __future__ import annotations

from ..check import LONG, holds, same
from ..registry import case
from ..trial import Trial

MUCH = 16  # calls: the stack may be a little deeper in one step than in another, but not for each future


@case("S11.1")
def done_futures_in_constant_stack(t: Trial) -> None:
    """Ten thousand futures that are done when they are yielded take no more stack than one."""
    answer = t.get("s11.at_once", kind="done", n=10_000)
    same(answer.status, 200, "the status")
    holds(int(answer.text) < MUCH, f"the stack grows with the futures: {answer.text} calls")


@case("S11.1")
def futures_done_while_registering_in_constant_stack(t: Trial) -> None:
    """Nor do futures that fail, or that are completed within add_done_callback."""
    count = 3 * t.control("s11.limit")
    for kind in ("failed", "registering", "registered"):
        answer = t.get("s11.at_once", kind=kind, n=count)
        same(answer.status, 200, f"the status, with futures that are {kind}")
        holds(int(answer.text) < MUCH, f"the stack grows with futures that are {kind}: {answer.text} calls")


@case("S11.2")
def chain_of_requests_in_constant_stack(t: Trial) -> None:
    """Of a hundred requests, each of which completes the future of the next, the last is no deeper than the first."""
    keys = [f"{t.key}-{number}" for number in range(100)]
    connections = [t.begin("s11.chain", key, next=following) for key, following in zip(keys, [*keys[1:], t.key])]
    for key in keys:
        t.wait_for("parking", key=key, within=LONG)
    t.complete(keys[0])
    for c in connections:
        same(c.response().text, "fine", "the body")
    same(t.state(), "done", "the future that the last one completes")
    depths = [t.details("depth", key)[0] for key in (keys[0], keys[-1])]
    holds(max(depths) - min(depths) < MUCH, f"the stack grows along the chain, from {depths[0]} to {depths[1]} calls")


@case("S11.2")
def requests_completing_each_other_in_constant_stack(t: Trial) -> None:
    """Two requests can complete each other's futures more often than the stack can be deep."""
    count = t.control("s11.limit") + 200
    pair = [t.begin("s11.each_other", side=side, n=count) for side in (0, 1)]
    t.complete(f"{t.key}-0")
    for c in pair:
        answer = c.response()
        same(answer.status, 200, "the status")
        holds(int(answer.text) < MUCH, f"the stack grows with the futures: {answer.text} calls")
