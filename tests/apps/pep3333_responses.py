"""Applications for the tests of start_response, write() and iterables."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import probe
from routes import TEXT, Routes, arguments, text

app = Routes()


# start_response, write() and iterables


def caught():
    try:
        raise ValueError("the reason for the change")
    except ValueError:
        return sys.exc_info()


@app.route
def exc_info_before(environ, start_response):
    """Changes its mind before a header has left."""
    start_response("200 OK", [("X-First", "1")])
    start_response("503 Changed", [("X-Second", "2")], caught())
    return [b"changed"]


@app.route
def exc_info_first(environ, start_response):
    """The first call may have exc_info."""
    start_response("500 Own error page", TEXT, caught())
    return [b"own error page"]


@app.route
def exc_info_none(environ, start_response):
    start_response("200 OK", TEXT, None)
    return [b"none"]


@app.route
def exc_info_after(environ, start_response):
    """Changes its mind too late: start_response raises what it is given."""
    start_response("200 OK", TEXT)
    yield b"first"
    try:
        start_response("500 Too late", TEXT, caught())
    except ValueError as error:
        probe.record(arguments(environ)["key"], "raised", str(error))
        raise


@app.route
def exc_info_after_empty(environ, start_response):
    """An empty block has not sent the headers."""
    start_response("200 OK", TEXT)
    yield b""
    start_response("503 Changed", TEXT, caught())
    yield b"changed"


def never_iterated():
    yield b"never"


MISUSES = {
    "twice": lambda sr: (sr("200 OK", []), sr("200 OK", [])),
    "status-bytes": lambda sr: sr(b"200 OK", []),
    "status-int": lambda sr: sr(200, []),
    "status-none": lambda sr: sr(None, []),
    "headers-tuple": lambda sr: sr("200 OK", (("A", "b"),)),
    "headers-none": lambda sr: sr("200 OK", None),
    "headers-dict": lambda sr: sr("200 OK", {"A": "b"}),
    "header-list": lambda sr: sr("200 OK", [["A", "b"]]),
    "header-one": lambda sr: sr("200 OK", [("A",)]),
    "header-three": lambda sr: sr("200 OK", [("A", "b", "c")]),
    "header-name-bytes": lambda sr: sr("200 OK", [(b"A", "b")]),
    "header-value-bytes": lambda sr: sr("200 OK", [("A", b"b")]),
    "header-value-int": lambda sr: sr("200 OK", [("A", 1)]),
    "header-value-none": lambda sr: sr("200 OK", [("A", None)]),
    "header-value-wide": lambda sr: sr("200 OK", [("A", "\u20ac")]),
    "header-name-wide": lambda sr: sr("200 OK", [("\u20ac", "b")]),
    "header-value-surrogate": lambda sr: sr("200 OK", [("A", "\udc80")]),
    "status-wide": lambda sr: sr("200 \u20ac", []),
    "no-arguments": lambda sr: sr(),
    "one-argument": lambda sr: sr("200 OK"),
    "four-arguments": lambda sr: sr("200 OK", [], None, None),
    "unknown-keyword": lambda sr: sr("200 OK", [], info=None),
    "exc-info-text": lambda sr: (sr("200 OK", []), sr("200 OK", [], "exc_info")),
}


@app.route
def misuse(environ, start_response):
    """Misuses start_response, and lets its exception pass."""
    MISUSES[arguments(environ)["how"]](start_response)
    return [b"never"]


@app.route
def misuse_caught(environ, start_response):
    """Catches what a wrong call raises, and answers, with exc_info unless it "forgets"."""
    asked = arguments(environ)
    try:
        MISUSES[asked["how"]](start_response)
    except Exception as error:
        probe.record(asked["key"], type(error).__name__, str(error))
        if "forgets" not in asked:
            start_response("200 OK", TEXT, sys.exc_info())
            return [b"recovered"]
    start_response("200 OK", TEXT)
    return [b"recovered"]


HEADS = {
    "exc-info-nothing": ("200 OK", TEXT, (None, None, None)),
    "exc-info-empty": ("200 OK", TEXT, ()),
    "no-reason": ("200", TEXT),
    "length-twice": ("200 OK", [*TEXT, ("Content-Length", "4"), ("content-length", "4")]),
    "length-thrice": ("200 OK", [*TEXT, *[("Content-Length", "4")] * 3]),
    "length-blanks": ("200 OK", [*TEXT, ("Content-Length", " \t4 ")]),
    "length-twice-and-blanks": ("200 OK", [*TEXT, ("Content-Length", "4"), ("Content-Length", " 4")]),
    "length-zeros": ("200 OK", [*TEXT, ("Content-Length", "4"), ("Content-Length", "04")]),
}


@app.route
def head_of(environ, start_response):
    """start_response with one of HEADS."""
    asked = arguments(environ)
    if "after" in asked:
        start_response("201 First", TEXT)
    start_response(*HEADS[asked["kind"]])
    return [b"body"]


@app.route
def headers_changed_later(environ, start_response):
    """Changes its list after start_response: the server may not be confused by it."""
    headers = [("X-A", "1"), *TEXT]
    start_response("200 OK", headers)
    headers.clear()
    headers.append(object())
    yield b"fine"


@app.route
def never_started(environ, start_response):
    return [b"body without a head"]


@app.route
def never_started_empty(environ, start_response):
    return []


@app.route
def late_start(environ, start_response):
    """A generator that calls start_response when first iterated, after an empty block."""
    yield b""
    start_response("201 Late", TEXT)
    yield b"late"


@app.route
def keyword_start(environ, start_response):
    start_response(status="200 OK", headers=TEXT) if "kw" in arguments(environ) else start_response("200 OK", TEXT)
    return [b"ok"]


@app.route
def write(environ, start_response):
    """The write callable, then blocks."""
    w = start_response("200 OK", TEXT)
    said = [w(b"written "), w(b""), w(b"twice ")]
    assert said == [None, None, None]
    return [b"and ", b"returned"]


@app.route
def write_then_list(environ, start_response):
    w = start_response("200 OK", TEXT)
    w(b"x" * int(arguments(environ)["n"]))
    return [b" and", b" a list"]


@app.route
def write_only(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "4")])(b"only")
    return []


@app.route
def write_too_much(environ, start_response):
    """Beyond the Content-Length, at once or by and by."""
    w = start_response("200 OK", [*TEXT, ("Content-Length", "6")])
    key = arguments(environ)["key"]
    for block in (b"abc", b"defgh", b"ijk"):
        try:
            w(block)
            probe.record(key, "taken")
        except ValueError as error:
            probe.record(key, str(error))
    return []


@app.route
def write_misuse(environ, start_response):
    w = start_response("200 OK", TEXT)
    try:
        w("text")
    except TypeError as error:
        w(type(error).__name__.encode())
    return []


@app.route
def write_elsewhere(environ, start_response):
    """write() in another thread than the request's."""
    w = start_response("200 OK", TEXT)
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(w, b"stray").exception()
    return [type(error).__name__.encode()]


@app.route
def start_elsewhere(environ, start_response):
    """start_response in another thread than the request's."""
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(start_response, "200 OK", TEXT).exception()
    return text(start_response, type(error).__name__)


@app.route
def write_at_once(environ, start_response):
    """What is written is on its way before the application goes on."""
    w = start_response("200 OK", TEXT)
    w(b"written")
    probe.wait_gate(arguments(environ)["key"])
    return [b" and on"]


@app.route
def write_endless(environ, start_response):
    """Writes until write() raises."""
    key = arguments(environ)["key"]
    w = start_response("200 OK", TEXT)
    try:
        while True:
            w(b"x" * 65536)
    except Exception as error:
        probe.record(key, "raised", type(error).__name__)
        raise
    finally:
        probe.record(key, "ended")


@app.route
def write_after_end(environ, start_response):
    """Keeps write beyond the end of its request; the next request calls it."""
    said = b"none"
    if writers:
        try:
            writers[-1](b"STRAY BYTES")
            said = b"written"
        except Exception as error:
            said = type(error).__name__.encode()
    writers.append(start_response("200 OK", [*TEXT, ("Content-Length", str(len(said)))]))
    return [said]


writers: list = []


@app.route
def start_after_end(environ, start_response):
    """Keeps start_response beyond the end of its request; the next request calls it."""
    said = b"none"
    if starters:
        try:
            starters[-1]("200 STRAY", [("X-Stray", "1")])
            said = b"accepted"
        except Exception as error:
            said = type(error).__name__.encode()
    starters.append(start_response)
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(said)))])
    return [said]


starters: list = []


class Iterable_:
    """An iterable with a close(), which is recorded."""

    def __init__(self, blocks, key, *, error=None, close_error=None):
        self.blocks, self.key, self.error, self.close_error = iter(blocks), key, error, close_error

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self.blocks)
        except StopIteration:
            if self.error:
                raise self.error from None
            raise

    def close(self):
        probe.record(self.key, "closed")
        if self.close_error:
            raise self.close_error


class Old:
    """Iterable by __getitem__ only."""

    def __getitem__(self, i):
        return [b"by ", b"index"][i]


class Separate:
    """An iterable that is not its own iterator: close belongs to the iterable."""

    def __init__(self, key):
        self.key = key

    def __iter__(self):
        return iter([b"not its own ", b"iterator"])

    def close(self):
        probe.record(self.key, "closed")


class Sized(list):
    pass


class Octets(bytes):
    pass


@app.route
def iterable(environ, start_response):
    asked = arguments(environ)
    kind, key = asked["kind"], asked.get("key", "-")
    start_response(asked.get("status", "200 OK"), [*TEXT, *([("Content-Length", asked["length"])] if "length" in asked else [])])
    return {
        "list": lambda: [b"a ", b"list"],
        "tuple": lambda: (b"a ", b"tuple"),
        "iterator": lambda: iter([b"an ", b"iterator"]),
        "generator": lambda: (b for b in (b"a ", b"generator")),
        "large-list": lambda: [b"x" * 100_000, b"", b"y" * 300_000, b"z"],
        "large-tuple": lambda: tuple(b"%d," % i * 50 for i in range(5000)),
        "empty-blocks": lambda: [b"", b"", b""],
        "octets-among-others": lambda: [b"not ", Octets(b"known")],
        "map": lambda: map(str.encode, ("a ", "map")),
        "set": lambda: {b"a set"},
        "dict": lambda: {b"a dict": 1},
        "bytes-list": lambda: [b""] * 5 + [b"after nothing"],
        "old": Old,
        "separate": lambda: Separate(key),
        "subclass": lambda: Sized([b"a ", b"subclass"]),
        "octets": lambda: [Octets(b"a subclass "), Octets(b"of bytes")],
        "closing": lambda: Iterable_([b"closing"], key),
        "empty-closing": lambda: Iterable_([], key),
        "raising": lambda: Iterable_([b"before ", b"it raises"], key, error=RuntimeError("raised in __next__")),
        "raising-first": lambda: Iterable_([], key, error=RuntimeError("raised in the first __next__")),
        "close-raising": lambda: Iterable_([b"fine"], key, close_error=RuntimeError("raised in close")),
        "both-raising": lambda: Iterable_([], key, error=RuntimeError("first"), close_error=RuntimeError("second")),
        "endless": lambda: Iterable_(iter(lambda: b"x" * 65536, None), key),
        "many": lambda: Iterable_((b"x" * 1000 for _ in range(20_000)), key),
        "none": lambda: None,
        "int": lambda: 5,
        "text": lambda: "text",
        "bytes": lambda: b"bytes",
        "text-list": lambda: ["text"],
        "int-list": lambda: [5],
        "none-list": lambda: [None],
        "bytearray-list": lambda: [bytearray(b"x")],
        "memoryview-list": lambda: [memoryview(b"x")],
        "nested-list": lambda: [[b"x"]],
        "late-text": lambda: Iterable_([b"first ", "text"], key),
    }[kind]()


@app.route
def no_such_close(environ, start_response):
    """close is there and is no callable."""

    class Odd(list):
        close = "not callable"

    start_response("200 OK", TEXT)
    return Odd([b"odd"])
