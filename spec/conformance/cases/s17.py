"""S17: plain WSGI servers.  The cases need a helper, and of the server nothing but WSGI."""

from __future__ import annotations

from collections.abc import Callable

from ..check import NotSupported, holds, same
from ..registry import case
from ..trial import Trial


def behind(function: Callable[[Trial], None]) -> Callable[[Trial], None]:
    """A case of applications behind the helper: not supported where there is none."""

    def run(t: Trial) -> None:
        missing = t.control("s17.missing")
        if missing:
            raise NotSupported(missing)
        function(t)

    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return run


def fails(t: Trial, key: str, app: str, do: str = "", error: str = "ValueError") -> bool:
    """Whether the client can tell that a request whose future fails has failed."""
    c = t.begin("s17.behind", key, inside=app, do=do, error=error)
    t.wait_for("parking", key=key)
    t.control("acts.fail_with", key, error)
    answer = c.response_if_any()
    return answer is None or answer.status >= 500 or not answer.complete


@case("S17.1", needs=("plain",))
@behind
def helper_waits(t: Trial) -> None:
    """An application behind the helper is resumed when its future is done, and the server gets only blocks."""
    for app in ("generator", "iterator", "bare"):
        key = f"{t.key}-{app}"
        c = t.begin("s17.behind", key, inside=app, do="park start block done empty park block park")
        for number, future in enumerate((key, f"{key}.1", f"{key}.2")):
            t.wait_for(*["parking"] * (number + 1), key=key)
            t.complete(future)
        answer = c.response()
        same((answer.text, answer.complete), ("block block ", True), "body and completeness")
        same(t.details("resumed", key), [True] * 3, "whether the futures were done when it was resumed")
        same(t.details("no block", key), [], "what the server got beside blocks")


@case("S17.1", needs=("plain",))
@behind
def helper_takes_any_iterable(t: Trial) -> None:
    """The same for futures in lists, tuples, iterators and objects with __getitem__ alone."""
    for app in ("list", "tuple", "list iterator", "items"):
        key = f"{t.key}-{app.replace(' ', '-')}"
        same(t.get("s17.behind", key, inside=app).text, "one two ", f"the body from a {app}")
        same(t.details("no block", key), [], f"what the server got beside blocks from a {app}")
        same([t.state(name) for name in (key, f"{key}-2")], ["done", "done"], "the futures, at the end of the response")


@case("S17.1", needs=("plain",))
@behind
def helper_waits_in_the_thread(t: Trial) -> None:
    """Every step of an application behind the helper runs in the thread in which the server iterates."""
    c = t.begin("s17.behind", inside="iterator", do="park start block done block")
    t.wait_for("parking")
    t.complete()
    same(c.response().text, "block block ", "the body")
    steps = {thread for thread, _ in t.details("next")}
    holds(steps <= set(t.details("server's thread")), "no step runs in another thread")


@case("S17.2", needs=("plain",))
@behind
def helper_delivers_failures(t: Trial) -> None:
    """What a future fails with, whatever it is, is raised where the application waits, which may wait again."""
    for name in t.control("acts.error_names"):
        for early in (False, True):
            key = f"{t.key}-{name}-{'early' if early else 'late'}"
            if early:
                t.control("acts.fail_with", key, name)
            c = t.begin("s17.behind", key, inside="catches")
            t.wait_for("parking", key=key)
            if not early:
                t.control("acts.fail_with", key, name)
            t.wait_for("caught", key=key)
            t.complete(f"{key}-another")
            answer = c.response()
            same((answer.status, answer.text), (502, "caught"), f"the answer when a future fails with {name}")
            same(
                [said[1:] for said in t.details("caught", key)],
                [[name, True]],
                "what is raised, and whether it is that",
            )
            same(t.details("waited", key), [True], "whether the next future was done when it was resumed")


@case("S17.2", needs=("plain",))
@behind
def helper_delivers_cancellation(t: Trial) -> None:
    """Where the application waits for a future that is cancelled, CancelledError of concurrent.futures is raised."""
    c = t.begin("s17.behind", inside="catches")
    t.wait_for("parking")
    t.control("cancel", t.key)
    t.wait_for("caught")
    t.complete(f"{t.key}-another")
    same(c.response().status, 502, "the status")
    same([said[:2] for said in t.details("caught")], [["concurrent.futures._base", "CancelledError"]], "what is raised")


@case("S17.2", needs=("plain",))
@behind
def helper_does_not_go_on_past_a_failure(t: Trial) -> None:
    """A failure that the application cannot or does not handle ends it; StopIteration is no exception to that."""
    for app in ("generator", "iterator", "bare"):
        for error in ("ValueError", "StopIteration"):
            key = f"{t.key}-{app}-{error}"
            holds(fails(t, key, app, "start park block", error), f"the client can tell that it failed: {app}, {error}")
            same(t.details("resumed", key), [], f"what went on past the failure: {app}, {error}")
    for error in ("ValueError", "StopIteration"):
        key = f"{t.key}-rethrows-{error}"
        holds(fails(t, key, "rethrows", error=error), f"the client can tell that it failed: throw raises that {error}")


@case("S17.2", needs=("plain",))
@behind
def helper_passes_close_on(t: Trial) -> None:
    """close() of the iterable is called once: at the end, after a failure, and after an error of the application."""
    for name, do in (("end", "start block"), ("error", "raise"), ("failure", "park start block")):
        for app in ("iterator", "bare"):
            key = f"{t.key}-{name}-{app}"
            if name == "failure":
                fails(t, key, app, do)
            else:
                same(t.fails("s17.behind", key, inside=app, do=do), name == "error", f"whether it fails: {name}")
            t.wait_for("close", key=key)
            same(t.events(key).count("close"), 1, f"how often close() was called: {name}, {app}")
    c = t.begin("s17.behind", inside="two objects")
    t.fail()
    same(c.response().text, "fine", "the body of one whose iterator is another object than the iterable")
    t.wait_for("thrown", "close")


@case("S17.2", needs=("plain",))
@behind
def helper_leaves_environ_alone(t: Trial) -> None:
    """The application gets the server's environ, in which nothing is added, taken away or changed."""
    t.get("s17.behind", inside="generator", do="done start block")
    same(t.details("environ"), [True, True], "whether environ is what it was, in the call and after it")


@case("S17.3", needs=("plain",))
@behind
def helper_may_be_deaf(t: Trial) -> None:
    """A client that leaves while the helper waits may go unnoticed; the application ends when its future is done."""
    c = t.begin("s17.behind", inside="iterator", do="park start block")
    t.wait_for("parking")
    c.reset()
    t.complete()
    t.wait_for("close")
    same(t.get("s17.behind", f"{t.key}-next", inside="iterator", do="done start block").text, "block ", "the next body")
