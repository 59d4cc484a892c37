"""PEP 3333: the iterable, its blocks, its close(), and write."""

from __future__ import annotations

from typing import Any

from ..check import LONG, PROMPT, holds, same
from ..client import request
from ..registry import case
from ..trial import Trial

BINARY = bytes(range(256)) + b"\r\n\n\r\0\x1a\xef\xbb\xbf"


def sent_in_steps(t: Trial, app: str, *, version: str = "HTTP/1.1", **query: Any) -> None:
    """The first block must be here while the application does not come to the second."""
    t.defer(t.control, "open_gate", t.key)
    c = t.connect(timeout=PROMPT)
    c.send(request("GET", t.target(app, **query), version=version))
    answer = c.start()
    same(c.part(answer, 6), b"first ", "what is here of the body, before the second block")
    t.control("open_gate", t.key)
    same(c.finish(answer).body, b"first second", "the body")


def body_of(t: Trial, app: str, wanted: bytes, **query: Any) -> None:
    answer = t.get(app, **query)
    same(answer.status, 200, f"the status {query or ''}".rstrip())
    same((answer.body, answer.complete), (wanted, True), f"the body {query or ''}".rstrip())


@case("P19")
def iterables_of_python(t: Trial) -> None:
    """Lists, tuples, generators, maps and dicts are iterables."""
    for kind in ("list", "tuple", "one", "generator", "map", "dict"):
        body_of(t, "pep3333_body.kind", b"one two", kind=kind)


@case("P19")
def iterables_of_its_own(t: Trial) -> None:
    """Objects with __iter__, __next__ or only __getitem__, with a length or without, are iterables."""
    for kind in ("iterable", "iterator", "getitem", "length"):
        body_of(t, "pep3333_body.kind", b"one two", kind=kind)


@case("P19", "P21")
def application_that_is_a_class(t: Trial) -> None:
    """The application may be a class, and the iterable its instance."""
    body_of(t, "pep3333_body.AsClass", b"one two")


@case("P20")
def empty_blocks(t: Trial) -> None:
    """Empty blocks at the beginning, in the middle and at the end change nothing."""
    body_of(t, "pep3333_body.empty_blocks", b"one two")


@case("P21")
def start_response_in_the_first_iteration(t: Trial) -> None:
    """A generator calls start_response when it is iterated, and no earlier."""
    answer = t.get("pep3333_body.first_iteration")
    same((answer.status, answer.text), (201, "late"), "the response")


@case("P45")
def blocks_are_binary(t: Trial) -> None:
    """Every byte and every line ending comes as it was given, whatever the Content-Type."""
    body_of(t, "pep3333_body.binary", BINARY + b"\r\n" + BINARY)


@case("P26")
def block_of_another_type(t: Trial) -> None:
    """A block that is text, a number, None or a list is an error that the client can tell."""
    wrong = [what for what in ("str", "int", "none", "list") if not t.fails("pep3333_body.no_bytes", what=what)]
    same(wrong, [], "what is taken")


@case("P16")
def block_is_not_held_back(t: Trial) -> None:
    """A block is here before the application is asked for the next one."""
    sent_in_steps(t, "pep3333_body.step_by_step")


@case("P16")
def block_with_a_length_is_not_held_back(t: Trial) -> None:
    """A block is here before the next is asked for, also where the application says how long the body is."""
    sent_in_steps(t, "pep3333_body.step_by_step", length=12)


@case("P16")
def block_for_an_old_client_is_not_held_back(t: Trial) -> None:
    """A block is here before the next is asked for, also for a client of HTTP/1.0."""
    sent_in_steps(t, "pep3333_body.step_by_step", version="HTTP/1.0")


@case("P18")
def what_is_written_is_not_held_back(t: Trial) -> None:
    """What was given to write is here before the application goes on."""
    sent_in_steps(t, "pep3333_body.written_step_by_step")


@case("P18")
def written_before_yielded(t: Trial) -> None:
    """What is written comes first, then the iterable's one block, which is not the whole body."""
    answer = t.get("pep3333_body.written")
    same((answer.body, answer.complete), (b"one two three", True), "the body")
    same(answer.header("X-Own"), "yes", "a header")


@case("P18")
def written_only(t: Trial) -> None:
    """A response may be written, with an iterable that is empty."""
    body_of(t, "pep3333_body.written_only", b"written")


@case("P17")
def close_at_the_end(t: Trial) -> None:
    """close() of the iterable is called when its iterator has ended, with blocks or without."""
    body_of(t, "pep3333_body.closing", b"blockblock", kind="whole")
    t.wait_for("closed")
    same(t.events(), ["ended", "closed"], "what happened")
    body_of(t, "pep3333_body.closing", b"", kind="empty")
    t.wait_for("closed", "closed")
    same(t.events(), ["ended", "closed"] * 2, "what happened")


@case("P17")
def close_after_an_error(t: Trial) -> None:
    """close() is called when the iteration has failed, before the first block or later, and when a block is none."""
    for number, kind in enumerate(("fails", "fails-late", "no-bytes"), 1):
        t.fails("pep3333_body.closing", kind=kind)
        t.wait_for(*["closed"] * number)


@case("P17")
def close_without_start_response(t: Trial) -> None:
    """close() is called also where the application has not called start_response."""
    c = t.begin("pep3333_body.closing", kind="unstarted")
    t.wait_for("closed")
    c.close()


@case("P17")
def close_when_the_client_leaves(t: Trial) -> None:
    """close() is called when the client has left in the middle of the response."""
    c = t.begin("pep3333_body.closing", kind="long")
    c.part(c.start(), 1)
    c.reset()
    t.wait_for("closed", within=LONG)


@case("P38")
def attributes_of_the_iterable(t: Trial) -> None:
    """The only attribute that the server asks the iterable for is close."""
    body_of(t, "pep3333_body.watched", b"one two")
    t.wait_for("asked")
    same({name for name in t.details("asked")}, {"close"}, "the attributes asked for")


@case("P22")
def no_more_than_the_length(t: Trial) -> None:
    """Blocks beyond Content-Length, or one that is too long, do not get to the client."""
    for blocks in ("55", "9", "37"):
        c = t.connect()
        c.get(t.target("pep3333_body.sized", blocks=blocks), close=True)
        answer = c.response()
        if answer.status < 500:
            same(answer.body, b"12345", "the body")
        same(c.rest(), b"", "what comes behind it")


@case("P22")
def no_more_written_than_the_length(t: Trial) -> None:
    """What write is given beyond Content-Length does not get to the client."""
    c = t.connect()
    c.get(t.target("pep3333_body.written_past"), close=True)
    answer = c.response()
    if answer.status < 500:
        same(answer.body, b"12345", "the body")
    same(c.rest(), b"", "what comes behind it")


@case("P22")
def next_response_is_in_its_place(t: Trial) -> None:
    """After a body that would have been too long the next response on the connection is read where it begins."""
    c = t.begin("pep3333_body.sized", blocks="55")
    c.response()
    c.get(t.target("pep3333_http.named", name="next"))
    following = c.response_if_any()  # the server may have closed
    holds(following is None or following.text == "next", f"what comes next is right: {following}")


@case("P39")
def less_than_the_length(t: Trial) -> None:
    """A client that waits for the rest of Content-Length sees the connection end."""
    for blocks in ("3", "11"):
        c = t.connect(timeout=PROMPT)
        c.get(t.target("pep3333_body.sized", blocks=blocks))
        answer = c.response_if_any()
        holds(answer is None or answer.status >= 500 or not answer.complete, "the client can tell that it is not all")


@case("P40")
def no_iteration_past_the_length(t: Trial) -> None:
    """When all that Content-Length says was given the server does not go on asking."""
    t.get("pep3333_body.asked_on")
    t.wait_for("closed")
    more = t.events().count("asked")
    holds(more <= 1, f"it is asked once more at most, and not {more} times")


@case("P40")
def no_write_past_the_length(t: Trial) -> None:
    """write raises where it is given more than Content-Length says."""
    t.fails("pep3333_body.written_past")
    t.wait_for("over")  # the response is complete before
    same(t.events()[:1], ["raised"], "what write did")
