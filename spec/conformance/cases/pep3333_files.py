"""PEP 3333: wsgi.file_wrapper, which a server need not have."""

from __future__ import annotations

from typing import Any

from ..check import NotSupported, holds, same
from ..registry import case
from ..trial import Trial

CONTENT = bytes(i % 251 for i in range(300_000))


def sent(t: Trial, wanted: bytes, **query: Any) -> None:
    """A file comes as it is, from where it stands, and is closed."""
    answer = t.get("pep3333_files.file", **query)
    same((answer.status, answer.complete, len(answer.body)), (200, True, len(wanted)), f"status and length of {query}")
    holds(answer.body == wanted, f"the content of {query} is right")


def wrapper_of(t: Trial) -> None:
    if t.get("pep3333_files.there").text != "yes":
        raise NotSupported("the server has no wsgi.file_wrapper")


@case("P29")
def file_is_sent(t: Trial) -> None:
    """A file on disk is sent to its end, with a size of blocks and without; one without a byte as well."""
    wrapper_of(t)
    sent(t, CONTENT, kind="real")
    sent(t, CONTENT, kind="real", block=1000)
    sent(t, b"", kind="empty")


@case("P29")
def file_from_where_it_stands(t: Trial) -> None:
    """A file of which the application has read a part is sent from there on."""
    wrapper_of(t)
    sent(t, CONTENT[1234:], kind="real", at=1234)
    sent(t, CONTENT[1234:], kind="memory", at=1234)


@case("P29")
def file_up_to_the_length(t: Trial) -> None:
    """No more of a file is sent than Content-Length says."""
    wrapper_of(t)
    sent(t, CONTENT[:100], kind="real", length=100)
    sent(t, CONTENT[:100], kind="memory", length=100)


@case("P29")
def file_that_is_none(t: Trial) -> None:
    """An object that can only be read is sent like a file."""
    wrapper_of(t)
    sent(t, CONTENT, kind="memory")
    sent(t, CONTENT, kind="read")


@case("P29")
def file_is_closed(t: Trial) -> None:
    """close() of the file is called when it has been sent."""
    wrapper_of(t)
    for number, kind in enumerate(("real", "memory", "empty"), 1):
        t.get("pep3333_files.file", kind=kind)
        t.wait_for(*["closed"] * number)


@case("P29")
def file_that_is_not_returned(t: Trial) -> None:
    """A wrapper that is made, and not returned, sends nothing."""
    wrapper_of(t)
    same(t.get("pep3333_files.not_returned").text, "something else", "the body")


@case("P29")
def file_wrapper_iterated(t: Trial) -> None:
    """What wsgi.file_wrapper gives is an iterable for middleware, too."""
    wrapper_of(t)
    same(t.get("pep3333_files.iterated").text, "IN THE MIDDLE", "the body")
