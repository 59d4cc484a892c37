"""Applications for the tests of wsgi.input and wsgi.errors."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import probe
from routes import TEXT, Routes, arguments, text

app = Routes()


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
