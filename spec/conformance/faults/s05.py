"""S5: failed and cancelled futures."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from . import Request, fault


@fault("S5.1")
class AsIfNothingHadHappened(Request):
    """A failed future is as good as any."""

    def failure(self, future: Future[Any]) -> BaseException | None:
        super().failure(future)
        return None
