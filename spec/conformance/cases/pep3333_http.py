"""PEP 3333: what of HTTP an application relies on."""

from __future__ import annotations

from typing import Any

from ..check import QUIET, NotSupported, holds, same
from ..client import Connection, request
from ..registry import case
from ..trial import Trial


def ask(t: Trial, app: str, *, method: str = "GET", version: str = "HTTP/1.1", **query: Any) -> Connection:
    """A connection on which the application has been asked, and which the server is to close after the response."""
    c = t.connect()
    c.get(t.target(app, **query), method=method, version=version, close=True)
    return c


def needs_http_1_1(t: Trial) -> None:
    if t.get("pep3333_http.nothing").version == "HTTP/1.0":
        raise NotSupported("the server speaks HTTP/1.0")


def next_is_in_its_place(t: Trial, c: Connection) -> None:
    """The next response on the connection begins where the last one has ended; or the server has closed."""
    c.get(t.target("pep3333_http.named", name="next"))
    following = c.response_if_any()
    holds(
        following is None or (following.status, following.text) == (200, "next"),
        f"what comes next is right: {following}",
    )


@case("P23")
def end_without_a_length(t: Trial) -> None:
    """A body without a Content-Length has an end, and the connection is in order behind it."""
    c = t.begin("pep3333_http.two_blocks")
    answer = c.response()
    same((answer.body, answer.complete), (b"one two", True), "the body")
    both = answer.header("Content-Length") is not None and answer.header("Transfer-Encoding") is not None
    holds(not both, "there is no Content-Length beside a Transfer-Encoding")
    next_is_in_its_place(t, c)


@case("P23")
def end_of_an_empty_body(t: Trial) -> None:
    """A response without a block is complete, and empty."""
    c = t.begin("pep3333_http.nothing")
    answer = c.response()
    same((answer.status, answer.body, answer.complete), (200, b"", True), "the response")
    next_is_in_its_place(t, c)


@case("P23")
def end_for_an_old_client(t: Trial) -> None:
    """A client of HTTP/1.0 gets no Transfer-Encoding, and can tell the end."""
    answer = ask(t, "pep3333_http.two_blocks", version="HTTP/1.0").response()
    same((answer.body, answer.complete), (b"one two", True), "the body")
    same(answer.header("Transfer-Encoding"), None, "Transfer-Encoding")


@case("P27")
def head_has_no_body(t: Trial) -> None:
    """Whatever blocks there are, nothing follows the headers of the answer to HEAD."""
    for app in ("two_blocks", "sized", "nothing"):
        c = ask(t, f"pep3333_http.{app}", method="HEAD")
        same(c.response().status, 200, "the status")
        same(c.rest(), b"", "what follows the headers")


@case("P27")
def head_is_closed(t: Trial) -> None:
    """close() of the iterable is called after HEAD, too."""
    ask(t, "pep3333_http.closing", method="HEAD").response()
    t.wait_for("closed")


@case("P27")
def head_says_the_length(t: Trial) -> None:
    """The Content-Length in the answer to HEAD is the one of GET, or is left out; with blocks or without."""
    for blocks in ("all", "none"):
        c = t.connect()
        c.get(t.target("pep3333_http.sized", blocks=blocks), method="HEAD")
        answer = c.response()
        same((answer.status, answer.header("Content-Length") or "10"), (200, "10"), "status and length")
        next_is_in_its_place(t, c)


@case("P42")
def statuses_without_a_body(t: Trial) -> None:
    """After the headers of 204 and 304 nothing follows, though the application gives blocks."""
    for status in ("204 No Content", "304 Not Modified"):
        c = ask(t, "pep3333_http.closing", status=status)
        same(c.response().status, int(status[:3]), "the status")
        same(c.rest(), b"", f"what follows the headers of {status}")


@case("P42")
def framing_of_204(t: Trial) -> None:
    """204 has neither Content-Length nor Transfer-Encoding, and the next response is in its place."""
    c = t.begin("pep3333_http.no_content")
    answer = c.response()
    same((answer.header("Content-Length"), answer.header("Transfer-Encoding")), (None, None), "the framing")
    next_is_in_its_place(t, c)


@case("P28")
def expect_continue(t: Trial) -> None:
    """A client that waits for 100 Continue before it sends the body is served, if need be when it stops waiting."""
    needs_http_1_1(t)
    c = t.connect()
    headers = (("Expect", "100-continue"), ("Content-Length", "5"))
    c.send(request("POST", t.target("pep3333_http.echo_sized"), headers=headers))
    c.silent(1.0)  # the interim response, or none: the PEP's third way
    c.send(b"hello")
    answer = c.response()
    same((answer.status, answer.text), (200, "hello"), "the response")


@case("P28")
def expect_of_an_old_client(t: Trial) -> None:
    """A client of HTTP/1.0 does not get a 100, which it could not understand."""
    c = t.connect()
    target = t.target("pep3333_http.echo_sized")
    c.send(request("POST", target, headers=(("Expect", "100-continue"),), body=b"hello", version="HTTP/1.0"))
    same(c.response().text, "hello", "the body")
    same(c.interim, [], "the interim responses")


@case("P30")
def chunked_request(t: Trial) -> None:
    """What the application reads of a chunked body is the body, without the sizes of chunks, and to its end."""
    needs_http_1_1(t)
    c = t.connect()
    head = request("POST", t.target("pep3333_http.echo"), headers=(("Transfer-Encoding", "chunked"),))
    c.send(head + b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n")
    answer = c.response()
    if answer.status == 411:
        raise NotSupported("the server wants a Content-Length (411), which HTTP allows")
    same((answer.status, answer.text), (200, "hello world"), "the response")
    next_is_in_its_place(t, c)


@case("P32")
def requests_in_a_row(t: Trial) -> None:
    """Of two requests sent at once the first is answered first, though the second could be answered before it."""
    t.defer(t.control, "open_gate", t.key)
    c = t.connect()
    first = request("GET", t.target("pep3333_http.named", name="first", gate=1))
    c.send(first + request("GET", t.target("pep3333_http.named", name="second")))
    t.wait_for("first")
    holds(c.silent(QUIET), "nothing comes before the first response")
    t.control("open_gate", t.key)
    same(c.response().text, "first", "the first response")
    second = c.response_if_any()  # the server may have closed
    holds(second is None or second.text == "second", f"the second response is the second one: {second}")


@case("P46")
def body_that_nobody_reads(t: Trial) -> None:
    """A body that looks like a request is not served as one, in whatever coding it comes."""
    hidden = request("GET", t.target("pep3333_http.named", name="hidden"))
    headers = ("Transfer-Encoding", "chunked")
    whole = request("POST", t.target("pep3333_http.named", name="outer"), body=hidden)
    chunked = request("POST", t.target("pep3333_http.named", name="outer"), headers=(headers,))
    chunked += b"%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)
    for sent in (whole, chunked):
        c = t.connect()
        c.send(sent)
        c.response()
        next_is_in_its_place(t, c)
    holds("hidden" not in t.events(), "the request in the body is not served")
