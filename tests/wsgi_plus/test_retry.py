"""retry: another try after a pause."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future

import pytest
from byhand import cancelled, done, failed, finish
from wsgi_plus import backoff, deadline, offload, retry, wait
from wsgi_plus.testing import Client

pytestmark = pytest.mark.filterwarnings("error")


def never(number, error):
    raise AssertionError("no pause was to be made")


def at_once(number, error):
    return 0


@pytest.fixture
def source():
    """source(outcome, ...): what is to be started, which gives these futures in turn, and counts in ``calls``."""

    def make(*futs):
        def start():
            start.calls += 1
            return futs[start.calls - 1]

        start.calls = 0
        return start

    return make


def test_the_first_try(source):
    start = source(done("value"))
    assert finish(retry(start, pause=never)) == "value" and start.calls == 1


def test_another_try(source):
    start = source(failed(), failed(), done("value"))
    assert finish(retry(start, pause=at_once)) == "value" and start.calls == 3


def test_no_more_tries(source):
    last = KeyError("last")
    start = source(failed(), failed(last))
    with pytest.raises(KeyError) as caught:
        finish(retry(start, tries=2, pause=at_once))
    assert caught.value is last and start.calls == 2


def test_what_is_not_to_be_tried_again(source):
    start = source(failed(KeyError()), failed(ValueError("another kind")))
    with pytest.raises(ValueError, match="another kind"):
        finish(retry(start, tries=5, on=KeyError, pause=at_once))
    assert start.calls == 2


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt()])
def test_no_exception_for_applications(source, error):
    start = source(failed(error))
    with pytest.raises(type(error)):
        finish(retry(start, pause=never))


def test_cancelled_is_given_up(source):
    with pytest.raises(CancelledError):
        finish(retry(source(cancelled()), pause=never))


def test_a_start_that_fails(source):
    def start():
        start.calls += 1
        if start.calls == 1:
            raise OSError
        return done("value")

    start.calls = 0
    assert finish(retry(start, on=OSError, pause=at_once)) == "value"


def test_several_waits_are_one_try():
    seen = []

    def steps():
        seen.append((yield from wait(done(1))))
        yield from wait(failed() if len(seen) < 3 else done())
        return "value"

    assert finish(retry(steps, pause=at_once)) == "value" and seen == [1, 1, 1]


def test_the_pause_sees_which_try_and_why(source):
    one, two = ValueError("one"), ValueError("two")
    seen = []

    def pause(number, error):
        seen.append((number, error))
        return 0

    assert finish(retry(source(failed(one), failed(two), done(3)), pause=pause)) == 3
    assert seen == [(1, one), (2, two)]


def test_the_pause_says_no(source):
    start = source(failed(KeyError()))
    with pytest.raises(KeyError):
        finish(retry(start, tries=9, pause=lambda number, error: None))
    assert start.calls == 1


def test_parked_in_between(source):
    """No thread waits: there is a future for the pause; who leaves then is not tried for again."""
    start = source(failed())
    gen = retry(start, pause=lambda number, error: 3600)
    first = next(gen)
    pause = gen.throw(first.exception())
    assert isinstance(pause, Future) and not pause.done()
    gen.close()
    assert start.calls == 1


def test_left_during_a_try(source):
    one = Future()
    start = source(one)
    gen = retry(start, pause=never)
    assert next(gen) is one
    gen.close()
    assert one.cancelled() and start.calls == 1


def test_within_a_deadline(source):
    """It bounds all tries: one that is too late is no try that has failed."""
    start = source(failed(), Future())
    with pytest.raises(TimeoutError, match="not done within"):
        finish(deadline(0.05, retry(start, tries=9)))
    assert start.calls <= 2


def test_a_deadline_without_pauses():
    """What it raises is an OSError, too: that begins no other try."""
    begun = []

    def start():
        begun.append(Future())
        return begun[-1]

    with pytest.raises(TimeoutError):
        finish(deadline(0.05, retry(start, tries=50, on=OSError, pause=at_once)))
    assert len(begun) < 10 and begun[0].cancelled()


def test_backoff():
    pause = backoff(1.0, most=5.0)
    for number, least, most in ((1, 0.5, 1), (2, 1, 2), (3, 2, 4), (4, 2.5, 5), (5000, 2.5, 5)):
        found = {pause(number, ValueError()) for _ in range(200)}
        assert least <= min(found) and max(found) <= most and len(found) > 100


def test_wrong():
    with pytest.raises(ValueError, match="0 tries are none"):
        retry(done, tries=0)
    with pytest.raises(TypeError, match=r"retry\(\) takes a concurrent.futures.Future, not a int"):
        finish(retry(lambda: 3, on=OSError))


def test_what_is_no_try_is_not_tried_again(source):
    """Whatever is to be tried again: this will not get better."""
    start = source(3, 4)
    with pytest.raises(TypeError, match=r"retry\(\) takes a concurrent.futures.Future, not a int"):
        finish(retry(start, pause=never))
    assert start.calls == 1


@pytest.mark.parametrize("begun", [done(), iter(()), 3])
def test_begun_already(begun):
    with pytest.raises(TypeError, match=r"retry\(\) takes a function .*: retry\(lambda: offload\("):
        retry(begun)


@pytest.mark.parametrize("on", [[OSError], OSError(), "OSError", None, (OSError, 3), BaseException, GeneratorExit])
def test_no_kinds_of_exceptions(on):
    """It is told before there is a failure, in which it would be an error of another place."""
    with pytest.raises(TypeError, match="on takes a class of exceptions, or a tuple of them"):
        retry(done, on=on)


@pytest.mark.parametrize("pause", [1, 0.5, None])
def test_no_pause(pause):
    with pytest.raises(TypeError, match=r"pause takes a function, such as backoff\("):
        retry(done, pause=pause)


def test_backoff_that_is_not_called():
    with pytest.raises(TypeError, match=r"^write pause=backoff\(\)"):
        retry(done, pause=backoff)


@pytest.mark.parametrize("first, most", [(-1, 30), (1, -1), (float("nan"), 1), (1, float("nan"))])
def test_no_seconds(first, most):
    with pytest.raises(ValueError, match="seconds"):
        backoff(first, most=most)


def test_never_waited():
    with pytest.warns(RuntimeWarning, match=r"^retry\(\) was never waited for"):
        retry(done)


def test_in_an_application():
    asked = []

    def ask():
        asked.append(1)
        if len(asked) < 3:
            raise OSError("refused")
        return b"answer"

    def app(environ, start_response):
        answer = yield from retry(lambda: offload(ask), on=OSError, pause=backoff(0.001))
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield answer

    assert Client(app).fetch("/").body == b"answer" and len(asked) == 3
