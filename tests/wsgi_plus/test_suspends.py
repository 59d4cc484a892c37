"""Views that are generators: what @suspends makes of them."""

from __future__ import annotations

import functools
import gc
import weakref
from concurrent.futures import CancelledError, Future

import pytest
from byhand import cancelled, done, failed, finish
from wsgi_plus import suspends, wait
from wsgi_plus._suspends import ViewThatWaits, dispatching


@suspends
def view(fut, *, word="got"):
    """Says what it is."""
    try:
        return f"{word} {(yield from wait(fut))}"
    except ValueError as error:
        return f"caught {error}"


def test_called_by_anybody_it_waits():
    assert view(done(1)) == "got 1"
    assert view(failed(), word="no") == "caught failed on purpose"
    with pytest.raises(CancelledError):
        view(cancelled())


def test_it_keeps_its_name():
    assert (view.__name__, view.__doc__) == ("view", "Says what it is.")


def test_called_by_glue_it_gives_steps():
    with dispatching():
        steps = view(done(2))
    assert isinstance(steps, ViewThatWaits)
    assert finish(steps.run()) == "got 2"
    assert view(done(3)) == "got 3"


def test_failure_reaches_the_view():
    with dispatching():
        steps = view(failed())
    assert finish(steps.run()) == "caught failed on purpose"


def test_close_reaches_the_view():
    fut = Future()
    with dispatching():
        running = view(fut).run()
    assert next(running) is fut
    running.close()
    assert fut.cancelled()


def test_steps_pass_through_decorators():
    def guarded(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args)

        return wrapper

    with dispatching():
        assert finish(guarded(view)(done(4)).run()) == "got 4"
    assert guarded(view)(done(5)) == "got 5"


def test_a_decorator_that_wants_the_response_is_told():
    with dispatching():
        steps = view(done())
    with pytest.raises(AttributeError, match=r"view has not returned its response yet: .* asked for \.headers"):
        steps.headers["X"] = "1"


@pytest.mark.parametrize("item", [b"block", None, [Future()]])
def test_anything_but_a_future_is_an_error(item):
    ended = []

    @suspends
    def wrong():
        try:
            yield item
        finally:
            ended.append(True)

    with pytest.raises(TypeError, match=rf"wrong yielded {type(item).__name__}, not a concurrent.futures.Future"):
        wrong()
    assert ended == [True]


def test_a_function_that_is_no_generator():
    with pytest.raises(TypeError, match=r"plain is marked with @suspends, and is not a generator function"):
        suspends(plain)()


def plain():
    return "response"


def test_a_failure_leaves_no_cycle():
    """What is not referred to any more goes at once: the future, its exception, and the frames in that."""

    @suspends
    def careless():
        yield failed()

    gc.collect()
    gc.disable()
    try:
        with dispatching():
            steps = careless()
        running = steps.run()
        fut = next(running)
        found = weakref.ref(fut)
        error = fut.exception()
        with pytest.raises(ValueError, match="on purpose"):
            running.throw(error)
        del fut, error, running, steps
        assert found() is None
    finally:
        gc.enable()
