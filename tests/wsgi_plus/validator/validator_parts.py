"""What the tests of wsgi_plus.validator are made of: a server, applications and middleware that are right, and rows of
what is wrong."""

from __future__ import annotations

import contextvars
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults

import pytest
from byhand import BOUND, cancelled, done, failed
from wsgi_plus import WSGIPlusError, blocking, validated
from wsgi_plus._validator._rules import RULES

PLAIN = [("Content-Type", "text/plain")]
SERVER = "the server (or what is around the outermost validator)"
APP = "the application"


def an_environ(**changes):
    environ = {"wsgi_plus.version": (1, 0), **changes}
    setup_testing_defaults(environ)
    return environ


def plain_environ():
    """Of a server that has promised nothing about contexts, such as a test that calls the application itself."""
    environ = an_environ()
    del environ["wsgi_plus.version"]
    return environ


class Server:
    """Does everything right (S5, S7, S9).  Pieces of it are overridden to do something wrong."""

    def __init__(self, environ=None):
        self.environ = an_environ() if environ is None else environ
        self.context = contextvars.Context()
        self.status = None
        self.blocks = []

    def run(self, app):
        """Gives the status and the body."""
        self.body = self.within(self.call, app)
        try:
            self.iterate(self.within(self.iterator))
        finally:
            self.within(self.close)
        return self.status, b"".join(self.blocks)

    def within(self, function, *args):
        return self.context.run(function, *args)

    def call(self, app):
        return app(self.environ, self.start_response)

    def start_response(self, status, headers, exc_info=None):
        if exc_info and any(self.blocks):
            raise exc_info[1]
        self.status = status
        return self.blocks.append

    def iterator(self):
        return iter(self.body)

    def iterate(self, iterator):
        future = None
        while True:
            try:
                item = self.within(self.advance, iterator, future)
            except StopIteration:
                return
            future = item if isinstance(item, Future) else None
            if future is None:
                self.blocks.append(item)

    def advance(self, iterator, future):
        error = None if future is None else self.outcome(future)
        if error is None:
            return next(iterator)
        if not hasattr(iterator, "throw"):
            raise error
        return iterator.throw(error)

    def outcome(self, future):
        try:
            return future.exception(BOUND)
        except CancelledError as error:
            return error

    def close(self):
        self.body.close()


def serve(app, *middleware, server=Server, **changes):
    return server(an_environ(**changes)).run(validated(app, *middleware))


def run(app, *middleware, **how):
    """The same, later."""
    return lambda: serve(app, *middleware, **how)


class Leaves(Server):
    """The client leaves after the first item."""

    def iterate(self, iterator):
        self.within(next, iterator)


class Wrong(NamedTuple):
    """A breach of a rule."""

    rule: str  # in the validator's table
    number: str
    guilty: str  # how the name of the guilty one begins
    breach: Callable[[], object]
    right: Callable[[], object]  # the same, done right

    def check(self) -> None:
        with pytest.raises(WSGIPlusError) as caught:
            self.breach()
        error = caught.value
        assert str(error).startswith(f"{self.number}: {self.guilty}")
        said = re.sub(r"\\{\w+\\}", ".+", re.escape(RULES[self.rule].broken))
        assert re.search(f" {said}[.] ", str(error), re.DOTALL)
        assert error.number == self.number
        assert error.guilty.startswith(self.guilty)
        self.right()


def each(rows: list[Wrong]) -> Any:
    """Parametrizes a test with the rows."""
    names = [f"{row.rule}-{row.guilty.split()[-1].rstrip(')')}-{place}" for place, row in enumerate(rows)]
    return pytest.mark.parametrize("row", rows, ids=names)


# Applications that are right


def hello(environ, start_response):
    start_response("200 OK", PLAIN)
    return [b"hello ", b"world"]


def waits(environ, start_response):
    yield done()
    start_response("200 OK", PLAIN)
    yield b""
    yield b"hello "
    yield done()
    yield done()
    yield b"world"
    yield done()


def waits_long(environ, start_response):
    """The future is completed by another thread."""
    future = Future()
    threading.Timer(0.01, future.set_result, ["hello world"]).start()
    yield future
    start_response("200 OK", PLAIN)
    yield future.result().encode()


def handles_failures(environ, start_response):
    start_response("200 OK", PLAIN)
    for future, text in ((failed(), b"hello "), (cancelled(), b"world")):
        try:
            yield future
        except (ValueError, CancelledError):
            yield text


def replaces(environ, start_response):
    """S6.4: a failure after start_response and an empty block is answered with another status."""
    start_response("200 OK", PLAIN)
    yield b""
    try:
        yield failed()
    except ValueError:
        start_response("502 Bad Gateway", PLAIN, sys.exc_info())
        yield b"no upstream"


def reads(environ, start_response):
    f = environ["wsgi.input"]
    data = f.read(2) + f.readline() + f.readline(1) + b"".join(f.readlines(1)) + b"".join(f) + f.read()
    print("read", data, file=environ["wsgi.errors"])
    environ["wsgi.errors"].writelines(["one\n", "two\n"])
    environ["wsgi.errors"].flush()
    start_response("200 OK", PLAIN)
    yield data


def writes(environ, start_response):
    write = start_response("200 OK", [*PLAIN, ("Content-Length", "11")])
    write(b"hello ")
    return [done(), b"world"]


def headless(environ, start_response):
    """HEAD, 204: nothing is sent, so lengths and types are not looked at."""
    start_response("204 No Content", [("Content-Length", "5")])
    return [b"dropped"]


class Old:
    """Iterable by its __getitem__ only."""

    def __getitem__(self, number):
        return [b"hello ", done(), b"world"][number]


class Separate:
    """Not its own iterator (S7.4)."""

    def __init__(self, items):
        self.items = items
        self.closed = 0

    def __iter__(self):
        yield from self.items

    def close(self):
        self.closed += 1


def giving(make):
    def gives(environ, start_response):
        start_response("200 OK", PLAIN)
        return make()

    return gives


def app_that(*steps):
    """An application that takes the steps: items, and functions of environ and start_response that may give one."""

    def application(environ, start_response):
        for step in steps:
            item = step(environ, start_response) if callable(step) and not isinstance(step, Future) else step
            if item is not None:
                yield item

    return application


def start(status="200 OK", headers=PLAIN, *args, **kwargs):
    def step(environ, start_response):
        start_response(status, headers, *args, **kwargs)

    return step


FAILS = app_that(start(), failed(), b"hello world")
SOON = app_that(start(), b"hello ", done(), b"world")


def never_done():
    """Yields a future that is not done."""
    return app_that(start(), Future(), b"hello world")


def raises_then_goes_on(environ, start_response):
    """Not an application to be proud of: it has more after it has failed."""
    start_response("200 OK", PLAIN)

    class Body:
        items = iter([b"hello ", ValueError("on purpose"), b"world"])

        def __iter__(self):
            return self

        def __next__(self):
            item = next(self.items)
            if isinstance(item, Exception):
                raise item
            return item

    return Body()


APPLICATIONS = {
    "hello": hello,
    "waits": waits,
    "waits-long": waits_long,
    "handles-failures": handles_failures,
    "old": giving(Old),
    "separate": giving(lambda: Separate([b"hello ", done(), b"world"])),
    "tuple": giving(lambda: (done(), b"hello ", b"world")),
    "writes": writes,
}


# Middleware that is right


def untouched(app):
    return lambda environ, start_response: app(environ, start_response)


def delegating(app):
    def wrapped(environ, start_response):
        iterable = app(environ, start_response)
        try:
            yield from iterable
        finally:
            iterable.close()

    return wrapped


def looping(app):
    """S15.3: a failure ends the request here."""

    def wrapped(environ, start_response):
        iterable = app(environ, start_response)
        try:
            for item in iterable:
                yield item
        finally:
            iterable.close()

    return wrapped


class Mapped:
    """Has a throw, and changes blocks only."""

    def __init__(self, change, iterable):
        self.change, self.iterable, self.iterator = change, iterable, iter(iterable)

    def __iter__(self):
        return self

    def map(self, item):
        return self.change(item) if isinstance(item, bytes) else item

    def __next__(self):
        return self.map(next(self.iterator))

    def throw(self, error):
        if not hasattr(self.iterator, "throw"):
            raise error
        return self.map(self.iterator.throw(error))

    def close(self):
        self.iterable.close()


def swapping(app):
    return lambda environ, start_response: Mapped(bytes.swapcase, app(environ, start_response))


def joining(app):
    """Needs the whole body before it can send anything, and passes futures on."""

    def wrapped(environ, start_response):
        said, blocks = [], []

        def start(status, headers, exc_info=None):
            said[:] = status, headers
            return blocks.append

        iterable = app(environ, start)
        try:
            for item in iterable:
                if isinstance(item, bytes):
                    blocks.append(item)
                else:
                    yield item
        finally:
            iterable.close()
        status, headers = said
        start_response(status, headers)
        yield b"".join(blocks)

    return wrapped


def waiting_first(app):
    """S15.7: futures of its own, and a block of its own before one that passes."""

    def wrapped(environ, start_response):
        yield done()
        iterable = app(environ, start_response)
        try:
            for item in iterable:
                yield done()
                yield item
                yield done()
        finally:
            iterable.close()

    return wrapped


def flushing(app):
    """What it has kept of the blocks goes out before the future, and then the future."""

    def wrapped(environ, start_response):
        kept = b""
        iterable = app(environ, start_response)
        try:
            for item in iterable:
                if isinstance(item, bytes):
                    kept += item
                    continue
                if kept:
                    yield kept
                    kept = b""
                yield item
            if kept:
                yield kept
        finally:
            iterable.close()

    return wrapped


def without_throw(app):
    class Body:
        def __init__(self, iterable):
            self.iterable = iterable

        def __iter__(self):
            return map(lambda item: item, self.iterable)

        def close(self):
            self.iterable.close()

    return lambda environ, start_response: Body(app(environ, start_response))


def answering(app):
    """Catches a failure, and answers it itself."""

    def wrapped(environ, start_response):
        iterable = app(environ, start_response)
        try:
            for item in iterable:
                yield item
        except ValueError:
            start_response("502 Bad Gateway", PLAIN, sys.exc_info())
            yield b"answered"
        finally:
            iterable.close()

    return wrapped


def copying(app):
    """Makes a new environ, so that nothing in there leads from layer to layer."""
    return lambda environ, start_response: app(dict(environ), start_response)


MIDDLEWARE = {
    f.__name__: f
    for f in (
        *(
            untouched,
            delegating,
            looping,
            swapping,
            joining,
            waiting_first,
            flushing,
            without_throw,
            answering,
            copying,
        ),
        blocking,
    )
}


def catching(environ, start_response):
    """An application that catches what start_response raises."""
    try:
        start_response("OK", PLAIN)
    except Exception:
        start_response("200 OK", PLAIN)
    yield b"fine"
