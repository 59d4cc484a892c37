"""S8: clients that go away."""

from __future__ import annotations

import logging
import select
from typing import Any

from . import Connection, Request, Wait, fault


@fault("S8.1")
class NoticesWhenItWrites(Connection):
    """Nothing is noticed of a client while its request is parked."""

    def attend(self, events: int = 0) -> None:
        if self.request is None or not self.request.waits_for_future():
            super().attend(events)
        else:
            self.server.poll.modify(self.sock, 0) if not events else self.server.poll.unregister(self.sock)
            if events:
                self.server.poll.register(self.sock, 0)


@fault("S8.2")
class WaitsForTheFuture(Request):
    """A request whose client is gone is closed when its future is done."""

    def end(self, status: int | None) -> bool:
        wait, self.wait = self.wait, None
        try:
            return super().end(status)
        finally:
            self.wait = wait

    def end_if_parked(self) -> bool:
        if self.waits_for_future():
            self.ended = True
            return True
        return super().end_if_parked()


@fault("S8.3")
class Cancels(Request):
    """The future of a request whose client is gone is cancelled."""

    def end(self, status: int | None) -> bool:
        future = self.future
        if future is not None:
            future.cancel()
        return super().end(status)

    def end_if_parked(self) -> bool:
        future = self.future
        ended = super().end_if_parked()
        if ended and future is not None:
            future.cancel()
        return ended


@fault("S8.4")
class Complains(Wait):
    """A future that is done too late is an error."""

    def __call__(self, future: Any = None) -> None:
        if future is not None and not self._waker:
            logging.getLogger("wsgi_plus.simple_server").error("the request has ended")
        super().__call__(future)


@fault("S8.4-raises")
class Raises(Wait):
    """It makes the callback raise."""

    def __call__(self, future: Any = None) -> None:
        if future is not None and not self._waker:
            raise RuntimeError("the request has ended")
        super().__call__(future)


@fault("S8.5")
class BelievesInHalfClosing(Request):
    """The end of data never ends a request."""

    def end_if_parked(self) -> bool:
        return False


@fault("S8.6")
class EndOfDataEndsAll(Connection):
    """The end of data ends any request."""

    def data_has_ended(self) -> None:
        if self.request is not None and self.request.after is None:
            self.abort()
        else:
            super().data_has_ended()


@fault("S8.7")
class ReadsWithoutEnd(Connection):
    """Whatever a client sends is read."""

    def interest(self) -> int:
        return (0 if self.eof else select.POLLIN) | (select.POLLOUT if self.output.size else 0)


@fault("S8.8")
class ServesTheRest(Connection):
    """Requests behind one whose client is gone are served."""

    def abort(self) -> None:
        while True:
            try:
                found = self.reader.next()
            except Exception:
                break
            if found is None:
                break
            request = self.server.request_class(self, *found)
            self.server.requests.add(request)
            self.server.run_queue.put(request)
        super().abort()


@fault("S8.9")
class CancelIsIgnored(Request):
    """No GeneratorExit: the iterable is only forgotten, while something else refers to it."""

    kept: list[Any] = []

    def close(self) -> None:
        if self.ended:
            self.kept.append(self.iterable)
            self.iterable = None
        super().close()
