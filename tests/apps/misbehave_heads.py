"""Applications that misuse start_response, environ, wsgi.input or futures."""

from __future__ import annotations

import json
import logging
import sys
import threading
from concurrent.futures import Future, InvalidStateError

import probe
from misbehave_bodies import fault
from routes import TEXT, Routes, arguments, text

app = Routes()


# start_response


@fault
def start_twice_exc_info(key, environ, start_response):
    """PEP 3333: with exc_info it may be called again, as long as nothing has begun."""
    start_response("200 OK", [("X-First", "1")])
    try:
        raise LookupError("handled")
    except LookupError:
        start_response("502 Bad", [*TEXT, ("X-Second", "2")], sys.exc_info())
    return [b"second"]


@fault
def start_kept_in_a_thread(key, environ, start_response):
    """start_response and write are called from a thread while the request is parked, and after its end."""
    said = []

    def call(what, *args):
        try:
            what(*args)
            said.append("no error")
        except RuntimeError as error:
            said.append(str(error))

    def work():
        call(start_response, "201 Stray", [("X-Stray", "1")])
        future.set_result(None)

    future: Future = Future()
    threading.Thread(target=work).start()
    yield future
    write = start_response("200 OK", TEXT)
    thread = threading.Thread(target=call, args=(write, b"STRAY"))
    thread.start()
    thread.join()
    probe.record(key, "said", said)
    late.append((start_response, write))
    yield b"fine"


late: list = []


@app.route
def call_late(environ, start_response):
    """Calls what finished requests have left behind, here and in another thread."""
    said = []

    def call():
        for start, write in late:
            exc_info = (LookupError, LookupError(), None)
            for what, *args in (start, "201 Stray", []), (start, "201 Stray", [], exc_info), (write, b"STRAY"):
                try:
                    what(*args)
                    said.append("no error")
                except RuntimeError as error:
                    said.append(str(error))

    call()
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    late.clear()
    return text(start_response, json.dumps(said))


class Str(str):
    """A str that lies about itself."""

    def __len__(self):
        return 1

    def __str__(self):
        return "500 Lie"

    def encode(self, *args):
        return b"lie"

    def partition(self, sep):
        return ("lie", "lie", "lie")


@fault
def str_subclasses(key, environ, start_response):
    start_response(Str("200 Fine"), [(Str("X-Sub"), Str("value")), (Str("Content-Type"), Str("text/plain"))])
    return [b"sub"]


BAD_HEADS = {
    "no-reason": ("200", TEXT),
    "empty-reason": ("200 ", TEXT),
    "status-100": ("100 Continue", TEXT),
    "status-99": ("99 Low", TEXT),
    "status-1000": ("1000 High", TEXT),
    "status-words": ("OK 200", TEXT),
    "status-empty": ("", TEXT),
    "status-crlf": ("200 OK\r\nX-Injected: 1", TEXT),
    "status-nul": ("200 OK\0", TEXT),
    "header-crlf": ("200 OK", [("X-A", "1\r\nX-Injected: 1")]),
    "header-lf": ("200 OK", [("X-A", "1\nX-Injected: 1")]),
    "header-fold": ("200 OK", [("X-A", "1\r\n folded")]),
    "header-nul": ("200 OK", [("X-A", "1\0")]),
    "name-crlf": ("200 OK", [("X-A: 1\r\nX-Injected", "1")]),
    "name-colon": ("200 OK", [("X-A:", "1")]),
    "name-space": ("200 OK", [("X A", "1")]),
    "name-empty": ("200 OK", [("", "1")]),
    "length-negative": ("200 OK", [("Content-Length", "-1")]),
    "length-words": ("200 OK", [("Content-Length", "five")]),
    "length-plus": ("200 OK", [("Content-Length", "+5")]),
    "length-twice": ("200 OK", [("Content-Length", "5"), ("content-length", "6")]),
    "length-huge": ("200 OK", [("Content-Length", "9" * 30)]),
    "length-list": ("200 OK", [("Content-Length", "5, 5")]),
}


@app.route
def bad_head(environ, start_response):
    start_response(*BAD_HEADS[arguments(environ)["kind"]])
    return [b"hello"]


@fault
def long_head(key, environ, start_response):
    """A long reason, a long value, and ten thousand headers."""
    start_response("200 " + "r" * 60_000, [("X-Long", "v" * 60_000), *(("X-Many", "1") for _ in range(10_000))])
    return [b"long"]


@fault
def hop_by_hop(key, environ, start_response):
    names = ("Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "TE", "Trailer", "Proxy-Connection")
    start_response("200 OK", [*TEXT, *((name, "chunked") for name in names)])
    return [b"hop"]


class ClearsItsPair(str):
    pair: list
    junk: list

    def __repr__(self):
        self.pair.clear()
        self.junk.extend("WRONG %09d" % i for i in range(10_000))  # where the value was
        return "a name"


@fault
def reprs_that_change_the_list(key, environ, start_response):
    """The message for a wrong header shows its value: a repr that takes the header away meanwhile must not matter."""
    name = ClearsItsPair("X A")
    name.junk = []
    name.pair = [name, "value %09d" % threading.get_native_id()]
    start_response("200 OK", [name.pair])
    return [b"never"]


@fault
def headers_generator(key, environ, start_response):
    """Headers that call start_response while they are iterated."""

    def headers():
        yield ("X-One", "1")
        try:
            start_response("201 Inner", [])
        except AssertionError as error:
            yield ("X-Said", str(error))

    start_response("200 OK", headers())
    return [b"outer"]


# environ and wsgi.input


@fault
def keeps_environ(key, environ, start_response):
    kept[key] = environ
    return text(start_response, "kept")


kept: dict = {}


@app.route
def read_kept(environ, start_response):
    """Reads the inputs of requests that are over, from eight threads at once."""
    pieces: list[bytes] = []
    asked = arguments(environ)
    stream = kept.pop(asked["key"])["wsgi.input"]
    barrier = threading.Barrier(8)
    sys.setswitchinterval(1e-6)

    def read():
        barrier.wait()
        while piece := stream.read(int(asked["size"])):
            pieces.append(piece)
        pieces.append(stream.read())
        pieces.append(stream.readline())

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(0.005)
    return text(start_response, json.dumps([sum(map(len, pieces)), stream.read().decode()]))


@fault
def changes_environ(key, environ, start_response):
    """While the server still has to end the request."""
    body = environ["wsgi.input"].read()
    environ["wsgi.input"] = None
    environ["REQUEST_METHOD"] = 5
    environ[5] = environ
    start_response("200 OK", TEXT)
    yield b"got "
    environ.clear()
    probe.future(key).set_result(None)
    yield probe.future(key)
    yield body


# Futures


class OwnFuture(Future):
    def __eq__(self, other):
        raise LookupError("compared")

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self):
        raise LookupError("asked for truth")


@fault
def future_subclass(key, environ, start_response):
    future = OwnFuture()
    threading.Timer(0.02, future.set_result, [b"subclass"]).start()
    yield future
    start_response("200 OK", TEXT)
    yield future.result()


@fault
def completes_twice(key, environ, start_response):
    """The second set_result raises where it is called: in a thread, and in the request."""
    future: Future = Future()

    def complete():
        future.set_result("first")
        try:
            future.set_result("second")
        except InvalidStateError as error:
            probe.record(key, "thread", type(error).__name__)

    threading.Timer(0.02, complete).start()
    yield future
    start_response("200 OK", TEXT)
    yield future.result().encode()
    future.set_result("third")


@fault
def completes_from_many_threads(key, environ, start_response):
    future: Future = Future()
    barrier = threading.Barrier(16)

    def complete(i):
        barrier.wait()
        try:
            future.set_result(i)
            probe.record(key, "won", i)
        except InvalidStateError:
            probe.record(key, "lost", i)

    for i in range(16):
        threading.Thread(target=complete, args=(i,)).start()
    yield future
    start_response("200 OK", TEXT)
    yield str(future.result()).encode()


@fault
def cancels_its_own_future(key, environ, start_response):
    future: Future = Future()
    threading.Timer(0.02, future.cancel).start()
    yield future


@fault
def callback_raises(key, environ, start_response):
    """Before and after the server's own callback.  Python logs it; the request goes on."""
    future: Future = Future()
    future.add_done_callback(raising)
    other = threading.Timer(0.02, lambda: (future.add_done_callback(raising), future.set_result(b"went on")))
    other.start()
    yield future
    start_response("200 OK", TEXT)
    yield future.result()


def raising(future):
    raise LookupError("raised in a callback")


class _Quiet(logging.Handler):
    """What Python logs about callbacks that raise goes to the test, not to standard error."""

    def emit(self, record):
        probe.record("callbacks", "logged", record.getMessage()[:40])


_futures_log = logging.getLogger("concurrent.futures")
_futures_log.addHandler(_Quiet())
_futures_log.propagate = False
