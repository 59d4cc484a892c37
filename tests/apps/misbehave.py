"""Applications that do what applications must not do, or had better not: spec/manual/misbehaviour.md has a row for each.

/fault?kind=...: what is wrong with one request alone.  The other routes do something to the process that all requests
share.  What has to be done while the application is imported is named by the variable MISBEHAVE.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import ctypes
import faulthandler
import gc
import io
import json
import locale
import logging
import multiprocessing
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, InvalidStateError

import probe
from routes import TEXT, Routes, arguments, text

app = Routes()


@app.route
def hello(environ, start_response):
    return text(start_response, "hello")


@app.route
def park(environ, start_response):
    """The bystander: waits for probe.future(key) and answers with its result."""
    key = arguments(environ)["key"]
    probe.record(key, "parking")
    yield probe.future(key)
    start_response("200 OK", TEXT)
    yield f"result {probe.future(key).result()}".encode()


# One request, one fault

FAULTS = {}


def fault(function):
    FAULTS[function.__name__.strip("_").replace("_", "-")] = function
    return function


@app.route
def fault_(environ, start_response):
    asked = arguments(environ)
    return FAULTS[asked["kind"]](asked.get("key", "-"), environ, start_response)


class Blocks:
    """An iterable that is no generator; what happens to it is recorded."""

    def __init__(self, key, *items, close=None):
        self.key, self.items, self.on_close = key, list(items), close

    def __iter__(self):
        return self

    def __next__(self):
        if not self.items:
            raise StopIteration
        item = self.items.pop(0)
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self):
        probe.record(self.key, "closed")
        if self.on_close:
            raise self.on_close


class Bytes(bytes):
    """A subclass with methods that lie."""

    def __len__(self):
        return 10**9

    def __bytes__(self):
        return b"another"

    def __bool__(self):
        return False


class HasBytes:
    def __bytes__(self):
        return b"not asked for"


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no str")

    __repr__ = __str__


class Mute:
    """Not even a repr."""

    def __repr__(self):
        raise SystemExit("no repr")


@fault
def yields_bytes_subclass(key, environ, start_response):
    start_response("200 OK", TEXT)
    yield Bytes(b"as it ")
    yield Bytes(b"is")


@fault
def yields_has_bytes(key, environ, start_response):
    start_response("200 OK", TEXT)
    return Blocks(key, HasBytes())


@fault
def yields_mute(key, environ, start_response):
    start_response("200 OK", TEXT)
    return Blocks(key, Mute())


@fault
def yields_asyncio_task(key, environ, start_response):
    async def nothing():
        return b""

    async def make():
        return asyncio.ensure_future(nothing())

    start_response("200 OK", TEXT)
    loop = asyncio.new_event_loop()
    try:
        return Blocks(key, loop.run_until_complete(make()))
    finally:
        loop.close()


@fault
def is_a_coroutine(key, environ, start_response):
    async def application():
        return [b"never"]

    made = application()
    weak.append(made)  # closed by the next one, so that Python does not warn that it was never awaited
    for old in weak[:-1]:
        old.close()
    del weak[:-1]
    return made


weak: list = []


@fault
def is_an_async_generator(key, environ, start_response):
    async def application():
        yield b"never"

    return application()


@fault
def returns_dict(key, environ, start_response):
    start_response("200 OK", TEXT)
    return {"a": b"str keys are iterated"}


@fault
def iter_raises(key, environ, start_response):
    class Bad:
        def __iter__(self):
            raise LookupError("raised in __iter__")

        def close(self):
            probe.record(key, "closed")

    start_response("200 OK", TEXT)
    return Bad()


@fault
def iter_is_no_iterator(key, environ, start_response):
    class Bad:
        def __iter__(self):
            return 5

        def close(self):
            probe.record(key, "closed")

    start_response("200 OK", TEXT)
    return Bad()


@fault
def len_raises(key, environ, start_response):
    """A list subclass whose __len__ raises: it is not asked."""

    class Bad(list):
        def __len__(self):
            raise LookupError("raised in __len__")

    start_response("200 OK", TEXT)
    return Bad([b"not ", b"asked"])


@fault
def first_next_raises(key, environ, start_response):
    start_response("200 OK", TEXT)
    return Blocks(key, LookupError("raised in the first __next__"))


@fault
def later_next_raises(key, environ, start_response):
    start_response("200 OK", TEXT)
    return Blocks(key, b"before", LookupError("raised in a later __next__"))


@fault
def raises_within_length(key, environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "100")])
    return Blocks(key, b"x" * 50, LookupError("raised within the length"))


@fault
def raises_after_the_whole_length(key, environ, start_response):
    """All that was promised has been yielded before it raises."""
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return Blocks(key, b"whole", LookupError("raised after the whole length"))


@fault
def close_raises_after_a_raise(key, environ, start_response):
    start_response("200 OK", TEXT)
    return Blocks(key, LookupError("the first error"), close=ValueError("the second error"))


@fault
def close_raises_system_exit(key, environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    return Blocks(key, b"fine", close=SystemExit(7))


@fault
def close_attribute_raises(key, environ, start_response):
    class Bad(Blocks):
        def __getattribute__(self, name):
            if name == "close":
                raise LookupError("raised when close was looked up")
            return super().__getattribute__(name)

    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    return Bad(key, b"fine")


@fault
def raises_in_finally(key, environ, start_response):
    """On GeneratorExit, when the client has gone."""
    try:
        probe.record(key, "parking")
        yield probe.future(key)
    finally:
        probe.record(key, "finally")
        raise LookupError("raised in finally")


@fault
def ignores_generator_exit(key, environ, start_response):
    """For ever: every throw is answered with another item."""
    probe.record(key, "parking")
    for _ in range(1000):  # an end, so that the test's server ends too
        try:
            yield probe.future(key)
        except GeneratorExit:
            probe.record(key, "ignored")


@fault
def raises_unprintable(key, environ, start_response):
    raise Unprintable


@fault
def raises_huge(key, environ, start_response):
    raise RuntimeError("huge " * 4_000_000)


@fault
def raises_surrogates(key, environ, start_response):
    raise RuntimeError("lone \ud800 surrogate")


FORGED = "[2026-01-01 00:00:00 +0000] [1] [INFO] forged"


@fault
def raises_forged(key, environ, start_response):
    """The message would look like lines of the log, and talk to the terminal in which it is read."""
    raise RuntimeError(f"first\n{FORGED}\r\n{FORGED}\r{FORGED}\x1b[2J\x9b2J\0\x7f\x85{FORGED}\u2028{FORGED}")


@fault
def raises_forged_group(key, environ, start_response):
    """The same as a note, where there are notes, and as the name of a class."""
    error = type(f"Odd\n{FORGED}", (Exception,), {})("text")
    if hasattr(error, "add_note"):
        error.add_note(f"a note\n{FORGED}")
    raise error


@fault
def raises_cycle(key, environ, start_response):
    first, second = RuntimeError("one"), RuntimeError("two")
    first.__cause__, second.__cause__ = second, first
    raise first


@fault
def raises_chain(key, environ, start_response):
    """Ten thousand exceptions, each the cause of the next."""
    error = RuntimeError("innermost")
    for i in range(10_000):
        error, error.__cause__ = RuntimeError(f"number {i}"), error
    raise error


@fault
def replaces_traceback(key, environ, start_response):
    """Breaks the module that shows tracebacks, for as long as it raises."""
    import traceback

    def broken(*args, **kwargs):
        traceback.format_exception = kept
        raise RuntimeError("traceback is broken")

    kept, traceback.format_exception = traceback.format_exception, broken
    raise LookupError("cannot be shown")


@fault
def recursion(key, environ, start_response):
    """Python calling Python."""

    def down(n):
        return down(n + 1) + 1

    return down(0)


@fault
def recursion_in_c(key, environ, start_response):
    """Python calling C calling Python, and C alone: each level takes a piece of the thread's C stack."""
    kinds = []

    def down(_):
        return list(map(down, [0]))

    deep = []
    for _ in range(100_000):
        deep = [deep]
    for work in (lambda: down(0), lambda: repr(deep), lambda: json.loads("[" * 100_000), lambda: sorted([0], key=down)):
        try:
            work()
        except RecursionError:
            kinds.append("RecursionError")
    return text(start_response, " ".join(kinds))


@fault
def recursion_in_close(key, environ, start_response):
    def down():
        return down()

    class Deep(Blocks):
        def close(self):
            probe.record(key, "closed")
            down()

    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    return Deep(key, b"fine")


@fault
def huge_allocation(key, environ, start_response):
    start_response("200 OK", TEXT)
    yield b"x" * (1 << 60)


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


@fault
def reprs_that_change_the_list(key, environ, start_response):
    """The message for a wrong header shows its value: a repr that takes the header away meanwhile must not matter."""

    class Name(str):
        def __repr__(self):
            pair.clear()
            junk.extend("WRONG %09d" % i for i in range(10_000))  # where the value was
            return "a name"

    junk: list = []
    pair: list = [Name("X A"), "value %09d" % threading.get_native_id()]
    start_response("200 OK", [pair])
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


@fault
def future_subclass(key, environ, start_response):
    class Own(Future):
        def __eq__(self, other):
            raise LookupError("compared")

        __hash__ = None  # type: ignore[assignment]

        def __bool__(self):
            raise LookupError("asked for truth")

    future = Own()
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


# What others notice, or the process


@app.route
def burn(environ, start_response):
    """Holds the GIL in C, for as long as the backtracking takes."""
    key, n = arguments(environ)["key"], int(arguments(environ)["n"])
    probe.record(key, "burning")
    re.match(r"(a|aa)+$", "a" * n + "b")
    return text(start_response, "burnt")


@app.route
def spin(environ, start_response):
    """Never returns; gives up the GIL as Python does."""
    probe.record(arguments(environ)["key"], "spinning")
    while not stop_spinning.is_set():
        pass
    return text(start_response, "spun")


stop_spinning = threading.Event()


@app.route
def endless(environ, start_response):
    """Empty blocks without end: nothing is ever sent."""
    key = arguments(environ)["key"]
    probe.record(key, "endless")
    start_response("200 OK", TEXT)
    try:
        while True:
            yield b""
    finally:
        probe.record(key, "finally")


@app.route
def exits_in_a_thread(environ, start_response):
    """SystemExit and KeyboardInterrupt in threads of its own are Python's business."""
    for error in (SystemExit(3), KeyboardInterrupt()):
        thread = threading.Thread(target=_raise, args=(error,))
        thread.start()
        thread.join()
    return text(start_response, "fine")


def _raise(error):
    raise error


ENDINGS = {
    "exit": lambda: os._exit(3),
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(1),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "alarm": lambda: (signal.alarm(1), time.sleep(30)),
}


@app.route
def ends_the_process(environ, start_response):
    ENDINGS[arguments(environ)["how"]]()


# Children


def live():
    """What a child does that lives on: until a test ends it, or has forgotten it."""
    time.sleep(120)
    os._exit(0)


def _wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _child_writes_file(name, data):
    with open(os.path.join(os.environ["MISBEHAVE_DIR"], name), "w") as f:
        f.write(data)


@app.route
def forks(environ, start_response):
    """how: what the child does.  The parent answers with how it ended."""
    how = arguments(environ)["how"]
    pid = os.fork()
    if pid == 0:
        if how == "returns":
            return text(start_response, "THE CHILD")
        if how == "returns-without-start":
            return [b"THE CHILD"]
        if how == "generator":
            return _child_generator()
        if how == "sys-exit":
            sys.exit(7)
        if how == "sys-exit-text":
            sys.exit("no number")
        if how == "raises":
            raise LookupError("raised in the child")
        if how == "starts":
            try:
                start_response("200 OK", TEXT)(b"THE CHILD")
            except RuntimeError as error:
                _child_writes_file("said", str(error))
            os._exit(8)
    return text(start_response, str(_wait(pid)))


def _forks(key):
    """Both come back from here; the parent when it knows how the child has ended."""
    pid = os.fork()
    if pid:
        probe.record(key, "child", _wait(pid))


class ForkingFuture(Future):
    """Forks in one of the methods that the server calls."""

    def __init__(self, key, where):
        super().__init__()
        self.key, self.where = key, where

    def _in(self, where):
        if where == self.where:
            _forks(self.key)

    def done(self):
        self._in("done")
        return super().done()

    def add_done_callback(self, fn):
        super().add_done_callback(fn)
        self._in("add_done_callback")

    def exception(self, timeout=None):
        self._in("exception")
        return super().exception(timeout)


class ForkingBody:
    """Forks in one of the places of an iterable."""

    def __init__(self, key, where, future=None):
        self.key, self.where, self.future = key, where, future

    def _in(self, where):
        if where == self.where:
            _forks(self.key)

    def __iter__(self):
        self._in("iter")
        return self

    def __next__(self):
        if self.future is None:
            self._in("next")
            raise StopIteration
        future, self.future = self.future, None
        return future

    def __getattr__(self, name):
        if name not in ("close", "throw"):
            raise AttributeError(name)
        self._in(f"look up {name}")
        return getattr(self, f"_{name}")

    def _throw(self, error):
        self._in("throw")
        return b"thrown"

    def _close(self):
        self._in("close")

    def __del__(self):
        self._in("del")


class ForkingError(Exception):
    """Forks when it is logged."""

    def __str__(self):
        _forks(self.args[0])
        return "shown"


class ForkingFile(io.BytesIO):
    def __init__(self, key, where):
        super().__init__(b"file")
        self.key, self.where = key, where

    def _in(self, where):
        if where == self.where:
            _forks(self.key)

    def fileno(self):
        self._in("fileno")
        raise OSError

    def tell(self):
        self._in("tell")
        return super().tell()

    def read(self, size=-1):
        self._in("read")
        return super().read(size)

    def close(self):
        self._in("close of the file")
        super().close()


def _failed(future=None):
    future = future or Future()
    future.set_exception(LookupError("a failure"))
    return future


FORKS = {
    **dict.fromkeys(("done", "exception"), lambda key, where: ForkingBody(key, "", _failed(ForkingFuture(key, where)))),
    "add_done_callback": lambda key, where: ForkingBody(key, "", complete_soon(ForkingFuture(key, where))),
    **dict.fromkeys(("iter", "next", "look up close", "close", "del"), ForkingBody),
    **dict.fromkeys(("look up throw", "throw"), lambda key, where: ForkingBody(key, where, _failed())),
    **dict.fromkeys(("read", "close of the file"), ForkingFile),
}


def complete_soon(future):
    threading.Timer(0.05, future.set_result, [None]).start()
    return future


@app.route
def forks_in(environ, start_response):
    """A child that comes to life in whatever the server calls, and goes on where the server has called it."""
    key, where = arguments(environ)["key"], arguments(environ)["where"]
    if where == "message":
        raise ForkingError(key)
    if where == "message of a failed close":
        start_response("200 OK", TEXT)
        body = ForkingBody(key, "")
        body._close = lambda: _raise(ForkingError(key))
        return body
    start_response("200 OK", TEXT)
    made = FORKS[where](key, where)
    return environ["wsgi.file_wrapper"](made) if isinstance(made, ForkingFile) else made


def _child_generator():
    yield b"THE "
    yield b"CHILD"


@app.route
def forks_and_stays(environ, start_response):
    """A child that lives on for as long as the test wants, with what it has inherited."""
    pid = os.fork()
    if pid == 0:
        live()
    children.append(pid)
    return text(start_response, str(pid))


children: list[int] = []


def get_children():
    return children


@app.route
def terminates_a_child(environ, start_response):
    """SIGTERM ends a child as it ends any process, whatever the server has set for itself."""
    pid = os.fork()
    if pid == 0:
        live()
    os.kill(pid, getattr(signal, arguments(environ)["signal"]))
    return text(start_response, str(_wait(pid)))


def _sleeps():
    time.sleep(60)


def _squares(x):
    return x * x


@app.route
def multiprocessing_(environ, start_response):
    """A process that is terminated, and a pool, by fork."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_sleeps)
    process.start()
    process.terminate()
    process.join(20)
    said: list = [process.exitcode]
    if process.exitcode is None:
        process.kill()
        process.join()
    with context.Pool(2) as pool:
        said.append(pool.map(_squares, range(4)))
    pool.join()
    return text(start_response, json.dumps(said))


@app.route
def popen(environ, start_response):
    done = subprocess.run([sys.executable, "-S", "-c", "print(6 * 7)"], capture_output=True, text=True, check=True)
    return text(start_response, done.stdout.strip())


# Descriptors


def _sockets():
    """Descriptor -> (local port, peer port or None, listening) of the TCP sockets of this process."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if not os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                continue
            with contextlib.closing(socket.socket(fileno=os.dup(fd))) as s:
                if s.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                listening = bool(s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
                found[fd] = (s.getsockname()[1], None if listening else s.getpeername()[1], listening)
        except OSError:
            pass
    return found


def _of_client(port):
    return next(fd for fd, (_, peer, _) in _sockets().items() if peer == port)


def _listening(port):
    return next(fd for fd, (own, _, listening) in _sockets().items() if listening and own == port)


_taker, _taker_peer = socket.socketpair()


def _anonymous(kind):
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == f"anon_inode:{kind}":
                found.append(int(name))
    return sorted(found)


def close_client(port):
    """os.close of the number of a client's connection, by a thread that has nothing to do with it."""
    fd = _of_client(port)
    os.close(fd)
    return fd


def of_client(port):
    return _of_client(port)


def close_listener(port):
    fd = _listening(port)
    os.close(fd)
    return fd


def dup_over_client(port):
    null = os.open("/dev/null", os.O_RDWR)
    fd = _of_client(port)
    os.dup2(null, fd)
    os.close(null)
    return fd


def close_descriptor(fd):
    os.close(fd)


@app.route
def closes(environ, start_response):
    """Closes descriptors in the midst of a request."""
    what = arguments(environ)["what"]
    if what == "epoll":
        for fd in _anonymous("[eventpoll]"):
            os.close(fd)
    elif what == "eventfds":
        for fd in _anonymous("[eventfd]"):
            os.close(fd)
    elif what == "timerfds":
        for fd in _anonymous("[timerfd]"):
            os.close(fd)
    elif what in ("epoll-taken", "eventfds-taken", "timerfds-taken"):
        kind = {"epoll-taken": "[eventpoll]", "eventfds-taken": "[eventfd]", "timerfds-taken": "[timerfd]"}[what]
        for fd in _anonymous(kind):
            os.dup2(_taker.fileno(), fd)
    elif what == "range":
        os.closerange(3, 1000)
    elif what == "std":
        for fd in (0, 1, 2):
            os.close(fd)
    elif what == "own":
        os.close(_of_client(int(environ["REMOTE_PORT"])))
    return text(start_response, "closed")


@app.route
def limits_files(environ, start_response):
    """Lowers RLIMIT_NOFILE to what is open; the test raises it again by a call."""
    return text(start_response, str(limit_files(0)))


_first_limit = resource.getrlimit(resource.RLIMIT_NOFILE)


def limit_files(soft):
    soft = soft or len(os.listdir("/proc/self/fd")) - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return soft


# The process's surroundings


@app.route
def surroundings(environ, start_response):
    """Current directory, umask, environment, time zone, standard streams: none of it is the server's."""
    os.chdir("/")
    os.umask(0o777)
    os.environ.clear()
    os.environ.update(TZ="Asia/Kolkata", TMPDIR="/nonexistent", LC_ALL="tlh")
    time.tzset()
    sys.stdout.close()
    sys.stderr.close()
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None
    os.chdir("/proc")
    return text(start_response, "changed")


@app.route
def takes_locale(environ, start_response):
    """A locale with a decimal comma and names of its own for days and months."""
    locale.setlocale(locale.LC_ALL, arguments(environ)["name"])
    return text(start_response, f"{locale.format_string('%.1f', 1.5)}")


@app.route
def error_now(environ, start_response):
    raise LookupError("an error to be logged")


# Signals


@app.route
def sets_signals(environ, start_response):
    """Not on the main thread: Python refuses."""
    said = []
    for call in (lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN), lambda: signal.set_wakeup_fd(1)):
        try:
            call()
            said.append("no error")
        except ValueError as error:
            said.append(type(error).__name__)
    return text(start_response, " ".join(said))


@app.route
def signals_itself(environ, start_response):
    """In the middle of a request."""
    name = arguments(environ)["name"]
    if name == "interrupt_main":
        import _thread

        _thread.interrupt_main()
    else:
        os.kill(os.getpid(), getattr(signal, name))
    time.sleep(0.1)
    return text(start_response, "signalled")


@app.route
def masks_signals(environ, start_response):
    signal.pthread_sigmask(signal.SIG_SETMASK, range(1, signal.NSIG))
    return text(start_response, "masked")


@app.route
def sets_alarm(environ, start_response):
    """Whose handler was set at import: it runs on the main thread."""
    key = arguments(environ)["key"]
    probe.record("alarms", "armed", key)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    return text(start_response, "armed")


@app.route
def large(environ, start_response):
    """More than a socket takes: in blocks, or as a file."""
    start_response("200 OK", TEXT)
    if arguments(environ)["kind"] == "blocks":
        return (b"x" * 65536 for _ in range(1000))
    f = tempfile.TemporaryFile()
    f.truncate(100 << 20)
    return environ["wsgi.file_wrapper"](f)


# The interpreter


@app.route
def interpreter(environ, start_response):
    """Settings of the interpreter that an application has no business with."""
    sys.setswitchinterval(1e-6)
    gc.disable()
    gc.freeze()
    gc.set_threshold(1)
    sys.settrace(lambda *args: None)
    threading.settrace(lambda *args: None)
    threading.setprofile(lambda *args: None)
    sys.setprofile(lambda *args: None)
    sys.excepthook = threading.excepthook = sys.unraisablehook = _raise
    if not os.environ.get("FERMATA_SANITIZED"):  # both have a signal stack of their own for each thread
        faulthandler.enable()
    sys.modules.pop("traceback", None)
    return text(start_response, "set")


@app.route
def restores(environ, start_response):
    sys.setswitchinterval(0.005)
    gc.unfreeze()
    gc.enable()
    gc.set_threshold(700, 10, 10)
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    threading.setprofile(None)
    sys.setprofile(None)
    sys.excepthook, sys.unraisablehook = sys.__excepthook__, sys.__unraisablehook__
    threading.excepthook = threading.__excepthook__
    if faulthandler.is_enabled():
        faulthandler.disable()
    return text(start_response, "restored")


def _interpreters():
    try:
        import _interpreters as module  # 3.13
    except ImportError:
        import _xxsubinterpreters as module
    return module


def _in_subinterpreter(n):
    module = _interpreters()
    for _ in range(n):
        other = module.create()
        try:
            module.run_string(other, "import json\nfound = json.loads('[1]')\nassert found == [1]")
        finally:
            module.destroy(other)


@app.route
def subinterpreters(environ, start_response):
    """In the request's thread, and in one of its own."""
    _in_subinterpreter(2)
    thread = threading.Thread(target=_in_subinterpreter, args=(2,))
    thread.start()
    thread.join()
    return text(start_response, "ran")


@app.route
def calls_back(environ, start_response):
    """C code that has given up the GIL calls back into Python: qsort through ctypes."""
    libc = ctypes.CDLL(None)
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    values = (ctypes.c_int * 100)(*range(100, 0, -1))

    def compare(a, b):
        time.sleep(0)
        return a[0] - b[0]

    libc.qsort(values, len(values), ctypes.sizeof(ctypes.c_int), kind(compare))
    return text(start_response, str(list(values) == sorted(values)))


# At import


def import_signals():
    """Handlers of its own for what is the server's, and for what is not."""
    signal.signal(signal.SIGTERM, lambda *_: probe.record("alarms", "terminated"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, lambda *_: probe.record("alarms", "child"))
    signal.signal(signal.SIGALRM, _on_alarm)


def _on_alarm(*_):
    probe.record("alarms", "alarm", threading.current_thread() is threading.main_thread())


def import_forking_handler():
    signal.signal(signal.SIGALRM, lambda *_: _forks("alarms"))


def import_forking_atexit():
    """The child comes back to the end of Python, and goes on with that."""

    def forks():
        pid = os.fork()
        if pid:
            print("child", _wait(pid), flush=True)

    atexit.register(forks)


def import_raising_handler():
    signal.signal(signal.SIGALRM, lambda *_: _raise(SystemExit(9)))


def import_mask():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))


def import_threads():
    """A thread that never ends and is no daemon."""
    threading.Thread(target=time.sleep, args=(1000,), name="never-ends").start()


def import_atexit_hangs():
    """And nothing that a signal could do."""
    import_mask()
    atexit.register(time.sleep, 1000)


def import_atexit_raises():
    atexit.register(print, "registered first", flush=True)
    atexit.register(_raise, SystemExit(5))
    atexit.register(_raise, LookupError("raised at exit"))
    atexit.register(sys.stdout.write, "registered last\n")


def import_fork():
    """A helper process that is forked while the application is imported, and stays."""
    pid = os.fork()
    if pid == 0:
        live()
    children.append(pid)


def import_fork_and_return():
    """The child goes on as if it were the server; the parent too."""
    if os.fork() == 0:
        probe.__dict__["_answer"] = None


def import_patched_future():
    """As a library that has a better idea of what a future is."""

    class Patched(Future):
        pass

    class Foreign:
        def done(self):
            return True

    concurrent.futures.Future = Patched  # type: ignore[misc]
    globals()["Patched"], globals()["Foreign"] = Patched, Foreign


@app.route
def patched(environ, start_response):
    """A future of the class that has taken the place of concurrent.futures.Future, or that is none at all."""
    future = concurrent.futures.Future() if "own" in arguments(environ) else globals()["Foreign"]()
    if isinstance(future, Future):
        threading.Timer(0.02, future.set_result, [b"patched"]).start()
    yield future
    start_response("200 OK", TEXT)
    yield future.result()


if "MISBEHAVE" in os.environ:
    globals()["import_" + os.environ["MISBEHAVE"]]()
