"""sleep and timeout: time that holds no thread (S2)."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import CancelledError, Future

import pytest
from byhand import at_once, cancelled, done, eventually, failed, finish, in_child, outcome, running, threads
from wsgi_plus import _timer, shield, sleep, timeout

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*fork:DeprecationWarning")


def test_sleep():
    started = time.monotonic()
    assert finish(sleep(0.05)) is None
    assert time.monotonic() - started >= 0.05


@pytest.mark.parametrize("seconds", [0, 0.0, -1, -math.inf])
def test_sleep_of_nothing(seconds):
    gen = sleep(seconds)
    gate = next(gen)
    assert gate.done()
    finish(gen, after=gate)


def test_sleep_counts_from_the_first_step():
    gen = sleep(0.05)
    time.sleep(0.03)
    started = time.monotonic()
    finish(gen)
    assert time.monotonic() - started >= 0.05


@pytest.mark.parametrize("make", [sleep, lambda seconds: timeout(seconds, done())])
def test_not_a_number(make):
    with pytest.raises(ValueError):
        next(make(math.nan))


def test_sleep_for_ever():
    """Longer than any clock or lock can be told."""
    gens = [sleep(seconds) for seconds in (math.inf, 1e300, threading.TIMEOUT_MAX * 2)]
    gates = [next(gen) for gen in gens]
    finish(sleep(0.01))
    assert not any(gate.done() for gate in gates)
    for gen in gens:
        gen.close()


def test_many_sleep_on_one_thread():
    gens = [sleep(0.05 + n % 7 * 0.01) for n in range(500)]
    gates = [next(gen) for gen in gens]
    assert len(threads("wsgi_plus-timer")) == 1
    for gen, gate in zip(gens, gates, strict=True):
        finish(gen, after=gate)


def test_who_wakes_first():
    """In the order of their times, though the thread waits for a later one when an earlier one comes."""
    order: list[float] = []
    gates = []
    for seconds in (0.2, 0.1, 0.02):
        gate = next(gen := sleep(seconds))
        gate.add_done_callback(lambda _, seconds=seconds: order.append(seconds))
        gates.append((gate, gen))
    for gate, _ in gates:
        assert outcome(gate) is None
    assert order == [0.02, 0.1, 0.2]


def test_left_while_asleep():
    gen = sleep(0.1)
    gate = next(gen)
    gen.close()
    finish(sleep(0.12))
    assert not gate.done(), "the alarm rang though no request waits"


def test_left_and_woken_at_once():
    for _ in range(20):
        gen = sleep(0.002)
        next(gen)
        time.sleep(0.0018)
        gen.close()


def test_leaving_takes_no_lock():
    """A generator may be closed by the garbage collector in the middle of anything."""
    next(one := sleep(3600))
    next(two := timeout(3600, Future()))
    with _timer._timer._changed:
        at_once(one.close, two.close)


def test_alarms_that_are_cancelled_do_not_pile_up():
    """Most timeouts are never due: 5,000 of an hour leave little behind."""
    for _ in range(5000):
        finish(timeout(3600, done()))
    assert len(_timer._timer._heap) <= 2 * _timer.Timer.PRUNE


def test_a_callback_that_raises_does_not_stop_the_timer(log):
    gate = next(gen := sleep(0.1))

    def quit(_):
        raise SystemExit

    gate.add_done_callback(quit)
    finish(sleep(0.12))
    assert gate.done() and finish(gen, after=gate) is None
    assert {record.name for record in log.records} == {"wsgi_plus._timer"}
    log.clear()


def test_timers_set_at_once():
    def nap():
        for _ in range(10):
            finish(sleep(0.001))

    at_once(*[nap] * 8)


# timeout


def test_timeout_in_time():
    assert finish(timeout(10, done("value"))) == "value"
    fut = Future()
    gen = timeout(10, fut)
    gate = next(gen)
    assert not gate.done()
    fut.set_result("later")
    assert finish(gen, after=gate) == "later"


@pytest.mark.parametrize(("make", "error"), [(failed, ValueError), (cancelled, CancelledError)])
def test_timeout_of_a_failure(make, error):
    with pytest.raises(error):
        finish(timeout(10, make()))


def test_timeout_too_late():
    fut = Future()
    with pytest.raises(TimeoutError, match=r"within 0\.02 s"):
        finish(timeout(0.02, fut))
    assert fut.cancelled()


def test_timeout_of_what_cannot_be_cancelled():
    fut = running()
    with pytest.raises(TimeoutError):
        finish(timeout(0.01, fut))
    fut.set_result("unheeded")


@pytest.mark.parametrize("seconds", [0, -5])
def test_timeout_with_no_time_left(seconds):
    assert finish(timeout(seconds, done(1))) == 1
    fut = Future()
    with pytest.raises(TimeoutError):
        finish(timeout(seconds, fut))
    assert fut.cancelled()


def test_timeout_completed_while_it_is_cancelled():
    """Between the deadline and the cancelling the future comes to its end: that is the outcome."""

    class Late(Future):
        def cancel(self):
            self.set_result("just so")
            return super().cancel()

    assert finish(timeout(0.01, Late())) == "just so"


def test_timeout_of_what_is_done_before_the_request_goes_on():
    fut = Future()
    gen = timeout(0.01, fut)
    gate = next(gen)
    assert outcome(gate) is None
    fut.set_result("late, but here")
    assert finish(gen, after=gate) == "late, but here"


def test_timeout_and_completion_at_once():
    for _ in range(20):
        fut = Future()
        gen = timeout(0.002, fut)
        gate = next(gen)
        time.sleep(0.0018)
        if fut.set_running_or_notify_cancel():
            fut.set_result(1)
        assert finish(gen, after=gate) == 1


def test_timeout_of_a_shared_future():
    shared = Future()
    with pytest.raises(TimeoutError):
        finish(timeout(0.01, shield(shared)))
    assert not shared.done()


# fork


def test_fork_while_the_timer_runs():
    """The child has a timer of its own, and the parent's goes on."""
    gate = next(gen := sleep(0.15))
    parent = threads("wsgi_plus-timer")

    def check():
        assert threads("wsgi_plus-timer") == []
        finish(sleep(0.02))
        assert len(threads("wsgi_plus-timer")) == 1

    in_child(check)
    finish(gen, after=gate)
    assert threads("wsgi_plus-timer") == parent


def test_fork_while_the_lock_is_held():
    held, release = threading.Event(), threading.Event()

    def hold():
        with _timer._timer._changed:
            held.set()
            release.wait(5)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(5)
        in_child(lambda: finish(sleep(0.01)))
    finally:
        release.set()
        thread.join()
    finish(sleep(0.01))


def test_ends_and_starts_again():
    """What happens at exit, and a late sleeper after it."""
    timer = _timer.Timer()
    gate: Future[None] = Future()
    timer.set(0.01, gate)
    (thread,) = set(threads("wsgi_plus-timer")) - {_timer._timer._thread}
    assert outcome(gate) is None
    timer._stop()
    eventually(lambda: not thread.is_alive(), "the thread ends")
    timer.set(0.01, gate := Future())
    assert outcome(gate) is None
    timer._stop()
    timer._stop()
