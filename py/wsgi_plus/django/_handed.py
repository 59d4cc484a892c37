"""Middleware that is called, and is given a response which is not there yet, and hands that on.

It is given a ``Door`` as its get_response.  When a view waits behind it, what comes out is a ``ResponseLater``: headers
and cookies that are set on that are noted, and set on the response when it is there.  Who wants to read something of it
gets it, and waits for it in the thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

from django.http import HttpResponse

from .._outcome import failure
from ._transactions import fate, giving_back

__all__ = ["Door", "handed"]

Waits = Generator["Future[Any]", None, Any]


class Door:
    """A get_response.  It is that of ``handler``, but in a call by ``handed`` it begins what the caller has for it."""

    def __init__(self, handler: Callable[..., Any]) -> None:
        self._handler = handler

    def __call__(self, request: Any) -> Any:
        passage = _passage.get()
        if passage is None or passage.door is not self or passage.request is not request or passage.begun:
            return self._handler(request)
        token = _passage.set(None)
        try:
            return passage.begin()
        finally:
            _passage.reset(token)


class Passage:
    """One call through a door: the steps of what is behind it."""

    def __init__(self, door: Door, request: Any, steps: Waits, notice: Callable[[], None]) -> None:
        self.door, self.request = door, request
        self.begun = False
        self.later: ResponseLater | None = None
        self._steps = steps
        self._notice = notice
        self._future: Future[Any] | None = None
        self._response: Any = None

    def begin(self) -> Any:
        """The response, or a ResponseLater if there is a wait for it."""
        self.begun = True
        try:
            self._future = next(self._steps)
        except StopIteration as end:
            return end.value
        self.later = ResponseLater(self)
        return self.later

    def rest(self) -> Waits:
        """The steps from the first wait on, if no middleware has waited in the thread for them."""
        item, self._future = self._future, None
        error: BaseException | None = None
        try:
            while item is not None:
                error = yield from fate(item)
                item = next(self._steps) if error is None else self._steps.throw(error)
        except StopIteration as end:
            self._response = end.value
        finally:
            item = error = None  # the traceback has this frame: no cycle with the exception
        return self._response

    def wait(self) -> Any:
        """The response, in this thread."""
        if self._future is not None:
            self._notice()
            steps = giving_back(self.rest())
            try:
                item = next(steps)
                while True:
                    error = failure(item)
                    item = next(steps) if error is None else steps.throw(error)
            except StopIteration:
                pass
        return self._response


_passage: ContextVar[Passage | None] = ContextVar("wsgi_plus.django.passage", default=None)


def handed(middleware: Any, door: Door, request: Any, steps: Waits, notice: Callable[[], None]) -> Waits:
    """Calls the middleware, which has the door; ``steps`` are those of what is behind it, and give its response.

    ``notice`` is called before a middleware waits in the thread.  Gives the middleware's response.
    """
    passage = Passage(door, request, steps, notice)
    token = _passage.set(passage)
    try:
        response = middleware(request)
    finally:
        _passage.reset(token)
    later, passage.later = passage.later, None  # it has the passage: no cycle
    if later is None or response is not later:
        return response
    answer = yield from passage.rest()
    later.apply(answer)
    return answer


class ResponseLater:
    """A response that is not there yet."""

    __class__: Any = property(lambda self: HttpResponse)  # for isinstance

    def __init__(self, passage: Passage) -> None:
        vars(self).update(_passage=passage, _changes=[])

    @property
    def headers(self) -> _HeadersLater:
        return _HeadersLater(self)

    def __setitem__(self, header: Any, value: Any) -> None:
        self._note(lambda response: response.__setitem__(header, value))

    def __delitem__(self, header: Any) -> None:
        self._note(lambda response: response.__delitem__(header))

    def setdefault(self, header: Any, value: Any) -> None:
        self._note(lambda response: response.setdefault(header, value))

    def set_cookie(self, *args: Any, **kwargs: Any) -> None:
        self._note(lambda response: response.set_cookie(*args, **kwargs))

    def set_signed_cookie(self, *args: Any, **kwargs: Any) -> None:
        self._note(lambda response: response.set_signed_cookie(*args, **kwargs))

    def delete_cookie(self, *args: Any, **kwargs: Any) -> None:
        self._note(lambda response: response.delete_cookie(*args, **kwargs))

    def __setattr__(self, name: str, value: Any) -> None:
        self._note(lambda response: setattr(response, name, value))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._there(), name)

    def __getitem__(self, header: Any) -> Any:
        return self._there()[header]

    def __contains__(self, header: Any) -> bool:
        return header in self._there()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._there())

    def apply(self, response: Any) -> None:
        """Does to the response what has been done to this."""
        changes: list[Callable[[Any], object]] = vars(self)["_changes"]
        while changes:
            changes.pop(0)(response)

    def _note(self, change: Callable[[Any], object]) -> None:
        vars(self)["_changes"].append(change)

    def _there(self) -> Any:
        response = vars(self)["_passage"].wait()
        self.apply(response)
        return response


class _HeadersLater:
    """Those of such a response."""

    def __init__(self, response: ResponseLater) -> None:
        self._response = response

    def __setitem__(self, header: Any, value: Any) -> None:
        self._response[header] = value

    def __delitem__(self, header: Any) -> None:
        del self._response[header]

    def setdefault(self, header: Any, value: Any) -> None:
        self._response.setdefault(header, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._response._there().headers, name)

    def __getitem__(self, header: Any) -> Any:
        return self._response._there().headers[header]

    def __contains__(self, header: Any) -> bool:
        return header in self._response._there().headers

    def __iter__(self) -> Iterator[Any]:
        return iter(self._response._there().headers)
