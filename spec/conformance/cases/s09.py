"""S9: threads and contexts."""

from __future__ import annotations

from ..check import DEADLINE, holds, never, same
from ..registry import case
from ..trial import Trial


@case("S9.1")
def steps_in_threads_of_the_server(t: Trial) -> None:
    """The call, every step and close() run in threads of the server, never in the one that completes the future."""
    c = t.begin("s09.in_threads")
    for number in range(3):
        t.wait_for(f"parking {number}")
        (t.fail if number == 1 else t.complete)(f"{t.key}-{number}")
    same(c.response().text, "fine", "the body")
    t.wait_for("close")
    completer = t.control("ident")
    for name in ("call", "next", "throw", "close"):
        holds(t.details(name), f"{name} is recorded")
        holds(completer not in t.details(name), f"{name} does not run in the thread that completes the future")


@case("S9.2")
def steps_do_not_overlap(t: Trial) -> None:
    """Steps of one request never run side by side, and each sees what the one before has written."""
    keys = [f"{t.key}-{number}" for number in range(6)]
    connections = [t.begin("s09.many_steps", key) for key in keys]
    for key, c in zip(keys, connections):
        same(c.response().text, "." * 6, "the body")
        t.wait_for("close", key=key)
        same(t.details("overlap", key), [], "steps side by side")
        same(t.details("close", key), [6 * 5 + 2], "how many steps each saw before it")


@case("S9.2")
def close_after_the_step(t: Trial) -> None:
    """A client that leaves while a step runs does not have close() run beside it."""
    c = t.park("s09.long_step")
    t.defer(t.control, "open_gate", t.key)
    t.complete()
    t.wait_for("in the step")
    c.reset()
    never(lambda: "close" in t.events(), "close() ran beside a step")
    t.control("open_gate", t.key)
    t.wait_for("close")
    same(t.events(), ["parking", "in the step", "end of the step", "close"], "what happened")


@case("S9.3")
def own_state_across_waits(t: Trial) -> None:
    """Applications that keep their state in local variables, and locks within a step only, are not mixed up."""
    keys = [f"{t.key}-{letter}" for letter in "abcd"]
    connections = [t.begin("s09.own_state", key) for key in keys]
    for number in range(3):
        for key in keys if number % 2 else reversed(keys):
            t.wait_for(*["parking"] * (number + 1), key=key)
            t.complete(f"{key}-{number}")
    for key, c in zip(keys, connections):
        same(c.response().text, f"{key}-0 {key}-1 {key}-2", "what the application knows at the end")


@case("S9.4")
def one_context_for_all_steps(t: Trial) -> None:
    """The call, every step, throw and close() run in the same context."""
    for end in ("well", "failed"):
        key = f"{t.key}-{end}"
        c = t.begin("s09.one_context", key, end=end)
        t.wait_for("next", key=key)
        t.complete(key)
        same(c.response().complete, end == "well", "whether the response is complete")
        t.wait_for("close", key=key)
        for name in ("next", "throw", "close"):
            same(set(t.details(name, key)), {"the same context"}, f"the context of {name}")


@case("S9.4")
def context_of_close_when_the_client_leaves(t: Trial) -> None:
    """close() runs in the request's context when the client has left it parked."""
    c = t.begin("s09.one_context", end="pending")
    t.complete()
    t.wait_for("parking")
    c.reset()
    t.wait_for("close")
    same(t.details("close"), ["the same context"], "the context of close")


@case("S9.4", deadline=DEADLINE)
def context_of_close_at_the_deadline(t: Trial) -> None:
    """close() runs in the request's context when the deadline has ended the request."""
    t.begin("s09.one_context", end="pending")
    t.complete()
    t.wait_for("close")
    same(t.details("close"), ["the same context"], "the context of close")


@case("S9.5")
def context_new_for_each_request(t: Trial) -> None:
    """What a request leaves in a context variable is not there for the next one, on whatever thread or connection."""
    c = t.connect()
    for _ in range(10):
        c.get(t.target("s09.leaves_behind"))
        answer = c.response()
        same(answer.text, "fine", "the body")
        if answer.last:
            c = t.connect()
    for _ in range(30):  # more than there may be threads
        same(t.get("s09.leaves_behind").text, "fine", "the body")
    t.wait_for(*["close"] * 40)
    same(set(t.details("call")), {"nothing"}, "what requests find")
    same(set(t.details("next")), {t.key}, "what their steps find")


@case("S9.5")
def contexts_side_by_side(t: Trial) -> None:
    """A request that goes on finds its own context, and not that of requests which ran while it waited."""
    keys = [f"{t.key}-{letter}" for letter in "abc"]
    connections = [t.park("s09.leaves_behind", key, wait=1) for key in keys]
    t.get("s09.leaves_behind", f"{t.key}-d")
    for key, c in zip(keys, connections):
        t.complete(key)
        same(c.response().text, "fine", "the body")
        t.wait_for("close", key=key)
        same(t.details("call", key), ["nothing"], "what the call finds")
        same(t.details("next", key) + t.details("close", key), [key] * 4, "what the steps find")


@case("S9.6", threads=1)
def others_between_two_steps(t: Trial) -> None:
    """With one thread, so that no two are in a step at a time, other requests run between any two steps of one."""
    c = t.begin("s09.interrupted")
    for number in range(2):
        t.wait_for(f"parking {number}")
        same(t.get("s09.quick").text, "quick", "the body of another request")
        t.complete(f"{t.key}-{number}")
    same(c.response().text, "fine", "the body")
    same(t.events(), ["parking 0", "another request", "parking 1", "another request"], "what happened")
