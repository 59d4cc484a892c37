"""S5: failed and cancelled futures."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from ..check import QUIET, eventually, holds, same
from ..client import Answer, Connection, broken_off
from ..registry import case
from ..trial import Trial

FAILURES = ("failed", "cancelled", "cancelled by an executor")


def fail_with(t: Trial, key: str, error: str) -> None:
    t.control("acts.fail_with", key, error)


@case("S5.1", "S5.7")
def failure_ends_who_does_not_look(t: Trial) -> None:
    """An application that does not look at the future, which fails, does not go on, and the client gets a 500."""
    for how in FAILURES:
        for do in ("park start block", "start park block"):
            key = f"{t.key} {how} {do}"
            c = t.park("acts.generator", key, do=do)
            t.control("s05.end", key, how)
            same(c.response().status, 500, f"the status of: {do}, when the future was {how}")
            same(t.events(key), ["parking", "left"], f"what the application did, when the future was {how}")


@case("S5.1")
def nothing_comes_before_the_failure(t: Trial) -> None:
    """After a failed future throw is the next thing that is called of the iterator, and __next__ is called after it."""
    for when in ("failed later", "failed before"):
        key = f"{t.key} {when}"
        if when == "failed before":
            t.fail(key)
        c = t.park("s05.thrown", key, then="gives a block")
        if when == "failed later":
            t.fail(key)
        same(c.response().text, "handled", "the body")
        t.wait_for("close", key=key)
        same(
            t.calls(key),
            ["next", "throw", "next", "close"],
            f"what is called of the iterator when the future has {when}",
        )


@case("S5.2")
def throw_gets_the_exception(t: Trial) -> None:
    """throw is called with the very exception of the future and nothing else, however the iterator has come by it."""
    for kind in t.control("s05.throw_kinds"):
        key = f"{t.key} {kind}"
        c = t.park("s05.thrown", key, kind=kind, then="gives a block")
        t.fail(key)
        same(c.response().text, "handled", f"the body, when throw is {kind}")
        same(t.details("throw", key), ["the exception"], f"what throw gets, when it is {kind}")


@case("S5.2")
def what_throw_returns_is_the_next_item(t: Trial) -> None:
    """What throw returns is the next item: a block, a future that is waited for, one that has failed, or nonsense."""
    for then, status, body, called in (
        ("gives a block", 200, "handled", ["next", "throw", "next", "close"]),
        ("gives a future", 200, "handled", ["next", "throw", "next", "next", "close"]),
        ("gives a future that has failed", 200, "handled", ["next", "throw", "throw", "next", "close"]),
        ("gives nonsense", 500, None, ["next", "throw", "close"]),
    ):
        key = f"{t.key} {then}"
        c = t.park("s05.thrown", key, then=then)
        t.fail(key)
        if then == "gives a future":
            t.wait_for("throw", key=key)
            same(t.get("acts.generator", do="start block").status, 200, "another request's status")
            same(t.calls(key), ["next", "throw"], "what is called before the second future is done")
            t.complete(f"{key}.1")
        answer = c.response()
        same((answer.status, body and answer.text), (status, body), f"the answer when throw {then}")
        t.wait_for("close", key=key)
        same(t.calls(key), called, f"what is called when throw {then}")


@case("S5.2")
def what_throw_raises(t: Trial) -> None:
    """StopIteration from throw ends the iterable as from __next__; anything else is an application error."""
    for then, status in (("ends", 200), ("raises", 500), ("raises the same", 500)):
        key = f"{t.key} {then}"
        c = t.park("s05.thrown", key, then=then)
        t.fail(key)
        answer = c.response()
        same((answer.status, answer.complete), (status, True), f"the answer when throw {then}")
        t.wait_for("close", key=key)
        same(t.calls(key), ["next", "throw", "close"], f"what is called when throw {then}")


@case("S5.2")
def failure_can_be_handled(t: Trial) -> None:
    """A generator can catch the exception where it waits, the same object, and answer; the connection goes on."""
    c: Connection = t.connect()
    for when in ("later", "before"):
        key = f"{t.key} {when}"
        if when == "before":
            t.fail(key)
        c.get(t.target("s05.catches", key))
        t.wait_for("parking", key=key)
        if when == "later":
            t.fail(key)
        answer = c.response()
        same((answer.status, answer.text), (502, "it has failed"), f"the answer, when the future has failed {when}")
        same(t.details("caught", key), ["ValueError"], "what is caught")
        same(t.details("identical", key), [True], "whether it is the exception that the future has")


@case("S5.3")
def cancelled_is_cancelled_error(t: Trial) -> None:
    """A future that was cancelled, by hand or by an executor, raises concurrent.futures.CancelledError."""
    for how in ("cancelled", "cancelled by an executor"):
        for when in ("later", "before"):
            key = f"{t.key} {how} {when}"
            if when == "before":
                t.control("s05.end", key, how)
            c = t.park("s05.catches", key)
            if when == "later":
                t.control("s05.end", key, how)
            same(c.response().status, 502, f"the status, when the future was {how} {when}")
            same(
                t.details("cancelled", key), [True], f"whether it was CancelledError, when the future was {how} {when}"
            )


@case("S5.4")
def failure_without_throw(t: Trial) -> None:
    """Where the iterator has no throw a failed future ends the request with a 500: nothing is called but close()."""
    for how in FAILURES:
        for when in ("later", "before"):
            key = f"{t.key} {how} {when}"
            if when == "before":
                t.control("s05.end", key, how)
            c = t.park("acts.bare", key, do="start park block")
            if when == "later":
                t.control("s05.end", key, how)
            same(c.response().status, 500, f"the status, when the future was {how} {when}")
            t.wait_for("close", key=key)
            same(t.calls(key), ["next", "close"], f"what is called, when the future was {how} {when}")


@case("S5.4")
def failure_behind_a_wrapper(t: Trial) -> None:
    """A generator behind map, chain or filter, or a future in a list, does not go on when the future has failed."""
    for kind in t.control("s05.wrapper_kinds"):
        key = f"{t.key} {kind}"
        c = t.park("s05.wrapped", key, **{"in": kind})
        t.fail(key)
        same(c.response().status, 500, f"the status behind {kind}")
        holds("resumed" not in t.events(key), f"the generator behind {kind} does not go on")
    t.fail()
    same(t.get("s05.in_a_list").status, 500, "the status when the future is in a list")


@case("S5.4", needs=("log",))
def failure_without_throw_is_logged(t: Trial) -> None:
    """Where the iterator has no throw the log has the future's exception."""
    c = t.park("acts.bare", do="start park block")
    t.fail(message=f"to be found {t.key}")
    same(c.response().status, 500, "the status")
    t.wait_log("ValueError", f"to be found {t.key}")


STOPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("s05.thrown", {"then": "raises the same"}),
    ("acts.bare", {"do": "start park"}),
    ("acts.iterator", {"do": "start park"}),
    ("acts.generator", {"do": "start park"}),
)
STOPS_WITHIN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("s05.thrown", {"then": "raises the same", "before": 1}),
    ("acts.bare", {"do": "start block park"}),
    ("acts.iterator", {"do": "start block park"}),
    ("acts.generator", {"do": "start block park"}),
)


@case("S5.5")
def stop_iteration_is_a_failure(t: Trial) -> None:
    """A future that failed with StopIteration does not end the body, where throw hands it back or there is none."""
    for error in ("StopIteration", "Stop"):
        for app, more in STOPS:
            for when in ("later", "before"):
                key = f"{t.key} {error} {app} {when}"
                if when == "before":
                    fail_with(t, key, error)
                c = t.park(app, key, **more)
                if when == "later":
                    fail_with(t, key, error)
                same(c.response().status, 500, f"the status of {app}, when its future failed with {error} {when}")


@case("S5.5")
def stop_iteration_within_a_body(t: Trial) -> None:
    """Nor does it make a response complete that has begun."""
    for app, more in STOPS_WITHIN:
        key = f"{t.key} {app}"
        c = t.park(app, key, **more)
        fail_with(t, key, "StopIteration")
        holds(broken_off(c.response_if_any()), f"the response of {app} is broken off")


def check_any_error(t: Trial, app: str, called: list[str]) -> None:
    """Whatever a future has failed with, before or later, is a failure and no more."""
    errors = t.control("acts.error_names")
    for when in ("later", "before"):
        keys = {error: f"{t.key} {error} {when}" for error in errors}
        do = "start park block" if when == "later" else "start failed block"
        parked = {error: t.begin(app, key, do=do, error=error) for error, key in keys.items()}
        for error, key in keys.items():
            if when == "later":
                t.wait_for("parking", key=key)
                fail_with(t, key, error)
            answer = parked[error].response()
            same(answer.status, 500, f"the status, when the future has failed with {error} {when}")
            t.wait_for("close" if called else "left", key=key)
            same(t.calls(key), called, f"what is called, when the future has failed with {error} {when}")
            holds("resumed" not in t.events(key), f"the application does not go on, {error} being in its future {when}")
            same(
                t.get("acts.generator", do="start block").status, 200, f"the status of the next request, after {error}"
            )


@case("S5.6")
def any_exception_in_a_generator(t: Trial) -> None:
    """Whatever exception a future has, SystemExit and the like too, a generator gets it, and the server goes on."""
    check_any_error(t, "acts.generator", [])


@case("S5.6")
def any_exception_with_throw(t: Trial) -> None:
    """Whatever exception a future has, an iterator's throw gets it, and __next__ is not called after it."""
    check_any_error(t, "acts.iterator", ["next", "throw", "close"])


@case("S5.6")
def any_exception_without_throw(t: Trial) -> None:
    """Whatever exception a future has, an iterator without throw is closed, and the client gets a 500."""
    check_any_error(t, "acts.bare", ["next", "close"])


@case("S5.6")
def any_exception_is_the_same_object(t: Trial) -> None:
    """Whatever exception a future has, the application can catch it, the same object, and answer."""
    for error in t.control("acts.error_names"):
        for when in ("later", "before"):
            key = f"{t.key} {error} {when}"
            if when == "before":
                fail_with(t, key, error)
            c = t.park("s05.thrown", key, then="gives a block")
            if when == "later":
                fail_with(t, key, error)
            same(c.response().text, "handled", f"the body, when the future has failed with {error} {when}")
            same(t.details("throw", key), ["the exception"], f"what throw gets, when it is {error} {when}")


NOT_BEGUN = (
    "raise",
    "start raise",
    "start empty raise",
    "park start raise",
    "start park raise",
    "start done empty park raise",
)
BEGUN = (
    "start block raise",
    "start write raise",
    "start block park raise",
    "park start write done raise",
    "sized block raise",
)


@case("S5.7")
def error_before_the_first_block(t: Trial) -> None:
    """An exception before the first block that is not empty, of whatever type, is a 500; the application is closed."""
    for error in ("ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "Unusual"):
        for do in NOT_BEGUN:
            key = f"{t.key} {error} {do}"
            answer = t.play(do, key, error=error).response()
            same((answer.status, answer.complete), (500, True), f"the answer, {error} being raised in: {do}")
            holds("on purpose" not in answer.text + str(answer.headers), "the answer does not tell the exception")
            t.wait_for("close", key=key)
            same(t.calls(key)[-2:], ["next", "close"], f"what is called last, {error} being raised in: {do}")


@case("S5.7")
def error_within_the_body(t: Trial) -> None:
    """An exception after the first block that is not empty breaks the response off; the application is closed."""
    for error in ("ValueError", "SystemExit"):
        for do in BEGUN:
            key = f"{t.key} {error} {do}"
            answer = t.play(do, key, error=error).response_if_any()
            holds(broken_off(answer), f"the response is broken off, {error} being raised in: {do}")
            t.wait_for("close", key=key)
            same(t.calls(key)[-2:], ["next", "close"], f"what is called last, {error} being raised in: {do}")


@case("S5.7")
def error_in_the_call(t: Trial) -> None:
    """An exception in the call of the application, or from iter() of what it returns, is a 500."""
    for where in ("the call", "iter()", "what cannot be iterated"):
        same(t.get("s05.no_iterator", where=where).status, 500, f"the status, the exception being raised by {where}")


def logged(t: Trial, start: int, *words: str) -> bool:
    """Whether the log has all of these from there on."""
    said = t.log()[start:]
    return all(word in said for word in words)


@case("S5.7", needs=("log",))
def error_is_logged(t: Trial) -> None:
    """The log has the exception with its traceback, wherever it was raised, and what a future has failed with."""
    for do in ("raise", "start block raise", "park raise", "failed"):
        key = f"{t.key}-{do.replace(' ', '-')}"
        before = len(t.log())
        t.play(do, key).response_if_any()
        wanted = ("Traceback", "acts.py", "in play", "ValueError", f"on purpose: {key}")
        eventually(partial(logged, t, before, *wanted), f"the log has the traceback of: {do}")


def interrupted(t: Trial, key: str, do: str, version: str) -> Answer:
    """The response when the application fails after its first block has arrived."""
    c = t.connect()
    c.get(t.target("acts.generator", key, do=do), version=version)
    t.wait_for("parking", key=key)
    answer = c.start()
    same(c.part(answer, 6), b"block ", "what has arrived before")
    t.fail(key)
    return c.finish(answer)


@case("S5.8")
def broken_off_can_be_told(t: Trial) -> None:
    """A response that is broken off is not complete by its framing, be it chunked, of a length, or up to the end."""
    for do, version in (
        ("start block park block", "HTTP/1.1"),
        ("sized block park block", "HTTP/1.1"),
        ("start block park block", "HTTP/1.0"),
        ("sized block park block", "HTTP/1.0"),
    ):
        answer = interrupted(t, f"{t.key} {do} {version}", do, version)
        holds(not answer.complete, f"a client can tell that this is not all ({answer.framing}), {version}: {do}")
        same(answer.body, b"block ", f"the body, {version}: {do}")


@case("S5.8", should=["S5.8"])
def blocks_before_an_error_arrive(t: Trial) -> None:
    """Blocks that were yielded just before an application error reach the client."""
    for do in ("start block block raise", "sized block block raise", "start block done block failed"):
        answer = t.get("acts.generator", do=do)
        same(
            (answer.body, answer.complete), (b"block block ", False), f"the body, and whether it is complete, of: {do}"
        )


@case("S5.8", should=["S5.8"])
def blocks_before_an_error_reach_a_slow_client(t: Trial) -> None:
    """So do those that the kernel has not taken from the server when the error comes, as the client does not read."""
    c = t.begin("s05.fails_after", size=10_000_000, receive_buffer=65536)
    before = -1
    while (most := t.control("s05.yielded", t.key)) != before or not most:  # until the client holds it up
        before = most
        time.sleep(0.05)
    c.reset()
    for less in (20_000, 60_000):
        key, size = f"{t.key} {less}", most - less
        c = t.begin("s05.fails_after", key, size=size, receive_buffer=65536)
        deadline = time.monotonic() + QUIET
        while "failing" not in t.events(key) and time.monotonic() < deadline:
            time.sleep(0.01)
        answer = c.response()
        same((len(answer.body), answer.complete), (size, False), "the length of the body, and whether it is complete")


@case("S5.9")
def future_that_is_never_done(t: Trial) -> None:
    """A future that calls back, or says that it is done, and is not, is asked without waiting, and has failed."""
    for kind in t.control("s05.hollow_kinds"):
        key = f"{t.key} {kind}"
        c = t.begin("s05.hollow", key, kind=kind)
        same(
            c.response().text, "TimeoutError True", f"what is caught, and whether the future raised it, when it {kind}"
        )
        waits = [timeout for timeout in t.details("asked", key) if timeout is None or timeout > 0]
        same(waits, [], f"for how long exception() is to wait, when the future {kind}")


@case("S5.10")
def settled_needs_no_throw(t: Trial) -> None:
    """An application that waits for a future that does not fail, and then looks at the other, needs no throw."""
    for how in (*FAILURES, "done"):
        key = f"{t.key} {how}"
        c = t.park("s05.settled", key)
        t.control("s05.end", key, how)
        same(c.response().status, 200 if how == "done" else 502, f"the status, when the future was {how}")
