"""WSGI+ applications whose futures fail, and when they call start_response: S5, S6."""

from __future__ import annotations

import functools
import itertools
import json
import threading
from concurrent.futures import CancelledError, Future

import probe
from routes import TEXT, Routes, arguments
from suspend_futures import Iterator, a_future, caught, failed
from suspend_many import Sender

app = Routes()


# S5: failures


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
