"""S1: what suspends."""

from __future__ import annotations

import re

from ..check import QUIET, eventually, holds, never, same
from ..client import broken_off, silent
from ..registry import case
from ..trial import Trial


@case("S1.1")
def future_suspends(t: Trial) -> None:
    """An application that yields a future goes on when it is done, and not before."""
    c = t.park("acts.generator", do="park start block")
    never(lambda: "resumed" in t.events(), "it goes on before its future is done")
    t.complete()
    same(c.response().body, b"block ", "the body")
    same(t.details("resumed"), [True], "whether the future was done when it went on")


@case("S1.1")
def subclass_suspends(t: Trial) -> None:
    """A future of a class that is derived from Future suspends as well."""
    c = t.park("s01.subclass")
    never(lambda: "resumed" in t.events(), "it goes on before its future is done")
    t.complete()
    same(c.response().text, "fine", "the body")
    same(t.details("resumed"), [True], "whether the future was done when it went on")


@case("S1.2")
def futures_from_any_iterable(t: Trial) -> None:
    """A future suspends in whatever iterable it stands: what follows comes when it is done, and not before."""
    kinds = t.control("s01.iterable_kinds")
    connections = {kind: t.begin("s01.iterables", f"{t.key}-{kind}", kind=kind) for kind in kinds}
    answers = {kind: c.start() for kind, c in connections.items()}
    for kind, c in connections.items():
        same(c.part(answers[kind], 7), b"before ", f"what comes before the future in {kind}")
    if not silent(connections.values(), QUIET):
        early = [kind for kind, c in connections.items() if not silent([c], 0)]
        same(early, [], "where the response goes on before the future is done")
    for kind, c in connections.items():
        t.complete(f"{t.key}-{kind}")
        answer = c.finish(answers[kind])
        same(
            (answer.body, answer.complete), (b"before after", True), f"the body from {kind}, and whether it is complete"
        )


@case("S1.2")
def done_futures_from_any_iterable(t: Trial) -> None:
    """A future that is done already is passed over in whatever iterable it stands."""
    for kind in t.control("s01.iterable_kinds"):
        key = f"{t.key}-{kind}"
        t.complete(key)
        answer = t.get("s01.iterables", key, kind=kind)
        same(
            (answer.body, answer.complete), (b"before after", True), f"the body from {kind}, and whether it is complete"
        )


@case("S1.3")
def neither_bytes_nor_future(t: Trial) -> None:
    """An item that is neither bytes nor a future ends the request with a 500, and iteration with it."""
    for kind in t.control("s01.wrong_kinds"):
        key = f"{t.key}-{kind}"
        same(t.get("s01.wrong", key, kind=kind).status, 500, f"the status after {kind}")
        t.wait_for("left", key=key)
        same(t.events(key), ["left"], f"what the application did after {kind}")
        same(t.details("left", key), ["GeneratorExit"], f"how the application was left after {kind}")


@case("S1.3")
def neither_in_a_list(t: Trial) -> None:
    """The only item of a list that is neither bytes nor a future ends the request with a 500."""
    for kind in t.control("s01.wrong_kinds"):
        same(t.get("s01.wrong", kind=kind, **{"in": "list"}).status, 500, f"the status of a list of {kind}")


@case("S1.3")
def neither_within_a_body(t: Trial) -> None:
    """An item that is neither bytes nor a future breaks off a response that has begun, and ends the iteration."""
    for kind in t.control("s01.wrong_kinds"):
        key = f"{t.key}-{kind}"
        answer = t.begin("s01.wrong", key, kind=kind, after=1).response_if_any()
        holds(broken_off(answer), f"the response is broken off after {kind}")
        t.wait_for("left", key=key)
        same(t.events(key), ["left"], f"what the application did after {kind}")


def complaint(t: Trial, kind: str) -> str:
    """What the log says of an item of this kind: the line with the TypeError."""
    before = len(t.log())
    t.get("s01.wrong", kind=kind)

    def find() -> str:
        return "".join(re.findall(r"TypeError: .*", t.log()[before:]))

    return eventually(find, f"the log has no TypeError for {kind}")


@case("S1.3", needs=("log",))
def wrong_type_is_named(t: Trial) -> None:
    """The log has a TypeError that names the type of what is neither bytes nor a future."""
    for kind, name in t.control("s01.wrong_kinds").items():
        said = complaint(t, kind)
        holds(re.search(rf"\b{name}\b", said), f"the message for {kind} names {name}: {said}")


@case("S1.4", needs=("log",))
def wrong_type_has_a_hint(t: Trial) -> None:
    """For an asyncio future, a coroutine, and a list or tuple of futures the message says more than for other types."""
    names = t.control("s01.wrong_kinds")
    plain = complaint(t, "a number").replace(names["a number"], "")
    for kind in ("an asyncio future", "a coroutine", "a list of futures", "a tuple of futures"):
        said = complaint(t, kind)
        holds(len(said.replace(names[kind], "")) > len(plain) + 10, f"the message for {kind} says what to do: {said}")


@case("S1.5")
def only_three_methods_are_used(t: Trial) -> None:
    """Of a future that is waited for nothing is used but done(), add_done_callback() and exception()."""
    for end in ("done", "failed"):
        key = f"{t.key}-{end}"
        c = t.park("s01.strict", key, when="pending")
        t.control("s01.finish_strict", key, end)
        answer = c.response()
        same(t.details("used", key), [], f"what else is used of a future that is {end} in the end")
        same(answer.text, "fine", f"the body, the future being {end} in the end")
    key = f"{t.key}-left"
    t.park("s01.strict", key, when="pending").reset()
    t.wait_for("left", key=key)
    t.control("s01.finish_strict", key, "done")
    same(t.get("acts.generator", do="start block").body, b"block ", "another request's body")
    same(t.details("used", key), [], "what else is used of a future whose request is left by its client")


@case("S1.5")
def only_three_methods_are_used_when_done(t: Trial) -> None:
    """Of a future that is done already nothing else is used either."""
    for end in ("done", "failed"):
        key = f"{t.key}-{end}"
        answer = t.get("s01.strict", key, when=end)
        same(t.details("used", key), [], f"what else is used of a future that is {end} already")
        same(answer.text, "fine", f"the body, the future being {end}")


@case("S1.6")
def shortcuts_look_at_the_items(t: Trial) -> None:
    """A list or tuple whose length is known, and whose first item is a future, suspends before anything is sent."""
    kinds = t.control("s01.future_first_kinds")
    connections = {kind: t.begin("s01.future_first", f"{t.key}-{kind}", kind=kind) for kind in kinds}
    if not silent(connections.values(), QUIET):
        early = [kind for kind, c in connections.items() if not silent([c], 0)]
        same(early, [], "what is answered before its future is done")
    for kind, c in connections.items():
        t.complete(f"{t.key}-{kind}")
        answer = c.response()
        wanted = b"after" if "block" in kind else b""
        same((answer.status, answer.body, answer.complete), (200, wanted, True), f"the answer from {kind}")


@case("S1.7")
def futures_anywhere(t: Trial) -> None:
    """A future may be the first item or the last, before start_response or after it, between blocks, or all that is."""
    for do in (
        "park start block",
        "start park block",
        "start block park block",
        "start block park",
        "start park",
        "park start",
        "park park start empty park block park park block done park",
    ):
        key = f"{t.key} {do}"
        answer = t.play(do, key).response()
        same((answer.status, answer.body), (200, b"block " * do.count("block")), f"the answer of: {do}")
        same(set(t.details("resumed", key)), {True}, f"whether each future was done when it went on, in: {do}")
        holds("ended" in t.events(key), f"the application comes to its end in: {do}")


@case("S1.8")
def write_takes_no_future(t: Trial) -> None:
    """write() raises an exception when it is given a future, whether or not it is done."""
    for when in ("pending", "done"):
        key = f"{t.key}-{when}"
        if when == "done":
            t.complete(key)
        else:
            t.defer(t.complete, key)
        c = t.begin("s01.write_future", key)
        t.wait_for("written", key=key)
        holds(t.details("written", key) != ["accepted"], f"write() refuses a future that is {when}")
        same(c.response().text, "fine", "the body")
