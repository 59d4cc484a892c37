"""PEP 3333: applications that fail."""

from __future__ import annotations

from ..check import holds, same
from ..registry import case
from ..trial import Trial


def still_serves(t: Trial) -> None:
    same(t.get("pep3333_http.nothing").status, 200, "the status of another request, afterwards")


@case("P24")
def exception_in_the_call(t: Trial) -> None:
    """After an exception of the application's call the client gets a 5xx, or nothing."""
    t.shows_failure("pep3333_errors.in_the_call")
    still_serves(t)


@case("P24")
def exception_after_start_response(t: Trial) -> None:
    """An exception after start_response with a 200 makes that no success, as no block has begun the response."""
    t.shows_failure("pep3333_errors.when_started")
    still_serves(t)


@case("P24")
def exception_in_the_first_iteration(t: Trial) -> None:
    """An exception in the first iteration gives a 5xx, or nothing."""
    t.shows_failure("pep3333_errors.in_the_first_iteration")
    still_serves(t)


@case("P24")
def exception_after_an_empty_block(t: Trial) -> None:
    """An exception after an empty block, which begins no response, gives a 5xx, or nothing."""
    t.shows_failure("pep3333_errors.after_an_empty_block")
    still_serves(t)


@case("P24")
def result_that_is_no_iterable(t: Trial) -> None:
    """An application that returns None has failed."""
    t.shows_failure("pep3333_errors.no_iterable")
    still_serves(t)


@case("P25")
def exception_within_the_body(t: Trial) -> None:
    """A body that an exception has cut short is not ended as if it were whole."""
    answer = t.get("pep3333_errors.in_the_body")
    # Where the end of the connection is that of the body only a reset could tell, and the PEP does not ask for one.
    holds(answer.framing == "close" or not answer.complete, "the body is not complete")
    still_serves(t)


@case("P25")
def exception_before_the_length(t: Trial) -> None:
    """A body of a known length that an exception has cut short is not complete."""
    answer = t.get("pep3333_errors.in_the_body", length=100)
    holds(not answer.complete, "the body is not complete")
    same(answer.header("Content-Length"), "100", "Content-Length")


@case("P31")
def block_without_start_response(t: Trial) -> None:
    """An application that gives a block and has not called start_response has failed."""
    t.shows_failure("pep3333_errors.never_started", block=1)
    t.shows_failure("pep3333_errors.never_started_later")
    still_serves(t)


@case("P31")
def end_without_start_response(t: Trial) -> None:
    """An application that ends without a block and without start_response has failed."""
    t.shows_failure("pep3333_errors.never_started")
    still_serves(t)


@case("P41", needs=["log"])
def exceptions_are_logged(t: Trial) -> None:
    """The log has the exception of a call, of a first iteration, and of a later one."""
    for app in ("in_the_call", "in_the_first_iteration", "in_the_body"):
        key = f"{t.key}-{app}"
        t.fails(f"pep3333_errors.{app}", key)
        t.wait_log(f"{key} failed on purpose")
