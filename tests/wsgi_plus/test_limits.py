"""Semaphore, single_flight and deadline: several requests at a time, and several waits of one."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import CancelledError, Future

import pytest
from byhand import at_once, cancelled, done, failed, finish, in_child, outcome, resume, running
from wsgi_plus import (
    AsyncBridge,
    Semaphore,
    blocking,
    deadline,
    gather,
    offload,
    single_flight,
    sleep,
    timeout,
    wait,
)
from wsgi_plus import _flights as flights
from wsgi_plus.simple_server import Server
from wsgi_plus.testing import Client

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*fork:DeprecationWarning")


def parked(gen):
    """The future on which a generator waits."""
    fut = next(gen)
    assert isinstance(fut, Future) and not fut.done()
    return fut


def free(places):
    return places._state.free


# Semaphore


def test_places_are_given_in_turn():
    places = Semaphore(2)
    one, two = finish(places.acquire()), finish(places.acquire())
    gens = [places.acquire() for _ in range(3)]
    futs = [parked(gen) for gen in gens]
    one.release()
    assert [fut.done() for fut in futs] == [True, False, False]
    three = finish(gens[0], after=futs[0])
    two.release()
    three.release()
    assert [fut.done() for fut in futs] == [True, True, True]
    for gen, fut in zip(gens[1:], futs[1:], strict=True):
        finish(gen, after=fut).release()
    assert free(places) == 2


def test_a_block():
    places = Semaphore(1)

    def app(fail=False):
        with (yield from places.acquire()):
            assert free(places) == 0
            if fail:
                raise KeyError
            return "in"

    assert finish(app()) == "in"
    with pytest.raises(KeyError):
        finish(app(fail=True))
    assert free(places) == 1


def test_released_twice_is_released_once():
    places = Semaphore(1)
    place = finish(places.acquire())
    place.release()
    place.release()
    assert free(places) == 1


def test_a_place_that_is_forgotten():
    places = Semaphore(1)
    finish(places.acquire())
    gc.collect()
    assert free(places) == 1


def test_left_in_the_queue():
    """Nothing of it stays there, and the next one is next."""
    places = Semaphore(1)
    place = finish(places.acquire())
    leaves, stays = places.acquire(), places.acquire()
    parked(leaves)
    fut = parked(stays)
    leaves.close()
    assert len(places._state.waiting) == 1
    place.release()
    finish(stays, after=fut).release()
    assert free(places) == 1


def test_left_when_the_place_has_just_been_given():
    places = Semaphore(1)
    place = finish(places.acquire())
    leaves, stays = places.acquire(), places.acquire()
    given, fut = parked(leaves), parked(stays)
    place.release()
    assert given.done() and not fut.done()
    leaves.close()
    assert fut.done()
    finish(stays, after=fut).release()
    assert free(places) == 1


def test_left_and_given_at_once():
    for _ in range(200):
        places = Semaphore(1)
        place = finish(places.acquire())
        gen = places.acquire()
        parked(gen)
        at_once(place.release, gen.close)
        del gen
        assert free(places) == 1 and not places._state.waiting


def test_by_many():
    """Never more than so many at once, and all come in."""
    places, inside, most = Semaphore(3), [], []

    def request():
        for _ in range(20):
            with (yield from places.acquire()):
                inside.append(1)
                most.append(len(inside))
                yield from sleep(0.0005)
                inside.pop()

    at_once(*[lambda: finish(request())] * 8)
    assert max(most) <= 3 and free(places) == 3


@pytest.mark.parametrize("places", [0, -1])
def test_no_places(places):
    with pytest.raises(ValueError, match="let no request in"):
        Semaphore(places)


def test_a_fork_while_places_are_taken():
    places = Semaphore(1)
    place = finish(places.acquire())

    def check():
        with finish(places.acquire()):
            place.release()  # of the parent
            assert free(places) == 0
        assert free(places) == 1

    in_child(check)
    place.release()
    assert free(places) == 1


def test_on_servers():
    places, inside, most = Semaphore(2), [], []

    def work():
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.01)
        inside.pop()

    def app(environ, start_response):
        with (yield from places.acquire()):
            yield from wait(offload(work))
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"done"

    import urllib.request

    with Server(app, threads=2) as server:
        answers = []

        def ask():
            with urllib.request.urlopen(server.url, timeout=10) as answer:
                answers.append(answer.read())

        at_once(*[ask] * 8)
    at_once(*[lambda: Client(blocking(app), validate=False).fetch("/")] * 4)
    assert answers == [b"done"] * 8 and max(most) <= 2 and free(places) == 2


# single_flight


@pytest.fixture
def source():
    """source(): what is asked; how often is in its ``futs``."""

    def ask():
        fut = Future()
        ask.futs.append(fut)
        return fut

    ask.futs = []
    yield ask
    assert flights._flights._by_key == {}


def test_one_call_for_all(source):
    gens = [single_flight("key", source) for _ in range(3)]
    futs = [parked(gen) for gen in gens]
    assert len(source.futs) == 1
    source.futs[0].set_result("value")
    assert [finish(gen, after=fut) for gen, fut in zip(gens, futs, strict=True)] == ["value"] * 3


def test_another_key_is_another_call(source):
    gens = [single_flight(key, source) for key in ("a", "b")]
    futs = [parked(gen) for gen in gens]
    for number, fut in enumerate(source.futs):
        fut.set_result(number)
    assert [finish(gen, after=fut) for gen, fut in zip(gens, futs, strict=True)] == [0, 1]


def test_nothing_is_kept(source):
    for number in range(3):
        gen = single_flight("key", source)
        fut = parked(gen)
        source.futs[-1].set_result(number)
        assert finish(gen, after=fut) == number
    assert len(source.futs) == 3


@pytest.mark.parametrize("make", [failed, cancelled])
def test_a_failure_is_for_all(source, make):
    gens = [single_flight("key", source) for _ in range(2)]
    futs = [parked(gen) for gen in gens]
    error = outcome(make())
    source.futs[0].cancel() if isinstance(error, CancelledError) else source.futs[0].set_exception(error)
    for gen, fut in zip(gens, futs, strict=True):
        with pytest.raises(type(error)):
            finish(gen, after=fut)


def test_who_leaves_leaves_alone(source):
    leaves, stays = single_flight("key", source), single_flight("key", source)
    parked(leaves)
    fut = parked(stays)
    leaves.close()
    source.futs[0].set_result("value")
    assert finish(stays, after=fut) == "value"


def test_the_last_one_takes_it_along(source):
    gens = [single_flight("key", source) for _ in range(2)]
    for gen in gens:
        parked(gen)
    for gen in gens:
        gen.close()
    assert source.futs[0].cancelled()
    again = single_flight("key", source)
    parked(again)
    assert len(source.futs) == 2
    again.close()


def test_a_start_that_fails():
    def fail():
        raise KeyError("no upstream")

    with pytest.raises(KeyError):
        finish(single_flight("key", fail))
    with pytest.raises(TypeError, match=r"single_flight\(\) takes a concurrent.futures.Future, not a int"):
        finish(single_flight("key", lambda: 3))
    assert flights._flights._by_key == {}


def test_a_start_that_fails_while_others_wait():
    others = []

    def fail():
        others.append(single_flight("key", fail))
        others.append(parked(others[0]))
        raise KeyError("no upstream")

    with pytest.raises(KeyError):
        finish(single_flight("key", fail))
    with pytest.raises(KeyError):
        finish(others[0], after=others[1])
    assert flights._flights._by_key == {}


def test_asked_by_many_at_once():
    asked = []

    def ask():
        asked.append(1)
        threading.Event().wait(0.2)
        return 7

    def request():
        assert (yield from single_flight("many", lambda: offload(ask))) == 7

    at_once(*[lambda: finish(request())] * 8)
    assert len(asked) < 8
    assert flights._flights._by_key == {}


def test_left_and_joined_at_once():
    """Who joins as the last one leaves has a call of its own, or that one, and never a cancelled one."""
    for _ in range(200):
        leaves = single_flight("race", running)
        parked(leaves)
        joined = []

        def join(joined=joined):
            gen = single_flight("race", lambda: done("value"))
            joined.append((gen, next(gen)))

        at_once(leaves.close, join)
        ((gen, fut),) = joined
        assert fut.done() is False or outcome(fut) is None
        gen.close()
    assert flights._flights._by_key == {}


# deadline


def waits(*futs):
    results = []
    for fut in futs:
        results.append((yield from wait(fut)))
    return results


def test_in_time():
    assert finish(deadline(10, waits(done(1), done(2)))) == [1, 2]
    assert finish(deadline(10, waits())) == []
    one = Future()
    gen = deadline(10, waits(one, done(2)))
    gate = parked(gen)
    one.set_result(1)
    assert finish(gen, after=gate) == [1, 2]


def test_for_all_together():
    """Each would be in time."""
    one, two = offload(threading.Event().wait, 0.02), Future()
    with pytest.raises(TimeoutError, match="not done within 0.1 s"):
        finish(deadline(0.1, waits(one, two)))
    assert two.cancelled()


def test_what_is_done_is_never_too_late():
    assert finish(deadline(0, waits(done(1)))) == [1]
    with pytest.raises(TimeoutError):
        finish(deadline(0, waits(Future())))


def test_failures_reach_the_generator():
    def steps():
        try:
            yield from wait(failed())
        except ValueError:
            return "caught"

    assert finish(deadline(10, steps())) == "caught"
    late = running()
    gen = deadline(10, waits(late))
    gate = parked(gen)
    late.set_exception(KeyError())
    with pytest.raises(KeyError):
        resume(gen, gate)


def test_caught_inside():
    """It may go on, and each wait that follows is over at once."""

    def steps():
        seen = []
        for fut in (Future(), Future(), done()):
            try:
                yield from wait(fut)
            except TimeoutError:
                seen.append(fut.cancelled())
        return seen

    assert finish(deadline(0.01, steps())) == [True, True]


def test_with_the_other_helpers():
    def steps():
        with pytest.raises(TimeoutError, match="no result within"):
            yield from timeout(0.001, Future())
        yield from gather(done(), done())
        yield from sleep(100)

    with pytest.raises(TimeoutError, match="not done within"):
        finish(deadline(0.05, steps()))


def test_deadlines_within_each_other():
    with pytest.raises(TimeoutError, match="within 0.01 s"):
        finish(deadline(100, deadline(0.01, waits(Future()))))
    with pytest.raises(TimeoutError, match="within 0.01 s"):
        finish(deadline(0.01, deadline(100, waits(Future()))))


def test_left():
    one = Future()
    gen = deadline(10, waits(one))
    parked(gen)
    gen.close()
    assert one.cancelled()


def test_blocks_are_passed_on():
    def steps():
        yield b"one"
        try:
            yield b"two"
        except KeyError:
            yield b"caught"

    gen = deadline(10, steps())
    assert (next(gen), next(gen), gen.throw(KeyError())) == (b"one", b"two", b"caught")
    gen.close()


def test_in_time_or_late_at_once():
    """Whichever comes first, the generator ends with one of the two."""
    for _ in range(50):
        fut = running()
        gen = deadline(0.0005, waits(fut))
        gate = next(gen)
        at_once(lambda fut=fut: fut.set_result(1))
        try:
            assert finish(gen, after=gate) == [1]
        except TimeoutError:
            pass


def test_no_generator():
    with pytest.raises(TypeError, match=r"takes a generator, not a Future: for one future: timeout\(seconds, future\)"):
        deadline(1, Future())
    with pytest.raises(TypeError, match="takes a generator, not a function: call the function"):
        deadline(1, waits)


def test_no_number():
    with pytest.raises(ValueError, match="must be a number"):
        finish(deadline(float("nan"), waits()))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("acquire", lambda: Semaphore(1).acquire()),
        ("single_flight", lambda: single_flight("key", Future)),
        ("deadline", lambda: deadline(1, (item for item in ()))),
    ],
)
def test_never_waited(name, make):
    with pytest.warns(RuntimeWarning, match=rf"^{name}\(\) was never waited for"):
        make()


def test_in_an_application():
    """All three, with a bridge, in one request; and the client that leaves takes all along."""
    import asyncio

    bridge, places = AsyncBridge(), Semaphore(1)

    def answer():
        with (yield from places.acquire()):
            return (yield from single_flight("answer", lambda: bridge.run(asyncio.sleep(0.01, b"answer"))))

    def app(environ, start_response):
        found = yield from deadline(10, answer())
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield found

    assert Client(app).fetch("/").body == b"answer"
    Client(app).get("/").disconnect()
    assert free(places) == 1 and flights._flights._by_key == {}
    bridge.close()
