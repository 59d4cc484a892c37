"""PEP 3333: start_response, and what it is given."""

from __future__ import annotations

from collections.abc import Sequence

from ..check import Failed, NotSupported, same
from ..registry import case
from ..trial import Trial


def not_refused(t: Trial, *whats: str, early: bool = False) -> list[str]:
    """Those for which the application has not come to grief; with ``early``, not in start_response itself."""
    taken = []
    for what in whats:
        try:
            failed = t.fails("pep3333_start_response.given", what=what)
        except Failed:  # what came was no response
            failed = False
        raised = what in t.details("raised")
        if not (raised if early else raised or failed):
            taken.append(what)
    return taken


def forged(t: Trial, whats: Sequence[str]) -> list[str]:
    """Those with which something of the application's got between the lines of the response."""
    found = []
    for what in whats:
        c = t.begin("pep3333_start_response.given", what=what)
        head = c.head()
        if head is not None:
            said = [head.reason, *(text for header in head.headers for text in header)]
            if head.header("X-Forged") is not None or any(char in text for char in "\r\n\0" for text in said):
                found.append(what)
    return found


@case("P8")
def start_response_arguments(t: Trial) -> None:
    """The third argument may be given by its place, and a callable comes back."""
    answer = t.get("pep3333_start_response.arguments")
    same((answer.status, answer.text), (200, "callable"), "the response")


@case("P9")
def headers_replaced(t: Trial) -> None:
    """Status and headers are those of the last call with exc_info, and nothing is left of the first."""
    answer = t.get("pep3333_start_response.replaced")
    same((answer.status, answer.text), (503, "changed"), "the response")
    same((answer.header("X-First"), answer.header("X-Second")), (None, "2"), "the headers")


@case("P9")
def length_replaced(t: Trial) -> None:
    """With exc_info Content-Length is replaced as well, and does not cut the new body short."""
    answer = t.get("pep3333_start_response.length_replaced")
    same((answer.status, answer.text, answer.complete), (503, "changed", True), "the response")


@case("P9")
def headers_wait_for_a_block(t: Trial) -> None:
    """Empty blocks do not send the headers: they can still be replaced."""
    answer = t.get("pep3333_start_response.replaced_after_nothing")
    same((answer.status, answer.text), (503, "changed"), "the response")
    same((answer.header("X-First"), answer.header("X-Second")), (None, "2"), "the headers")


@case("P8")
def exc_info_in_the_first_call(t: Trial) -> None:
    """The first call of start_response may have exc_info."""
    answer = t.get("pep3333_start_response.first_with_exc_info")
    same((answer.status, answer.text), (503, "at once"), "the response")


@case("P10")
def too_late_to_replace(t: Trial) -> None:
    """When a block has been taken start_response with exc_info raises, and the status is the first one."""
    same(t.begin("pep3333_start_response.too_late").start().status, 200, "the status")
    t.wait_for("raised")


@case("P35")
def too_late_raises_exc_info(t: Trial) -> None:
    """What start_response raises because it is too late is the exception of exc_info."""
    t.begin("pep3333_start_response.too_late").start()
    t.wait_for("raised")
    same(t.details("raised"), [True], "whether it is the application's own exception")


@case("P11")
def second_call(t: Trial) -> None:
    """An application that calls start_response twice without exc_info has failed."""
    t.shows_failure("pep3333_start_response.twice")


@case("P11")
def second_call_later(t: Trial) -> None:
    """An application that calls it a second time in the iteration, with None as exc_info, has failed."""
    t.shows_failure("pep3333_start_response.twice_with_none")


@case("P47")
def second_call_after_an_error(t: Trial) -> None:
    """An application whose first call of start_response has raised cannot call it again without exc_info."""
    t.shows_failure("pep3333_start_response.twice_after_an_error")


@case("P12")
def hop_by_hop(t: Trial) -> None:
    """Header fields that concern the connection are refused."""
    names = ("Connection", "Keep-Alive", "TE", "Transfer-Encoding", "Upgrade")
    same(not_refused(t, *names), [], "what is not refused")


@case("P13")
def control_characters_in_headers(t: Trial) -> None:
    """CR, LF and NUL in the name or value of a header do not get to the client."""
    whats = (
        "crlf-in-value",
        "lf-in-value",
        "cr-in-value",
        "nul-in-value",
        "lf-at-the-end",
        "crlf-in-name",
        "lf-in-name",
    )
    same(forged(t, whats), [], "what gets through")


@case("P13")
def control_characters_in_the_status(t: Trial) -> None:
    """CR and LF in the status do not get to the client."""
    same(forged(t, ("crlf-in-status", "lf-in-status", "cr-in-status")), [], "what gets through")


@case("P36")
def headers_looked_at_early(t: Trial) -> None:
    """A header that is none is found in start_response, while the application runs."""
    kinds = ("name-bytes", "name-with-space", "name-with-colon", "value-bytes", "value-number", "value-none")
    same(not_refused(t, *kinds, "headers-none", "crlf-in-value", early=True), [], "what is not found there")


@case("P36")
def status_looked_at_early(t: Trial) -> None:
    """A status that is none is found in start_response, while the application runs."""
    kinds = ("status-bytes", "status-number", "status-without-number", "crlf-in-status")
    same(not_refused(t, *kinds, early=True), [], "what is not found there")


@case("P37")
def header_in_latin_1(t: Trial) -> None:
    """A character of ISO-8859-1 is sent as its byte."""
    same(t.get("pep3333_start_response.given", what="latin-1").header("X-A"), "caf\xe9 \xff", "the header")


@case("P37")
def header_beyond_latin_1(t: Trial) -> None:
    """A character that ISO-8859-1 does not have is an error, in a header as in the status."""
    same(not_refused(t, "wide-value", "wide-name", "wide-status"), [], "what is not refused")


@case("P44")
def exc_info_is_not_kept(t: Trial) -> None:
    """When start_response has returned nothing holds the exception that it was given."""
    answer = t.get("pep3333_start_response.forgets")
    if answer.text not in ("forgotten", "kept"):
        raise NotSupported("start_response does not take exc_info")
    same(answer.text, "forgotten", "the exception")


@case("P14")
def date_is_added(t: Trial) -> None:
    """A response has a Date, whatever it says, and has it once."""
    answer = t.get("pep3333_start_response.arguments")
    same(len([name for name, _ in answer.headers if name.lower() == "date"]), 1, "how many Date headers there are")


@case("P14")
def date_is_not_doubled(t: Trial) -> None:
    """Where the application gives a Date there is one all the same, be it that one or the server's."""
    answer = t.get("pep3333_start_response.given", what="own-date")
    same(len([name for name, _ in answer.headers if name.lower() == "date"]), 1, "how many Date headers there are")


@case("P15")
def headers_as_they_are(t: Trial) -> None:
    """Headers come with their values, and those of one name in their order."""
    answer = t.get("pep3333_start_response.given", what="own-headers")
    cookies = [value for name, value in answer.headers if name.lower() == "set-cookie"]
    same(cookies, ["a=1; Path=/", "b=2, c", "a=3"], "the Set-Cookie headers")
    said = {name.lower(): value for name, value in answer.headers}
    wanted = {"content-type": "text/x-own", "x-between": '"quoted, with comma"', "x-empty": ""}
    same({name: said.get(name) for name in wanted}, wanted, "other headers")


@case("P15")
def status_as_it_is(t: Trial) -> None:
    """A status that HTTP does not define is sent all the same."""
    same(t.get("pep3333_start_response.given", what="own-status").status, 299, "the status")
