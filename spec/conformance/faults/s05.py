"""S5: failed and cancelled futures."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from typing import Any

from wsgi_plus.simple_server._request import After, Ended

from . import Request, fault


@fault("S5.1")
class AsIfNothingHadHappened(Request):
    """A failed future is as good as any."""

    def failure(self, future: Future[Any]) -> BaseException | None:
        super().failure(future)
        return None


@fault("S5.2")
class NeverThrows(Request):
    """The application cannot handle a failure."""

    def throw(self, iterator: Any, error: BaseException) -> Any:
        raise error


@fault("S5.2-item")
class LosesTheItem(Request):
    """What throw returns is not looked at."""

    def throw(self, iterator: Any, error: BaseException) -> Any:
        super().throw(iterator, error)
        return next(iterator)


@fault("S5.2-another")
class ThrowsAnother(Request):
    """Not the exception of the future, but one of the same kind."""

    def throw(self, iterator: Any, error: BaseException) -> Any:
        return super().throw(iterator, type(error)(*error.args))


@fault("S5.3")
class CancelledIsRuntimeError(Request):
    """A cancelled future is thrown as something else."""

    def failure(self, future: Future[Any]) -> BaseException | None:
        error = super().failure(future)
        return RuntimeError("cancelled") if isinstance(error, CancelledError) else error


@fault("S5.4")
class EndsWithoutThrow(Request):
    """What cannot be thrown is the end."""

    def throw(self, iterator: Any, error: BaseException) -> Any:
        if not hasattr(iterator, "throw"):
            raise StopIteration
        return iterator.throw(error)


@fault("S5.5")
class EndsWithStopIteration(Request):
    """StopIteration is the end, whose ever it is."""

    def throw(self, iterator: Any, error: BaseException) -> Any:
        try:
            return super().throw(iterator, error)
        except StopIteration:
            raise StopIteration from None


@fault("S5.6")
class ExceptionsOnly(Request):
    """A BaseException in a future is no failure."""

    def failure(self, future: Future[Any]) -> BaseException | None:
        error = super().failure(future)
        return error if isinstance(error, Exception) else None


@fault("S5.6-done")
class LaterFailuresOnly(Request):
    """The failure of a future that was done already is not looked at."""

    def await_future(self, future: Future[Any]) -> Any:
        fate = super().await_future(future)
        if fate.name == "AGAIN":
            self.future = None
        return fate


@fault("S5.7")
class NoAnswer(Request):
    """After an error the connection just ends."""

    def answer(self, status: int) -> None:
        if status == 500:
            self.begun, self.after = True, After.CLOSE
        else:
            super().answer(status)


@fault("S5.7-silent")
class LogsNothing(Request):
    """An error is not logged."""

    def fail(self, error: BaseException) -> None:
        super().fail(Ended("an error"))


@fault("S5.8")
class EndsInOrder(Request):
    """Half a response looks like a whole one."""

    def broken_off(self) -> After:
        if self.chunked:
            self.connection.output.put(b"0\r\n\r\n")
        return After.CLOSE


@fault("S5.8-lost")
class LosesBlocks(Request):
    """After an application error the connection is reset, with what is on its way."""

    def broken_off(self) -> After:
        self.connection.output.drop()
        return After.RESET


@fault("S5.9")
class WaitsForTheOutcome(Request):
    """A future is believed to be done."""

    def failure(self, future: Future[Any]) -> BaseException | None:
        try:
            return future.exception(timeout=30)
        except BaseException as error:
            return error
