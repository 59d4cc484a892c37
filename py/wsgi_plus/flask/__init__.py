"""Flask views that wait without a thread: ``suspending(app)``, and ``@suspends`` on the views (S1, S2, S5, S8).

    from flask import Flask
    from wsgi_plus import offload, wait
    from wsgi_plus.flask import suspending, suspends

    app = suspending(Flask(__name__))

    @app.get("/<name>")
    @suspends
    def show(name):
        answer = yield from wait(offload(ask, name))  # the request holds no thread here
        return {"answer": answer}                     # whatever a view may return

What waits.  Views, among them the methods of class-based ones; ``before_request`` functions; error handlers.  Each is
marked with ``@suspends``, directly above its ``def``, may yield futures, and returns what it always did.  A generator
that returns a response and is not marked raises TypeError, as that would be lost.  A failed future raises at its
``yield``; what is not caught reaches the error handlers.  Wherever else Flask calls a function that is marked
(``after_request``, ``url_value_preprocessor``, teardown), it waits in the thread.  Called by a view, and its result not
handed on as the response, it has done nothing: that is a TypeError.  ``async`` views are run as ever, and
hold their thread.

Decorators.  One around ``@suspends`` may set headers, cookies and attributes of the response that ``make_response``
gives it, as ``cross_origin`` of flask-cors does, and may add a status and headers to what the view returns.  That is
done when the response is there; who reads what is not there yet gets AttributeError.  ``cached`` of Flask-Caching
works: what is in the cache is answered at once, and what is not waits in its thread, which a warning says once for each
view.

Classes of views.  The methods of a ``MethodView`` are marked as functions are, each directly above its ``def``.  The
methods of a ``Resource`` of Flask-RESTful can be marked, and wait in their thread, which a warning says once for each:
that package makes a response of what they return before the rest of Flask sees it.  In a ``MethodView`` they do not.

What streams.  The body of any response, from any view: ``Response(generator)``, with ``stream_with_context`` or not,
may yield futures between its blocks (to mypy such a generator is an ``Iterator[Any]``).  Who reads the data of such a
response before it is sent, as an ``after_request`` function can, waits in the thread for all of it.  A body that is a
list or a tuple has to be of blocks.

What does not change.  A view that is not marked, or that yields nothing, takes Flask's own way.  ``request``,
``session`` and ``g`` are there after a wait, and the same, in whatever thread.  The request ends where it does in
Flask, when the response has been made and before its body is sent, unless that is in ``stream_with_context``; then the
teardown functions run.  If the client leaves during a wait (S8.2), first the view gets ``GeneratorExit``, then the
teardown functions do; ``after_request`` functions and ``save_session`` are not called.  What the view raises then is
logged.

What the server sees.  In place of each future it gets another, which is done when that is and never fails (S5.10).  So
failures reach the view even behind middleware without ``throw``, of which there is a lot.  Each request must have a
``contextvars.Context`` of its own, as S9.4 has it.  On a server that is none of WSGI+ (S16), and in
``app.test_client()``, everything waits in the thread, with the same results.  ``wsgi_plus.flask.test`` has a test
client with the rules of a server.

Classes.  Methods that a class of yours overrides are called as ever, with two exceptions.  When the view waits,
``dispatch_request`` and ``full_dispatch_request`` get a stand-in from their ``super()``, to be handed on: it has none
of a response's attributes, and says so.  With a ``preprocess_request`` of yours, ``before_request`` functions wait in
the thread.
"""

from __future__ import annotations

import enum
import functools
import sys
import types
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar, cast

from flask import got_request_exception, request
from flask.app import Flask  # and not what tools put in its place in the package
from flask.ctx import RequestContext
from flask.globals import request_ctx
from werkzeug.wrappers import Response

from .._hints import never_marked
from .._suspends import ViewThatWaits, _dispatching, dispatching, is_view_that_waits, suspends
from .._types import Environ, is_tuple
from .._unwaited import named
from ._later import ResponseLater
from ._resources import within
from ._stream import Body, close, gated, watch

__all__ = ["suspending", "suspends"]

A = TypeVar("A", bound=Flask)

Waits = Generator["Future[Any]", None, Any]


def suspending(app: A) -> A:
    """Has the views of ``app`` that are marked with ``@suspends`` suspended, and gives ``app`` back.

    Call it when the application is made, before it serves requests; calling it again does nothing.  The object stays
    the same; its class becomes one of the same name, derived from the one it had.
    """
    if not isinstance(app, _Suspending):
        cls: Any = type(app)
        app.__class__ = _derived(cls)
    return app


@functools.cache
def _derived(cls: Any) -> Any:
    return types.new_class(cls.__name__, (_Suspending, cls), {}, lambda body: body.update(__module__=cls.__module__))


class Stage(enum.Enum):
    """Where Flask is with a request, in its order."""

    BEFORE = enum.auto()  # before_request functions
    VIEW = enum.auto()
    HANDLER = enum.auto()  # an error handler for what one of those has raised
    LAST = enum.auto()  # the one for InternalServerError, when nothing else is left


class _Suspending(Flask):
    """What comes before the application's class.  Flask's wsgi_app runs, and calls this where a function may wait."""

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if _dispatching.get():  # called by a view of another application, whose affair that is
            with _not_dispatching():
                return super().__call__(environ, start_response)
        return super().__call__(environ, start_response)

    def preprocess_request(self) -> Any:
        flasks = super().preprocess_request
        if self.before_request_funcs and _plus() and getattr(flasks, "__func__", None) is Flask.preprocess_request:
            return self._begin(self._before(), Stage.BEFORE)
        return flasks()

    def _before(self) -> Waits:
        """Flask's preprocess_request, except that it waits."""
        names = (None, *reversed(request.blueprints))
        for name in names:
            for preprocess in self.url_value_preprocessors.get(name, ()):
                preprocess(request.endpoint, request.view_args)
        for name in names:
            for before in self.before_request_funcs.get(name, ()):
                with dispatching(within):
                    rv = self.ensure_sync(before)()
                if is_view_that_waits(rv):
                    rv = yield from rv.run()
                elif isinstance(rv, Generator):
                    raise never_marked(named(before))
                if rv is not None:
                    return rv
        return None

    def dispatch_request(self) -> Any:
        if not _plus():
            return super().dispatch_request()
        with dispatching(within):
            rv = super().dispatch_request()
        return self._begun(rv, Stage.VIEW)

    def handle_user_exception(self, e: Exception) -> Any:
        if not _plus():
            return super().handle_user_exception(e)
        with dispatching(within):
            rv = super().handle_user_exception(e)
        return self._begun(rv, Stage.HANDLER)

    def handle_exception(self, e: Exception) -> Any:
        if not _plus():
            return super().handle_exception(e)
        with dispatching(within):
            return super().handle_exception(e)

    def make_response(self, rv: Any) -> Any:
        view, *more = rv if is_tuple(rv) and rv else (rv,)
        if isinstance(view, Waiting):
            raise TypeError(f"a response cannot be made of {view!r}: hand it on as it is")
        if is_view_that_waits(view):
            make = super().make_response
            return ResponseLater(view, lambda returned: make((make(returned), *more)) if more else make(returned))
        return super().make_response(rv)

    def finalize_request(self, rv: Any, from_error_handler: bool = False) -> Any:
        rv = self._begun(rv, Stage.LAST)  # of these only handle_exception does not begin them, as it comes here itself
        if isinstance(rv, Waiting):
            return Suspended(self, rv)  # wsgi_app does nothing with it but call it
        with _not_dispatching():
            response = cast(Any, super().finalize_request(rv, from_error_handler))
        if isinstance(response, Response):
            watch(response)
            if isinstance(response.response, Body):
                response.response.suspends = _plus()
        return response

    def process_response(self, response: Any) -> Any:
        watch(response)
        return super().process_response(response)

    def _begun(self, rv: Any, stage: Stage) -> Any:
        if is_tuple(rv) and rv and isinstance(rv[0], ViewThatWaits):
            rv = self.make_response(rv)
        return self._begin(rv.run(), stage) if is_view_that_waits(rv) else rv

    def _begin(self, steps: Waits, stage: Stage) -> Any:
        """What the steps return, if they do so without a wait; otherwise a Waiting."""
        rest = self._run(steps)
        try:
            return Waiting(stage, next(rest), rest)
        except StopIteration as end:
            return end.value

    def _run(self, steps: Waits) -> Waits:
        try:
            return (yield from gated(steps))
        finally:
            try:
                steps.close()
            except Exception as e:  # it has got GeneratorExit, and this is how it ends: there is no client to answer
                got_request_exception.send(self, _async_wrapper=self.ensure_sync, exception=e)
                self.log_exception(cast(Any, sys.exc_info()))


class Waiting:
    """A function of the application that has yielded a future.  ``rv = yield from waiting.result()``, once."""

    __wsgi_plus_inner__ = "_rest"  # for a server that shows where requests wait

    def __init__(self, stage: Stage, gate: Future[Any], rest: Waits) -> None:
        self.stage = stage
        self._gate = gate
        self._rest = rest

    def __repr__(self) -> str:
        return "<a view which waits and has not returned its response yet>"

    def result(self) -> Waits:
        try:
            yield self._gate
            return (yield from self._rest)
        finally:
            self.close()

    def close(self) -> None:
        self._rest.close()


class Suspended:
    """Stands in for the response of a request that waits.  To be called once, by Flask's wsgi_app, as a response is."""

    def __init__(self, app: _Suspending, waiting: Waiting) -> None:
        self._app = app
        self._waiting = waiting
        self._error: BaseException | None = None  # what the teardown functions are to be told

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"the view waits and has not returned its response yet, of which .{name} was asked for")

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[Any]:
        ctx: RequestContext = cast(Any, request_ctx)._get_current_object()  # as Flask does it

        def keep(error: BaseException | None = None) -> None:
            del ctx.pop  # the method is back
            self._error = error

        # Flask's wsgi_app will now pop the context and return.  The context has to stay until the view is over.
        ctx.pop = keep  # type: ignore[method-assign, assignment]
        items = self._items(ctx, environ, start_response)
        next(items)
        return items

    def _items(
        self, ctx: RequestContext, environ: Environ, start_response: Callable[..., Any]
    ) -> Generator[Any, None, None]:
        """What is left of Flask's wsgi_app, and then the body."""
        app = self._app
        response: Any = self
        try:
            try:
                yield None  # for __call__: now it has begun, and close() finds something to end
                if self._waiting.stage is not Stage.LAST:
                    response = yield from self._full_dispatch()
            except Exception as e:
                self._error = e
                response = app.handle_exception(e)
            except BaseException as e:
                if self._error is None:
                    self._error = e
                raise
            if isinstance(response, Suspended):
                rv = yield from response._waiting.result()
                response = app.finalize_request(rv, from_error_handler=True)
            iterable = response(environ, start_response)
        finally:
            error, self._error = self._error, None
            try:
                self._waiting.close()
                ctx.pop(None if error is None or app.should_ignore_error(error) else error)
            finally:
                del error  # its traceback has this frame: no cycle
        try:
            yield from gated(iterable)
        finally:
            close(iterable)

    def _full_dispatch(self) -> Waits:
        """What is left of Flask's full_dispatch_request."""
        app, stage = self._app, self._waiting.stage
        rv: Any = self._waiting
        if stage is not Stage.HANDLER:
            try:
                rv = yield from self._waiting.result()
                if rv is None and stage is Stage.BEFORE:
                    rv = app.dispatch_request()
                    if isinstance(rv, Waiting):
                        rv = yield from rv.result()
            except Exception as e:
                rv = app.handle_user_exception(e)
        if isinstance(rv, Waiting):
            rv = yield from rv.result()
        return app.finalize_request(rv)


def _plus() -> bool:
    """Whether the server of this request can suspend it (S16)."""
    return "wsgi_plus.version" in request.environ


@contextmanager
def _not_dispatching() -> Generator[None, None, None]:
    """Within it, in this context, ``@suspends`` functions wait in the thread."""
    token = _dispatching.set(False)
    try:
        yield
    finally:
        _dispatching.reset(token)
