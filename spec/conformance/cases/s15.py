"""S15: middleware.

With --middleware it is that middleware which is examined, on a server that conforms; without it is the server.
"""

from __future__ import annotations

from typing import Any

from ..check import NotSupported, eventually, holds, same
from ..client import Connection
from ..registry import case
from ..trial import Trial


def tell(t: Trial, items: str, key: str | None = None, **query: Any) -> Connection:
    """Begins a request for a story with such items, observed."""
    return t.begin("s15.story", key, items=items, observe=1, **query)


def completing(t: Trial, *numbers: int, key: str | None = None) -> None:
    """Completes these futures of a story, each when the application has given it."""
    for number in numbers:
        t.wait_for(f"parking {number}", key=key)
        t.complete(f"{key or t.key}-{number}")


def record(t: Trial, key: str | None = None) -> list[tuple[str, Any]]:
    return [(name, detail) for name, detail in t.control("events", key or t.key)]


def whole(c: Connection, wanted: str) -> None:
    """A complete response with this body; middleware may have changed its case."""
    answer = c.response()
    same((answer.status, answer.text.lower(), answer.complete), (200, wanted, True), "status, body and completeness")


def gathers(t: Trial) -> bool:
    """Whether the middleware keeps all blocks to the end: it does not pass items through unchanged (S15.2)."""
    key = f"{t.key}-gathers"
    c = tell(t, "bd", key)
    whole(c, "block ")
    order = [name for name, _ in record(t, key) if name in ("out: future", "out: block")]
    return order == ["out: future", "out: block"]


def unheeded(events: list[tuple[str, Any]]) -> list[int]:
    """Which futures, by their order, had not been handed on when the application was asked for what comes next."""
    missing = []
    futures = 0
    last = None
    for name, detail in events:
        if name == "in: future":
            futures, last = futures + 1, detail
        elif name == "out: future" and detail == last:
            last = None
        elif name in ("in: next", "in: throw") and last is not None:
            missing.append(futures)
    return missing


@case("S15.1")
def futures_pass_unchanged(t: Trial) -> None:
    """The futures that the application gives come out as they are, all of them, in order."""
    c = tell(t, "pbdbpdb")
    completing(t, 0, 2)
    whole(c, "block " * 3)
    given, came = ([detail for name, detail in record(t) if name == f"{way}: future"] for way in ("in", "out"))
    same(len(came), len(given), "how many futures come out")
    same(came, given, "the futures that come out, by their ids")


@case("S15.1")
def futures_keep_their_places(t: Trial) -> None:
    """Blocks come out between the futures where they were given, unless the whole body is held back to its end."""
    c = tell(t, "dbdbpbdb")
    completing(t, 2)
    whole(c, "block " * 4)
    kinds = "".join({"out: future": "f", "out: block": "b"}.get(name, "") for name, _ in record(t))
    while "bb" in kinds:  # how many blocks they are does not matter
        kinds = kinds.replace("bb", "b")
    holds(kinds in ("fbfbfbfb", "ffffb"), f"futures (f) and blocks (b) come in their order, and not as {kinds}")


@case("S15.1")
def future_before_the_next_item(t: Trial) -> None:
    """A future has been handed on before the application is asked for the next item, be it done or not."""
    for items, pending in (("pbpb", (0, 1)), ("dbdd", ()), ("bpdpb", (0, 2))):
        key = f"{t.key}-{items}"
        c = tell(t, items, key)
        completing(t, *pending, key=key)
        whole(c, "block " * items.count("b"))
        same(unheeded(record(t, key)), [], f"futures that were not handed on in time, of {items}")


@case("S15.2")
def failures_reach_the_application(t: Trial) -> None:
    """Through middleware that passes items unchanged, a failure is raised where the application waits."""
    gathered = gathers(t)
    for items in ("p", "f", "pp"):
        key = f"{t.key}-{items}"
        c = tell(t, items + "b", key)
        if items == "pp":
            completing(t, 0, key=key)
        if "p" in items:
            t.wait_for(f"parking {len(items) - 1}", key=key)
            t.fail(f"{key}-{len(items) - 1}")
        answer = c.response()
        if gathered:  # then it need not: S15.3
            same(answer.status, 500, "the status, behind middleware that gathers the body")
            continue
        same(
            (answer.status, answer.text.lower()),
            (502, "failed"),
            f"the application's answer to the failure, in {items}",
        )
        same(t.details("thrown", key), [True], "whether what is raised is what the future failed with")


@case("S15.2")
def leaving_reaches_the_application(t: Trial) -> None:
    """When the client leaves, GeneratorExit is raised where the application waits."""
    for items in ("pb", "bpb"):
        key = f"{t.key}-{items}"
        c = tell(t, items, key)
        t.wait_for("parking 0", key=key)
        c.reset()
        t.wait_for("left", key=key)
        same(t.state(f"{key}-0"), "pending", "the future")


@case("S15.3")
def failures_are_not_swallowed(t: Trial) -> None:
    """No middleware goes on past a failure that the application does not know of, nor makes a good end of it."""
    for kind in ("", "bare"):
        for items in ("pbb", "fbb"):
            key = f"{t.key}-{kind}-{items}"
            c = tell(t, items, key, kind=kind, start=1)
            if "p" in items:
                t.wait_for("parking 0", key=key)
                t.fail(f"{key}-0")
            answer = c.response_if_any()
            failed = answer is None or answer.status >= 500 or not answer.complete
            holds(failed, f"the client can tell that it failed, and does not get {answer}")
            names = t.events(key)
            after = names[names.index("in: future") :]
            told = after.index("in: throw") if "in: throw" in after else len(after)
            holds("in: next" not in after[:told], "nothing is asked for before the application knows of the failure")


@case("S15.3")
def middleware_without_throw(t: Trial) -> None:
    """The server copes with middleware that loops or has no throw: a failure ends the request."""
    for middleware in ("loop", "class", "delegates,loop", "class with throw,class"):
        key = f"{t.key}-{middleware.replace(' ', '-')}"
        same(t.get("s15.behind", key, middleware=middleware, items="dbdb").text.lower(), "block block ", "the body")
        key += "-fails"
        same(
            t.get("s15.behind", key, middleware=middleware, items="fb", start=1).status,
            500,
            f"the status: {middleware}",
        )
        same(t.events(key).count("in: next"), 1, f"how often the application was asked for an item: {middleware}")
        same(t.details("thrown", key), [], f"what the application gets: {middleware}")


@case("S15.2")
def middleware_that_delegates(t: Trial) -> None:
    """Through generators with yield from, and classes with throw, the server reaches where the application waits."""
    gathered = gathers(t)
    for middleware in ("delegates", "class with throw", "class with throw,delegates,class with throw"):
        key = f"{t.key}-{middleware.replace(' ', '-')}"
        c = t.begin("s15.behind", key, middleware=middleware, items="pb")
        t.wait_for("parking 0", key=key)
        t.fail(f"{key}-0")
        same(c.response().status, 500 if gathered else 502, f"the status: {middleware}")
        key += "-left"
        c = t.begin("s15.behind", key, middleware=middleware, items="pb")
        t.wait_for("parking 0", key=key)
        c.reset()
        t.wait_for("left", key=key)


@case("S15.4")
def middleware_passes_close_on(t: Trial) -> None:
    """close() of the application's iterable, which is another object than its iterator, is called however it ends."""
    for kind, items in (
        ("end", "bdb"),
        ("error", "dr"),
        ("error in the body", "br"),
        ("failure", "f"),
        ("leaving", "p"),
    ):
        key = f"{t.key}-{kind.replace(' ', '-')}"
        c = tell(t, items, key, kind="apart", start=1)
        if kind == "leaving":
            t.wait_for("parking 0", key=key)
            c.reset()
        else:
            c.response_if_any()
        eventually(lambda: "closed" in t.events(key), f"close() is not called: {kind}")


@case("S15.5")
def only_blocks_are_taken_for_blocks(t: Trial) -> None:
    """Nothing is asked of a future that only a block has, such as its length, and the body is as long as it says."""
    c = tell(t, "dbpbd")
    completing(t, 1)
    whole(c, "block " * 2)
    same(t.details("taken for a block"), [], "what futures were asked for")


@case("S15.6")
def future_and_no_empty_block(t: Trial) -> None:
    """A future that the middleware takes is the one item that it gives: no empty block comes before or after it."""
    c = tell(t, "dbpbbdd")
    completing(t, 1)
    whole(c, "block " * 3)
    inside = False
    came: list[str] = []
    for name, _ in record(t):
        if name == "in: future":
            inside = True
        elif name in ("in: next", "in: throw"):
            inside = False
        elif inside and name.startswith("out: "):
            came.append(name[5:])
    same([name for name in came if name != "block"], ["future"] * 4, "what comes out for the four futures")


@case("S15.7")
def middleware_that_waits_itself(t: Trial) -> None:
    """Middleware may yield futures of its own: before it calls the application, between its items, and at the end."""
    for middleware in ("waits itself", "class with throw,waits itself,delegates"):
        key = f"{t.key}-{middleware.replace(' ', '-')}"
        c = t.begin("s15.behind", key, middleware=middleware, items="bdb")
        t.wait_for("parking", key=key)
        holds("in: next" not in t.events(key), "the application waits for the middleware")
        t.complete(f"{key}-own")
        t.wait_for("parking at the end", key=key)
        t.complete(f"{key}-own-end")
        whole(c, "block " * 2)


@case("S15.7")
def failure_of_what_middleware_waits_for(t: Trial) -> None:
    """A failure of a future of the middleware's own is the middleware's: the application is not called."""
    c = t.begin("s15.behind", middleware="waits itself", items="bdb")
    t.wait_for("parking")
    t.fail(f"{t.key}-own")
    answer = c.response()
    if answer.status != 500:  # as it is behind middleware that does not tell the one inside (S15.3)
        same((answer.status, answer.text.lower()), (503, "middleware"), "the answer")
    same(t.events(), ["parking"], "what the application did")


@case("S15.8")
def middleware_hands_on_and_does_not_wait(t: Trial) -> None:
    """A future that is not done comes out at once, and the middleware has not waited for it."""
    c = tell(t, "pb")
    t.wait_for("parking 0")
    t.defer(t.control, "s15.release", f"{t.key}-0")
    eventually(lambda: "out: future" in t.events(), "the future does not come out while it is not done")
    t.complete(f"{t.key}-0")
    whole(c, "block ")
    same(t.details("waited for"), [], "who has waited for the future")


@case("S15.9")
def validator_names_the_guilty(t: Trial) -> None:
    """A validator around each of several middleware names the one that has lost or changed a future, and only then."""
    missing = t.control("s15.validator_missing")
    if missing:
        raise NotSupported(missing)
    for guilty in ("loses_futures_on_purpose", "changes_futures_on_purpose"):
        key = f"{t.key}-{guilty}"
        t.fails("s15.validated", key, guilty=guilty)
        said = t.details("said", key)
        holds(said, f"it says something: {guilty}")
        holds(guilty in said[0], f"it names {guilty}, and does not say {said[0]}")
    same(t.get("s15.validated", f"{t.key}-nobody").text.lower(), "fine", "the body, where no rule is broken")
    same(t.details("said", f"{t.key}-nobody"), [], "what it says then")
