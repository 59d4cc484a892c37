"""S4: the value of the yield."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from . import Request, fault


@fault("S4.1", "S4.2")
class Sends(Request):
    """The result is sent in."""

    def next_item(self) -> Any:
        future = self.future
        send = getattr(self.iterator, "send", None)
        if isinstance(future, Future) and send is not None and self.failure(future) is None:
            self.future = None
            try:
                return send(future.result())
            except StopIteration:
                return super().next_item()
        return super().next_item()
