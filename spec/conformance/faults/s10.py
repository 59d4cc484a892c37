"""S10: where a done-callback may run."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import Any

from wsgi_plus.simple_server import Fate

from . import Request, Wait, fault


@fault("S10.1")
class TooEarlyIsLost(Wait):
    """A callback that comes before add_done_callback() has returned is lost."""

    def __call__(self, future: Any = None) -> None:
        if len(self._comers) == 2 and future is not None:
            return
        super().__call__(future)


@fault("S10.1-pool")
class OwnThreadsOnly(Wait):
    """A callback in a thread of the server does nothing."""

    def __call__(self, future: Any = None) -> None:
        if not threading.current_thread().name.startswith("wsgi_plus-pool"):
            super().__call__(future)


@fault("S10.2-raises")
class RaisesAgain(Wait):
    """A callback that finds nothing to resume raises an exception."""

    def __call__(self, future: Any = None) -> None:
        if future is not None and not self._waker:
            raise RuntimeError("there is nothing to resume")
        super().__call__(future)


class WaitsForTheStep(Wait):
    """The callback of Counted."""

    def __init__(self, request: Request, *, for_client: bool) -> None:
        super().__init__(request, for_client=for_client)
        self._request = request

    def __call__(self, future: Any = None) -> None:
        deadline = time.monotonic() + 5
        while self._request.server.running and time.monotonic() < deadline:  # type: ignore[attr-defined]
            time.sleep(0.001)
        super().__call__(future)


@fault("S10.2-waits")
class Counted(Request):
    """Its callback waits for the step that runs, of whatever request."""

    wait_class = WaitsForTheStep

    def step(self) -> None:
        self.server.running = True  # type: ignore[attr-defined]
        super().step()
        self.server.running = False  # type: ignore[attr-defined]


@fault("S10.2-long")
class LooksAtAll(Wait):
    """A callback looks through all requests."""

    def __init__(self, request: Request, *, for_client: bool) -> None:
        super().__init__(request, for_client=for_client)
        self._server = request.server

    def __call__(self, future: Any = None) -> None:
        for request in list(self._server.requests):
            str(request)
        super().__call__(future)


@fault("S10.3")
class TwiceIsTwice(Request):
    """A callback that is called twice resumes the request twice."""

    def park(self, future: Future[Any], *, for_client: bool) -> Fate:
        fate = super().park(future, for_client=for_client)
        if not for_client and not future.done():
            future.add_done_callback(Again(self))
        return fate


class Again:
    """Queues the request when it is called for the second time."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._called = False

    def __call__(self, _: object) -> None:
        if self._called:
            self._request.server.run_queue.put(self._request)
        self._called = True


@fault("S10.4")
class RegistersSomehow(Request):
    """A future that raises is taken for one that is done."""

    def await_future(self, future: Future[Any]) -> Fate:
        try:
            return super().await_future(future)
        except Exception:
            self.future = None
            return Fate.AGAIN


@fault("S10.4-lost")
class LosesTheRequest(Request):
    """A future that raises leaves its request parked for ever."""

    def await_future(self, future: Future[Any]) -> Fate:
        try:
            return super().await_future(future)
        except Exception:
            self.wait = self.wait_class(self, for_client=False)
            return Fate.PARK
