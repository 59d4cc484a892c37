"""Applications behind wsgi_plus.validator, for servers/test_validator.py.  `key` names futures and what is recorded."""

from __future__ import annotations

import sys
import threading
import warnings
from concurrent.futures import Future

import pep3333
import probe
import suspend
from routes import TEXT, Routes, arguments, text
from suspend_futures import done
from wsgi_plus import WSGIPlusWarning, validated, validator, wait

warnings.simplefilter("always", WSGIPlusWarning)  # to the log, where the tests look for it

routes = Routes()


@routes.route
def park(environ, start_response):
    """Parks before and after a block, then answers with the results."""
    key = arguments(environ)["key"]
    try:
        probe.record(key, "parking")
        first = yield from wait(probe.future(f"{key}-first"))
        start_response("200 OK", TEXT)
        yield b"%s " % first.encode()
        second = yield from wait(probe.future(f"{key}-second"))
        yield second.encode()
    finally:
        probe.record(key, "finally")


@routes.route
def handled(environ, start_response):
    """Turns a failure into a 502."""
    try:
        yield probe.future(arguments(environ)["key"])
    except ValueError as error:
        yield from text(start_response, str(error), "502 Bad Gateway")


@routes.route
def unhandled(environ, start_response):
    asked = arguments(environ)
    if "after" in asked:
        start_response("200 OK", TEXT)
        yield b"begun"
    yield probe.future(asked["key"])


@routes.route
def blocked(environ, start_response):
    """A step that does not return before the test says so."""
    key = arguments(environ)["key"]
    start_response("200 OK", TEXT)
    try:
        yield b""
        probe.record(key, "blocking")
        probe.wait_gate(key)
        yield b"in vain"
    finally:
        probe.record(key, "finally")


class Body:
    """Records its close()."""

    def __init__(self, key):
        self.key = key

    def __iter__(self):
        return iter([b"in vain"])

    def close(self):
        probe.record(self.key, "finally")


@routes.route
def blocked_call(environ, start_response):
    """The call itself does not return."""
    key = arguments(environ)["key"]
    start_response("200 OK", TEXT)
    probe.record(key, "blocking")
    probe.wait_gate(key)
    return Body(key)


@routes.route
def blocked_and_replaces(environ, start_response):
    """Blocks after the first block, and has another answer then."""
    key = arguments(environ)["key"]
    start_response("200 OK", TEXT)
    try:
        yield b"begun"
        probe.record(key, "blocking")
        probe.wait_gate(key)
        try:
            raise ValueError("the reason")
        except ValueError:
            start_response("500 Internal Server Error", TEXT, sys.exc_info())
            yield b"in vain"
    finally:
        probe.record(key, "finally")


@routes.route
def stream(environ, start_response):
    """Much, with a future between each two blocks."""
    asked = arguments(environ)
    start_response("200 OK", TEXT)
    try:
        for _ in range(int(asked["n"])):
            future = Future()
            threading.Thread(target=future.set_result, args=[b"." * 65536]).start()
            yield future
            yield future.result()
    finally:
        probe.record(asked["key"], "finally")


@routes.route
def upload(environ, start_response):
    """Reads in several steps."""
    f = environ["wsgi.input"]
    size = len(f.read(10))
    yield done()
    size += len(f.readline())
    yield done()
    size += sum(map(len, f))
    return (yield from text(start_response, str(size)))


def delegating(app):
    def wrapped(environ, start_response):
        iterable = app(environ, start_response)
        try:
            yield from iterable
        finally:
            iterable.close()

    return wrapped


class Counted:
    """Has a throw, and looks at blocks only."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        return CountedBody(self.app(environ, start_response))


class CountedBody:
    def __init__(self, iterable):
        self.iterable, self.iterator, self.total = iterable, iter(iterable), 0

    def __iter__(self):
        return self

    def count(self, item):
        self.total += len(item) if isinstance(item, bytes) else 0
        return item

    def __next__(self):
        return self.count(next(self.iterator))

    def throw(self, error):
        return self.count(self.iterator.throw(error))

    def close(self):
        self.iterable.close()


def swallowing(app):
    """Wrong: whatever is not bytes is dropped."""

    def wrapped(environ, start_response):
        iterable = app(environ, start_response)
        try:
            for item in iterable:
                if isinstance(item, bytes):
                    yield item
        finally:
            iterable.close()

    return wrapped


def stringifying(app):
    """Wrong: as templates and old frameworks do it."""

    def wrapped(environ, start_response):
        iterable = app(environ, start_response)
        try:
            for item in iterable:
                yield item if isinstance(item, bytes) else str(item).encode()
        finally:
            iterable.close()

    return wrapped


def textual(environ, start_response):
    """Wrong: yields text after a suspension."""
    start_response("200 OK", TEXT)
    yield done()
    yield "text"


app = validated(routes, delegating, Counted)
swallowed = validated(routes, delegating, swallowing, Counted)
stringified = validated(routes, stringifying)
wrong = validator(textual)

checked_pep3333 = validated(pep3333.app)
checked_suspend = validated(suspend.app, delegating)


def checked_flaskr():
    import flaskr

    return validated(flaskr.create_app(), delegating)


def checked_mysite():
    from mysite import wsgi

    return validated(wsgi.application, delegating)
