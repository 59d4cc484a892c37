"""Applications that misbehave in their call and their body: /fault?kind=... is what is wrong with one request alone."""

from __future__ import annotations

import asyncio
import json

import probe
from routes import TEXT, Routes, arguments, text

app = Routes()


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


# Classes are made once: a free-threaded CPython 3.13 keeps each for ever, and what is kept of a request is counted.
class IterRaises:
    def __init__(self, key):
        self.key = key

    def __iter__(self):
        raise LookupError("raised in __iter__")

    def close(self):
        probe.record(self.key, "closed")


class IterIsNoIterator(IterRaises):
    def __iter__(self):
        return 5


class LenRaises(list):
    def __len__(self):
        raise LookupError("raised in __len__")


class CloseAttributeRaises(Blocks):
    def __getattribute__(self, name):
        if name == "close":
            raise LookupError("raised when close was looked up")
        return super().__getattribute__(name)


@fault
def iter_raises(key, environ, start_response):
    start_response("200 OK", TEXT)
    return IterRaises(key)


@fault
def iter_is_no_iterator(key, environ, start_response):
    start_response("200 OK", TEXT)
    return IterIsNoIterator(key)


@fault
def len_raises(key, environ, start_response):
    """A list subclass whose __len__ raises: it is not asked."""
    start_response("200 OK", TEXT)
    return LenRaises([b"not ", b"asked"])


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
    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    return CloseAttributeRaises(key, b"fine")


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
