"""S7: close()."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from typing import Any

from . import Request, Wait, fault


@fault("S7.1")
class NotAfterErrors(Request):
    """A request that has failed is not closed."""

    def fail(self, error: BaseException) -> None:
        self.iterable = None
        super().fail(error)


@fault("S7.1-twice")
class Twice(Request):
    """close() is called twice."""

    def close(self) -> None:
        iterable = self.iterable
        super().close()
        self.iterable = iterable
        super().close()


@fault("S7.1-gone")
class NotWhenGone(Request):
    """A request whose client is gone is not closed."""

    def close(self) -> None:
        if not self.ended:
            super().close()


@fault("S7.2")
class BesideAStep(Request):
    """Who ends a request closes it there and then."""

    def end(self, status: int | None) -> bool:
        if self.iterable is not None:
            threading.Thread(target=self.close, daemon=True).start()
        return super().end(status)


@fault("S7.2-iterated")
class IteratesInVain(Request):
    """What the call returns is iterated though the request has ended."""

    def next_item(self) -> Any:
        item = super().next_item()
        if self.iterator is None and self.iterable is not None:
            next(iter(self.iterable), None)
        return item


@fault("S7.3")
class InTheCompletersThread(Wait):
    """The last step runs in the thread that wakes the request."""

    def wake(self) -> None:
        request = self._comers.pop()
        if request is not None:
            if request.ended:
                request.step()
            else:
                request.server.run_queue.put(request)


@fault("S7.3-context")
class OutsideOfTheContext(Request):
    """close() runs in another context."""

    def close(self) -> None:
        thread = threading.Thread(target=super().close)
        thread.start()
        thread.join()


@fault("S7.4")
class ClosesTheIterator(Request):
    """close() of the iterator instead of the iterable's."""

    def close(self) -> None:
        if self.iterator is not None:
            self.iterable = self.iterator
        super().close()


@fault("S7.4-throw")
class ThrowsIntoTheIterable(Request):
    """throw of the iterable instead of the iterator's."""

    def throw(self, iterator: Any, error: BaseException) -> Any:
        return super().throw(self.iterable, error)


@fault("S7.5")
class CloseIsAnError(Request):
    """What close() raises breaks the response off."""

    def advance(self) -> Any:
        fate = super().advance()
        if getattr(self, "close_failed", False):
            self.connection.server.call(self.connection.abort)
        return fate

    def close(self) -> None:
        iterable = self.iterable
        method = getattr(iterable, "close", None)
        self.iterable = None
        super().close()
        if method is not None:
            try:
                method()
            except BaseException as error:
                logging.getLogger("wsgi_plus.simple_server").error("Error in close() of %s", self, exc_info=error)
                self.close_failed = True


@fault("S7.5-silent")
class CloseIsSilent(Request):
    """What close() raises is not logged."""

    def close(self) -> None:
        method = getattr(self.iterable, "close", None)
        self.iterable = None
        super().close()
        if method is not None:
            try:
                method()
            except BaseException:
                pass


@fault("S7.6")
class WaitsWhileClosing(Request):
    """A generator that yields while it is closed is taken for one that goes on."""

    def close(self) -> None:
        iterable = self.iterable
        throw = getattr(iterable, "throw", None)
        if throw is None:
            super().close()
            return
        try:
            item = throw(GeneratorExit())
            while True:
                if isinstance(item, Future):
                    item.exception(timeout=5)
                item = next(iterable)
        except BaseException:
            super().close()


@fault("S7.7")
class ClosesLate(Request):
    """A response that is not sent is not closed: with a slow client, never."""

    def close(self) -> None:
        if not self.connection.output.size or self.ended:
            super().close()
