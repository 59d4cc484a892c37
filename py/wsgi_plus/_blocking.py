"""Running a WSGI+ application on a server that does not know WSGI+ (S17)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from ._hints import mistaken
from ._outcome import failure
from ._types import Application, Environ, is_future

__all__ = ["blocking"]


def blocking(app: Application) -> Application:
    """A plain WSGI application that behaves as ``app``, which may yield futures: it waits for each in its thread.

    A future that failed is thrown in at the yield as a WSGI+ server does it (S5): its exception is raised from the
    iterable's ``throw`` if there is one, and otherwise by the iteration.  ``environ`` is handed on as it is (S17.2).
    """

    def application(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        result = app(environ, start_response)
        if isinstance(result, (list, tuple)) and not any(isinstance(item, Future) for item in result):
            return result
        return _Waiting(result)

    return application


class _Waiting:
    """The body of a WSGI+ application without its futures.  Iterated by one thread at a time."""

    def __init__(self, iterable: Iterable[Any]) -> None:
        self._iterable = iterable
        self._iterator = iter(iterable)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        item = next(self._iterator)
        while is_future(item):
            item = self._after(item)
        error = mistaken(item)
        if error is not None:
            raise error
        block: bytes = item
        return block

    def _after(self, future: Future[Any]) -> Any:
        error = failure(future)  # waits
        if error is None:
            return next(self._iterator)
        throw = getattr(self._iterator, "throw", None)
        try:
            if throw is None:
                raise error
            return throw(error)
        except StopIteration as end:
            if end is error:  # a failure, which must not look like the end of the body (S5)
                raise RuntimeError("a future failed with StopIteration") from error
            raise

    def close(self) -> None:
        """Ends the application's iteration: a generator sees GeneratorExit at its yield."""
        close = getattr(self._iterable, "close", None)
        if close is not None:
            close()
