"""An application that does what the query tells it, act by act: ?do=start+block*2+park+block.

``generator`` is a generator; ``iterator`` is an object around it that notes how it is used; ``bare`` the same without
throw.  The first future that a request parks on goes by the request's key, the next ones by key.1, key.2 and so on.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from typing import Any

import stage

__all__ = ["ACTS", "Bare", "Iterator", "Role", "bare", "error_names", "fail_with", "generator", "iterator", "play"]


class Unusual(BaseException):
    """One that is no Exception."""


class Stop(StopIteration):
    """Says in Python that an iterator has ended, and is not the type that says so."""


ERRORS: dict[str, type[BaseException]] = {
    kind.__name__: kind
    for kind in (
        ValueError,
        TimeoutError,
        CancelledError,
        StopIteration,
        Stop,
        StopAsyncIteration,
        GeneratorExit,
        KeyboardInterrupt,
        SystemExit,
        Unusual,
    )
}


def error_names() -> list[str]:
    return list(ERRORS)


def error_named(name: str, message: str) -> BaseException:
    return ERRORS[name](message)


def fail_with(key: str, name: str) -> None:
    """Fails the future by this key with an exception of this type."""
    stage.future(key).set_exception(error_named(name, f"failed on purpose: {key}"))


class Role:
    """What an application knows of itself while it plays."""

    def __init__(self, environ: stage.Environ, start_response: stage.StartResponse) -> None:
        told = stage.arguments(environ)
        self.key = told["key"]
        self.words = _words(told["do"])
        self.closing = _words(told.get("closing", ""))
        """What close() does."""
        self.error = told.get("error", "ValueError")
        self.start_response = start_response
        self.write: Any = None
        self.waits = 0

    def record(self, event: str, detail: Any = None) -> None:
        stage.record(self.key, event, detail)

    def next_future(self) -> Future[Any]:
        number, self.waits = self.waits, self.waits + 1
        return stage.future(f"{self.key}.{number}" if number else self.key)


def _words(text: str) -> list[str]:
    """Each as often as it says: done*3 is three."""
    split = [word.partition("*") for word in text.split()]
    return [word for word, _, times in split for _ in range(int(times or 1))]


def generator(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    return play(Role(environ, start_response))


def play(role: Role) -> stage.Items:
    """Records ``ended`` if it comes to its end, and ``left`` with the type of the exception otherwise."""
    try:
        for word in role.words:
            yield from ACTS[word](role)
        role.record("ended")
    except BaseException as error:
        role.record("left", type(error).__name__)
        raise


LARGE = b"x" * 1_000_000

# The acts: each gives the items that belong to it


def start(role: Role) -> Iterable[Any]:
    role.write = role.start_response("200 First", [*stage.TEXT, ("X-First", "1")])
    return ()


def sized(role: Role) -> Iterable[Any]:
    """As start, and promises a hundred bytes."""
    role.write = role.start_response("200 First", [*stage.TEXT, ("Content-Length", "100")])
    return ()


def replace(role: Role) -> Iterable[Any]:
    """Another status, with exc_info.  Records whether what is raised is what that holds."""
    try:
        raise LookupError("the reason for another status")
    except LookupError as reason:
        try:
            role.write = role.start_response("503 Second", [*stage.TEXT, ("X-Second", "2")], sys.exc_info())
        except BaseException as error:
            role.record("refused", error is reason)
            raise
    return ()


def large(role: Role) -> Iterable[Any]:
    """A megabyte.  Records ``going`` before, so that one can tell how far it has come."""
    role.record("going")
    return (LARGE,)


def write(role: Role) -> Iterable[Any]:
    role.write(b"written ")
    return ()


def write_empty(role: Role) -> Iterable[Any]:
    role.write(b"")
    return ()


def park(role: Role) -> Iterable[Any]:
    """Records ``parking``, and then ``resumed`` with whether the future was done."""
    fut = role.next_future()
    role.record("parking")
    yield fut
    role.record("resumed", fut.done())


def done(role: Role) -> Iterable[Any]:
    fut: Future[Any] = Future()
    fut.set_result(None)
    return (fut,)


def failed(role: Role) -> Iterable[Any]:
    """A future that has failed already."""
    fut: Future[Any] = Future()
    fut.set_exception(error_named(role.error, f"failed on purpose: {role.key}"))
    yield fut
    role.record("resumed", True)


def gate(role: Role) -> Iterable[Any]:
    """Holds the thread until the suite opens the gate."""
    role.record("at the gate")
    stage.gate(role.key)
    return ()


def raises(role: Role) -> Iterable[Any]:
    raise error_named(role.error, f"raised on purpose: {role.key}")


def variable(role: Role) -> Iterable[Any]:
    """Sets the context variable to the key."""
    stage.VARIABLE.set(role.key)
    return ()


ACTS: dict[str, Callable[[Role], Iterable[Any]]] = {
    "block": lambda role: (b"block ",),
    "empty": lambda role: (b"",),
    "large": large,
    "start": start,
    "start-again": start,
    "sized": sized,
    "replace": replace,
    "write": write,
    "write-empty": write_empty,
    "park": park,
    "done": done,
    "failed": failed,
    "gate": gate,
    "raise": raises,
    "variable": variable,
}


# The objects


class Bare:
    """Records next and close, each with its thread and the context variable; ``overlap`` if one is within another."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.items = play(role)
        self._alone = threading.Lock()

    def __iter__(self) -> Bare:
        return self

    def __next__(self) -> Any:
        return self.noted("next", next, self.items)

    def close(self) -> None:
        self.noted("close", self._close)

    def _close(self) -> None:
        self.items.close()
        for word in self.role.closing:
            list(ACTS[word](self.role))

    def noted(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        alone = self._alone.acquire(blocking=False)
        self.role.record(name if alone else "overlap", [threading.get_ident(), stage.VARIABLE.get()])
        try:
            return function(*arguments)
        finally:
            if alone:
                self._alone.release()


class Iterator(Bare):
    """The same, with throw, and with a send that no server should call."""

    def throw(self, error: BaseException) -> Any:
        return self.noted("throw", self.items.throw, error)

    def send(self, value: Any) -> Any:
        return self.noted("send", self.items.send, value)


def iterator(environ: stage.Environ, start_response: stage.StartResponse) -> Iterator:
    return Iterator(Role(environ, start_response))


def bare(environ: stage.Environ, start_response: stage.StartResponse) -> Bare:
    return Bare(Role(environ, start_response))
