"""S3: futures that are done already."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from . import Request, fault


@fault("S3.1")
class ParksAnyway(Request):
    """A future that is done has the request go through the queue."""

    def await_future(self, future: Future[Any]) -> Any:
        self.future = future
        return self.park(future, for_client=False)

    def step(self) -> None:
        self.MANY = 1
        super().step()


@fault("S3.2")
class WithoutEnd(Request):
    """A request with finished futures keeps its thread."""

    MANY = 1 << 60


@fault("S3.3")
class ForgetsToCount(Request):
    """Futures that are completed while they are registered do not count."""

    def step(self) -> None:
        if type(self).MANY == Request.MANY:
            while True:
                fate = self.in_context(self.advance)
                if fate.name == "OVER":
                    return
                if fate.name == "PARK":
                    if self.wait is not None and self.wait.let_go():
                        return
                    continue
                self.server.run_queue.put(self)
                return
