"""One request as one validator sees it, from the call of the application to close().

By comparing what goes in with what comes out the layers of a stack see what the middleware between them does with
futures (S15.9).  How they find each other, and how what is wrong is raised, is in _layer.py.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

from .._hints import hint
from .._types import Application, is_future
from ._layer import VERSION, Layer, nothing
from ._pep3333 import (
    Errors,
    Input,
    content_length,
    environ_fault,
    exc_info_fault,
    has_no_body,
    headers_fault,
    is_tuple,
    reads_socket,
    status_fault,
)

__all__ = ["Exchange"]

# repr() of a future, also with "<" as HTML has it
_TEXT_OF_FUTURE = re.compile(rb"(?:<|&lt;)(?:Future at 0x|\w+ at 0x[0-9a-fA-F]+ state=)[^>&]{0,40}")

GOING, ENDED, FAILED = "going", "ended", "failed"  # states of an iteration


class Exchange(Layer):
    """The call, the response and the iteration."""

    def __init__(self, name: str, waits: bool, environ: Any, start_response: Any) -> None:
        super().__init__(name, waits, environ)
        self._start_response: Any = start_response
        # The response
        self._starts = 0
        self._begun = False
        self._length: int | None = None  # Content-Length, if it is to hold
        self._gave = 0  # bytes
        self._untyped = False  # no Content-Type
        # The iteration
        self._state = GOING
        self._pending: Future[Any] | None = None  # the future that was yielded, until the iterator is resumed
        self._was_done = False  # when it was yielded
        self._handed = False  # the layer outside has seen it come out
        self._is_own_iterator = False
        self._is_shut = False  # what is inside has been closed
        self.open = False  # there is something to be closed
        self.closed = False

    # The call of the application

    def call(self, app: Application, environ: Any, as_it_should: bool) -> Iterable[Any]:
        """What the application gives: to be closed with close()."""
        iterable: Any = None
        try:
            with self._step():
                if not as_it_should:
                    raise self.broken("arguments")
                self._look_at_environ(environ)
                self._state = FAILED  # unless it turns out better
                try:
                    iterable = app(environ, self.start_response)
                except BaseException as error:
                    raise self._failed(error)
                self._look_at_iterable(iterable)
                self._state = GOING
        except BaseException:
            if hasattr(iterable, "close"):  # the server cannot, as it will not be given it
                iterable.close()
            raise
        self.open = True
        given: Iterable[Any] = iterable
        return given

    def _look_at_environ(self, environ: Any) -> None:
        fault = environ_fault(environ)
        if fault is not None:
            raise self.broken("environ", what=fault)
        outer, version = self._outer(), self._version
        if outer is not None:
            if version != outer._version:
                raise self.broken("version-changed", was=outer._version, what=version)
        elif version is not None:
            if not is_tuple(version) or version != (1, 0):
                raise self.broken("version", what=repr(version))
            for key in environ:
                if key.startswith("wsgi_plus.") and key != VERSION:
                    raise self.broken("keys", what=key)
            if reads_socket(environ["wsgi.input"]):
                raise self.broken("input-waits")
        if not isinstance(environ["wsgi.input"], Input):
            environ["wsgi.input"] = Input(environ["wsgi.input"], self._broken_in_use, self._is_over)
        if not isinstance(environ["wsgi.errors"], Errors):
            environ["wsgi.errors"] = Errors(environ["wsgi.errors"], self._broken_in_use)

    def _is_over(self) -> bool:
        return self.closed

    def _look_at_iterable(self, iterable: Any) -> None:
        if isinstance(iterable, (str, bytes)) or not (
            hasattr(iterable, "__iter__") or hasattr(iterable, "__getitem__")
        ):
            raise self.broken("returned", what="None" if iterable is None else f"a {type(iterable).__name__}")

    # The response

    def start_response(self, *args: Any, **kwargs: Any) -> Callable[[bytes], object]:
        try:
            self._only_in_step("start_response")
            if len(args) not in (2, 3) or kwargs:
                raise self.broken("start-arguments")
            status, headers, exc_info = args if len(args) == 3 else (*args, None)
            for rule, fault in (
                ("status", status_fault(status)),
                ("headers", headers_fault(headers)),
                ("exc-info", exc_info_fault(exc_info)),
            ):
                if fault is not None:
                    raise self.broken(rule, what=fault)
            if self._starts and exc_info is None:
                raise self.broken("start-twice")
            write = self._start_response(*args)
            if self._begun and self._is_outermost:
                raise self.broken("exc-info-accepted")
            if not callable(write):
                raise self.broken("write-missing", what=repr(write))
            self._starts += 1
            self._gave = 0
            bodiless = has_no_body(self._method, status)
            self._length = None if bodiless else content_length(headers)
            self._untyped = not bodiless and not any(name.lower() == "content-type" for name, _ in headers)
            return self._writer(write)
        finally:
            del args, kwargs
            exc_info = None  # its traceback may have this frame: no cycle

    def _writer(self, write: Callable[[bytes], object]) -> Callable[[bytes], object]:
        def checked(block: object) -> object:
            self._only_in_step("write()")
            if isinstance(block, Future):
                raise self.broken("write-future")
            if not isinstance(block, bytes):
                raise self.broken("write-type", what=f"a {type(block).__name__}")
            self._count(block)
            return write(block)

        return checked

    def _only_in_step(self, call: str) -> None:
        """S6.6.  The one thing here that may run at the same time as a step."""
        thread = self.thread
        if self.closed:
            raise self.broken("start-over", call=call)
        if thread is None:
            raise self.broken("start-outside", call=call)
        if thread != threading.get_ident():
            raise self.broken("start-thread", call=call)

    def _count(self, block: bytes) -> None:
        """A block that goes out."""
        if not block:
            return
        found = _TEXT_OF_FUTURE.search(block)
        if found is not None:
            raise self.broken("text", what=repr(found[0].decode("ascii", "replace")))
        if self._untyped and not self._notes.untyped:
            self._notes.untyped = True
            self._warn("content-type")
        self._begun = True
        self._gave += len(block)
        if self._length is not None and self._gave > self._length:
            raise self.broken("length", said=self._length, gave=self._gave)

    # The iteration

    def iterate(self, iterable: Iterable[Any]) -> Iterator[Any]:
        """Its iterator: to be advanced with advance()."""
        with self._step():
            if self.closed:
                raise self.broken("closed-next")
            iterator = iter(iterable)
            self._is_own_iterator = iterator is iterable
            return iterator

    def advance(self, call: Callable[..., Any], *thrown: Any) -> Any:
        """A call of __next__ or throw."""
        with self._step():
            was, self._state = self._state, FAILED  # unless it turns out better
            self._look_at_resumption(was, thrown)
            starts = self._starts
            try:
                item = call(*thrown)
            except StopIteration as end:
                if any(end is error for error in thrown):  # S5.5
                    raise
                self._look_at_end(thrown, self._starts > starts)
                if end.value is not None:
                    raise self.broken("value", what=f"a {type(end.value).__name__}") from None
                self._state = ENDED
                raise
            except BaseException as error:
                raise self._failed(error)
            self._look_at_item(item)
            self._state = GOING
            return item

    def send(self, value: object) -> Any:
        with self._step():
            raise self.broken("send")

    def _look_at_resumption(self, was: str, thrown: tuple[Any, ...]) -> None:
        if self.closed:
            raise self.broken("closed-next")
        if was == FAILED:
            self._state = ENDED  # for those who do not even take this for an answer
            raise self.broken("went-on")
        if was == ENDED and not thrown:
            self._state = ENDED
            raise StopIteration
        future, self._pending = self._pending, None
        if future is None:
            if thrown:
                raise self.broken("throw-none", what=repr(thrown[0]))
            return
        done, failure = future.done(), _Failure.of(future)
        if not self._handed:
            raise self.broken("waited" if done and not self._was_done else "skipped")
        if failure is None:
            if thrown:
                raise self.broken("throw-none", what=repr(thrown[0]))
        elif len(thrown) == 1 and failure.is_(thrown[0]):
            return  # also where it is not done: if it has called back all the same, it has failed (S5.9)
        elif not done:
            raise self.broken("early")
        elif not thrown:
            raise self.broken("failure", what=repr(failure.error))
        else:
            raise self.broken("throw-other", what=", ".join(map(repr, thrown)), failure=repr(failure.error))

    def _look_at_item(self, item: object) -> None:
        if is_future(item):
            self._look_at_future(item)
        elif isinstance(item, bytes):
            kept = self._kept_back()
            if not item and kept is not None:
                raise self.broken("empty", inner=kept.name)
            self._count(item)
            if item and not self._starts:
                raise self.broken("start-missing")
        else:
            raise self.broken("item", what=f"a {type(item).__name__}", hint=hint(item))

    def _look_at_future(self, future: Future[Any]) -> None:
        for inner in self._inner:
            if inner._pending is future:
                if inner._handed:
                    raise self.broken("twice", inner=inner.name)
                inner._handed = True
        outer = self._outer()
        self._pending, self._was_done = future, future.done()
        self._handed = outer is None or outer.waits

    def _kept_back(self) -> Exchange | None:
        """Who is inside and has yielded a future that has not come out here."""
        return next((inner for inner in self._inner if inner._pending is not None and not inner._handed), None)

    def _look_at_end(self, thrown: tuple[Any, ...], answered: bool) -> None:
        kept = self._kept_back()
        if kept is not None:
            raise self.broken("lost", inner=kept.name) from None
        if thrown and not answered:
            for inner in self._inner:
                failure = None if inner._pending is None else _Failure.of(inner._pending)
                if failure is not None and failure.is_(thrown[0]):
                    raise self.broken("swallowed", inner=inner.name, what=repr(thrown[0])) from None
        if not self._starts:
            raise self.broken("start-never") from None
        if self._length is not None and self._gave < self._length:
            raise self.broken("length", said=self._length, gave=self._gave) from None

    def _failed(self, error: BaseException) -> BaseException:
        """What to raise where the application has raised this."""
        kept = self._kept_back()
        if kept is None or self._notes.violation is not None or not isinstance(error, Exception):
            return error
        broken = self.broken("choked", what=repr(error), inner=kept.name)
        broken.__cause__ = error
        return broken

    # The end

    def close(self, iterable: Iterable[Any]) -> None:
        self.open = False  # as the server will not do it again, if it is refused here
        with self._step("close-during"):
            if self.closed:
                raise self.broken("close-twice")
            self.closed = True
            try:
                if not self._is_shut:
                    self._close(getattr(iterable, "close", nothing))
            finally:
                self._let_go()
            for inner in self._inner:
                if inner.open and not self._notes.told:
                    raise inner.broken("close-missing")

    def _let_go(self) -> None:
        """Of what leads to the server and to futures.  What was pending in here the layer outside may look at yet."""
        self._start_response = None
        for inner in self._inner:
            inner._pending = None
        if self._is_outermost:
            self._pending = None

    def close_iterator(self, close: Callable[[], object]) -> None:
        """``yield from`` closes the iterator that it is in.  Middleware that says that owes close() of the iterable all
        the same (S7.4, S15.4); where the two are one, it does not get through a second time."""
        with self._step("close-during"):
            self._is_shut = self._is_own_iterator
            self._close(close)

    def _close(self, close: Callable[[], object]) -> None:
        try:
            close()
        except RuntimeError as error:
            if "ignored GeneratorExit" in str(error):  # a generator's, by whichever way it was closed
                raise self.broken("yield-in-close") from error
            raise

    def forgotten(self) -> None:
        """The body is being collected."""
        outer = self._outer()
        if outer is not None and not outer.closed:
            return  # that one will tell
        if self.open and not self._notes.told:
            self._warn("close-missing")


class _Failure(NamedTuple):
    error: BaseException
    raised: bool  # by exception(), which makes a new one each time (S5.3)

    @staticmethod
    def of(future: Future[Any]) -> _Failure | None:
        """How a future that is done has failed."""
        try:
            error = future.exception(timeout=0)
        except BaseException as raised:
            return _Failure(raised, True)
        return None if error is None else _Failure(error, False)

    def is_(self, error: object) -> bool:
        return error is self.error or (self.raised and type(error) is type(self.error))
