"""The records of what happens to a request, as wsgi_plus.testing shows them in ``Request.steps``."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Block",
    "Closed",
    "DeadlinePassed",
    "Disconnected",
    "Failed",
    "Finished",
    "Parked",
    "Raised",
    "Ready",
    "Resumed",
    "ShutDown",
    "Started",
    "Step",
    "Written",
]


@dataclass(frozen=True)
class Started:
    """start_response was called."""

    status: str
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Block:
    """A block was yielded."""

    data: bytes


@dataclass(frozen=True)
class Written:
    """A block was passed to write()."""

    data: bytes


@dataclass(frozen=True)
class Parked:
    """A future was yielded that was not done: the request is suspended."""

    future: Future[Any]


@dataclass(frozen=True)
class Ready:
    """A future was yielded that was done already: the request is not suspended (S3)."""

    future: Future[Any]


@dataclass(frozen=True)
class Resumed:
    """The application was resumed from a future that has a result."""

    future: Future[Any]


@dataclass(frozen=True)
class Failed:
    """The application was resumed from a future that has failed or was cancelled (S5).

    ``error`` has been thrown in, or raised in its stead where the iterator has no throw.
    """

    future: Future[Any]
    error: BaseException


@dataclass(frozen=True)
class Finished:
    """The iterable has ended."""


@dataclass(frozen=True)
class Raised:
    """An application error."""

    error: BaseException


@dataclass(frozen=True)
class Disconnected:
    """The client has left (S8)."""


@dataclass(frozen=True)
class DeadlinePassed:
    """The time for the request is over (S12)."""


@dataclass(frozen=True)
class ShutDown:
    """The graceful timeout of the server is over (S18)."""


@dataclass(frozen=True)
class Closed:
    """close() was called, if there is one.  Always the last, and always there in the end."""


Step = (
    Started
    | Block
    | Written
    | Parked
    | Ready
    | Resumed
    | Failed
    | Finished
    | Raised
    | Disconnected
    | DeadlinePassed
    | ShutDown
    | Closed
)
