"""S19: responses without a body."""

from __future__ import annotations

from ..check import holds, same
from ..client import Connection, request
from ..registry import case
from ..trial import Trial
from .pep3333_environ import answered_as_asked

STEPS = ["after a block", "parking", "after a future", "end", "close"]


def nothing_follows(t: Trial, c: Connection, last: bool) -> None:
    """No byte of a body: what comes next on the connection is the next response, or its end."""
    if last:
        same(c.rest(), b"", "what follows the headers")
    else:
        c.get(t.target("acts.generator", f"{t.key}-next", do="start block"))
        same(c.response().text, "block ", "the body of the next response on the connection")


def without_body(t: Trial, key: str, method: str, status: str, **query: object) -> None:
    c = t.connect()
    c.get(t.target("s19.effects", key, status=status, **query), method=method)
    t.wait_for("parking", key=key)
    holds("after a future" not in t.events(key), "it waits for the future")
    t.complete(key)
    answer = c.response()
    same((answer.status, answer.header("X-Effects")), (int(status[:3]), "yes"), "the status, and a header")
    t.wait_for("close", key=key)
    same(t.events(key), STEPS, f"the steps, for {method} and {status}")
    same(t.details("after a future", key), [True], "whether the future was waited for")
    nothing_follows(t, c, answer.last)


@case("S19.1")
def head_is_iterated_to_the_end(t: Trial) -> None:
    """For HEAD the application is iterated to its end, futures are waited for, and the blocks are dropped."""
    without_body(t, t.key, "HEAD", "200 OK")
    without_body(t, f"{t.key}-write", "HEAD", "200 OK", write=1)
    without_body(t, f"{t.key}-much", "HEAD", "200 OK", more=512)


@case("S19.1")
def no_content_is_iterated_to_the_end(t: Trial) -> None:
    """The same for GET with 204 No Content."""
    without_body(t, t.key, "GET", "204 No Content")
    without_body(t, f"{t.key}-write", "GET", "204 No Content", write=1)


@case("S19.1")
def not_modified_is_iterated_to_the_end(t: Trial) -> None:
    """The same for GET with 304 Not Modified."""
    without_body(t, t.key, "GET", "304 Not Modified")
    without_body(t, f"{t.key}-much", "GET", "304 Not Modified", more=512)


@case("S19.1")
def head_in_http_1_0(t: Trial) -> None:
    """The same for HEAD in HTTP/1.0."""
    c = t.connect()
    c.send(request("HEAD", t.target("s19.effects"), version="HTTP/1.0"))
    t.wait_for("parking")
    t.complete()
    head = c.head()
    same(head and head.status, 200, "the status")
    same(c.rest(), b"", "what follows the headers")
    t.wait_for("close")
    same(t.events(), STEPS, "the steps")


@case("S19.1")
def method_and_protocol_are_kept_across_waits(t: Trial) -> None:
    """What the application has made of environ before it waited does not change how its response is sent."""
    answered_as_asked(t, park=True)
