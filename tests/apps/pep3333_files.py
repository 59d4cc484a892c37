"""Applications for the tests of wsgi.file_wrapper."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import tempfile

import probe
from routes import TEXT, Routes, arguments, text

app = Routes()


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
