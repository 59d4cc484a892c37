"""Stands outside the middleware that is examined, where the server is, and records what comes out of it.

Requests whose query has ``observe`` are observed; all others go by.  It has throw if, and only if, what it iterates has.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import stage

__all__ = ["observed"]


def observed(app: Any) -> Any:
    def application(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
        told = stage.arguments(environ)
        iterable = app(environ, start_response)
        if "observe" not in told:
            return iterable
        iterator = iter(iterable)
        return (_WithThrow if hasattr(iterator, "throw") else _Observed)(told["key"], iterable, iterator)

    return application


class _Observed:
    def __init__(self, key: str, iterable: Any, iterator: Any) -> None:
        self._key = key
        self._iterable = iterable
        self._iterator = iterator

    def __iter__(self) -> _Observed:
        return self

    def __next__(self) -> Any:
        return self._came(next(self._iterator))

    def _came(self, item: Any) -> Any:
        kind = "block" if isinstance(item, bytes) else "future" if isinstance(item, Future) else type(item).__name__
        stage.record(
            self._key, f"out: {kind if item != b'' else 'empty block'}", id(item) if kind == "future" else None
        )
        return item

    def close(self) -> None:
        if hasattr(self._iterable, "close"):
            self._iterable.close()


class _WithThrow(_Observed):
    def throw(self, error: BaseException) -> Any:
        return self._came(self._iterator.throw(error))
