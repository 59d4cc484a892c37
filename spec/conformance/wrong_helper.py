"""Helpers for plain WSGI servers (S17) that are wrong on purpose: what the suite has to find.

    scripts/conformance --known gunicorn --path spec/conformance --helper wrong_helper:PassesFuturesOn --only S17

``WRONG`` has them by name, each with the requirement that it breaks; ``Right`` is one that breaks none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

__all__ = ["WRONG", "Right"]

Application = Callable[[dict[str, Any], Callable[..., Any]], Any]
Helper = Callable[[Application], Application]

WRONG: dict[str, tuple[str, Helper]] = {}


class Waiting:
    """The body of a WSGI+ application without its futures.  It is right; each of those below changes something."""

    def __init__(self, iterable: Any) -> None:
        self.iterable = iterable
        self.iterator = iter(iterable)

    def __iter__(self) -> Waiting:
        return self

    def __next__(self) -> Any:
        item = self.advance()
        while isinstance(item, Future):
            item = self.after(item)
        return item

    def advance(self) -> Any:
        return next(self.iterator)

    def outcome(self, future: Future[Any]) -> BaseException | None:
        try:
            return future.exception()
        except BaseException as cancelled:
            return cancelled

    def after(self, future: Future[Any]) -> Any:
        error = self.outcome(future)
        return self.advance() if error is None else self.failed(error)

    def failed(self, error: BaseException) -> Any:
        try:
            if not hasattr(self.iterator, "throw"):
                raise error
            return self.iterator.throw(error)
        except StopIteration as end:
            self.ended(end, error)

    def ended(self, end: StopIteration, error: BaseException) -> None:
        if end is error:
            raise RuntimeError("a future failed with StopIteration") from error
        raise end

    def close(self) -> None:
        if hasattr(self.iterable, "close"):
            self.iterable.close()


def helper(kind: type[Waiting]) -> Helper:
    return lambda app: lambda environ, start_response: kind(app(environ, start_response))


def wrong(requirement: str) -> Callable[[type[Waiting]], Helper]:
    """Makes a helper of the class, and puts it into the table."""

    def register(kind: type[Waiting]) -> Helper:
        made = helper(kind)
        WRONG[kind.__name__] = (requirement, made)
        return made

    return register


Right = helper(Waiting)


# S17.1: it waits in the thread, and gives only blocks


@wrong("S17.1")
class PassesFuturesOn(Waiting):
    def __next__(self) -> Any:
        return self.advance()


@wrong("S17.1")
class DoesNotWait(Waiting):
    def after(self, future: Future[Any]) -> Any:
        return self.advance()


@wrong("S17.1")
class WaitsForOneOnly(Waiting):
    """Gives a second future in a row to the server."""

    def __next__(self) -> Any:
        item = self.advance()
        return self.after(item) if isinstance(item, Future) else item


@wrong("S17.1")
class RunsInAnotherThread(Waiting):
    def advance(self) -> Any:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(next(self.iterator, self)))
        thread.start()
        thread.join()
        if found[0] is self:
            raise StopIteration
        return found[0]


# S17.2: it delivers failures, passes close() on, and leaves environ alone


@wrong("S17.2")
class SwallowsFailures(Waiting):
    def failed(self, error: BaseException) -> Any:
        return self.advance()


@wrong("S17.2")
class SwallowsWhatIsNoException(Waiting):
    def failed(self, error: BaseException) -> Any:
        return super().failed(error) if isinstance(error, Exception) else self.advance()


@wrong("S17.2")
class GoesOnWithoutThrow(Waiting):
    """Only iterators that have throw are told of failures."""

    def failed(self, error: BaseException) -> Any:
        return super().failed(error) if hasattr(self.iterator, "throw") else self.advance()


@wrong("S17.2")
class TellsNobody(Waiting):
    """A failure goes to the server: the application, which could handle it, does not get it."""

    def failed(self, error: BaseException) -> Any:
        raise error


@wrong("S17.2")
class TellsSomethingElse(Waiting):
    def failed(self, error: BaseException) -> Any:
        return super().failed(RuntimeError(f"the future failed: {error!r}"))


@wrong("S17.2")
class TakesStopIterationForTheEnd(Waiting):
    def ended(self, end: StopIteration, error: BaseException) -> None:
        raise end


@wrong("S17.2")
class DropsClose(Waiting):
    def close(self) -> None:
        pass


@wrong("S17.2")
class ClosesTheIterator(Waiting):
    def close(self) -> None:
        if hasattr(self.iterator, "close"):
            self.iterator.close()


@wrong("S17.2")
class ClosesTwice(Waiting):
    def close(self) -> None:
        super().close()
        super().close()


def sets_the_version(app: Application) -> Application:
    """Pretends to be a server that suspends."""

    def plain(environ: dict[str, Any], start_response: Callable[..., Any]) -> Waiting:
        environ["wsgi_plus.version"] = (1, 1)
        return Waiting(app(environ, start_response))

    return plain


def copies_environ(app: Application) -> Application:
    return lambda environ, start_response: Waiting(app(dict(environ), start_response))


WRONG["sets_the_version"] = ("S17.2", sets_the_version)
WRONG["copies_environ"] = ("S17.2", copies_environ)
