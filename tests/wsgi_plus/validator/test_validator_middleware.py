"""wsgi_plus.validator: what two of them see of the middleware between them (S15)."""

from __future__ import annotations

import contextvars
import itertools
from concurrent.futures import Future

import pytest
from byhand import BOUND, done
from validator_parts import (
    FAILS,
    SOON,
    Leaves,
    Mapped,
    Wrong,
    answering,
    app_that,
    delegating,
    each,
    handles_failures,
    hello,
    joining,
    looping,
    never_done,
    raises_then_goes_on,
    run,
    start,
    waits,
    waits_long,
)
from wsgi_plus import blocking, shield

pytestmark = pytest.mark.filterwarnings("error")


def wrong(change):
    """A decorator: middleware that changes the iterable, and does the rest right."""

    def middleware(app):
        def wrapped(environ, start_response):
            iterable = app(environ, start_response)
            try:
                yield from change(iterable)
            finally:
                iterable.close()

        return wrapped

    middleware.__qualname__ = change.__name__
    return middleware


@wrong
def strings(iterable):
    for item in iterable:
        yield item if isinstance(item, bytes) else str(item).encode()


@wrong
def templates(iterable):
    for item in iterable:
        yield item if isinstance(item, bytes) else str(item).replace("<", "&lt;").replace(">", "&gt;").encode()


@wrong
def joins(iterable):
    yield b"".join(iterable)


@wrong
def joins_pairs(iterable):
    """Two at a time."""
    iterator = iter(iterable)
    while pair := list(itertools.islice(iterator, 2)):
        yield b"".join(pair)


@wrong
def joins_with_prefix(iterable):
    for item in iterable:
        yield b"".join([b"> ", item])


@wrong
def counts(iterable):
    total = 0
    for item in iterable:
        total += len(item)
        yield item


@wrong
def lists(iterable):
    yield from list(iterable)


@wrong
def swallows(iterable):
    for item in iterable:
        if isinstance(item, bytes):
            yield item


@wrong
def swallows_the_last(iterable):
    """Stops at the first future."""
    for item in iterable:
        if not isinstance(item, bytes):
            return
        yield item


@wrong
def prefetches(iterable):
    """Is always one item ahead."""
    iterator = iter(iterable)
    item = next(iterator)
    while item is not None:
        following = next(iterator, None)
        yield item
        item = following


@wrong
def goes_on(iterable):
    """Catches the failure, and takes the next item."""
    iterator = iter(iterable)
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        try:
            yield item
        except ValueError:
            pass


@wrong
def gives_up(iterable):
    """Catches the failure, and ends as if that were all."""
    try:
        for item in iterable:
            yield item
    except ValueError:
        pass


class DoneWhenAsked(Future):
    """Completed by the thread that waits for it: not done when it is yielded, however slow the machine is."""

    def result(self, timeout=None):
        if not self.done():
            self.set_result(None)
        return super().result(timeout)


@wrong
def waits_itself(iterable):
    for item in iterable:
        if isinstance(item, Future):
            item.result(BOUND)
        else:
            yield item


@wrong
def shields(iterable):
    """Hands another future on."""
    for item in iterable:
        yield shield(item) if isinstance(item, Future) else item


@wrong
def stutters(iterable):
    for item in iterable:
        yield item
        if isinstance(item, Future):
            yield item


@wrong
def pads(iterable):
    for item in iterable:
        if isinstance(item, Future):
            yield b""
        yield item


@wrong
def throws_another(iterable):
    iterator = iter(iterable)
    item = next(iterator)
    while True:
        try:
            yield item
            item = next(iterator)
        except ValueError as error:
            item = iterator.throw(RuntimeError(str(error)))
        except StopIteration:
            return


@wrong
def sends(iterable):
    iterator = iter(iterable)
    item = next(iterator)
    while True:
        value = yield item
        try:
            item = iterator.send(value)
        except StopIteration:
            return


@wrong
def never_takes_no(iterable):
    """Goes on and on, whatever is raised."""
    iterator = iter(iterable)
    while True:
        try:
            yield next(iterator)
        except StopIteration:
            return
        except Exception:
            pass


@wrong
def swallows_everything(iterable):
    """Even what the validator says."""
    try:
        for item in iterable:
            if isinstance(item, bytes):
                yield item
    except Exception:
        yield b"sorry"


class Draining(Mapped):
    """Lets the application come to its end when the client has left."""

    def close(self):
        for _ in self.iterator:
            pass
        super().close()


def drains(app):
    return lambda environ, start_response: Draining(bytes, app(environ, start_response))


def in_other_contexts(app):
    def wrapped(environ, start_response):
        iterable = app(environ, start_response)
        iterator = iter(iterable)
        try:
            while True:
                try:
                    yield contextvars.copy_context().run(next, iterator)
                except StopIteration:
                    return
        finally:
            iterable.close()

    return wrapped


def drops_close(app):
    def wrapped(environ, start_response):
        yield from app(environ, start_response)

    return wrapped


def keeps_and_drops_close(app):
    kept = []

    def wrapped(environ, start_response):
        kept.append(app(environ, start_response))
        yield from kept[-1]

    return wrapped


def closes_twice(app):
    def wrapped(environ, start_response):
        iterable = app(environ, start_response)
        try:
            yield from iterable
        finally:
            iterable.close()
            iterable.close()

    return wrapped


def row(rule, number, middleware, app, right, *, right_app=None, server=None):
    """A row for middleware: ``right`` is the middleware that does well with the application, or with ``right_app``."""
    how = {} if server is None else {"server": server}
    guilty = f"the middleware {middleware.__qualname__}"
    return Wrong(rule, number, guilty, run(app, middleware, **how), run(right_app or app, right, **how))


TWO_FUTURES = app_that(start(), *[done()] * 2, b"x")
NO_FUTURE = app_that(start(), b"x")

ROWS = [
    row("text", "S15.5", strings, SOON, looping),
    row("text", "S15.5", templates, SOON, looping),
    row("choked", "S15.5", joins_with_prefix, SOON, joining),
    row("choked", "S15.5", joins_pairs, SOON, joining),
    row("choked", "S15.5", counts, SOON, counts, right_app=hello),
    row("skipped", "S15.1", joins, SOON, joining),
    row("skipped", "S15.1", lists, SOON, lists, right_app=hello),
    row("skipped", "S15.1", lists, never_done(), lists, right_app=hello),
    row("skipped", "S15.1", swallows, SOON, looping),
    row("skipped", "S15.1", swallows, never_done(), swallows, right_app=hello),
    row("skipped", "S15.1", swallows_everything, SOON, swallows_everything, right_app=hello),
    row("skipped", "S15.1", prefetches, SOON, prefetches, right_app=hello),
    row("skipped", "S15.1", shields, SOON, shields, right_app=hello),
    row("early", "S15.1", drains, app_that(Future()), drains, right_app=NO_FUTURE, server=Leaves),
    row("waited", "S15.8", waits_itself, app_that(start(), DoneWhenAsked(), b"hello world"), blocking, right_app=waits_long),
    row("lost", "S15.1", swallows_the_last, SOON, looping),
    row("twice", "S15.1", stutters, SOON, looping, right_app=TWO_FUTURES),
    row("empty", "S15.6", pads, SOON, looping, right_app=app_that(start(), b"", done(), b"", b"x")),
    row("send", "S4.1", sends, waits, delegating),
    row("failure", "S15.3", goes_on, FAILS, goes_on, right_app=SOON),
    row("failure", "S15.3", never_takes_no, FAILS, never_takes_no, right_app=SOON),
    row("went-on", "S15.3", never_takes_no, raises_then_goes_on, never_takes_no, right_app=hello),
    row("swallowed", "S15.3", gives_up, FAILS, answering),
    row("throw-other", "S15.2", throws_another, handles_failures, throws_another, right_app=SOON),
    row("context", "S9.4", in_other_contexts, waits, looping),
    row("close-missing", "S15.4", drops_close, waits, delegating),
    row("close-missing", "S15.4", keeps_and_drops_close, waits, delegating),
    row("close-twice", "S15.4", closes_twice, hello, delegating),
]


@each(ROWS)
def test_breach(row):
    row.check()
