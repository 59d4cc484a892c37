"""S9: threads and contexts."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from . import Request, Server, Wait, fault


@fault("S9.1", "S10.2")
class RunsInTheCallback(Wait):
    """The thread that completes the future runs the next step."""

    def wake(self) -> None:
        request = self._comers.pop()
        if request is not None:
            request.step()


@fault("S9.2")
class ClosesBesideAStep(Request):
    """close() does not wait for the step that runs."""

    def end(self, status: int | None) -> bool:
        if self.iterable is not None:
            iterable = self.iterable
            threading.Thread(target=getattr(iterable, "close", lambda: None), daemon=True).start()
        return super().end(status)


@fault("S9.4")
class OutsideOfTheContext(Request):
    """Each step has a context of its own."""

    def in_context(self, function: Callable[[], Any]) -> Any:
        self.context = self.new_context()
        return super().in_context(function)


@fault("S9.4-close")
class ClosesOutside(Request):
    """close() runs outside of the context."""

    def close(self) -> None:
        contextvars.Context().run(super().close)


@fault("S9.5")
class SharesAContext(Request):
    """There is one context for each thread of the pool, and what a request leaves there the next one finds."""

    contexts: dict[int, contextvars.Context] = {}

    def in_context(self, function: Callable[[], Any]) -> Any:
        self.context = self.contexts.setdefault(threading.get_ident(), contextvars.Context())
        return super().in_context(function)


@fault("S9.6")
class OneAtATime(Server):
    """With one thread a request is served to its end before another one begins."""

    def _work(self) -> None:
        while (request := self.run_queue.get()) is not None:
            request.step()
            while self.threads == 1 and request in self.requests:
                another = self.run_queue.get()
                if another is None or another is request:
                    request.step()
                else:
                    self.run_queue.put(another)
