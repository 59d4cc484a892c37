"""What is left of a request when the handler has returned: what the server iterates, step by step (S9)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

from django.db import close_old_connections
from django.http.response import HttpResponseBase

from ._django_locals import Locals, put, taken
from ._types import Item

__all__ = ["Rest"]

Items = Generator[Any, None, Any]


class Rest:
    """Futures of a view and blocks of its response, each step with the locals of the request, which it leaves nowhere.

    Belongs to the server: any thread, but one at a time (S9.2).  Around each wait the database connections of the
    thread are looked after, as around a request: those that are too old are closed.  Between blocks they stay.
    """

    def __init__(self, items: Items, response: HttpResponseBase, before: Locals) -> None:
        """``items`` are those of the response, which has been started; ``before``, what this thread's locals were."""
        self._items = items
        self._response = response  # which is closed
        self._future: Future[Any] | None = None  # that comes first
        self._begin: Callable[[HttpResponseBase], Items] | None = None
        self._waited = False
        self._closed = False
        self._locals = taken()
        put(before)

    @classmethod
    def suspended(
        cls,
        future: Future[Any],
        steps: Items,
        begin: Callable[[HttpResponseBase], Items],
        nothing: HttpResponseBase,
        before: Locals,
    ) -> Rest:
        """The rest of a view that waits for ``future``.

        ``steps`` gives the response at its end.  ``begin`` starts that, and gives its items.  ``nothing`` is closed if
        there is never another response.
        """
        rest = cls(steps, nothing, before)
        rest._future = future
        rest._begin = begin
        rest._waited = True
        close_old_connections()
        return rest

    def __iter__(self) -> Rest:
        return self

    def __next__(self) -> Item:
        if self._future is not None:
            future, self._future = self._future, None
            return future
        return self._step(None)

    def throw(self, error: BaseException) -> Item:
        return self._step(error)

    def close(self) -> None:
        """Ends the view or the stream where it waits, and the request: request_finished is sent, in any case."""
        if self._closed:
            return
        self._closed = True
        before = taken()
        put(self._locals)
        try:
            self._items.close()
        finally:
            try:
                self._response.close()
            finally:
                put(before)

    def _step(self, error: BaseException | None) -> Item:
        before = taken()
        put(self._locals)
        if self._waited:
            close_old_connections()
        self._waited = True  # or it is the end
        try:
            item = self._advance(error)
            self._waited = isinstance(item, Future)
            return item
        finally:
            if self._waited:
                close_old_connections()
            self._locals = taken()
            put(before)

    def _advance(self, error: BaseException | None) -> Item:
        while True:
            try:
                item = next(self._items) if error is None else self._items.throw(error)
            except StopIteration as end:
                if self._begin is None:
                    raise
                begin, self._begin = self._begin, None
                self._response, error = end.value, None
                self._items = begin(self._response)
                if not self._response.streaming:
                    close_old_connections()
            else:
                return item if isinstance(item, Future) else self._response.make_bytes(item)
