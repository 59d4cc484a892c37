"""Middleware that is wrong on purpose: what the suite has to find (S15).

    scripts/conformance --known fermata --path spec/conformance --middleware wrong_middleware:Loses --only S15

``WRONG`` has it by name, each with the requirement that it breaks.  ``RIGHT`` has the specification's examples, which
break none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

__all__ = ["RIGHT", "WRONG"]

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Any]
Middleware = Callable[[Application], Application]

WRONG: dict[str, tuple[str, Middleware]] = {}


# The examples of the specification


def delegates(application: Application) -> Application:
    def wrapped(environ: Environ, start_response: StartResponse) -> Iterator[Any]:
        iterable = application(environ, start_response)
        try:
            yield from iterable
        finally:
            if hasattr(iterable, "close"):
                iterable.close()

    return wrapped


class Upper:
    """It is right; each of the classes below changes something."""

    def __init__(self, iterable: Any) -> None:
        self.iterable, self.iterator = iterable, iter(iterable)

    def __iter__(self) -> Upper:
        return self

    def change(self, item: Any) -> Any:
        return item.upper() if isinstance(item, bytes) else item

    def __next__(self) -> Any:
        return self.change(next(self.iterator))

    def throw(self, error: BaseException) -> Any:
        if not hasattr(self.iterator, "throw"):
            raise error
        return self.change(self.iterator.throw(error))

    def close(self) -> None:
        if hasattr(self.iterable, "close"):
            self.iterable.close()


def with_length(application: Application) -> Application:
    def wrapped(environ: Environ, start_response: StartResponse) -> Iterator[Any]:
        said: list[Any] = []
        blocks: list[bytes] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
            said[:] = status, headers
            return blocks.append

        iterable = application(environ, start)
        try:
            for item in iterable:
                if isinstance(item, bytes):
                    blocks.append(item)
                else:
                    yield item
        finally:
            if hasattr(iterable, "close"):
                iterable.close()
        status, headers = said
        body = b"".join(blocks)
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        yield body

    return wrapped


def around(kind: type[Upper]) -> Middleware:
    return lambda application: lambda environ, start_response: kind(application(environ, start_response))


upper = around(Upper)

RIGHT: dict[str, Middleware] = {"delegates": delegates, "upper": upper, "with_length": with_length}


# What is wrong.  Each is usable by its name.


def wrong(requirement: str) -> Callable[[type[Upper]], Middleware]:
    """Makes middleware of the class, and puts it into the table."""

    def register(kind: type[Upper]) -> Middleware:
        made = around(kind)
        WRONG[kind.__name__] = (requirement, made)
        return made

    return register


def wrong_function(requirement: str) -> Callable[[Middleware], Middleware]:
    def register(made: Middleware) -> Middleware:
        WRONG[made.__name__] = (requirement, made)
        return made

    return register


class Plain(Upper):
    """Changes nothing."""

    def change(self, item: Any) -> Any:
        return item


# S15.1: futures go through unchanged, in their place, before the next item is asked for


@wrong("S15.1")
class Loses(Plain):
    """Takes no notice of what is no block."""

    def change(self, item: Any) -> Any:
        while not isinstance(item, bytes):
            item = next(self.iterator)
        return item


@wrong("S15.1")
class GivesEmptyBlocksInstead(Plain):
    def change(self, item: Any) -> Any:
        return item if isinstance(item, bytes) else b""


@wrong("S15.1")
class MakesTextOfThem(Plain):
    def change(self, item: Any) -> Any:
        return item if isinstance(item, bytes) else str(item).encode()


@wrong("S15.1")
class GivesOthersInstead(Plain):
    """A future that ends as the one does that it was given."""

    def change(self, item: Any) -> Any:
        if isinstance(item, bytes):
            return item
        other: Future[Any] = Future()
        item.add_done_callback(lambda done: self.follow(other, done))
        return other

    def follow(self, other: Future[Any], done: Future[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            other.set_exception(error)
        elif not done.cancelled():
            other.set_result(done.result())
        elif other.cancel():
            other.set_running_or_notify_cancel()


@wrong("S15.1")
class GivesThemTwice(Plain):
    again: Any = None

    def __next__(self) -> Any:
        item, self.again = self.again, None
        if item is None:
            item = super().__next__()
            self.again = None if isinstance(item, bytes) else item
        return item


@wrong("S15.1")
class LooksAhead(Plain):
    """Asks for the next item before it gives this one."""

    end = object()
    ahead: Any = None

    def __next__(self) -> Any:
        if self.ahead is None:
            self.ahead = next(self.iterator, self.end)
        item = self.ahead
        if item is self.end:
            raise StopIteration
        self.ahead = next(self.iterator, self.end)
        return item


@wrong("S15.1")
class HoldsABlockBack(Plain):
    """Gives each block after the item that follows it."""

    held: bytes | None = None

    def __next__(self) -> Any:
        item = next(self.iterator, None)
        if isinstance(item, bytes) or item is None:
            item, self.held = self.held, item
            if item is None:
                if self.held is None:
                    raise StopIteration
                return self.__next__()
        return item


@wrong_function("S15.1")
def Gathers(application: Application) -> Application:  # noqa: N802
    """list() of the iterable: past all futures."""

    def wrapped(environ: Environ, start_response: StartResponse) -> Any:
        iterable = application(environ, start_response)
        try:
            return list(iterable)
        finally:
            if hasattr(iterable, "close"):
                iterable.close()

    return wrapped


# S15.2: failures and GeneratorExit reach the application


@wrong_function("S15.2")
def Loops(application: Application) -> Application:  # noqa: N802
    """A for loop, where yield from would do."""

    def wrapped(environ: Environ, start_response: StartResponse) -> Iterator[Any]:
        iterable = application(environ, start_response)
        try:
            for item in iterable:  # noqa: UP028
                yield item
        finally:
            if hasattr(iterable, "close"):
                iterable.close()

    return wrapped


@wrong("S15.2")
class HasNoThrow(Plain):
    def __getattribute__(self, name: str) -> Any:
        if name == "throw":
            raise AttributeError(name)
        return super().__getattribute__(name)


@wrong("S15.2")
class ThrowsSomethingElse(Plain):
    def throw(self, error: BaseException) -> Any:
        return super().throw(RuntimeError(f"failed: {error!r}"))


# S15.3: failures are not swallowed


@wrong("S15.3")
class GoesOn(Plain):
    """Past a failure as if nothing had happened."""

    def throw(self, error: BaseException) -> Any:
        return next(self.iterator)


@wrong("S15.3")
class GoesOnWhereThereIsNoThrow(Plain):
    def throw(self, error: BaseException) -> Any:
        return super().throw(error) if hasattr(self.iterator, "throw") else next(self.iterator)


@wrong("S15.3")
class MakesAGoodEnd(Plain):
    """Takes a failure for the end of the body."""

    def throw(self, error: BaseException) -> Any:
        raise StopIteration


# S15.4: close() reaches the iterable


@wrong("S15.4")
class DropsClose(Plain):
    def close(self) -> None:
        pass


@wrong("S15.4")
class ClosesTheIterator(Plain):
    def close(self) -> None:
        if hasattr(self.iterator, "close"):
            self.iterator.close()


@wrong_function("S15.4")
def OnlyDelegates(application: Application) -> Application:  # noqa: N802
    """yield from, and no close()."""

    def wrapped(environ: Environ, start_response: StartResponse) -> Iterator[Any]:
        yield from application(environ, start_response)

    return wrapped


@wrong_function("S15.4")
def ClosesAtTheEnd(application: Application) -> Application:  # noqa: N802
    """But not when it is closed, or fails, itself."""

    def wrapped(environ: Environ, start_response: StartResponse) -> Iterator[Any]:
        iterable = application(environ, start_response)
        yield from iterable
        if hasattr(iterable, "close"):
            iterable.close()

    return wrapped


# S15.5: only blocks are joined, counted, compressed, encoded


@wrong("S15.5")
class Counts(Plain):
    count = 0

    def change(self, item: Any) -> Any:
        self.count += len(item)
        return item


@wrong("S15.5")
class Changes(Plain):
    def change(self, item: Any) -> Any:
        return item.upper()


@wrong_function("S15.5")
def Joins(application: Application) -> Application:  # noqa: N802
    def wrapped(environ: Environ, start_response: StartResponse) -> Any:
        iterable = application(environ, start_response)
        try:
            return [b"".join(iterable)]
        finally:
            if hasattr(iterable, "close"):
                iterable.close()

    return wrapped


# S15.6: no empty block comes with a future


@wrong("S15.6")
class GivesAnEmptyBlockBefore(Plain):
    held: Any = None

    def __next__(self) -> Any:
        item, self.held = self.held, None
        if item is None:
            item = super().__next__()
            if not isinstance(item, bytes):
                item, self.held = b"", item
        return item


@wrong("S15.6")
class GivesAnEmptyBlockAfter(Plain):
    owed = False

    def __next__(self) -> Any:
        owed, self.owed = self.owed, False
        if owed:
            return b""
        item = super().__next__()
        self.owed = not isinstance(item, bytes)
        return item


# S15.8: it does not wait for the application's futures


@wrong("S15.8")
class Waits(Plain):
    """As S17 does, on a server that needs none of it."""

    def change(self, item: Any) -> Any:
        while isinstance(item, Future):
            try:
                error = item.exception()
            except BaseException as cancelled:
                error = cancelled
            item = next(self.iterator) if error is None else super().throw(error)
        return item


@wrong("S15.8")
class WaitsAndHandsOn(Plain):
    def change(self, item: Any) -> Any:
        while isinstance(item, Future) and not item.done():
            time.sleep(0.001)
        return item


# S16.2: it does not remove the version


@wrong_function("S16.2")
def RemovesTheVersion(application: Application) -> Application:  # noqa: N802
    def wrapped(environ: Environ, start_response: StartResponse) -> Any:
        environ.pop("wsgi_plus.version", None)
        return application(environ, start_response)

    return wrapped
