"""wsgi_plus.validator: items, resumption, steps, contexts and close() (S1, S4, S5, S7, S9), server and application."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import Future

import pytest
from byhand import BOUND, cancelled, done, failed
from validator_parts import (
    APP,
    FAILS,
    PLAIN,
    SERVER,
    SOON,
    Leaves,
    Server,
    Wrong,
    app_that,
    each,
    giving,
    handles_failures,
    hello,
    never_done,
    raises_then_goes_on,
    run,
    serve,
    start,
    waits,
    waits_long,
)

pytestmark = pytest.mark.filterwarnings("error")


# Servers that are wrong


class Hasty(Server):
    """Does not wait."""

    def advance(self, iterator, future):
        return next(iterator)


class Optimist(Server):
    """Waits, and does not look how the future has ended."""

    def outcome(self, future):
        super().outcome(future)


class Pessimist(Server):
    """Throws whatever it was."""

    def outcome(self, future):
        return super().outcome(future) or RuntimeError("not so bad")


class Thrower(Server):
    def advance(self, iterator, future):
        return super().advance(iterator, future) if future is None else iterator.throw(*self.thrown(future))

    def thrown(self, future):
        raise NotImplementedError


class ThrowsAnother(Thrower):
    def thrown(self, future):
        return (RuntimeError("another"),)


class ThrowsThree(Thrower):
    def thrown(self, future):
        error = self.outcome(future)
        return type(error), error, None


class ThrowsAtBlocks(Server):
    def advance(self, iterator, future):
        return iterator.throw(ValueError("why")) if self.blocks else super().advance(iterator, future)


class Sender(Server):
    def advance(self, iterator, future):
        return iterator.send(future.result()) if future is not None else next(iterator)


class Stubborn(Server):
    """Goes on after the iteration has failed."""

    def advance(self, iterator, future):
        try:
            return super().advance(iterator, future)
        except ValueError:
            return super().advance(iterator, None)


class TwoContexts(Server):
    def within(self, function, *args):
        return contextvars.Context().run(function, *args)


class CopiedContexts(Server):
    """Each step in a copy of the context of the call: what steps set in it is lost."""

    def iterate(self, iterator):
        for _ in range(3):
            self.context.copy().run(next, iterator)


class CloseElsewhere(Server):
    def run(self, app):
        self.body = self.within(self.call, app)
        self.iterate(self.within(self.iterator))
        contextvars.Context().run(self.close)


class OneContextForAll(Server):
    contexts = contextvars.Context()

    def __init__(self, environ=None):
        super().__init__(environ)
        self.context = self.contexts

    def run(self, app):
        Server.run(self, app)
        again = Server()
        again.context = self.context
        again.run(app)


class InheritedContext(Server):
    """A context that is copied while another request is in progress."""

    def run(self, app):
        self.body = self.within(self.call, app)
        other = Server()
        other.context = self.context.copy()
        try:
            other.run(app)
        finally:
            self.within(self.close)


class ClosesTwice(Server):
    def close(self):
        self.body.close()
        self.body.close()


class GoesOnAfterClose(Server):
    def iterate(self, iterator):
        self.within(next, iterator)
        self.within(self.close)
        self.close = lambda: None
        self.within(next, iterator)


class IteratesAfterClose(Server):
    def run(self, app):
        self.body = self.within(self.call, app)
        self.within(self.close)
        self.within(self.iterator)


class WhileRunning(Server):
    """Lets a step run in a thread that waits for ``self.gate``, and does something else meanwhile."""

    def iterate(self, iterator):
        step = threading.Thread(target=self.catching, args=[iterator])
        step.start()
        assert self.environ["test.running"].wait(BOUND)
        try:
            self.meanwhile(iterator)
        finally:
            self.environ["test.gate"].set()
            step.join(BOUND)
            assert self.caught == b"running", "the step that ran was disturbed"

    def catching(self, iterator):
        self.caught = self.within(next, iterator)


class Overlaps(WhileRunning):
    def meanwhile(self, iterator):
        contextvars.Context().run(next, iterator)


class ClosesWhileRunning(WhileRunning):
    def meanwhile(self, iterator):
        contextvars.Context().run(self.body.close)


# Applications


def runs_for_long(environ, start_response):
    start_response("200 OK", PLAIN)
    environ["test.running"].set()
    assert environ["test.gate"].wait(BOUND)
    yield b"running"


def long_environ():
    return {"test.gate": threading.Event(), "test.running": threading.Event()}


def ran_for_long(environ, start_response):
    environ["test.gate"].set()
    return runs_for_long(environ, start_response)


def ignores_exit(environ, start_response):
    start_response("200 OK", PLAIN)
    try:
        yield b"block"
    finally:
        yield b"another"


def cleans_up(environ, start_response):
    start_response("200 OK", PLAIN)
    try:
        yield b"block"
    finally:
        environ["test.clean"] = True


async def coroutine():
    pass


def unawaited():
    """A coroutine that Python does not warn of."""
    made = coroutine()
    made.close()
    return made


def for_long(**how):
    """With new events each time."""
    return lambda: serve(runs_for_long, **how, **long_environ())


def not_for_long():
    return serve(ran_for_long, **long_environ())


TEXT = b"a page with " + repr(Future()).encode()

ROWS = [
    # Items
    *[
        Wrong("item", "S1.3", APP, run(app_that(start(), item)), run(app_that(start(), b"x", bytes(2))))
        for item in ("text", 5, bytearray(b"x"), [b"x"], [done()], (), unawaited(), object())
    ],
    Wrong("text", "S15.5", APP, run(app_that(start(), TEXT)), run(app_that(start(), b"a <Future>"))),
    Wrong("text", "S15.5", APP, run(giving(lambda: [TEXT])), run(giving(lambda: [b"Future at 0x1"]))),
    # Going on
    Wrong("early", "S1.1", SERVER, run(never_done(), server=Hasty), run(waits_long)),
    Wrong("send", "S4.1", SERVER, run(waits, server=Sender), run(waits)),
    Wrong("failure", "S5.1", SERVER, run(FAILS, server=Optimist), run(SOON, server=Optimist)),
    Wrong("failure", "S5.1", SERVER, run(app_that(start(), cancelled()), server=Optimist), run(SOON, server=Optimist)),
    Wrong(
        "failure", "S5.1", SERVER,
        run(giving(lambda: [failed()]), server=Optimist), run(giving(lambda: [done()]), server=Optimist),
    ),
    Wrong("throw-other", "S5.2", SERVER, run(handles_failures, server=ThrowsAnother), run(handles_failures)),
    Wrong("throw-other", "S5.2", SERVER, run(handles_failures, server=ThrowsThree), run(handles_failures)),
    Wrong(
        "throw-other", "S5.2", SERVER,
        run(app_that(start(), cancelled()), server=ThrowsAnother), run(handles_failures),
    ),
    Wrong("throw-none", "S5.2", SERVER, run(SOON, server=Pessimist), run(SOON)),
    Wrong("throw-none", "S5.2", SERVER, run(SOON, server=ThrowsAtBlocks), run(SOON)),
    Wrong("went-on", "S5.7", SERVER, run(raises_then_goes_on, server=Stubborn), run(hello, server=Stubborn)),
    # Steps
    Wrong("overlap", "S9.2", SERVER, for_long(server=Overlaps), not_for_long),
    Wrong("context", "S9.4", SERVER, run(hello, server=TwoContexts), run(hello)),
    Wrong("context", "S9.4", SERVER, run(waits, server=CopiedContexts), run(waits)),
    Wrong("context", "S9.4", SERVER, run(hello, server=CloseElsewhere), run(hello)),
    Wrong("context-shared", "S9.5", SERVER, run(hello, server=OneContextForAll), run(hello)),
    Wrong("context-shared", "S9.5", SERVER, run(waits, server=InheritedContext), run(waits)),
    # close()
    Wrong("close-twice", "S7.1", SERVER, run(hello, server=ClosesTwice), run(hello)),
    Wrong("close-during", "S7.2", SERVER, for_long(server=ClosesWhileRunning), not_for_long),
    Wrong("closed-next", "S7.1", SERVER, run(hello, server=GoesOnAfterClose), run(hello)),
    Wrong("closed-next", "S7.1", SERVER, run(hello, server=IteratesAfterClose), run(hello)),
    Wrong("yield-in-close", "S7.6", APP, run(ignores_exit, server=Leaves), run(cleans_up, server=Leaves)),
]  # fmt: skip


@each(ROWS)
def test_breach(row):
    row.check()
