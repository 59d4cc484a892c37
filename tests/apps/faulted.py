"""A bit of everything, for the tests that make calls of the server fail (tests/faults)."""

from __future__ import annotations

import gc
import io
import queue
import tempfile
import threading
import time
import traceback
from concurrent.futures import Future

import probe
from routes import TEXT, Routes, arguments, text

app = Routes()
BLOCK = bytes(range(256)) * 4096  # a megabyte

# CPython 3.11 leaves blocks of memory behind for each traceback with such marks, and the tests count blocks.
if hasattr(traceback, "_extract_caret_anchors_from_line_segment"):
    traceback._extract_caret_anchors_from_line_segment = lambda segment: None

_pending: queue.Queue[Future[str] | None] = queue.Queue()


def _complete() -> None:
    while (future := _pending.get()) is not None:
        time.sleep(0.002)  # so that the request is parked first
        if not future.done():
            future.set_result("done")
        del future  # as long as it waits, too
        _pending.task_done()


threading.Thread(target=_complete, name="completer", daemon=True).start()


def soon() -> Future[str]:
    future: Future[str] = Future()
    _pending.put(future)
    return future


def settle() -> int:
    """What is left of requests that have ended is collected: also futures that no request waits for any more."""
    _pending.join()
    return gc.collect()


@app.route
def hello(environ, start_response):
    return text(start_response, "hello")


@app.route
def echo(environ, start_response):
    """The body, read in each of the ways there are."""
    body = environ["wsgi.input"]
    data = body.read(1) + body.readline(100_000) + b"".join(body.readlines(1)) + b"".join(body) + body.read()
    again = bytearray(body.tell())
    body.seek(0)
    size = body.readinto(again)
    body.close()
    return text(start_response, data if data == again[:size] else b"other bytes")


@app.route
def size(environ, start_response):
    body, total = environ["wsgi.input"], 0
    while block := body.read(1 << 18):
        total += len(block)
    return text(start_response, str(total))


@app.route
def headers(environ, start_response):
    said = {k: v for k, v in environ.items() if k.startswith("HTTP_X_") or k in ("HTTP_COOKIE", "QUERY_STRING")}
    start_response("200 OK", [*TEXT, *((f"X-Field-{i}", "v" * 20) for i in range(30))])
    return [repr(sorted(said.items())).encode()]


@app.route
def big(environ, start_response):
    """One block, larger than what the kernel takes."""
    start_response("200 OK", TEXT)
    return [BLOCK]


@app.route
def blocks(environ, start_response):
    start_response("200 OK", TEXT)
    for at in range(0, len(BLOCK), 1 << 15):
        yield BLOCK[at : at + (1 << 15)]


@app.route
def write(environ, start_response):
    put = start_response("200 OK", TEXT)
    for at in range(0, 1 << 17, 1 << 14):
        put(BLOCK[at : at + (1 << 14)])
    return []


@app.route
def file(environ, start_response):
    f = tempfile.TemporaryFile()
    f.write(BLOCK)
    f.seek(0)
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(BLOCK)))])
    return environ["wsgi.file_wrapper"](f)


@app.route
def filelike(environ, start_response):
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](io.BytesIO(BLOCK[:70_000]), 1 << 14)


@app.route
def park(environ, start_response):
    """Small blocks before, between and after two futures."""
    start_response("200 OK", TEXT)
    yield b"before "
    yield soon()
    yield b"between "
    yield soon()
    yield b"after"


@app.route
def failed(environ, start_response):
    """A future that fails, and one that is cancelled."""
    failing: Future[None] = Future()
    failing.set_exception(OSError("upstream"))
    try:
        yield failing
    except OSError:
        pass
    cancelled: Future[None] = Future()
    cancelled.cancel()
    try:
        yield cancelled
    except BaseException as error:
        start_response("200 OK", TEXT)
        yield type(error).__name__.encode()


class Closing:
    """An iterable without throw(), with close()."""

    def __init__(self, start_response):
        start_response("200 OK", TEXT)
        self.items = iter([b"one ", b"two ", soon(), b"three"])

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.items)

    def close(self):
        probe.record("closing", "closed")


@app.route
def closing(environ, start_response):
    return Closing(start_response)


@app.route
def raising(environ, start_response):
    raise RuntimeError("raised on purpose")


@app.route
def errors(environ, start_response):
    """Lines for the log, whole and in pieces."""
    log = environ["wsgi.errors"]
    log.write("a piece ")
    log.writelines(["of a line\n", "another "])
    print("one", file=log)
    log.write("without an end")
    log.flush()
    log.write(", and its end at the end of the request")
    return text(start_response, "logged")


@app.route
def forever(environ, start_response):
    """Parked until a test ends it."""
    try:
        probe.record(arguments(environ)["key"], "parking")
        yield Future()
    finally:
        probe.record(arguments(environ)["key"], "closed")


@app.route
def busy(environ, start_response):
    """A step that outlives its request."""
    time.sleep(float(arguments(environ)["s"]))
    return text(start_response, "late")
