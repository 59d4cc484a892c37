"""S19: responses without a body."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from wsgi_plus.simple_server import Fate

from . import Request, fault


@fault("S19.1")
class NotIterated(Request):
    """What is not sent is not iterated."""

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


@fault("S19.1-environ", "P5-method")
class BelievesEnviron(Request):
    """The method is looked up in environ when the response begins."""

    @property
    def has_body(self) -> bool:
        return self.environ.get("REQUEST_METHOD") != "HEAD" and self.status[:3] not in ("204", "304")


@fault("S19.1-protocol", "P5-protocol")
class BelievesProtocol(Request):
    """So is the version of HTTP."""

    def begin(self, known: int | None) -> None:
        self.head = replace(self.head, version=self.environ.get("SERVER_PROTOCOL", "HTTP/1.1"))
        super().begin(known)
