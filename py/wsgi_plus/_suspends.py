"""Views that wait (S1): generators that yield futures and return the response, for frameworks that know only functions.

``@suspends`` makes of such a generator function a function that gives the response, which is what a framework expects
of a view.  Called by a framework's glue, within ``dispatching()``, it gives a ``ViewThatWaits`` instead, which passes
through decorators that hand on what they get, and which the glue runs with ``yield from``.  Called by other code it
waits in the thread for each future: slower, and never wrong.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from ._hints import hint
from ._outcome import failure
from ._types import is_future, is_generator
from ._unwaited import named

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, TypeIs

    P = ParamSpec("P")

__all__ = ["ViewThatWaits", "dispatching", "is_view_that_waits", "suspends"]

R = TypeVar("R")

PICKLED = (
    "%s is pickled before it has returned, and waits in its thread for that: if something around @suspends caches it, "
    "what is not in the cache holds a thread"
)
ASKED = "%s is asked for its truth before it has returned, and waits in its thread for that"
DROPPED = (
    "{} is marked with @suspends and was called, but what it gave was not handed on as a response: nothing in it has been "
    "done. Mark the view only; a function that it calls is a plain generator, called with `yield from`"
)
_told: set[tuple[str, str]] = set()  # what has been said of which views

_BLOCK = "A view returns its response: blocks are for the body of a response that streams."

MISPLACED = (
    "@suspends is around {}, which is {}: it belongs directly above the def of the function or the method with the "
    "yield, below @api_view and all other decorators"
)

_dispatching: ContextVar[Any] = ContextVar("wsgi_plus.dispatching", default=False)
"""Whether glue calls; or its function for a view that has been called, which gives what the view is to return."""

_dropped: ContextVar[list[str] | None] = ContextVar("wsgi_plus.dropped", default=None)
"""Names of views that have been called in this call by glue, and of which nothing has become."""


def suspends(view: Callable[P, Generator[Future[Any], None, R]]) -> Callable[P, R]:
    """Marks a view that is a generator: it may yield futures, and returns the response.

        @app.get("/")
        @suspends
        def index():
            answer = yield from wait(ask())
            return {"answer": answer}

    It needs ``wsgi_plus.flask`` or ``wsgi_plus.django`` to be suspended; called in another way, in a test for instance,
    it waits in the thread and gives the response.  A decorator around it that looks at the response must be put inside:
    it then has to be a generator itself.  Raises TypeError where the view yields anything but futures, and around a
    class, or what has been made of one (``as_view()``, ``@api_view``): it marks the method, or the function.
    """
    if isinstance(view, type):
        raise TypeError(MISPLACED.format(named(view), "a class"))
    if not inspect.isgeneratorfunction(view) and (hasattr(view, "view_class") or hasattr(view, "cls")):
        raise TypeError(MISPLACED.format(named(view), "made of a class"))

    @wraps(view)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        glue = _dispatching.get()
        suspended = bool(glue)  # it may raise
        steps = ViewThatWaits(view(*args, **kwargs), view)
        if suspended:
            return glue(steps, args) if callable(glue) else steps  # type: ignore[return-value]
        return steps.wait()

    return called


def _same(value: R) -> R:
    return value


@contextmanager
def dispatching(
    glue: Callable[[ViewThatWaits[Any], tuple[Any, ...]], Any] | bool = True,
) -> Generator[None, None, None]:
    """Within it, in this context, ``@suspends`` views give a ``ViewThatWaits``.  For glue: around a view's call.

    ``glue`` is called for each, with that and the view's positional arguments, and gives what the view returns then.
    Raises TypeError at the end if one has been let go: it may have been a check, which has not been made.
    """
    dropped: list[str] = []
    token, outer = _dispatching.set(glue), _dropped.set(dropped)
    try:
        yield
    finally:
        _dispatching.reset(token)
        _dropped.reset(outer)
    if dropped:
        raise TypeError(DROPPED.format(dropped[0]))


class Fate:
    """Whether anything has become of a view that has been called.  If not, glue is told when it is let go; or the log,
    if that is after the call by glue.
    """

    __slots__ = ("_dropped", "_view", "known")

    def __init__(self, view: Callable[..., Any]) -> None:
        self._view = view
        self._dropped = _dropped.get()
        self.known = False

    def __del__(self) -> None:
        if self.known or sys.is_finalizing():
            return
        if self._dropped is not None and self._dropped is _dropped.get():
            self._dropped.append(named(self._view))
        else:
            logging.getLogger("wsgi_plus").error(DROPPED.format(named(self._view)))


class ViewThatWaits(Generic[R]):
    """A view that has been called and has not begun.  ``response = yield from steps.run()``, once."""

    own = frozenset({"_fate", "_generator", "_view", "_returned"})
    """Its attributes: all others are what decorators have set on what they took for a response."""

    __wsgi_plus_inner__ = "_generator"
    """The attribute that has the iterator inside: for a server that shows where requests wait."""

    def __init__(self, generator: Generator[Future[Any], None, R], view: Callable[..., Any]) -> None:
        if not is_generator(generator):
            raise TypeError(
                f"{named(view)} is marked with @suspends, and is not a generator function: it gave a "
                f"{type(generator).__name__}. @suspends belongs directly above the def of a function with a yield"
            )
        self._generator = generator
        self._view = view
        self._fate = Fate(view)

    def __getattr__(self, name: str) -> NoReturn:
        vars(self)["_fate"].known = True
        raise AttributeError(
            f"{named(self._view)} has not returned its response yet: a decorator around @suspends asked for .{name}"
        )

    def __repr__(self) -> str:
        return f"<{named(self._view)}, which waits and has not returned its response yet>"

    def __reduce__(self) -> tuple[Any, ...]:
        """For a cache that wants to keep what the view returns: that is waited for, and is what will come out of it."""
        return _same, (self.held(PICKLED),)

    def __bool__(self) -> bool:
        """Of what it returns: for a function such as ``has_permission``, which must not be true because it waits."""
        return bool(self.held(ASKED))

    def held(self, why: str) -> R:
        """What it returns, waited for in the thread; ``why`` is a message, logged once for each view.  Not the end of
        it: it can be handed on as before.
        """
        if "_returned" not in vars(self):
            name = named(self._view)
            if (why, name) not in _told:
                _told.add((why, name))
                logging.getLogger("wsgi_plus").warning(why, name)
            token = _dispatching.set(False)
            try:
                vars(self)["_returned"] = self.wait()
            finally:
                _dispatching.reset(token)
        returned: R = vars(self)["_returned"]
        return returned

    def run(self) -> Generator[Future[Any], None, R]:
        """The futures of the view one by one, failures to it, and what it returns.  One step at a time, as the view."""
        self._fate.known = True
        if "_returned" in vars(self):
            returned: R = vars(self)["_returned"]
            return returned
        generator = self._generator
        item: object = None
        error: BaseException | None = None
        try:
            while True:
                try:
                    item = next(generator) if error is None else generator.throw(error)
                except StopIteration as end:
                    response: R = end.value
                    return response
                if not is_future(item):
                    raise TypeError(
                        f"{named(self._view)} yielded {type(item).__name__}, not a concurrent.futures.Future. "
                        + (_BLOCK if isinstance(item, (bytes, str)) else hint(item))
                    )
                error = None
                try:
                    yield item
                except GeneratorExit:
                    raise
                except BaseException as failure:  # what the future failed with (S5)
                    error = failure
        finally:
            generator.close()
            item = error = None  # the traceback has this frame: no cycle

    def wait(self) -> R:
        """The same, waiting in the thread for each future."""
        steps = self.run()
        try:
            item = next(steps)
            while True:
                error = failure(item)
                item = next(steps) if error is None else steps.throw(error)
        except StopIteration as end:
            response: R = end.value
            return response
        finally:
            steps.close()


def is_view_that_waits(item: object) -> TypeIs[ViewThatWaits[Any]]:
    return isinstance(item, ViewThatWaits)
