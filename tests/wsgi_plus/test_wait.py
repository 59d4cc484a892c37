"""wait, settled, gather, first, shield: futures on which a request is parked (S2, S5, S8)."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import CancelledError, Future

import pytest
from byhand import Wrapper, at_once, cancelled, done, failed, finish, outcome, resume, running
from wsgi_plus import first, gather, settled, shield, timeout, wait

pytestmark = pytest.mark.filterwarnings("error")

ROUNDS = 200  # of a race

WAITS = {
    "wait": lambda one, two: wait(one),
    "settled": lambda one, two: settled(one),
    "gather": lambda one, two: gather(two, one),
    "first": lambda one, two: first(two, one),
    "timeout": lambda one, two: timeout(100, one),
}
RAISING = {name: WAITS[name] for name in ("wait", "gather", "timeout")}


# What is common to all


@pytest.mark.parametrize("name", WAITS)
def test_nothing_happens_before_the_first_step(name):
    one, two = Future(), Future()
    with pytest.warns(RuntimeWarning, match="never waited for"):
        WAITS[name](one, two).close()
    assert not one.cancelled() and not two.cancelled()


@pytest.mark.parametrize("name", WAITS)
def test_left_at_the_yield(name):
    """S8: a generator that is closed cancels what it waits for, and what comes later is harmless."""
    one, two = Future(), running()
    gen = WAITS[name](one, two)
    assert isinstance(next(gen), Future)
    gen.close()
    assert one.cancelled()
    two.set_result(None)


@pytest.mark.parametrize("name", WAITS)
def test_something_else_thrown_at_the_yield(name):
    """Anything else that ends the wait before its time cancels as well."""
    one = Future()
    gen = WAITS[name](one, running())
    next(gen)
    with pytest.raises(KeyboardInterrupt):
        gen.throw(KeyboardInterrupt())
    assert one.cancelled()


@pytest.mark.parametrize("name", WAITS)
def test_left_with_a_future_that_cannot_be_cancelled(name):
    one = running()
    gen = WAITS[name](one, running())
    next(gen)
    gen.close()
    one.set_exception(ValueError())


@pytest.mark.parametrize("name", WAITS)
@pytest.mark.parametrize("how", ["result", "failure", "cancel"])
def test_left_and_completed_at_once(name, how):
    """A future that completes while its request ends: nothing is raised or logged, whichever comes first."""
    for _ in range(ROUNDS // 8):
        one, two = (Future(), Future()) if how == "cancel" else (running(), running())
        gen = WAITS[name](one, two)
        next(gen)
        complete = {
            "result": lambda one=one: one.set_result(1),
            "failure": lambda one=one: one.set_exception(ValueError()),
            "cancel": one.cancel,
        }[how]
        at_once(complete, gen.close)


@pytest.mark.parametrize("name", RAISING)
def test_no_reference_cycle_with_the_exception(name):
    """What failed is gone as soon as the application has dropped it, with all that its traceback holds."""

    def fail():
        one, two = failed(), done()
        gone = weakref.ref(one)
        gen = RAISING[name](one, two)
        fut = next(gen)
        try:
            gen.throw(fut.exception(0)) if fut is one else next(gen)
        except ValueError:
            return gone
        finally:
            del one, two, gen, fut  # the traceback has this frame too

    gc.collect()
    gc.disable()
    try:
        gone = fail()
        assert gone is not None and gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name", WAITS)
def test_no_reference_cycle_after_success(name):
    def succeed():
        one, two = done(), running()
        if name == "gather":
            two.set_result(None)
        finish(WAITS[name](one, two))
        return weakref.ref(one)

    gc.collect()
    gc.disable()
    try:
        gone = succeed()
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name", WAITS)
def test_a_callback_that_raises(name, log):
    """What another's done-callback raises is logged by the future, and does not get in the way."""
    one, two = Future(), Future()
    one.add_done_callback(lambda _: 1 / 0)
    gen = WAITS[name](one, two)
    fut = next(gen)
    if name == "gather":
        two.set_result(2)
    one.set_result(1)
    finish(gen, after=fut)
    assert {record.name for record in log.records} == {"concurrent.futures"}
    log.clear()


# wait


@pytest.mark.parametrize("make", [lambda: done("value"), Future])
def test_wait_gives_the_result(make):
    fut = make()
    gen = wait(fut)
    assert next(gen) is fut
    if not fut.done():
        fut.set_result("value")
    assert finish(gen, after=fut) == "value"


def test_wait_raises_the_failure():
    error = ValueError("failed on purpose")
    with pytest.raises(ValueError) as caught:
        finish(wait(failed(error)))
    assert caught.value is error


def test_wait_raises_cancelled_error():
    with pytest.raises(CancelledError):
        finish(wait(cancelled()))


def test_failure_is_raised_without_throw():
    """Where the server simply goes on after a failed future, the failure does not pass silently."""
    gen = wait(failed())
    next(gen)
    with pytest.raises(ValueError):
        next(gen)


def test_waits_in_turn_in_one_generator():
    def app():
        one = yield from wait(done(1))
        try:
            yield from wait(failed())
        except ValueError:
            two = 2
        return one + two + (yield from wait(done(3)))

    assert finish(app()) == 6


# settled


@pytest.mark.parametrize("make", [done, failed, cancelled])
def test_settled_gives_the_future(make):
    fut = make()
    assert finish(settled(fut)) is fut


def test_settled_later():
    fut = Future()
    gen = settled(fut)
    gate = next(gen)
    assert not gate.done()
    fut.set_exception(ValueError())
    assert outcome(gate) is None
    assert finish(gen, after=gate) is fut


def test_settled_behind_middleware_without_throw():
    """S5: the application behind a wrapper that has no throw looks at the future itself."""

    def app():
        fut = yield from settled(failed())
        yield b"upstream failed" if fut.exception() else b"fine"

    answer = []
    for item in Wrapper(app()):
        if isinstance(item, Future):
            assert outcome(item) is None, "would end the request"
        else:
            answer.append(item)
    assert answer == [b"upstream failed"]


# gather


def test_gather_in_the_order_of_the_arguments():
    one, two, three = Future(), Future(), done(3)
    gen = gather(one, two, three)
    gate = next(gen)
    two.set_result(2)
    assert not gate.done()
    one.set_result(1)
    assert finish(gen, after=gate) == (1, 2, 3)


def test_gather_of_nothing_does_not_wait():
    assert finish(gather()) == ()
    with pytest.raises(StopIteration):
        next(gather())


def test_gather_of_the_same_twice():
    fut = Future()
    gen = gather(fut, fut)
    gate = next(gen)
    fut.set_result("same")
    assert finish(gen, after=gate) == ("same", "same")


@pytest.mark.parametrize(("make", "error"), [(failed, ValueError), (cancelled, CancelledError)])
def test_gather_ends_with_the_first_failure(make, error):
    """The rest are cancelled at once; one that runs goes on unheeded."""
    waiting, busy, ready = Future(), running(), done()
    with pytest.raises(error):
        finish(gather(waiting, ready, make(), busy))
    assert waiting.cancelled() and not busy.done()
    busy.set_exception(KeyError())


def test_gather_raises_the_failure_that_came_first():
    one, two = running(), running()
    gen = gather(one, two)
    gate = next(gen)
    two.set_exception(KeyError())
    one.set_exception(ValueError())
    with pytest.raises(KeyError):
        resume(gen, gate)


def test_gather_of_many_that_complete_at_once():
    for _ in range(ROUNDS // 20):
        futs = [Future() for _ in range(8)]
        gen = gather(*futs)
        gate = next(gen)
        at_once(*(lambda fut=fut, n=n: fut.set_result(n) for n, fut in enumerate(futs)))
        assert finish(gen, after=gate) == tuple(range(8))


def test_gather_of_many_that_fail_at_once():
    for _ in range(ROUNDS // 20):
        futs = [running() for _ in range(8)]
        gen = gather(*futs)
        gate = next(gen)
        at_once(*(lambda fut=fut: fut.set_exception(ValueError()) for fut in futs))
        with pytest.raises(ValueError):
            resume(gen, gate)


# first


@pytest.mark.parametrize("make", [done, failed, cancelled])
def test_first_gives_the_future_and_cancels_the_rest(make):
    waiting, busy, winner = Future(), running(), make()
    assert finish(first(waiting, busy, winner)) is winner
    assert waiting.cancelled() and not busy.done()


def test_first_later():
    one, two = Future(), Future()
    gen = first(one, two)
    gate = next(gen)
    assert not gate.done()
    two.set_result(2)
    assert finish(gen, after=gate) is two
    assert one.cancelled()


def test_first_of_several_done_is_the_first_in_order():
    one, two = done(1), done(2)
    assert finish(first(Future(), one, two)) is one


def test_first_of_the_same_twice():
    fut = done()
    assert finish(first(fut, fut)) is fut


def test_first_of_nothing():
    with pytest.raises(ValueError):
        finish(first())


def test_first_of_many_that_complete_at_once():
    for _ in range(ROUNDS // 20):
        futs = [running() for _ in range(8)]
        gen = first(*futs)
        gate = next(gen)
        at_once(*(lambda fut=fut: fut.set_result(None) for fut in futs))
        assert finish(gen, after=gate) in futs


def test_cancelling_the_rest_goes_on_after_one_that_raises():
    class Stubborn(Future):
        def cancel(self):
            raise SystemExit

    one, two = Future(), Future()
    with pytest.raises(SystemExit):
        finish(first(one, Stubborn(), two, done()))
    assert one.cancelled() and two.cancelled()


# shield


@pytest.mark.parametrize("make", [lambda: done(1), failed, cancelled])
@pytest.mark.parametrize("later", [False, True])
def test_shield_ends_as_the_future(make, later):
    ended = make()
    fut = Future() if later else ended
    copy = shield(fut)
    assert copy is not fut
    if later:
        error = outcome(ended)
        if isinstance(error, CancelledError):
            fut.cancel()
        elif error is not None:
            fut.set_exception(error)
        else:
            fut.set_result(ended.result())
    assert repr(outcome(copy)) == repr(outcome(fut))
    if outcome(copy) is None:
        assert copy.result() == 1


@pytest.mark.parametrize("end", [lambda f: f.set_result(1), lambda f: f.set_exception(ValueError()), Future.cancel])
def test_shield_keeps_cancelling_away(end):
    """One request leaves, the other has the result."""
    shared = Future()
    left, stays = wait(shield(shared)), shield(shared)
    next(left)
    left.close()
    assert not shared.done()
    end(shared)
    assert stays.done()


def test_shield_cancelled_and_completed_at_once():
    for _ in range(ROUNDS):
        fut = running()
        copy = shield(fut)
        at_once(lambda fut=fut: fut.set_result(1), copy.cancel)
        assert copy.cancelled() or copy.result() == 1
