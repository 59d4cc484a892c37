"""S19: responses without a body."""

from __future__ import annotations

from typing import Any

from wsgi_plus.simple_server import Fate

from . import Request, fault


@fault("S19.1")
class NotIterated(Request):
    """Nobody iterates what is not sent."""

    def handle(self, item: Any) -> Any:
        if self.started and not self.has_body:
            self.complete()
            return Fate.OVER
        return super().handle(item)


@fault("S19.1-sent")
class BodyForHead(Request):
    """HEAD gets a body."""

    @property
    def has_body(self) -> bool:
        return self.status[:3] not in ("204", "304")
