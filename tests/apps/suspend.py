"""WSGI+ applications for the tests of S1 to S20.  `key` in the query string names what is recorded and the futures: the
test completes probe.future(key) when it wants to."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextvars
import functools
import itertools
import json
import sys
import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import probe
from routes import TEXT, Routes, arguments, text

app = Routes()


def done(value=None):
    f = Future()
    f.set_result(value)
    return f


def failed(message="failed on purpose"):
    f = Future()
    f.set_exception(ValueError(message))
    return f


def cancelled():
    f = Future()
    f.cancel()
    f.set_running_or_notify_cancel()
    return f


class Loop:
    """An asyncio loop in a thread of its own, started when first needed."""

    lock = threading.Lock()
    loop = None

    @classmethod
    def run(cls, coroutine):
        with cls.lock:
            if cls.loop is None:
                cls.loop = asyncio.new_event_loop()
                thread = threading.Thread(target=cls.loop.run_forever, name="asyncio-loop", daemon=True)
                thread.start()
                atexit.register(cls.stop, cls.loop, thread)
        return asyncio.run_coroutine_threadsafe(coroutine, cls.loop)

    @staticmethod
    def stop(loop, thread):
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


@functools.cache
def executor():
    return ThreadPoolExecutor(4, thread_name_prefix="executor")


# Plain parking


@app.route
def hello(environ, start_response):
    return text(start_response, "hello")


@app.route
def park(environ, start_response):
    """Parks on probe.future(key), then answers with its result."""
    key = arguments(environ)["key"]
    probe.record(key, "called", threading.current_thread().name)
    fut = probe.future(key)
    try:
        probe.record(key, "parking")
        got = yield fut
        probe.record(key, "resumed", [threading.current_thread().name, repr(got)])
        start_response("200 OK", TEXT)
        yield f"result {fut.result()}".encode()
    except GeneratorExit:
        probe.record(key, "exit", [probe.state(key), threading.current_thread().name])
        raise
    except BaseException as error:
        probe.record(key, "raised", repr(error))
        raise
    finally:
        probe.record(key, "finally")


@app.route
def park_after(environ, start_response):
    """Sends a block, parks, sends another."""
    key = arguments(environ)["key"]
    start_response("200 OK", TEXT)
    try:
        yield b"before "
        probe.record(key, "parking")
        yield probe.future(key)
        yield b"after"
    finally:
        probe.record(key, "finally")


@app.route
def park_after_write(environ, start_response):
    """Writes a block with write(), parks, sends another."""
    key = arguments(environ)["key"]
    start_response("200 OK", TEXT)(b"written ")
    yield probe.future(key)
    yield b"after"


@app.route
def park_after_empty(environ, start_response):
    """An empty block before parking sends nothing: the status can still change."""
    key = arguments(environ)["key"]
    start_response("200 OK", TEXT)
    yield b""
    yield probe.future(key)
    start_response("503 Changed", TEXT, caught())
    yield b"changed"


@app.route
def park_file(environ, start_response):
    """Reads its request body only after the resume."""
    key = arguments(environ)["key"]
    yield probe.future(key)
    start_response("200 OK", TEXT)
    yield environ["wsgi.input"].read()


@app.route
def many_parks(environ, start_response):
    """n suspensions, each on a future that a pool of threads completes, with a block between each two."""
    n = int(arguments(environ)["n"])
    start_response("200 OK", TEXT)
    for i in range(n):
        fut = executor().submit(lambda i=i: i)
        yield fut
        yield b"%d " % fut.result()


@app.route
def park_many_futures(environ, start_response):
    """Parks on key0, key1, ... in turn."""
    asked = arguments(environ)
    for i in range(int(asked["n"])):
        yield probe.future(f"{asked['key']}{i}")
    start_response("200 OK", TEXT)
    yield b"all"


@app.route
def timer(environ, start_response):
    """Parks until a timer completes the future."""
    asked = arguments(environ)
    fut = Future()
    t = threading.Timer(float(asked["s"]), fut.set_result, ["rang"])
    t.daemon = True
    t.start()
    yield fut
    start_response("200 OK", TEXT)
    yield fut.result().encode()


# S1: what suspends


class MyFuture(Future):
    """A subclass, with a __bool__ and __len__ that must not matter."""

    def __bool__(self):
        return False

    def __len__(self):
        return 0


class Iterator:
    """An iterable that is no generator, with nothing but __next__ and close."""

    def __init__(self, items, key="-"):
        self.items, self.key = iter(items), key

    def __iter__(self):
        return self

    def __next__(self):
        probe.record(self.key, "next")
        item = next(self.items)
        return item() if callable(item) else item

    def close(self):
        probe.record(self.key, "closed")


@app.route
def iterables(environ, start_response):
    """A future from iterables of many kinds, around two blocks."""
    asked = arguments(environ)
    start_response("200 OK", TEXT)
    fut = probe.later(0.05, asked["key"]) if "later" in asked else done()
    items = [b"before ", fut, b"after"]
    return {
        "list": lambda: items,
        "tuple": lambda: tuple(items),
        "iterator": lambda: Iterator(items),
        "map": lambda: map(lambda x: x, items),
        "chain": lambda: itertools.chain(items[:1], items[1:]),
        "generator": lambda: (x for x in items),
        "deque": lambda: __import__("collections").deque(items),
        "futures-only-last": lambda: [b"before ", b"after", fut],
        "future-first": lambda: [fut, b"before ", b"after"],
        "getitem": lambda: type("Old", (), {"__getitem__": lambda self, i: items[i]})(),
    }[asked["kind"]]()


@app.route
def subclass(environ, start_response):
    fut = MyFuture()
    threading.Timer(0.05, fut.set_result, ["of a subclass"]).start()
    yield fut
    start_response("200 OK", TEXT)
    yield fut.result().encode()


@app.route
def asyncio_wrapped(environ, start_response):
    """What run_coroutine_threadsafe gives is a concurrent.futures.Future."""
    fut = Loop.run(asyncio.sleep(0.05, "from asyncio"))
    assert isinstance(fut, concurrent.futures.Future)
    yield fut
    start_response("200 OK", TEXT)
    yield fut.result().encode()


@app.route
def wrong(environ, start_response):
    """Yields what is neither bytes nor a Future."""
    asked = arguments(environ)
    key = asked["key"]
    start_response("200 OK", TEXT)
    if "after" in asked:
        yield b"sent"

    async def coroutine():
        return None

    coro = None
    if asked["kind"] == "coroutine":
        coro = coroutine()
    made = {
        "str": lambda: "text",
        "int": lambda: 5,
        "none": lambda: None,
        "bytearray": lambda: bytearray(b"x"),
        "memoryview": lambda: memoryview(b"x"),
        "list-of-futures": lambda: [done(), done()],
        "tuple-of-futures": lambda: (done(), done()),
        "asyncio-future": lambda: asyncio.Future(loop=Loop.loop or asyncio.new_event_loop()),
        "coroutine": lambda: coro,
        "future-class": lambda: Future,
        "duck": lambda: type("Duck", (), {"add_done_callback": print, "done": lambda self: True, "result": print})(),
        "lambda": lambda: lambda: None,
    }[asked["kind"]]()
    try:
        yield made
        probe.record(key, "went on")
    finally:
        probe.record(key, "finally")
        if coro is not None:
            coro.close()


# S3, S10, S11, S20: many futures


@app.route
def done_many(environ, start_response):
    """n futures that are done already."""
    n = int(arguments(environ)["n"])
    depth = len(_stack())
    for i in range(n):
        yield done(i)
    start_response("200 OK", TEXT)
    yield f"{n} {len(_stack()) - depth}".encode()


def _stack():
    frame, frames = sys._getframe(), []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


class Hasty(Future):
    """Is completed by the first who registers a callback, before that returns."""

    def add_done_callback(self, fn):
        super().add_done_callback(fn)
        self.set_result(None)


@app.route
def done_meanwhile_then_block(environ, start_response):
    """A future that completes while the server registers with it, then a step that does not come back for long."""
    yield Hasty()
    probe.wait_gate(arguments(environ)["key"])
    start_response("200 OK", TEXT)
    yield b"late"


shared_failures: dict = {}


def _length(error):
    tb, n = error.__traceback__, 0
    while tb is not None:
        tb, n = tb.tb_next, n + 1
    return n


def _raised():
    try:
        raise ValueError("a failure that is shared")
    except ValueError as error:
        return error


@app.route
def shares_a_failure(environ, start_response):
    """One failed future for all who ask with this key; how: what they do about the failure.  The answer is how long its
    traceback was when it came, and the frames in it of another request."""
    asked = arguments(environ)
    future = shared_failures.get(asked["key"])
    if future is None:
        future = shared_failures[asked["key"]] = Future()
        future.set_exception(_raised())
    return _SHARING[asked["how"]](future, start_response)


def share_length(key):
    return _length(shared_failures[key].exception())


def _caught(future, start_response):
    try:
        yield future
    except ValueError as error:
        start_response("200 OK", TEXT)
        yield str(_length(error)).encode()


def _caught_and_parked(future, start_response):
    """And raises it again later, where it is not caught."""
    try:
        yield future
    except ValueError as error:
        length = _length(error)
        parked = Future()
        threading.Timer(0.01, parked.set_result, [None]).start()
        yield parked
        start_response(f"500 {length}", TEXT)
        raise


def _uncaught(future, start_response):
    yield from _delegated(future)


def _delegated(future):
    yield future


_SHARING = {
    "caught": _caught,
    "parked": _caught_and_parked,
    "uncaught": _uncaught,
    "no-throw": lambda future, start_response: iter([future]),
}


@app.route
def done_many_then_block(environ, start_response):
    """A block, then more done futures than are resumed in one go, then a step that does not come back for long."""
    start_response("200 OK", TEXT)
    yield b"first"
    for i in range(100):
        yield done(i)
    probe.wait_gate(arguments(environ)["key"])
    yield b" and last"


@app.route
def done_until(environ, start_response):
    """Done futures until the gate is open: what other request could open it if this one held its thread?"""
    key = arguments(environ)["key"]
    probe.record(key, "began")
    deadline = time.monotonic() + probe.LIMIT
    steps = 0
    while not probe._gate(key).is_set() and time.monotonic() < deadline:
        yield done()
        steps += 1
    start_response("200 OK", TEXT)
    yield b"stopped"


@app.route
def open_gate(environ, start_response):
    probe.open_gate(arguments(environ)["key"])
    return text(start_response, "open")


class AtOnce(Future):
    """Not done when looked at, done while add_done_callback runs: in the calling thread, before or after registering."""

    def __init__(self, when):
        super().__init__()
        self.when = when

    def add_done_callback(self, fn):
        if self.when == "before":
            self.set_result(None)
            super().add_done_callback(fn)
        elif self.when == "after":
            super().add_done_callback(fn)
            self.set_result(None)
        elif self.when == "other-thread":
            super().add_done_callback(fn)
            t = threading.Thread(target=self.set_result, args=(None,))
            t.start()
            t.join()
        elif self.when == "other-thread-running":  # completes it now and then, beside what follows
            super().add_done_callback(fn)
            threading.Thread(target=self.set_result, args=(None,)).start()
        elif self.when == "fails":
            super().add_done_callback(fn)
            self.set_exception(ValueError("failed in add_done_callback"))
        elif self.when == "raises":
            raise RuntimeError("add_done_callback raised")


@app.route
def at_once(environ, start_response):
    """n futures that become done within add_done_callback."""
    asked = arguments(environ)
    for _ in range(int(asked["n"])):
        yield AtOnce(asked["when"])
    start_response("200 OK", TEXT)
    yield b"all"


@app.route
def ping_pong(environ, start_response):
    """Two requests (side=0, side=1) that complete each other's futures, n times."""
    asked = arguments(environ)
    key, side, n = asked["key"], int(asked["side"]), int(asked["n"])
    for i in range(n):
        if side == 0:
            yield turn(key, i, 0)
            turn(key, i, 1).set_result(None)
        else:
            turn(key, i, 0).set_result(None)
            yield turn(key, i, 1)
    start_response("200 OK", TEXT)
    yield b"played"


_turns: dict = {}
_turns_lock = threading.Lock()


def turn(key, i, side):
    with _turns_lock:
        return _turns.setdefault((key, i, side), Future())


@app.route
def chain(environ, start_response):
    """Request i of n waits for future i and then completes future i + 1."""
    asked = arguments(environ)
    i = int(asked["i"])
    yield probe.future(f"{asked['key']}{i}")
    probe.complete(f"{asked['key']}{i + 1}")
    start_response("200 OK", TEXT)
    yield b"%d" % i


@app.route
def same_again(environ, start_response):
    """One request yields the same future n times: first pending, then done."""
    asked = arguments(environ)
    fut = probe.future(asked["key"])
    for i in range(int(asked["n"])):
        yield fut
        probe.record(asked["key"], "resumed", i)
    start_response("200 OK", TEXT)
    yield str(fut.result()).encode()


# S4


class Sender:
    """Delegates to a generator, and records what is used of it."""

    def __init__(self, inner, key, methods=("throw", "close")):
        self.inner, self.key = inner, key
        for name in methods:
            setattr(self, name, functools.partial(self._call, name))

    def _call(self, name, *args):
        probe.record(self.key, name, [repr(a) for a in args])
        return getattr(self.inner, name)(*args)

    def __iter__(self):
        return self

    def __next__(self):
        probe.record(self.key, "next")
        return next(self.inner)

    def send(self, value):
        probe.record(self.key, "send", repr(value))
        return self.inner.send(value)


@app.route
def value_of_yield(environ, start_response):
    """The values of the yields of a future, of a done future and of a block."""
    fut = probe.later(0.05, arguments(environ)["key"], "result")
    values = [(yield fut), (yield done("x"))]
    start_response("200 OK", TEXT)
    values.append((yield b""))
    yield json.dumps([*values, fut.result()]).encode()


@app.route
def sender(environ, start_response):
    """A wrapper that has send: it is never called."""
    key = arguments(environ)["key"]

    def inner():
        yield done()
        yield probe.later(0.05, key + "-future")
        start_response("200 OK", TEXT)
        yield b"sent"

    return Sender(inner(), key)


# S5: failures


def a_future(asked):
    """kind: failed or cancelled; late: after parking."""
    kind = asked["kind"]
    if "late" not in asked:
        return failed() if kind == "failed" else cancelled()
    f = Future()

    def complete():
        if kind == "failed":
            f.set_exception(ValueError("failed on purpose"))
        elif kind == "cancelled":
            f.cancel()
            f.set_running_or_notify_cancel()
        elif kind == "cancelled-only":  # cancel() alone runs the callbacks too
            f.cancel()
        else:
            f.set_exception(BaseException("a base exception"))

    threading.Timer(0.05, complete).start()
    return f


@app.route
def fails(environ, start_response):
    """As the RFC's example: does not look at the result."""
    asked = arguments(environ)
    key = asked["key"]
    try:
        if "after" in asked:
            start_response("200 OK", TEXT)
            yield b"sent before"
        yield a_future(asked)
        probe.record(key, "went on")
        if "after" not in asked:
            start_response("200 OK", TEXT)
        yield b"looks fine"
    except BaseException as error:
        probe.record(key, "thrown", [type(error).__module__ + "." + type(error).__qualname__, str(error)])
        raise
    finally:
        probe.record(key, "finally")


@app.route
def catches(environ, start_response):
    """Turns the failure into a 502."""
    asked = arguments(environ)
    fut = a_future(asked)
    try:
        yield fut
    except (ValueError, CancelledError, BaseException) as error:
        same = error is fut.exception() if not fut.cancelled() else type(error) is CancelledError
        start_response("502 Bad Gateway", TEXT)
        yield f"upstream: {type(error).__name__} {same}".encode()
    else:
        start_response("200 OK", TEXT)
        yield b"looks fine"


@app.route
def catches_and_parks(environ, start_response):
    """After a failure parks again, fails again, then answers: what throw() returns is an item like any other."""
    key = arguments(environ)["key"]
    caught_ = []
    for i in range(3):
        f = Future()
        threading.Timer(0.02, f.set_exception, [ValueError(f"failure {i}")]).start()
        try:
            yield f
        except ValueError as error:
            caught_.append(str(error))
    try:
        yield failed("done and failed")
    except ValueError as error:
        caught_.append(str(error))
        yield probe.later(0.02, key)
    start_response("200 OK", TEXT)
    yield json.dumps(caught_).encode()


@app.route
def catches_and_returns(environ, start_response):
    """Catches, and ends."""
    start_response("200 OK", TEXT)
    yield b"before"
    try:
        yield failed()
    except ValueError:
        return


@app.route
def catches_and_raises(environ, start_response):
    """Catches, and raises something else."""
    try:
        yield failed("the first")
    except ValueError as error:
        raise LookupError("the second") from error


@app.route
def catches_and_yields_nonsense(environ, start_response):
    """What throw() returns is checked like any item."""
    start_response("200 OK", TEXT)
    try:
        yield failed()
    except ValueError:
        yield "text"


@app.route
def fails_with_stop_iteration(environ, start_response):
    """A future that failed with StopIteration is no end."""
    f = Future()
    f.set_exception(StopIteration("no end"))
    start_response("200 OK", TEXT)
    yield b"sent before"
    yield f
    yield b"looks fine"


class Handback:
    """An iterator whose throw raises what it is given."""

    def __init__(self, items):
        self.items = iter(items)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.items)

    def throw(self, error):
        raise error


@app.route
def hands_back_stop_iteration(environ, start_response):
    """The same out of an iterator that is no generator: it hands the failure back, which looks like its end."""
    f = Future()
    f.set_exception(StopIteration("no end"))
    start_response("200 OK", TEXT)
    return Handback([b"sent before", f, b"looks fine"])


@app.route
def fails_without_throw(environ, start_response):
    """An iterable without throw: __next__ is never called after the failure."""
    asked = arguments(environ)
    start_response("200 OK", TEXT)
    items = [b"sent before"] if "after" in asked else []
    return Iterator([*items, functools.partial(a_future, asked), b"looks fine"], asked["key"])


@app.route
def fails_behind_wrapper(environ, start_response):
    """A generator behind werkzeug's ClosingIterator, map or chain, which forward only __next__."""
    asked = arguments(environ)
    key = asked["key"]

    def inner():
        try:
            yield a_future(asked)
            probe.record(key, "went on")
            start_response("200 OK", TEXT)
            yield b"looks fine"
        finally:
            probe.record(key, "finally")

    generator = inner()

    class ClosingIterator:
        def __init__(self, iterable, close):
            self._next, self.close = iter(iterable).__next__, close

        def __iter__(self):
            return self

        def __next__(self):
            return self._next()

    return {
        "closing": lambda: ClosingIterator(generator, generator.close),
        "map": lambda: map(lambda x: x, generator),
        "chain": lambda: itertools.chain(generator),
    }[asked["wrapper"]]()


@app.route
def throw_delegated(environ, start_response):
    """A wrapper that is no generator but has throw: the failure reaches the application through it."""
    key = arguments(environ)["key"]

    def inner():
        try:
            yield failed()
        except ValueError:
            start_response("502 Bad Gateway", TEXT)
            yield b"through the wrapper"

    return Sender(inner(), key)


def settled(fut):
    """A future that is done when fut is, and never fails."""
    out = Future()
    fut.add_done_callback(lambda _: out.set_result(None))
    return out


@app.route
def settled_(environ, start_response):
    """Behind a wrapper without throw an application waits for settled(fut), and looks at fut."""
    asked = arguments(environ)

    def inner():
        fut = a_future(asked)
        yield settled(fut)
        ok = not fut.cancelled() and fut.exception() is None
        start_response("200 OK" if ok else "502 Bad Gateway", TEXT)
        yield b"looked"

    return map(lambda x: x, inner())


# S6


def caught():
    try:
        raise ValueError("the reason for the change")
    except ValueError:
        return sys.exc_info()


@app.route
def start_before(environ, start_response):
    start_response("201 Before", TEXT)
    for i in range(3):
        yield probe.later(0.02, f"{arguments(environ)['key']}{i}")
    yield b"body"


@app.route
def start_after(environ, start_response):
    for i in range(3):
        yield probe.later(0.02, f"{arguments(environ)['key']}{i}")
    start_response("201 After", TEXT)
    yield b"body"


@app.route
def start_replaced(environ, start_response):
    """exc_info across a suspension, before headers have left."""
    start_response("200 OK", [("X-First", "1")])
    yield probe.later(0.02, arguments(environ)["key"])
    start_response("503 Replaced", TEXT, caught())
    yield b"body"


@app.route
def start_too_late(environ, start_response):
    """exc_info across a suspension, after headers have left: raises what it is given."""
    key = arguments(environ)["key"]
    start_response("200 OK", TEXT)
    yield b"sent"
    yield probe.later(0.02, key + "-future")
    try:
        start_response("500 Too late", TEXT, caught())
    except ValueError as error:
        probe.record(key, "raised", str(error))
        raise


@app.route
def start_twice(environ, start_response):
    """A second call without exc_info, across a suspension, is an error."""
    start_response("200 OK", TEXT)
    yield probe.later(0.02, arguments(environ)["key"])
    start_response("200 OK", TEXT)
    yield b"looks fine"


@app.route
def start_never(environ, start_response):
    yield probe.later(0.02, arguments(environ)["key"])
    yield b"looks fine"


@app.route
def headers_at_the_end(environ, start_response):
    """Headers without a body leave at the end, not with the suspension."""
    start_response("200 OK", TEXT)
    yield probe.future(arguments(environ)["key"])


# S7, S9: close, context, overlap

tag = contextvars.ContextVar("tag", default="unset")
local = threading.local()


class Watched:
    """Wraps a generator and records, for every step and close, thread, context variable, and whether two overlap."""

    def __init__(self, inner, key):
        self.inner, self.key, self.busy = inner, key, threading.Lock()

    def __iter__(self):
        return self

    def _guarded(self, name, call):
        if not self.busy.acquire(blocking=False):
            probe.record(self.key, "overlap", name)
            self.busy.acquire()
        try:
            probe.record(self.key, name, [threading.current_thread().name, tag.get()])
            return call()
        finally:
            self.busy.release()

    def __next__(self):
        return self._guarded("next", self.inner.__next__)

    def throw(self, *error):
        return self._guarded("throw", functools.partial(self.inner.throw, *error))

    def close(self):
        return self._guarded("closed", self.inner.close)


@app.route
def watched(environ, start_response):
    """Sets the context variable, then does what is asked: a string of steps, one letter each:
    b block, p park until probe.future, t park on a timer, g wait at a gate in a step, f fail by a future, e raise, h headers only."""
    asked = arguments(environ)
    key = asked["key"]
    tag.set(key)

    def steps():
        started = False
        futures = itertools.count()
        for letter in asked["do"]:
            if letter == "b":
                if not started:
                    start_response("200 OK", TEXT)
                    started = True
                yield b"block "
            elif letter == "p":
                probe.record(key, "parking")
                yield probe.future(f"{key}{next(futures)}")
            elif letter == "t":
                yield probe.later(0.02, f"{key}-timer{next(futures)}")
            elif letter == "d":
                yield done()
            elif letter == "g":
                probe.record(key, "at the gate")
                probe.wait_gate(key)
                probe.record(key, "through the gate")
            elif letter == "f":
                yield a_future({"kind": "failed", "late": "1"})
            elif letter == "e":
                raise RuntimeError("raised on purpose")
        if not started:
            start_response("200 OK", TEXT)

    return Watched(steps(), key)


@app.route
def context(environ, start_response):
    """The context variable before, after several suspensions, and in close."""
    asked = arguments(environ)
    key = asked["key"]
    seen = [tag.get()]
    tag.set(key)
    local.value = key
    try:
        for i in range(int(asked.get("n", 5))):
            yield executor().submit(time.sleep, 0.001)
            seen.append(tag.get())
            tag.set(f"{key}-{i}")
        start_response("200 OK", TEXT)
        yield json.dumps(seen).encode()
    finally:
        probe.record(key, "in close", tag.get())


@app.route
def context_of_call(environ, start_response):
    """A context variable set in the call of the application is there in the steps."""
    asked = arguments(environ)
    before = tag.get()
    token = tag.set(asked["key"])

    def body():
        yield probe.later(0.02, asked["key"])
        tag.reset(token)  # only possible in the very same context
        start_response("200 OK", TEXT)
        yield f"{before} {tag.get()}".encode()

    return body()


@app.route
def threads_of_steps(environ, start_response):
    """Which threads ran the steps; futures are completed in threads of other names."""
    names = []
    for i in range(20):
        yield Loop.run(asyncio.sleep(0)) if i % 2 else executor().submit(int)
        names.append(threading.current_thread().name)
    start_response("200 OK", TEXT)
    yield json.dumps(names).encode()


@app.route
def race(environ, start_response):
    """n suspensions on futures that another thread completes at once, around the moment of parking; counts overlaps."""
    n = int(arguments(environ)["n"])
    busy = threading.Lock()
    counter = 0

    def body():
        nonlocal counter
        for _ in range(n):
            assert busy.acquire(blocking=False), "two steps of one request overlap"
            counter += 1
            fut = Future()
            busy.release()
            executor().submit(fut.set_result, None)
            yield fut
        start_response("200 OK", TEXT)
        yield b"%d" % counter

    return body()


# S8


@app.route
def cancels(environ, start_response):
    """Cancels its future when it is closed, as the wait() helper does."""
    key = arguments(environ)["key"]
    fut = probe.future(key)
    try:
        probe.record(key, "parking")
        yield fut
    except GeneratorExit:
        probe.record(key, "exit", fut.cancel())
        raise


@app.route
def close_parks(environ, start_response):
    """Yields a future when it is closed: an error of the application, which must not park it."""
    key = arguments(environ)["key"]
    try:
        probe.record(key, "parking")
        yield probe.future(key)
    finally:
        probe.record(key, "finally")
        yield done()


# S10

shared = threading.Lock()


@app.route
def needs_lock(environ, start_response):
    """Every step takes a lock that the completing thread holds while it completes: not to be run inside the callback."""
    key = arguments(environ)["key"]
    with shared:
        fut = probe.future(key)
    yield fut
    with shared:
        start_response("200 OK", TEXT)
        yield b"got the lock"


def complete_holding_the_lock(key):
    """Completes the future while it holds the lock; how long that took."""
    with shared:
        began = time.monotonic()
        probe.complete(key)
        return time.monotonic() - began


def complete_in_the_loop(prefix):
    """Completes all futures of the prefix in the asyncio loop's thread; how long the loop was held up."""

    async def complete():
        began = time.monotonic()
        number = probe.complete_all(prefix)
        return [number, time.monotonic() - began]

    return Loop.run(complete()).result(probe.LIMIT)


# S13, S14


@app.route
def blocks(environ, start_response):
    """mb megabytes in blocks of size, recording how far it has come."""
    asked = arguments(environ)
    key, size = asked["key"], int(asked.get("size", 65536))
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    left = int(asked["mb"]) << 20
    serial = 0
    progress[key] = 0
    try:
        while left:
            block = (b"%015d\n" % serial) * (size // 16)
            yield block[:left]
            left -= len(block[:left])
            serial += 1
            progress[key] = serial
    finally:
        probe.record(key, "finally", serial)


progress: dict = {}


def progress_of(key):
    return progress.get(key, -1)


@app.route
def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    probe.record(arguments(environ).get("key", "-"), "called", len(body))
    return text(start_response, body)


@app.route
def sleep(environ, start_response):
    time.sleep(float(arguments(environ)["s"]))
    return text(start_response, "slept")


@app.route
def gate(environ, start_response):
    """Blocks its thread in a step until the test opens the gate."""
    key = arguments(environ)["key"]
    probe.record(key, "entered")
    probe.wait_gate(key)
    probe.record(key, "left")
    return Iterator([lambda: text(start_response, "opened")[0]], key)


# S15: middleware


def upper(inner, environ, start_response):
    """As PEP 3333's middleware, with yield from: what is a Future passes, what is bytes is changed."""
    result = inner(environ, start_response)

    def body():
        yield from result

    return body()


def pass_through(inner, environ, start_response):
    """A for loop that passes items on: futures pass, throw does not reach the application."""
    result = inner(environ, start_response)
    try:
        for item in result:
            yield item
    finally:
        if hasattr(result, "close"):
            result.close()


def transforming(inner, environ, start_response):
    for item in inner(environ, start_response):
        yield item if isinstance(item, Future) else item.upper()


MIDDLEWARE = {"yield-from": upper, "for": pass_through, "transforming": transforming}


def proxying(environ, start_response):
    """Parks, answers; turns a failure into a 502."""
    asked = arguments(environ)
    key = asked["key"]
    try:
        try:
            yield a_future(asked) if asked["kind"] != "fine" else probe.later(0.02, key + "-future")
        except ValueError:
            start_response("502 Bad Gateway", TEXT)
            yield b"bad gateway"
            return
        start_response("200 OK", TEXT)
        yield b"fine"
        probe.record(key, "parking")
        if "park" in asked:
            yield probe.future(key)
    finally:
        probe.record(key, "finally")


@app.route
def middleware(environ, start_response):
    inner = proxying
    for name in arguments(environ)["through"].split(","):
        inner = functools.partial(MIDDLEWARE[name], inner)
    return inner(environ, start_response)


@app.route
def version(environ, start_response):
    return text(start_response, repr(environ.get("wsgi_plus.version")))


# S19


@app.route
def effects(environ, start_response):
    """Has effects around suspensions, whatever the method and status."""
    asked = arguments(environ)
    key = asked["key"]
    try:
        probe.record(key, "one")
        yield probe.later(0.02, key + "-a")
        start_response(asked.get("status", "200 OK"), TEXT)
        yield b"dropped "
        probe.record(key, "two")
        yield probe.later(0.02, key + "-b")
        yield b"as well"
        probe.record(key, "three")
    finally:
        probe.record(key, "finally")


@app.route
def ticks(environ, start_response):
    """A short block every so many seconds, until it is closed."""
    asked = arguments(environ)
    key, every = asked["key"], float(asked["every"])
    start_response("200 OK", TEXT)
    try:
        for i in itertools.count():
            yield b"tick\n"
            yield probe.later(every, f"{key}-{i}")
    finally:
        probe.record(key, "closed")
