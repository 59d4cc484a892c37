"""S1: what suspends."""

from __future__ import annotations

from typing import Any

from . import Request, fault


@fault("S1.3")
class GoesOnPastNonsense(Request):
    """What is neither a block nor a future is skipped."""

    def handle(self, item: Any) -> Any:
        return super().handle(b"" if item is None or isinstance(item, (str, int)) else item)
