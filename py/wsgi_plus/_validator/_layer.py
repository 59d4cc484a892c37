"""One validator of a stack, as one request finds it: who its neighbours are, and which steps run within it.

Each validator of a stack is a *layer*, and for each request it has an *exchange*.  Layers of one request find each
other by a context variable that says which step is being run, so the outer one knows who the inner one is, even where
middleware has made a new environ, and no key has to be added to that (S16.3).

Whatever is wrong is raised where it happens, in the face of the one who did it.  So that no middleware can swallow it
on the way, it is noted as well, and leaves the outermost layer at the end of the step, whatever else was to come out
there.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from .._types import Environ
from ._pep3333 import Input
from ._rules import INSIDE, RULES, WSGIPlusError, WSGIPlusWarning

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["VERSION", "Layer", "nothing"]

SERVER = "the server (or what is around the outermost validator)"

VERSION = "wsgi_plus.version"

_inside: ContextVar[Layer | None] = ContextVar("wsgi_plus.validator.inside", default=None)
"""The innermost exchange of which a step is being run here."""

_trace: ContextVar[Mapping[_Mark, int]] = ContextVar("wsgi_plus.validator.trace", default=MappingProxyType({}))
"""How many steps of which exchanges have left a trace in this context: all of them, if it is the right one (S9.4)."""


class _Mark:
    """Stands for an exchange in a context, which may outlive it."""

    __slots__ = ("stream",)

    def __init__(self, stream: Any) -> None:
        self.stream = stream  # wsgi.input: two applications that are called with the same one serve one request


class _Notes:
    """What the layers of one request share."""

    violation: WSGIPlusError | None = None  # that has not come out of the outermost one yet
    untyped = False  # a layer has warned of content without Content-Type
    told = False  # something was wrong, so it is no wonder if a layer does not get to close() any more


class Layer:
    """One request, as one layer sees it.

    Steps do not overlap, so the thread that runs one owns all of this.  Any thread may try to begin a step (S9.2), or
    call start_response at a wrong time: these look at ``_running``, ``thread`` and ``closed`` only.
    """

    def __init__(self, name: str, waits: bool, environ: Any) -> None:
        self.name = name
        self.waits = waits  # what is inside takes all futures and waits for them itself: S17
        outer = cast("Self | None", _inside.get())  # the layers of a request are of one class
        if outer is not None and outer.thread is None:  # a context that was copied in a step and is used after it
            outer = None
        self._is_outermost = outer is None
        self._outer: Callable[[], Self | None] = nothing if outer is None else weakref.ref(outer)
        self._outside = SERVER if outer is None else f"the middleware {outer.name}"
        self._notes: _Notes = _Notes() if outer is None else outer._notes
        self._inner: list[Self] = []
        if outer is not None:
            self._join(outer)
        # Steps
        self._running = threading.Lock()
        self.thread: int | None = None  # that runs the step
        self._steps = 0
        # What the application is called with
        known: Environ = cast(Environ, environ) if isinstance(environ, dict) else {}
        self._version = known.get(VERSION)
        self._method = known.get("REQUEST_METHOD")
        stream = known.get("wsgi.input")
        self._mark = _Mark(stream.stream if isinstance(stream, Input) else stream)

    def _join(self, outer: Self) -> None:
        outer._inner.append(self)

    # Who is who

    def broken(self, rule: str, **facts: Any) -> WSGIPlusError:
        """What to raise.  It is noted, too, and so comes out of the outermost layer even if middleware swallows it."""
        error = self._described(rule, **facts)
        self._notes.told = True
        if self._notes.violation is None:
            self._notes.violation = error
        return error

    def _described(self, rule: str, **facts: Any) -> WSGIPlusError:
        found = RULES[rule]
        if found.by == INSIDE:
            middleware = bool(self._inner)
            who = f"the {'middleware' if middleware else 'application'} {self.name}"
        else:
            middleware = not self._is_outermost
            who = self._outside
        number = found.of_middleware if middleware and found.of_middleware else found.number
        return WSGIPlusError(number, who, f"{found.broken}. {found.advice}".format(name=self.name, **facts))

    def _broken_in_use(self, rule: str, **facts: Any) -> WSGIPlusError:
        """The same for the streams, which all layers share: their user is inside the innermost one."""
        innermost = _inside.get() if RULES[rule].by == INSIDE else None
        return (innermost or self).broken(rule, **facts)

    def _warn(self, rule: str, **facts: Any) -> None:
        warnings.warn(WSGIPlusWarning(str(self._described(rule, **facts))), stacklevel=2)

    def _take_violation(self) -> WSGIPlusError | None:
        """What is to come out at the end of a step, whatever else was to: of the outermost layer, as all others may be
        surrounded by middleware that swallows it."""
        violation = None
        if self._is_outermost:
            violation, self._notes.violation = self._notes.violation, None
        return violation

    # Steps

    @contextmanager
    def _step(self, overlap: str = "overlap") -> Generator[None, None, None]:
        """Code of what is inside runs within this, and nowhere else."""
        if not self._running.acquire(blocking=False):
            # The server is told here; the step that runs is not to fail for it.
            raise self._described(overlap) if self._is_outermost else self.broken(overlap)
        token = _inside.set(self)
        self.thread = threading.get_ident()
        try:
            self._look_at_context()
            yield
        except BaseException as error:
            violation = self._take_violation()
            if violation is None or violation is error:
                raise
            raise violation from error
        else:
            violation = self._take_violation()
            if violation is not None:
                raise violation
        finally:
            self._leave_trace()
            self.thread = None
            _inside.reset(token)
            self._running.release()

    def _look_at_context(self) -> None:
        if self._version is None:
            return
        trace = _trace.get()
        if self._steps:
            if trace.get(self._mark) != self._steps:
                self.broken("context")  # only noted, so that close() is carried out before it is raised
        elif self._is_outermost and any(mark.stream is not self._mark.stream for mark in trace):
            raise self.broken("context-shared")

    def _leave_trace(self) -> None:
        """It stays there, for another request that is run in this context."""
        if self._version is not None:
            self._steps += 1
            _trace.set({**_trace.get(), self._mark: self._steps})


def nothing() -> None:
    return None
