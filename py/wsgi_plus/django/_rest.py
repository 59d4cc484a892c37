"""What is left of a request when the handler has returned: what the server iterates, step by step (S9).

The handler's caller may be a tool that wants a response and wraps it, as Sentry's SDK does.  It is given a
``ResponseToCome``, whose iterator is the ``Rest``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase

from .._gate import Gate
from .._outcome import failure
from .._types import Item, is_future
from ._locals import moved
from ._transactions import close_old_connections

__all__ = ["ResponseToCome", "Rest"]

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
        self._gates = False
        self._waited_for: Future[Any] | None = None  # behind a gate

    def gated(self) -> Rest:
        """Gives gates in place of futures from now on, for a caller that may not hand on what is thrown (S5.10)."""
        self._gates = True
        return self

    def __iter__(self) -> Rest:
        return self

    def __next__(self) -> Item:
        if self._future is not None:
            future, self._future = self._future, None
            close_old_connections()
            return self._given(future)
        behind, self._waited_for = self._waited_for, None
        error = None if behind is None else failure(behind, 0)
        try:
            return self._given(self._step(error))
        finally:
            del error  # the traceback has this frame: no cycle with the exception

    def _given(self, item: Item) -> Item:
        if not self._gates or not isinstance(item, Future):
            return item
        self._waited_for = item
        return Gate(item)

    def throw(self, error: BaseException) -> Item:
        try:
            return self._given(self._step(error))
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
            response = self._response
            response.end() if isinstance(response, ResponseToCome) else response.close()

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
        return item if is_future(item) else self._response.make_bytes(item)


class ResponseToCome(HttpResponse):
    """Stands in for the response of a view that waits, or for one whose stream may: for Django's handler and tools.

    Iterating and closing it is what is left of the request.
    """

    def __init__(self, request: Any, view: Items | None = None, future: Future[Any] | None = None) -> None:
        super().__init__()
        self.request = request
        self.view = view
        """The steps of a view that waits for ``future`` first."""
        self.future = future
        self.there: HttpResponseBase | None = None
        """The response that this stands in for, if there is one."""
        self.rest: Rest | None = None

    def __repr__(self) -> str:
        return "<a response that is not there yet: the view waits>"

    def __iter__(self) -> Rest:  # type: ignore[override]
        assert self.rest is not None
        return self.rest.gated()

    def taken(self) -> Rest:
        """The rest, for a server that knows futures.  This has no more to do with it."""
        rest, self.rest = self.rest, None
        assert rest is not None
        return rest

    def close(self) -> None:
        """Ends the request."""
        rest, self.rest = self.rest, None
        if rest is not None:
            rest.close()

    def end(self) -> None:
        """Of the rest: the request has ended before there is a response."""
        super().close()
