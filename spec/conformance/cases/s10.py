"""S10: where a done-callback may run."""

from __future__ import annotations

from ..check import LONG, holds, never, same
from ..registry import case
from ..trial import Trial

THREADS = [
    "a thread",
    "a thread that threading does not know",
    "a thread of an executor",
    "the thread of an event loop",
    "a finalizer",
]
REGISTERING = {
    # when the future is done, and how many of them
    "before it is registered": 50,
    "after it is registered": 50,
    "with a failure": 50,
    "in another thread": 20,
    "long before it returns": 3,
    "at about the same time": 100,
}
HOLDING = ["the call", "__next__", "throw", "done()", "add_done_callback()", "exception()", "close()"]


@case("S10.1")
def completed_in_any_thread(t: Trial) -> None:
    """A request goes on when its future is completed, in whatever thread."""
    for number, kind in enumerate(THREADS):
        key = f"{t.key}-{number}"
        c = t.park("s10.waits", key)
        t.control("s10.complete_in", kind, key)
        same(c.response().text, "fine", f"the body, completed in {kind}")


@case("S10.1")
def completed_in_a_step_of_another(t: Trial) -> None:
    """A request goes on when a step of another request completes its future."""
    c = t.park("s10.waits")
    same(t.get("s10.completes", of=t.key).text, "completed", "the body of the other request")
    same(c.response().text, "fine", "the body")


@case("S10.1")
def completed_while_registering(t: Trial) -> None:
    """A future that is completed while the callback is registered, in this thread or another, resumes its request."""
    for number, (when, count) in enumerate(REGISTERING.items()):
        key = f"{t.key}-{number}"
        answer = t.get("s10.registering", key, when=when, n=count)
        same(answer.text, f"{count} were done", f"the body, completed {when}")
        holds("stuck" not in t.events(key), f"completing it {when} does not wait for add_done_callback to return")


@case("S10.2")
def callback_runs_no_application_code(t: Trial) -> None:
    """Within the callback no step, no close() and no method of the future is run, also when the client has left."""
    c = t.begin("s10.watched")
    for number, finish in enumerate([t.complete, t.fail]):
        t.wait_for(f"parking {number}")
        finish(f"{t.key}-{number}")
    t.wait_for("parking 2")
    c.reset()
    t.wait_for("close")
    t.complete(f"{t.key}-2")
    same(t.details("in the callback"), [], "what was run in the thread that completes the future")


@case("S10.2")
def callback_raises_nothing(t: Trial) -> None:
    """The callback raises nothing: when it is called, called again, or called when the request is over or left."""
    for left in (False, True):
        key = f"{t.key}-left" if left else t.key
        c = t.begin("s10.watched", key)
        for number in range(2):
            t.wait_for(f"parking {number}", key=key)
            t.complete(f"{key}-{number}")
        t.wait_for("parking 2", key=key)
        t.control("s10.call_again", f"{key}-1")
        if left:
            c.reset()
            t.wait_for("close", key=key)
        t.complete(f"{key}-2")
        if not left:
            same(c.response().text, "fine", "the body")
            t.wait_for("close", key=key)
        for number in range(3):
            t.control("s10.call_again", f"{key}-{number}")
        same(t.details("raised", key), [], "what the callback raised")


@case("S10.2", threads=1)
def callback_waits_for_no_step(t: Trial) -> None:
    """Completing a future does not wait while the only thread runs Python code, whatever it is."""
    for number, where in enumerate(HOLDING):
        key = f"{t.key}-{number}"
        waiter = t.park("s10.waits", f"{key}-waiter")
        t.defer(t.control, "open_gate", key)
        holder = t.begin("s10.holds", key, where=where)
        t.wait_for("at the gate", key=key)
        returned = t.control("s10.complete_soon", f"{key}-waiter")
        t.control("open_gate", key)
        holds(returned, f"completing a future does not wait for another request, which is in {where}")
        same(waiter.response().text, "fine", "the body of the request whose future was completed")
        same(holder.response().text, "held", f"the body of the request which was in {where}")


@case("S10.2", threads=1)
def callback_does_not_wait_for_its_request(t: Trial) -> None:
    """A second call of the callback does not wait while a step of its own request runs."""
    c = t.begin("s10.again_and_again")
    t.defer(t.control, "open_gate", t.key)
    t.wait_for("parking 0")
    t.complete(f"{t.key}-0")
    t.wait_for("at the gate")
    returned = t.control("s10.call_again", f"{t.key}-0")
    t.control("open_gate", t.key)
    holds(returned, "the callback does not wait for a step of its request")
    t.complete(f"{t.key}-1")
    same(c.response().text, "fine", "the body")


@case("S10.2", threads=1)
def callback_takes_constant_time(t: Trial) -> None:
    """Completing a future takes as many lines of Python with a hundred requests parked or queued as with few."""
    keys = [f"{t.key}-{number}" for number in range(100)]
    connections = []
    costs = []
    for few in (keys[:3], keys[3:]):
        connections += [t.begin("s10.waits", key) for key in few]
        for key in few:
            t.wait_for("parking", key=key, within=LONG)
        gate = f"{few[0]}-gate"
        t.defer(t.control, "open_gate", gate)
        holder = t.begin("s10.holds", gate, where="__next__")
        t.wait_for("at the gate", key=gate)
        costs.append([t.control("s10.lines_to_complete", key) for key in few])
        t.control("open_gate", gate)
        same(holder.response().text, "held", "the body of the request that held the thread")
    for c in connections:
        same(c.response().text, "fine", "the body")
    holds(
        max(costs[1]) < max(costs[0]) + 40,
        f"completing a future that took {max(costs[0])} lines with three requests takes not {max(costs[1])} with more",
    )


@case("S10.3")
def called_twice(t: Trial) -> None:
    """Futures that call their callbacks twice, in a row or in two threads at once, resume once each."""
    for how in ("in a row", "at once"):
        key = f"{t.key}-{how[:2]}"
        same(t.get("s10.twice", key, how=how, n=20).text, "fine", "the body")
        t.wait_for("close", key=key)
        same(t.events(key), [*["next"] * 22, "close"], f"the steps, with callbacks called twice {how}")


@case("S10.3")
def called_again_while_running_and_parked(t: Trial) -> None:
    """A second call, while the next step runs or the request waits for another future, does not resume it again."""
    c = t.begin("s10.again_and_again")
    t.defer(t.control, "open_gate", t.key)
    t.wait_for("parking 0")
    t.complete(f"{t.key}-0")
    t.wait_for("at the gate")
    t.control("s10.call_again", f"{t.key}-0")
    t.control("open_gate", t.key)
    t.wait_for("parking 1")
    t.control("s10.call_again", f"{t.key}-0")
    never(lambda: t.events().count("next") > 2, "it was resumed though its second future is not done")
    t.complete(f"{t.key}-1")
    same(c.response().text, "fine", "the body")
    t.wait_for("close")
    holds("resumed early" not in t.events(), "it is resumed when its second future is done")
    same(t.events().count("next"), 4, "the number of steps")


@case("S10.3")
def called_again_when_the_request_is_over(t: Trial) -> None:
    """A second call, when the request is over, resumes none of those which came after it."""
    for last in ("over", "left"):
        key = f"{t.key}-{last}"
        c = t.begin("s10.watched", key)
        for number in range(3):
            t.wait_for(f"parking {number}", key=key)
            if number == 2 and last == "left":
                c.reset()
                c = t.connect()
            else:
                t.complete(f"{key}-{number}")
        t.wait_for("close", key=key)
        if last == "over" and c.response().last:
            c = t.connect()
        c.get(t.target("s10.again_and_again", f"{key}-next"))
        others = [t.begin("s10.again_and_again", f"{key}-next-{number}") for number in range(4)]
        nexts = [f"{key}-next", *(f"{key}-next-{number}" for number in range(len(others)))]
        for each in nexts:
            t.defer(t.control, "open_gate", each)
            t.wait_for("parking 0", key=each)
        for number in range(3):
            t.control("s10.call_again", f"{key}-{number}")
        never(
            lambda: [each for each in nexts if "at the gate" in t.events(each)],
            "requests were resumed by a callback of another",
        )
        for each in nexts:
            t.control("open_gate", each)
            t.complete(f"{each}-0")
            t.complete(f"{each}-1")
        for other in (c, *others):
            same(other.response().text, "fine", "the body")


@case("S10.4")
def raising_future(t: Trial) -> None:
    """A future whose done() or add_done_callback() raises is an application error: 500, close(), and no step."""
    for number, where in enumerate(["done()", "add_done_callback()", "add_done_callback() when it has registered"]):
        for error in ("ValueError", "SystemExit", "KeyboardInterrupt"):
            key = f"{t.key}-{number}-{error}"
            answer = t.get("s10.raises", key, where=where, error=error)
            t.wait_for("close", key=key)
            events = t.events(key)
            if where == "done()" and where not in events:  # it need not ask, and then all is well
                same(answer.status, 200, "the status, as done() was not called")
                continue
            same(answer.status, 500, f"the status, as {where} raised {error}")
            holds("went on" not in events, f"nothing goes on when {where} has raised")
            same([name for name in events if name in ("next", "throw", "close")], ["next", "close"], "the steps")


@case("S10.4")
def raising_future_in_a_body(t: Trial) -> None:
    """Where the response has begun, it is broken off when add_done_callback() raises."""
    answer = t.get("s10.raises", where="add_done_callback()", error="ValueError", begun=1)
    same(answer.text, "begun", "the body")
    holds(not answer.complete, "the response is broken off")
    t.wait_for("close")
    holds("went on" not in t.events(), "nothing goes on")


@case("S10.4")
def raising_future_completed_later(t: Trial) -> None:
    """A future that raised when it had registered the callback resumes nothing when it is completed."""
    answer = t.get("s10.raises", where="add_done_callback() when it has registered", error="ValueError")
    same(answer.status, 500, "the status")
    t.wait_for("close")
    before = t.events()
    t.complete()
    never(lambda: t.events() != before, "the application was run again")


@case("S10.4", needs=("log",))
def raising_future_is_logged(t: Trial) -> None:
    """What add_done_callback() raises is logged with its traceback."""
    t.get("s10.raises", where="add_done_callback()", error="ValueError")
    t.wait_log("Traceback", "add_done_callback() raised on purpose")
