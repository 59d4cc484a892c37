"""S14: request bodies."""

from __future__ import annotations

import hashlib
import io
from itertools import product

from ..check import PROMPT, NotSupported, holds, same
from ..client import request
from ..registry import case
from ..trial import Trial

SMALL = b"a line\nanother line\nand the last one"
LARGE = bytes(range(256)) * 8192  # 2 MiB
CHUNKED = (("Transfer-Encoding", "chunked"),)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def digest(data: bytes) -> str:
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


def post(t: Trial, app: str, key: str, size: int | None, **query: object) -> bytes:
    """The head of a request with a body of so many bytes, or with a chunked one."""
    headers = CHUNKED if size is None else (("Content-Length", str(size)),)
    return request("POST", t.target(app, key, part=10, **query), headers=headers)


@case("S14.1")
def called_when_the_body_is_there(t: Trial) -> None:
    """The application is called when the last byte of a small, large or chunked body has come, and not before."""
    for name, body, size in (("small", SMALL, len(SMALL)), ("large", LARGE, len(LARGE)), ("chunked", SMALL, None)):
        key = f"{t.key}-{name}"
        c = t.connect()
        half = len(body) // 2
        first, last = (body[:half], body[half:]) if size else (chunk(body[:half]), chunk(body[half:]) + b"0\r\n\r\n")
        c.send(post(t, "s14.reads", key, size) + first)
        for _ in range(3):  # enough time to be called
            t.get("s14.reads", f"{key}-another")
        c.send(last[:-1])
        t.get("s14.reads", f"{key}-another")
        t.control("record", key, "all but a byte was sent")
        c.send(last[-1:])
        same(c.response().text, digest(body), f"the {name} body")
        same(t.details("called", key), [["all but a byte was sent"]], f"what came before the call, with a {name} body")


@case("S14.1")
def input_never_waits(t: Trial) -> None:
    """Reading wsgi.input in every way, and on beyond its end, does not wait for a client that stays connected."""
    for name, head, body in (
        ("no body", request("GET", t.target("s14.reads_beyond")), b""),
        ("an empty body", post(t, "s14.reads_beyond", t.key, 0), b""),
        ("a body", post(t, "s14.reads_beyond", t.key, len(SMALL)), SMALL),
        ("a chunked body", post(t, "s14.reads_beyond", t.key, None), SMALL),
    ):
        c = t.connect(timeout=PROMPT)
        c.send(head + (chunk(body) + b"0\r\n\r\n" if "chunked" in name else body))
        plain = io.BytesIO(body)
        wanted = [plain.read(4), plain.readline(), plain.read(10), plain.readlines(), [], b"", b"", b"", b"", [], []]
        same(c.response().text, repr(wanted), f"what is read of {name}")


@case("S14.1")
def continue_before_the_body(t: Trial) -> None:
    """A client that expects it is told to continue before the application is called, as this would have to wait."""
    c = t.connect(timeout=PROMPT)
    headers = (("Content-Length", str(len(SMALL))), ("Expect", "100-continue"))
    c.send(request("POST", t.target("s14.reads"), headers=headers))
    holds(not c.silent(PROMPT), "the client is told to continue before it has sent the body")
    t.control("record", t.key, "all was sent")
    c.send(SMALL)
    same(c.response().text, digest(SMALL), "the body")
    same(c.interim, [100], "the responses before the last one")
    same(t.details("called"), [["all was sent"]], "what came before the call")


@case("S14.1", "S2.4")
def continue_in_its_turn(t: Trial) -> None:
    """A client that expects it behind a request in progress is told to continue after the response to that, not in it."""
    for do, apart in product(("start block park block", "park start block block"), (False, True)):
        first, key = f"{t.key} {do} {apart} first", f"{t.key} {do} {apart}"
        headers = (("Content-Length", str(len(SMALL))), ("Expect", "100-continue"))
        behind = request("POST", t.target("s14.reads", key), headers=headers)
        c = t.connect()
        c.send(request("GET", t.target("acts.generator", first, do=do)) + (b"" if apart else behind))
        t.wait_for("parking", key=first)
        if apart:
            c.send(behind)
            t.get("s14.reads", f"{key} another")  # enough time to read it
        t.complete(first)
        answer = c.response()
        same((answer.body, c.interim), (b"block block ", []), "the first body, and what came before its end")
        if answer.last:
            continue  # it serves one request a connection
        c.send(SMALL)
        same(c.response().text, digest(SMALL), "the body of the second response")
        holds(set(c.interim) <= {100}, f"the responses before the last one are 100, and not {c.interim}")


@case("S14.2")
def some_limit_on_bodies(t: Trial) -> None:
    """A body of a hundred petabytes is refused without waiting for it."""
    c = t.connect(timeout=PROMPT)
    c.send(post(t, "s14.reads", t.key, 10**17))
    answer = c.response_if_any()
    holds(answer is None or answer.status >= 400, f"it is refused, and not answered with {answer}")
    same(t.events(), [], "what the application did")


@case("S14.2", body_limit=100_000)
def limit_on_bodies_can_be_set(t: Trial) -> None:
    """A body beyond the limit, announced or chunked, is answered 413 or not at all; one of just that size is taken."""
    body = b"x" * 100_000
    c = t.connect()
    c.send(post(t, "s14.reads", t.key, len(body)) + body)
    same(c.response().text, digest(body), "the body of the response to one of that size")
    for name, size in (("announced", len(body) + 1), ("chunked", None)):
        key = f"{t.key}-{name}"
        c = t.connect()
        c.send(post(t, "s14.reads", key, size))
        if size is None:
            try:
                for _ in range(20):
                    c.send(chunk(b"x" * 10_000))
            except OSError:  # it has had enough
                pass
        answer = c.response_if_any()
        holds(answer is None or answer.status == 413, f"an {name} body beyond the limit is not answered with {answer}")
        same(t.events(key), [], "what the application did")


@case("S14.2", should=["S14.2"])
def large_bodies_out_of_memory(t: Trial) -> None:
    """A body of 32 MiB, kept while the request is parked, does not take as much memory."""
    before = t.control("s14.resident")
    if not before:
        raise NotSupported("the memory of the server's process cannot be seen")
    count = 32
    c = t.connect()
    c.send(post(t, "s14.waits", t.key, count << 20))
    for _ in range(count):
        c.send(bytes(1 << 20))
    t.wait_for("parking")
    grown = t.control("s14.resident") - before
    t.complete()
    same(c.response().text, str(count << 20), "how much the application has read")
    holds(grown < count << 19, f"the memory of the process grows by {grown >> 20} MiB")


@case("S14.3")
def input_in_all_steps(t: Trial) -> None:
    """wsgi.input can be read on in the call, before and after a wait, and where a failure is handled."""
    for name, body, size in (
        ("small", SMALL * 3, len(SMALL) * 3),
        ("large", LARGE, len(LARGE)),
        ("chunked", LARGE, None),
    ):
        key = f"{t.key}-{name}"
        c = t.connect()
        c.send(post(t, "s14.reads_in_steps", key, size) + (chunk(body) + b"0\r\n\r\n" if size is None else body))
        t.wait_for("parking", key=key)
        t.complete(key)
        same(c.response().text, digest(body), f"what is read of a {name} body")


@case("S14.4")
def body_that_ends_early(t: Trial) -> None:
    """For a body that ends before its end, in whatever way, the application is not called."""
    halves = {
        "small": (100, SMALL),
        "large": (2 * len(LARGE), LARGE),
        "chunked": (None, chunk(SMALL)),
        "chunk": (None, b"64\r\n1"),
    }
    for name, (size, half) in halves.items():
        c = t.connect()
        c.send(post(t, "s14.reads", f"{t.key}-{name}-reset", size) + half)
        c.reset()
    for name, (size, half) in halves.items():
        c = t.connect()
        c.send(post(t, "s14.reads", f"{t.key}-{name}", size) + half)
        c.end()
        c.ended(PROMPT)
    for _ in range(3):  # enough time to be called
        t.get("s14.reads", f"{t.key}-another")
    for name in halves:
        same(
            t.events(f"{t.key}-{name}") + t.events(f"{t.key}-{name}-reset"),
            [],
            f"what the application did with a {name} body",
        )
