"""S16: how the application can find out."""

from __future__ import annotations

from ..check import same
from ..client import request
from ..registry import case
from ..trial import Trial

VERSION = ["tuple", [["int", 1], ["int", 0]]]


@case("S16.1")
def version_in_environ(t: Trial) -> None:
    """environ['wsgi_plus.version'] is the tuple (1, 0), in every request."""
    target = t.target("s16.version")
    requests = [
        request("GET", target),
        request("POST", target, body=b"body"),
        request("GET", target, version="HTTP/1.0"),
        request("HEAD", target),
    ]
    for number, data in enumerate(requests):
        with t.connect() as c:
            c.send(data)
            same(c.start().status, 200, "the status")
            t.wait_for(*["version"] * (number + 1))
    with t.connect() as c:
        for _ in range(2):  # and again on one connection
            c.get(target)
            answer = c.response()
            if answer.last:
                break
    for found in t.details("version"):
        same(found, VERSION, "the type of the version, and of its parts with their values")


@case("S16.2", needs=("plain",))
def version_says_what_the_server_does(t: Trial) -> None:
    """The version is in environ if the server suspends, and only then; a client or an application cannot set it."""
    suspends = t.get("probe.suspends").text == "suspends"
    with t.connect() as c:
        c.get(t.target("s16.version"), headers=(("wsgi_plus.version", "2"), ("Wsgi-Plus.Version", "2")))
        c.response()
    same(t.details("version"), [VERSION if suspends else ["NoneType", None]], "the version")


@case("S16.3")
def only_key_of_its_kind(t: Trial) -> None:
    """No other key of environ has to do with suspending."""
    t.get("s16.other_keys")
    same(t.details("keys"), [[]], "other keys")


@case("S16.4")
def version_not_needed(t: Trial) -> None:
    """An application that does not look at the key, or has even taken it away, suspends as well."""
    c = t.park("s16.does_not_look")
    t.complete()
    same(c.response().status, 200, "the status")
    same(t.details("waited"), [True], "whether it was resumed when its future was done")
    t.get("s16.version")
    same(t.details("version"), [VERSION], "the version in the next request")
