"""Futures that never fail, for what stands between an application and its server and forwards no failures (S5.10)."""

from __future__ import annotations

import weakref
from concurrent.futures import Future, InvalidStateError
from typing import Any

__all__ = ["Gate"]


class Gate(Future[None]):
    """Is done when a future is, and does not fail.  To complete or cancel it is to do that to the future."""

    def __init__(self, fut: Future[Any]) -> None:
        super().__init__()
        self._fut = weakref.ref(fut)  # which keeps its callbacks for good, so they must not lead to it
        fut.add_done_callback(self._open)

    def _open(self, _: Future[Any]) -> None:
        try:
            super().set_result(None)
        except InvalidStateError:
            pass  # some futures call back twice

    def set_result(self, result: Any) -> None:
        self._waited_for().set_result(result)

    def set_exception(self, exception: BaseException | None) -> None:
        self._waited_for().set_exception(exception)

    def cancel(self) -> bool:
        return self._waited_for().cancel()

    def _waited_for(self) -> Future[Any]:
        fut = self._fut()
        return Future() if fut is None else fut  # no request waits any more
