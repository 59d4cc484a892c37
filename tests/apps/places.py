"""Requests that are parked at places that are known: the path names the shape, and all wait until /go."""

from __future__ import annotations

import functools
import itertools
import time
from concurrent.futures import Future, ThreadPoolExecutor

from routes import arguments

waiting: list[Future] = []
pool = ThreadPoolExecutor(4)


def later() -> Future:
    """Done when /go is asked for."""
    future: Future = Future()
    waiting.append(future)
    return future


def leaf():
    yield later()  # the line: leaf


def middle():
    yield from leaf()  # the line: middle


def lines(name="leaf"):
    """An application's generator that waits in leaf()."""
    yield from leaf()


class Closing:
    """As werkzeug's ClosingIterator."""

    def __init__(self, iterable, callbacks):
        self._next = functools.partial(next, iter(iterable))
        self._callbacks = list(callbacks)

    def __iter__(self):
        return self

    def __next__(self):
        return self._next()

    def close(self):
        for callback in self._callbacks:
            callback()


class Slots:
    __slots__ = ("it",)

    def __init__(self, iterable):
        self.it = iter(iterable)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.it)


class Bound:
    def __init__(self, iterable):
        self.next = iter(iterable).__next__

    def __iter__(self):
        return self

    def __next__(self):
        return self.next()


class Told:
    """Says where its inner iterator is, which cannot be seen otherwise."""

    __wsgi_plus_inner__ = "inner"

    def __init__(self, iterable):
        hidden = iter(iterable)
        self._next = lambda: next(hidden)
        self._inner = lambda: hidden

    @property
    def inner(self):
        return self._inner()

    def __iter__(self):
        return self

    def __next__(self):
        return self._next()


class ToldByABase(Told):
    """As a middleware that is derived from another one."""


def closed_over(iterable):
    hidden = iter(iterable)

    class Hidden:
        def __iter__(self):
            return self

        def __next__(self):
            return next(hidden)

    return Hidden()


def loop(iterable):
    for item in iterable:
        yield item  # the line: loop


SHAPES = {
    "generator": lambda g: g,
    "closing": lambda g: Closing(g, [g.close]),
    "closing3": lambda g: Closing(Closing(Closing(g, []), []), []),
    "map": lambda g: map(lambda item: item, g),
    "chain": lambda g: itertools.chain(g),
    "chain2": lambda g: itertools.chain([b""], g),
    "peek": lambda g: itertools.chain(iter([b""]), g),
    "islice": lambda g: itertools.islice(g, 99),
    "tee": lambda g: itertools.tee(g)[0],
    "sentinel": lambda g: iter(g.__next__, None),
    "slots": Slots,
    "bound": Bound,
    "loop": loop,
    "told": Told,
    "inherited": ToldByABase,
    "hidden": closed_over,
}


def parked():
    yield from middle()


def wide(n):
    """Two places in one function."""
    if n % 2:
        yield later()  # the line: odd
    else:
        yield later()  # the line: even
    yield b"done"


def new_lines(n):
    """Waits a millisecond at each of as many lines, of code that is made for that."""
    names: dict = {}
    source = "def f(later):\n" + "    yield later()\n" * n
    exec(compile(source, f"/made/{id(names)}.py", "exec"), names)
    return names["f"](functools.partial(pool.submit, time.sleep, 0.001))


@functools.cache
def line(n):
    """A function that waits at a line of its own."""
    names: dict = {}
    exec(compile("\n" * n + "def f(later):\n    yield later()\n", "/made/line.py", "exec"), names)
    return names["f"]


def application(environ, start_response):
    path, asked = environ["PATH_INFO"], arguments(environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/go":
        while waiting:
            waiting.pop().set_result(None)
        return [b"gone"]
    if path.startswith("/shape/"):
        return SHAPES[path.removeprefix("/shape/")](lines())
    if path == "/wide":
        return wide(int(asked["n"]))
    if path.startswith("/deep"):
        return parked()
    if path == "/line":
        return line(int(asked["n"]))(later)
    if path == "/many":
        return new_lines(int(asked["n"]))
    return [b"hello"]
