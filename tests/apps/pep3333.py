"""Applications for the tests of PEP 3333: each route is a small application of its own."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import io
import json
import lzma
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import probe
from routes import TEXT, Routes, arguments, text

app = Routes()


@app.route
def environ(environ, start_response):
    """Every key with the type and repr of its value."""
    facts = {key: [type(value).__name__, repr(value)] for key, value in environ.items()}
    facts["(type)"] = [type(environ).__name__, ""]
    return text(start_response, json.dumps(facts))


@app.route
def change_environ(environ, start_response):
    """Uses environ as its own: an application may."""
    environ["mine"] = "changed"
    environ["SCRIPT_NAME"] = "changed"
    del environ["PATH_INFO"]
    return text(start_response, "changed")


@app.route
def same_environ(environ, start_response):
    """Keeps every environ, to see whether they are different ones."""
    kept.append(environ)
    return text(start_response, f"{len(kept)} {len({id(e) for e in kept})} {'mine' in environ}")


kept: list = []


# wsgi.input


def read_all(f):
    return [f.read()]


def read_minus_one(f):
    return [f.read(-1)]


def read_none(f):
    return [f.read(None)]


def read_sized(f):
    return list(iter(lambda: f.read(7), b""))


def read_past_the_end(f):
    return [f.read(10**12), f.read(), f.read(5), f.read(-1), f.readline(), *f.readlines(), *f]


def read_zero(f):
    return [f.read(0), f.readline(0), f.read()]


def readline_all(f):
    return list(iter(f.readline, b""))


def readline_sized(f):
    return list(iter(lambda: f.readline(4), b""))


def readline_minus_one(f):
    return list(iter(lambda: f.readline(-1), b""))


def readlines_all(f):
    return f.readlines()


def readlines_hint(f):
    return [b"|".join(f.readlines(8)), b"rest:", f.read()]


def iterate(f):
    return list(f)


def mixed(f):
    first = next(iter(f))
    return [first, f.read(2), f.readline(), next(f), f.read()]


def read_sized_large(f):
    return list(iter(lambda: f.read(100_000), b""))


def readinto(f):
    buffer = bytearray(100_000)
    return [bytes(buffer[:n]) for n in iter(lambda: f.readinto(buffer), 0)]


READERS = {f.__name__: f for f in (
    read_sized_large, readinto,
    read_all, read_minus_one, read_none, read_sized, read_past_the_end, read_zero, readline_all, readline_sized,
    readline_minus_one, readlines_all, readlines_hint, iterate, mixed,
)}  # fmt: skip


@app.route
def input(environ, start_response):
    """What a way of reading gives, as a list of latin-1 strings."""
    pieces = READERS[arguments(environ)["how"]](environ["wsgi.input"])
    assert all(type(piece) is bytes for piece in pieces), pieces
    return text(start_response, json.dumps([piece.decode("latin-1") for piece in pieces]))


@app.route
def input_size(environ, start_response):
    """How much a way of reading gives."""
    pieces = READERS[arguments(environ)["how"]](environ["wsgi.input"])
    return text(start_response, json.dumps(sum(map(len, pieces))))


@app.route
def input_closed_meanwhile(environ, start_response):
    """A thread closes it while this one reads: the events say when."""
    f, key = environ["wsgi.input"], arguments(environ)["key"]
    with ThreadPoolExecutor(1) as pool:
        data = pool.submit(f.read, 100_000)
        while f.tell() == 0:
            time.sleep(0.001)
        f.close()
        probe.record(key, "closed")
        said = [data.result().decode()]
        try:
            f.read(1)
        except ValueError as error:
            said.append(type(error).__name__)
    return text(start_response, json.dumps(said))


@app.route
def input_misuse(environ, start_response):
    """Arguments that are no sizes raise; nothing worse happens."""
    f = environ["wsgi.input"]
    said = []
    for call in (
        lambda: f.read("5"),
        lambda: f.read(1, 2),
        lambda: f.readline(1.5),
        lambda: f.readlines("x"),
        lambda: f.read(10**30),
    ):
        try:
            said.append(repr(call()))
        except (TypeError, OverflowError, ValueError) as error:
            said.append(type(error).__name__)
    return text(start_response, json.dumps([*said, f.read().decode()]))


@app.route
def input_later(environ, start_response):
    """Reads only after the first block has left."""
    start_response("200 OK", TEXT)
    yield b"began "
    yield environ["wsgi.input"].read()


@app.route
def input_kept(environ, start_response):
    """Keeps wsgi.input beyond its request, and reads the one that was kept before."""
    said = b"nothing kept"
    if kept_inputs:
        try:
            said = b"read %d" % len(kept_inputs[-1].read())
        except (ValueError, OSError) as error:
            said = type(error).__name__.encode()
    kept_inputs.append(environ["wsgi.input"])
    return text(start_response, said)


kept_inputs: list = []


@app.route
def input_wrapped(environ, start_response):
    """read(size) into a parser: multipart."""
    from email.parser import BytesParser
    from email.policy import HTTP

    head = b"Content-Type: %s\r\n\r\n" % environ["CONTENT_TYPE"].encode()
    parts = BytesParser(policy=HTTP).parsebytes(head + environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    return text(start_response, json.dumps([part.get_content() for part in parts.iter_parts()]))


def calls(f, data):
    """The same calls on io.BytesIO say what is right."""
    for reference in (io.BytesIO(data), f):
        buffer = bytearray(10)
        yield [
            reference.tell(), reference.read(5), reference.tell(), reference.seek(2), reference.readline(),
            reference.seek(0), reference.readinto(buffer), bytes(buffer), reference.seek(-4, 1), reference.read(3),
            reference.seek(-6, 2), reference.read(), reference.read(), reference.seek(len(data) + 100), reference.tell(),
            reference.read(), reference.readline(), list(reference), reference.readinto(buffer), reference.seek(0, 0),
            reference.read1(7), reference.read1(), reference.seek(3, 0), next(iter(reference)), reference.tell(),
            reference.readable(), reference.seekable(), reference.isatty(), reference.closed, reference.seek(0),
        ]  # fmt: skip


@app.route
def input_as_a_stream(environ, start_response):
    """Whether it does what io.BytesIO does."""
    f = environ["wsgi.input"]
    data = f.read()
    assert f.seek(0) == 0
    expected, found = calls(f, data)
    return text(start_response, "the same" if expected == found else f"{expected}\n{found}")


WRAPPED = {
    "text": lambda f: io.TextIOWrapper(f, encoding="latin-1", newline="").read(),
    "text-lines": lambda f: "".join(io.TextIOWrapper(f, encoding="latin-1", newline="")),
    "text-seek": lambda f: (lambda t: (t.readline(), t.seek(0), t.read())[2])(
        io.TextIOWrapper(f, encoding="latin-1", newline="")
    ),
    "buffered": lambda f: io.BufferedReader(f).read().decode("latin-1"),
    "buffered-lines": lambda f: b"".join(io.BufferedReader(f, 16)).decode("latin-1"),
    "buffered-seek": lambda f: (lambda b: (b.read(9), b.seek(0), b.peek(3), b.read())[3])(io.BufferedReader(f)).decode("latin-1"),
    "with": lambda f: contextlib.ExitStack().enter_context(f).read().decode("latin-1"),
    "zip": lambda f: zipfile.ZipFile(f).read("name").decode(),
    "copied": lambda f: (lambda g: (shutil.copyfileobj(f, g), g.getvalue().decode("latin-1"))[1])(io.BytesIO()),
}


@app.route
def input_in(environ, start_response):
    """What others make of it that take a stream."""
    return text(start_response, WRAPPED[arguments(environ)["how"]](environ["wsgi.input"]).encode("latin-1"))


@app.route
def input_closed(environ, start_response):
    """What closed ones say: to each way of reading, and to whatever else may be called."""
    f = environ["wsgi.input"]
    said = [f.closed, f.close(), f.close(), f.closed]
    for call in (
        f.read, f.readline, f.readlines, f.tell, f.readable, f.seekable, f.writable, f.flush, f.isatty, f.__enter__,
        lambda: next(f), lambda: f.seek(0), lambda: f.readinto(bytearray(1)),
    ):  # fmt: skip
        try:
            said.append(repr(call()))
        except ValueError as error:
            said.append(type(error).__name__)
    return text(start_response, json.dumps(said))


@app.route
def input_left(environ, start_response):
    """Closes and moves it, and keeps environ: it must be this request's only."""
    f = environ["wsgi.input"]
    said = f"{f.tell()} {f.closed} {f.read()!r}"
    if "closes" in arguments(environ):
        f.close()
    else:
        f.seek(5)
    left.append(environ)
    start_response("200 OK", TEXT)
    yield b""
    yield said.encode()


left: list = []


@app.route
def input_held(environ, start_response):
    """Reads when the gate opens."""
    start_response("200 OK", TEXT)
    yield b"held "
    probe.wait_gate(arguments(environ)["key"])
    yield repr(environ["wsgi.input"].read()).encode()


@app.route
def input_by_threads(environ, start_response):
    """Eight threads that read lines at once: how many lines they get of each kind, and whether close() meanwhile ends
    that in no other way than ValueError."""
    f, closes = environ["wsgi.input"], "closes" in arguments(environ)
    lines, errors = [], []
    start = threading.Barrier(8)

    def read(number):
        start.wait()
        try:
            while line := f.readline() if number % 2 else f.readline(1 << 20):
                lines.append(line)
                if closes and len(lines) > 100:
                    f.close()
        except ValueError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wrong = [line for line in lines if not re.fullmatch(rb"(\d+) (x*)\n", line) or len(line) != 1000]
    return text(start_response, json.dumps([len(lines), len(set(lines)), len(wrong), sorted(set(errors))]))


# wsgi.errors


@app.route
def errors(environ, start_response):
    f = environ["wsgi.errors"]
    f.write("one line\n")
    f.write("half a ")
    f.write("line\n")
    f.writelines(["several ", "at once\n"])
    f.write("ünïcode \U0001f3bc\n")
    f.flush()
    print("printed", file=f)
    f.write("without an end")
    f.flush()
    return text(start_response, "written")


@app.route
def errors_elsewhere(environ, start_response):
    """A thread of the application's own, and one that goes on when the request is over."""
    f = environ["wsgi.errors"]
    threading.Thread(target=lambda: (print("from a thread", file=f), f.flush())).start()
    threading.Timer(0.2, lambda: print("from afterwards", file=f)).start()
    return text(start_response, "written")


@app.route
def errors_half(environ, start_response):
    """A line without its end, which is still to be seen."""
    environ["wsgi.errors"].write("unfinished\n" if "end" in arguments(environ) else "unfinished ")
    return text(start_response, "written")


# wsgi.file_wrapper


def scratch(size: int) -> io.BufferedRandom:
    f = tempfile.TemporaryFile()
    f.write(bytes(i % 251 for i in range(min(size, 251))) * (size // 251) + bytes(size % 251))
    f.seek(0)
    return f


class Closing:
    """A file whose close() is recorded."""

    def __init__(self, f, key):
        self._f, self._key = f, key

    def __getattr__(self, name):
        return getattr(self._f, name)

    def close(self):
        probe.record(self._key, "closed", self._f.tell() if not self._f.closed else None)
        self._f.close()


class OnlyRead:
    """The least that PEP 3333 asks for: read(size), no fileno, no close."""

    def __init__(self, data):
        self.read = io.BytesIO(data).read


class Liar(OnlyRead):
    """Has a fileno that is none."""

    def __init__(self, data, lie):
        super().__init__(data)
        self._lie = lie

    def fileno(self):
        if isinstance(self._lie, Exception):
            raise self._lie
        return self._lie


@app.route
def file(environ, start_response):
    """size: of the file; at: position when it is given; length: Content-Length; block: block size; key."""
    asked = arguments(environ)
    f = scratch(int(asked["size"]))
    f.seek(int(asked.get("at", 0)))
    headers = [("Content-Type", "application/octet-stream")]
    if "length" in asked:
        headers.append(("Content-Length", asked["length"]))
    start_response("200 OK", headers)
    wrapped = Closing(f, asked["key"]) if "key" in asked else f
    return environ["wsgi.file_wrapper"](wrapped, *([int(asked["block"])] if "block" in asked else []))


@app.route
def file_kind(environ, start_response):
    """file_wrapper over things that are no regular files."""
    kind = arguments(environ)["kind"]
    start_response("200 OK", TEXT)
    wrapper = environ["wsgi.file_wrapper"]
    if kind == "bytesio":
        return wrapper(io.BytesIO(b"from memory"))
    if kind == "only-read":
        return wrapper(OnlyRead(b"only read"))
    if kind == "pipe":
        r, w = os.pipe()
        os.write(w, b"from a pipe")
        os.close(w)
        return wrapper(os.fdopen(r, "rb"))
    if kind == "raises":
        return wrapper(Liar(b"no fileno", io.UnsupportedOperation("fileno")))
    if kind == "minus-one":
        return wrapper(Liar(b"fileno -1", -1))
    if kind == "text":
        return wrapper(Liar(b"fileno text", "3"))
    if kind == "buffered":  # a BufferedReader has read ahead: its position is not the descriptor's
        f = tempfile.TemporaryFile()
        f.write(b"skipped " + b"x" * 9 + b"taken")
        f.seek(0)
        f.read(8)
        f.read(9)
        return wrapper(f)
    if kind == "unbuffered":
        f = open(os.path.abspath(__file__), "rb", buffering=0)
        f.seek(3)
        return wrapper(f)
    if kind == "iterated":  # an application or middleware may iterate it itself
        return [block for block in wrapper(io.BytesIO(b"iterated"), 3)]
    if kind == "passed-on":  # middleware that makes a generator of it
        return (block.upper() for block in wrapper(io.BytesIO(b"passed on")))
    if kind == "empty":
        return wrapper(tempfile.TemporaryFile())
    if kind == "twice":
        f = io.BytesIO(b"twice")
        wrapper(f)
        return wrapper(f)
    raise LookupError(kind)


class Limited(io.FileIO):
    """Gives less than the file has."""

    def read(self, size=-1):
        return super().read(size if 0 <= size < 3 else 3)[:3] if self.tell() < 3 else b""


class Rot13(io.BufferedReader):
    def read(self, size=-1):
        return codecs.encode(super().read(size).decode(), "rot13").encode()


class Range:
    """What frameworks put around a file to send a part of it; fileno() is that of the file."""

    def __init__(self, f, length):
        self._f, self._left = f, length

    def read(self, size):
        data = self._f.read(min(size, self._left))
        self._left -= len(data)
        return data

    def fileno(self):
        return self._f.fileno()

    def tell(self):
        return self._f.tell()


def compressed(opener):
    path = tempfile.mktemp()
    with opener(path, "wb") as f:
        f.write(b"uncompressed")
    f = opener(path, "rb")
    os.unlink(path)
    return f


def plain(data, mode="w+b", **how):
    f = tempfile.TemporaryFile(mode, **how)
    f.write(data)
    f.seek(0)
    return f


def instead(f, **methods):
    for name, method in methods.items():
        setattr(f, name, method)
    return f


def detached():
    f = plain(b"detached")
    f.detach()
    return f


def closed():
    f = plain(b"closed")
    f.close()
    return f


def unwritten():
    """What it has been given last is in its buffer, not in the file."""
    f = tempfile.TemporaryFile()
    f.write(b"x" * 5000)
    f.seek(0)
    f.read(1)
    f.write(b"buffered")
    return f


def write_only():
    fd, path = tempfile.mkstemp()
    os.close(fd)
    f = open(path, "wb", buffering=0)
    f.write(b"not to be read")
    f.seek(0)
    os.unlink(path)
    return f


def limited():
    with tempfile.NamedTemporaryFile() as f:
        f.write(b"limited")
        f.flush()
        return Limited(f.name)


FILES = {
    "plain": lambda: plain(b"plain"),
    "raw": lambda: plain(b"raw", buffering=0),
    "gzip": lambda: compressed(gzip.open),
    "bz2": lambda: compressed(bz2.open),
    "lzma": lambda: compressed(lzma.open),
    "subclass": limited,
    "buffered-subclass": lambda: io.BufferedReader(limited()),
    "rot13": lambda: Rot13(plain(b"rot13", buffering=0)),
    "range": lambda: Range(plain(b"range of it"), 5),
    "own-read": lambda: instead(plain(b"in the file"), read=io.BytesIO(b"its own").read),
    "text": lambda: plain("text", "w+"),
    "detached": detached,
    "closed": closed,
    "unwritten": unwritten,
    "write-only": write_only,
    "sparse": lambda: (lambda f: (f.truncate(7), f)[1])(tempfile.TemporaryFile()),
    "proc": lambda: open("/proc/self/status", "rb"),
    "sys": lambda: open("/sys/devices/system/cpu/online", "rb"),
    "memory": lambda: io.BytesIO(b"memory " * 5000),
}


@app.route
def file_of(environ, start_response):
    """file_wrapper over one of FILES; length: its Content-Length; read: instead, what its read() gives."""
    asked = arguments(environ)
    f = FILES[asked["kind"]]()
    if "read" in asked:
        return text(start_response, b"".join(iter(lambda: f.read(8192), b"")))
    start_response("200 OK", [*TEXT, *([("Content-Length", asked["length"])] if "length" in asked else [])])
    return environ["wsgi.file_wrapper"](f)


@app.route
def file_growing(environ, start_response):
    """A file that is shorter by the time it is sent than its Content-Length says."""
    f = tempfile.TemporaryFile()
    f.write(b"x" * 1000)
    f.seek(0)
    start_response("200 OK", [*TEXT, ("Content-Length", "5000")])
    return environ["wsgi.file_wrapper"](f)


@app.route
def file_after_write(environ, start_response):
    """write() first, then a file."""
    write = start_response("200 OK", TEXT)
    write(b"written ")
    f = tempfile.TemporaryFile()
    f.write(b"then a file")
    f.seek(0)
    return environ["wsgi.file_wrapper"](f)


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


# Errors


ERRORS = {
    "exception": lambda: RuntimeError("raised on purpose"),
    "unicode": lambda: RuntimeError("ünïcode \U0001f3bc"),
    "system-exit": lambda: SystemExit(5),
    "keyboard-interrupt": lambda: KeyboardInterrupt(),
    "generator-exit": lambda: GeneratorExit(),
    "base": lambda: BaseException("a base exception"),
    "stop-iteration": lambda: StopIteration("in the call"),
}


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no str")

    __repr__ = __str__


@app.route
def error(environ, start_response):
    """Raises in the call."""
    kind = arguments(environ)["kind"]
    raise Unprintable if kind == "unprintable" else ERRORS[kind]()


@app.route
def error_in_body(environ, start_response):
    """Raises in the first step, or after a block."""
    asked = arguments(environ)
    start_response("200 OK", TEXT)
    if "after" in asked:
        yield b"sent before"
    raise ERRORS[asked["kind"]]()


@app.route
def chained(environ, start_response):
    try:
        raise KeyError("the cause")
    except KeyError as cause:
        raise RuntimeError("the effect") from cause


@app.route
def deep(environ, start_response):
    """Recurses until Python says stop."""

    def down():
        return down()

    return down()


@app.route
def hello(environ, start_response):
    return text(start_response, "hello")


@app.route
def slow_close(environ, start_response):
    """Blocks in a step until a gate opens, then has a close to run."""
    asked = arguments(environ)
    start_response("200 OK", TEXT)

    def steps():
        yield b"first"
        probe.record(asked["key"], "blocking")
        probe.wait_gate(asked["key"])
        probe.record(asked["key"], "step ended")
        yield b"second"

    return Recording(steps(), asked["key"])


class Recording:
    def __init__(self, inner, key):
        self.inner, self.key = inner, key

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.inner)

    def close(self):
        probe.record(self.key, "closed")
        self.inner.close()


@app.route
def sleep(environ, start_response):
    time.sleep(float(arguments(environ)["s"]))
    return text(start_response, "slept")


class InstanceApplication:
    def __call__(self, environ, start_response):
        return text(start_response, "instance")


class ClassApplication:
    """The class is the application, its instances are the response."""

    def __init__(self, environ, start_response):
        self.start_response = start_response

    def __iter__(self):
        self.start_response("200 OK", TEXT)
        yield b"class"


instance = InstanceApplication()
method = InstanceApplication().__call__
here = Path(__file__)
