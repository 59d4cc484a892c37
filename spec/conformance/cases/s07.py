"""S7: close()."""

from __future__ import annotations

import tempfile
import time
from typing import Any

from ..check import LONG, QUIET, holds, never, same
from ..client import broken_off
from ..registry import case
from ..trial import Trial


def check_closed_once(t: Trial, key: str, what: str) -> None:
    """close() has been called once, and last, also when others have been served since."""
    t.wait_for("close", key=key)
    same(t.get("acts.generator", do="start block").body, b"block ", f"another request's body, after {what}")
    calls = t.calls(key)
    same(
        (calls.count("close"), calls[-1], "overlap" in calls),
        (1, "close", False),
        f"how often it is closed after {what}, and last",
    )


@case("S7.1")
def closed_once_at_the_end(t: Trial) -> None:
    """close() is called once, after everything else, when the iterable has come to its end."""
    for do in ("start block", "start", "park start block park block", "done start block done", "park start large*5"):
        key = f"{t.key} {do}"
        same(t.play(do, key).response().complete, True, f"whether the response is complete, of: {do}")
        check_closed_once(t, key, f"the end of: {do}")
    for blocks in (0, 1, 3):
        key = f"{t.key} {blocks} in a list"
        same(t.get("s07.in_a_list", key, n=blocks).body, b"block " * blocks, f"the body of a list of {blocks}")
        check_closed_once(t, key, f"the end of a list of {blocks}")


@case("S7.1")
def closed_once_after_an_error(t: Trial) -> None:
    """close() is called once after an exception, a breach of the rules, a failed future, and more than was promised."""
    for app, do in (
        ("acts.iterator", "raise"),
        ("acts.iterator", "start block park raise"),
        ("acts.iterator", "block"),
        ("acts.iterator", "park"),
        ("acts.iterator", "failed"),
        ("acts.bare", "failed"),
        ("acts.bare", "start block failed"),
        ("s07.too_long", "block*5"),
    ):
        key = f"{t.key} {app} {do}"
        t.play(do, key, app=app).response_if_any()
        check_closed_once(t, key, f"the error of: {do}")
    key = f"{t.key} iter"
    same(t.get("s07.no_iterator", key).status, 500, "the status of what cannot be iterated")
    t.wait_for("close", key=key)
    same(t.events(key), ["iter", "close"], "what is called of what cannot be iterated")


@case("S7.1")
def closed_once_after_a_late_failure(t: Trial) -> None:
    """close() is called once when a future fails that the request was parked on, with throw and without."""
    for app in ("acts.iterator", "acts.bare"):
        for how in ("failed", "cancelled"):
            key = f"{t.key} {app} {how}"
            c = t.park(app, key, do="start block park")
            t.control("s05.end", key, how)
            holds(broken_off(c.response_if_any()), f"the response of {app} is broken off when its future was {how}")
            check_closed_once(t, key, f"a future of {app} that was {how}")


@case("S7.1")
def closed_once_when_the_client_leaves(t: Trial) -> None:
    """close() is called once when the client leaves a parked request, be its future done later or at that moment."""
    for how in ("reset", "close"):
        for do in ("park block", "start block park block"):
            for when in ("later", "before", "after"):
                key = f"{t.key} {how} {do} {when}"
                c = t.park("acts.iterator", key, do=do)
                if when == "before":
                    t.complete(key)
                getattr(c, how)()
                if when == "after":
                    t.complete(key)
                t.wait_for("close", key=key)
                if when == "later":
                    t.complete(key)
                check_closed_once(t, key, f"a {how} by the client, the future being done {when}: {do}")


@case("S7.1")
def closed_once_when_a_reader_leaves(t: Trial) -> None:
    """close() is called once when the client leaves a response that it does not read."""
    for how in ("reset", "close"):
        key = f"{t.key} {how}"
        c = t.begin("acts.iterator", key, do="start large*30 park", receive_buffer=4096)
        t.wait_for("going", key=key)
        getattr(c, how)()
        check_closed_once(t, key, f"a {how} by a client that does not read")


@case("S7.1", deadline=0.5)
def closed_once_at_the_deadline(t: Trial) -> None:
    """close() is called once when the deadline of a parked request has passed."""
    parked = [(do, f"{t.key} {do}") for do in ("park", "start block park")]
    connections = [t.park("acts.iterator", key, do=do) for do, key in parked]
    for c, (do, key) in zip(connections, parked):
        c.response_if_any()
        t.wait_for("close", key=key)
        t.complete(key)
        check_closed_once(t, key, f"the deadline of: {do}")


@case("S7.1", needs=("process",), drain=0.5)
def closed_once_at_shutdown(t: Trial) -> None:
    """close() is called once when the server stops while a request is parked."""
    with tempfile.NamedTemporaryFile() as file:
        parked = [t.park("s07.to_file", f"{t.key} {do}", do=do, path=file.name) for do in ("park", "start block park")]
        t.server.terminate()
        for c in parked:
            c.response_if_any()
            c.close()
        holds(t.server.wait(LONG) is not None, "the server ends")
        same(file.read(), b"closed closed ", "what two requests write in close()")


@case("S7.2", deadline=0.5)
def closed_after_the_step(t: Trial) -> None:
    """A request that is ended while its step runs is closed when the step has returned; there is no other step."""
    t.defer(t.control, "open_gate", t.key)
    c = t.begin("acts.iterator", do="variable gate start block park block")
    t.wait_for("at the gate")
    same(c.response().status, 504, "the status at the deadline")
    same(t.get("acts.generator", do="start block").body, b"block ", "another request's body")
    same(t.calls(), ["next"], "what is called while the step runs")
    t.control("open_gate", t.key)
    t.wait_for("close")
    same(t.calls(), ["next", "close"], "what is called in all")
    holds("parking" not in t.events(), "no other step runs")


@case("S7.2", deadline=0.5)
def closed_and_not_iterated(t: Trial) -> None:
    """What the call of the application returns, when the request was ended meanwhile, is closed and not iterated."""
    t.defer(t.control, "open_gate", t.key)
    c = t.begin("s07.gated_call", do="start block")
    t.wait_for("at the gate")
    same(c.response().status, 504, "the status at the deadline")
    t.control("open_gate", t.key)
    t.wait_for("close")
    same(t.calls(), ["close"], "what is called of the iterable")


@case("S7.2")
def not_closed_beside_a_step(t: Trial) -> None:
    """When the client leaves while a step runs, or the call of the application, close() waits for that to return."""
    steps = {app: f"{t.key} {app}" for app in ("acts.iterator", "s07.gated_call")}
    for app, key in steps.items():
        t.defer(t.control, "open_gate", key)
        c = t.begin(app, key, do="gate start park" if app == "acts.iterator" else "start park")
        t.wait_for("at the gate", key=key)
        c.reset()
    never(
        lambda: [app for app, key in steps.items() if "close" in t.events(key)],
        "it is closed while a step runs, or the call",
    )
    for key in steps.values():
        t.control("open_gate", key)
        check_closed_once(t, key, "a client that left while a step ran, or the call")


ENDINGS = (
    "variable start block",
    "variable start raise",
    "variable failed",
    "variable park start block park",
    "variable park park",
)


def ended(t: Trial, do: str, key: str, **more: Any) -> None:
    """A request that has come to its end, and has been closed; the last one is left by its client."""
    if do == ENDINGS[-1]:
        c = t.park("acts.iterator", key, do=do, **more)
        t.complete(key)
        t.wait_for("parking", "parking", key=key)
        c.reset()
    else:
        t.play(do, key, **more).response()
    t.wait_for("close", key=key)


@case("S7.3")
def context_and_thread_of_close(t: Trial) -> None:
    """close() runs in the request's context, and not in the thread that completes futures, however the request ends."""
    other = t.control("ident")
    for do in ENDINGS:
        key = f"{t.key} {do}"
        ended(t, do, key)
        [[thread, variable]] = t.details("close", key)
        same(variable, key, f"the context variable in close(), after: {do}")
        holds(thread != other, f"close() does not run in the thread that completes futures, after: {do}")


@case("S7.3", threads=1)
def close_runs_in_the_pool(t: Trial) -> None:
    """With one thread for steps, close() runs in that one, however the request ends."""
    for do in ENDINGS:
        key = f"{t.key} {do}"
        ended(t, do, key)
        threads = {thread for name in ("next", "throw", "close") for thread, _ in t.details(name, key)}
        same(len(threads), 1, f"the number of threads that steps and close() run in: {do}")


@case("S7.3")
def close_holds_nobody_up(t: Trial) -> None:
    """While close() takes its time, after the end, an error, or when the client has left, others are served."""
    for do in ("start block", "raise", "park"):
        key = f"{t.key} {do}"
        t.defer(t.control, "open_gate", key)
        c = t.begin("acts.iterator", key, do=do, closing="gate")
        if do == "park":
            t.wait_for("parking", key=key)
            c.reset()
        t.wait_for("at the gate", key=key)
        for number in range(3):
            same(t.play("park start block", f"{key} {number}").response().body, b"block ", "another request's body")
        t.park("acts.iterator", f"{key} leaves", do="park").reset()
        t.wait_for("close", key=f"{key} leaves")
        t.control("open_gate", key)
        check_closed_once(t, key, f"a close() that takes its time, of: {do}")


@case("S7.4")
def close_of_the_iterable(t: Trial) -> None:
    """Where iterable and iterator are two objects, throw is called of the iterator, and close() of the iterable."""
    for kind, end, wanted in (
        ("both", "done", ["iterable.iter", *["iterator.next"] * 3, "iterable.close"]),
        ("both", "failed", ["iterable.iter", "iterator.next", "iterator.throw", "iterable.close"]),
        ("only the iterable", "done", ["iterable.iter", "iterable.close"]),
        ("only the iterable", "failed", ["iterable.iter", "iterable.close"]),
        ("only the iterator", "done", ["iterable.iter", *["iterator.next"] * 3]),
        ("only the iterator", "failed", ["iterable.iter", "iterator.next", "iterator.throw"]),
        ("a generator", "done", ["iterable.iter", "iterable.close"]),
        ("a generator", "failed", ["iterable.iter", "iterable.close"]),
    ):
        key = f"{t.key} {kind} {end}"
        c = t.park("s07.two", key, kind=kind, do="park start block")
        t.control("s05.end", key, end)
        same(
            c.response().status,
            200 if end == "done" else 500,
            f"the status, {kind} having throw, the future being {end}",
        )
        t.wait_for(wanted[-1], key=key)
        same(t.get("acts.generator", do="start block").status, 200, "another request's status")
        seen = [name for name in t.events(key) if "." in name]
        same(seen, wanted, f"what is called, {kind} having throw and close(), the future being {end}")
        if kind == "a generator" and end == "failed":
            same(t.details("left", key), ["ValueError"], "what the generator was left by")


@case("S7.5")
def close_that_raises(t: Trial) -> None:
    """What close() raises, of whatever type, changes neither the response nor what follows on the connection."""
    for error in ("ValueError", "SystemExit", "KeyboardInterrupt", "StopIteration"):
        c = t.connect()
        for do, body in (("start block", b"block "), ("start", b""), ("park start block park", b"block ")):
            key = f"{t.key} {error} {do}"
            t.complete(key)
            t.complete(f"{key}.1")
            c.get(t.target("acts.iterator", key, do=do, error=error, closing="raise"))
            answer = c.response()
            same(
                (answer.status, answer.body, answer.complete),
                (200, body, True),
                f"the answer, close() raising {error}, of: {do}",
            )
        key = f"{t.key} {error} leaves"
        t.park("acts.iterator", key, do="park", error=error, closing="raise").reset()
        check_closed_once(t, key, f"a client that has left, close() raising {error}")


@case("S7.5", threads=1)
def close_that_raises_leaves_the_thread(t: Trial) -> None:
    """With one thread, others are served after a close() that has raised SystemExit or the like."""
    for error in ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "Unusual"):
        for do in ENDINGS:
            ended(t, do, f"{t.key} {error} {do}", error=error, closing="raise")
            same(t.get("acts.generator", do="start block").body, b"block ", f"another request's body, after: {do}")


@case("S7.5", needs=("log",))
def close_that_raises_is_logged(t: Trial) -> None:
    """What close() raises is logged, after the end and when the client has left."""
    t.play("start block", f"{t.key}-end", closing="raise").response()
    t.wait_log("ValueError", f"raised on purpose: {t.key}-end")
    t.park("acts.iterator", f"{t.key}-left", do="park", closing="raise").reset()
    t.wait_log(f"raised on purpose: {t.key}-left")


@case("S7.6")
def yields_when_closed(t: Trial) -> None:
    """An application that yields when it is closed is not resumed, whatever it has yielded, and the server goes on."""
    for what in ("block", "future"):
        key = f"{t.key} {what}"
        t.park("s07.yields_when_closed", key, what=what).reset()
        t.wait_for("closing", key=key)
        t.complete(f"{key}.1")
        t.complete(key)
        for number in range(3):
            same(
                t.play("park start block", f"{key} other {number}").response().body, b"block ", "another request's body"
            )
        same(t.events(key), ["parking", "closing"], f"what the application did that yields a {what} when it is closed")


@case("S7.7")
def closed_before_all_is_read(t: Trial) -> None:
    """An application may let go in close() of what it has yielded: the client gets all of it, however late it reads."""
    size = 160_000
    c = t.begin("s07.released", size=size, receive_buffer=4096)
    deadline = time.monotonic() + QUIET
    while "close" not in t.events() and time.monotonic() < deadline:  # it may be called now, or when all is read
        time.sleep(0.01)
    answer = c.response()
    wanted = b"".join(b"%07d\n" % number * (size // 8 // 16) for number in range(16))
    same(
        (answer.complete, len(answer.body), answer.body == wanted),
        (True, size, True),
        "the body: complete, its length, as it was yielded",
    )
    t.wait_for("close")
