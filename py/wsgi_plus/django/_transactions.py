"""No waiting within a transaction: it belongs to a connection, that to a thread, and the next step to any (S9.3).

A transaction is found in two places: around the call of a view that waits, where it would end before the view begins,
and at each of its yields.  Any other context manager around that call would end as early, and is found as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ContextDecorator, suppress
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.transaction import TransactionManagementError

from .._hints import mistaken
from .._suspends import ViewThatWaits, dispatching, is_view_that_waits
from ._rest_framework import called, within

__all__ = ["call", "close_old_connections", "fate", "giving_back", "guarded"]

CALLED_WITHIN = (
    "a view that waits (@suspends) is called within a transaction of the database {!r}, which would end before the "
    "view begins: if ATOMIC_REQUESTS is set mark the view with @transaction.non_atomic_requests, and use "
    "transaction.atomic() in its body, in a with statement without a yield"
)
DECORATED = "{}, as a decorator, ends before {} begins, which waits: use it in the body, in a with statement"
WAITS_WITHIN = (
    "waiting within a transaction of the database {!r}, which belongs to this thread, while the next step may be in "
    "another: wait before transaction.atomic(), or after it"
)


def call(view: Callable[..., Any], request: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What ``view`` returns: a response, or the ViewThatWaits of one that is marked with ``@suspends``.

    Raises ImproperlyConfigured where that is called within a transaction or another context manager.
    """
    with dispatching(_outside):
        result = called(view, request, args, kwargs)
    if is_view_that_waits(result):
        try:
            for decorated in (view, result._view):
                _refuse_managers(decorated, result._view.__qualname__)
        except ImproperlyConfigured:
            result._fate.known = True
            raise
    return result


class _OutsideOfTransactions:
    """The True that ``@suspends`` finds when it asks whether it is called by glue.  That is the moment to look."""

    def __bool__(self) -> bool:
        alias = _open_transaction()
        if alias is not None:
            raise ImproperlyConfigured(CALLED_WITHIN.format(alias))
        return True

    def __call__(self, steps: ViewThatWaits[Any], args: tuple[Any, ...]) -> Any:
        return within(steps, args)


_outside = _OutsideOfTransactions()


def _refuse_managers(view: Any, name: str) -> None:
    """Of the decorators of a view those that contextlib makes of context managers: their with has the call in it."""
    while hasattr(view, "__wrapped__"):
        for cell in getattr(view, "__closure__", None) or ():
            with suppress(ValueError):  # an empty cell
                if isinstance(cell.cell_contents, ContextDecorator) and not inspect.isgeneratorfunction(view):
                    raise ImproperlyConfigured(DECORATED.format(type(cell.cell_contents).__name__, name))
        view = view.__wrapped__


def guarded(iterator: Iterator[Any]) -> Generator[Any, None, Any]:
    """What ``iterator`` gives, but no future within a transaction: there its yield raises TransactionManagementError.
    And nothing that cannot be waited for, and would be made text of: there its yield raises TypeError.

    What is thrown in goes to the iterator's ``throw``, or is raised if it has none (S5).  Gives its value at the end.
    Left before that, it does not close the iterator.
    """
    error: BaseException | None = None
    item: Any = None
    try:
        while True:
            try:
                item = next(iterator) if error is None else _throw(iterator, error)
            except StopIteration as end:
                if end is error:  # a failure, which must not look like the end (S5)
                    raise RuntimeError("a future failed with StopIteration") from error
                return end.value
            error = mistaken(item)
            if error is not None:
                continue  # raised at the yield
            alias = _open_transaction() if isinstance(item, Future) else None
            if alias is None:
                error = yield from fate(item)
            else:
                error = TransactionManagementError(WAITS_WITHIN.format(alias))
    finally:
        del error, item  # the traceback has this frame: no cycle with the exception


def giving_back(steps: Generator[Any, None, Any]) -> Generator[Any, None, Any]:
    """The same steps, for a thread that waits for each: its connections are looked after before and after that.

    As where it is suspended.  What it waits for may need one of few connections, of which each such thread had one.
    """
    error: BaseException | None = None
    item: Any = None
    try:
        while True:
            try:
                item = next(steps) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            close_old_connections()
            error = yield from fate(item)
            close_old_connections()
    finally:
        steps.close()
        del error, item  # the traceback has this frame: no cycle with the exception


def fate(item: Any) -> Generator[Any, None, BaseException | None]:
    """Yields the item, and gives what is thrown at it: what a future failed with (S5)."""
    try:
        yield item
    except BaseException as failure:  # GeneratorExit only closes this: it is raised where this is delegated to
        return failure
    finally:
        del item
    return None


def _throw(iterator: Iterator[Any], error: BaseException) -> Any:
    try:
        throw = getattr(iterator, "throw", None)
        if throw is None:
            raise error
        return throw(error)
    finally:
        del error


def _open_transaction() -> str | None:
    """The alias of a database with which this thread is in a transaction.  Makes no connection."""
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            if not _is_of_test(connection):
                return connection.alias
        elif connection.connection is not None and not connection.autocommit:
            return connection.alias
    return None


def close_old_connections() -> None:
    """As Django's, for this thread, except that it leaves those which a TestCase of Django has a transaction with."""
    for connection in connections.all(initialized_only=True):
        if not _is_of_test(connection):
            connection.close_if_unusable_or_obsolete()


def _is_of_test(connection: Any) -> bool:
    """Whether it is in the transaction of a TestCase, and in none within that."""
    blocks = getattr(connection, "atomic_blocks", ())
    return bool(connection.in_atomic_block and blocks) and all(getattr(b, "_from_testcase", False) for b in blocks)
