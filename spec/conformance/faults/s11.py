"""S11: recursion."""

from __future__ import annotations

from typing import Any

from wsgi_plus.simple_server import Fate

from . import Request, Wait, fault


@fault("S11.1")
class GoesDeeper(Request):
    """A future that is done has the next item taken within."""

    depth = 0

    def handle(self, item: Any) -> Fate:
        fate = super().handle(item)
        if fate is Fate.AGAIN and self.depth < 200:
            self.depth += 1
            try:
                return self.advance()
            finally:
                self.depth -= 1
        return fate


@fault("S11.2")
class ResumesWithin(Wait):
    """The thread that completes a future takes the next step."""

    def wake(self) -> None:
        request = self._comers.pop()
        if request is not None:
            request.step()
