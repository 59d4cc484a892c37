"""What is left of a request when the handler has returned: what the server iterates, step by step (S9)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

from django.db import close_old_connections
from django.http.response import HttpResponseBase

from .._types import Item
from ._locals import moved

__all__ = ["Rest"]

Items = Generator[Any, None, Any]


class Rest:
    """Futures of a view and blocks of its response, in any thread, but one at a time (S9.2).  Belongs to the server.

    Around each wait the database connections of the thread are looked after, as around a request: those that are too
    old are closed.  Between blocks they stay.
    """

    def __init__(
        self,
        items: Items,
        response: HttpResponseBase,
        *,
        future: Future[Any] | None = None,
        begin: Callable[[HttpResponseBase], Items] | None = None,
    ) -> None:
        """``items`` are those of a response that has been started.

        Or those of a view that waits for ``future`` first, and gives the response at its end.  Then ``begin`` starts
        that and gives its items, and ``response`` is the one to close if the view never gets there.
        """
        self._items = items
        self._response = response
        self._future = future
        self._begin = begin
        self._thread = threading.get_ident()  # of the last step
        self._waited = future is not None
        self._closed = False

    def __iter__(self) -> Rest:
        return self

    def __next__(self) -> Item:
        if self._future is not None:
            future, self._future = self._future, None
            close_old_connections()
            return future
        return self._step(None)

    def throw(self, error: BaseException) -> Item:
        try:
            return self._step(error)
        finally:
            del error  # the traceback has this frame: no cycle with the exception

    def close(self) -> None:
        """Ends the view or the stream where it waits, and the request: request_finished is sent, in any case."""
        if self._closed:
            return
        self._closed = True
        self._arrive()
        try:
            self._items.close()
        finally:
            self._response.close()

    def _arrive(self) -> None:
        here = threading.get_ident()
        if here != self._thread:
            self._thread = here
            moved()

    def _step(self, error: BaseException | None) -> Item:
        self._arrive()
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
            del error

    def _advance(self, error: BaseException | None) -> Item:
        try:
            item = next(self._items) if error is None else self._items.throw(error)
        except StopIteration as end:
            if self._begin is None:
                raise
            begin, self._begin = self._begin, None
            self._response = end.value
            self._items = begin(self._response)
            if not self._response.streaming:
                close_old_connections()
            return self._advance(None)
        finally:
            del error
        return item if isinstance(item, Future) else self._response.make_bytes(item)
