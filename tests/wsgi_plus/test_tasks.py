"""TaskGroup: what ends with its request.  background: what does not, and is never lost."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest
from byhand import BOUND, at_once, cancelled, done, failed, finish, in_child, running
from wsgi_plus import AsyncBridge, TaskGroup, background, offload, wait
from wsgi_plus.testing import Client

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*fork:DeprecationWarning")

PY = Path(__file__).resolve().parents[2] / "py"


# TaskGroup


def test_all_that_were_added():
    with TaskGroup() as tasks:
        one, two = Future(), done("two")
        assert tasks.add(one) is one and tasks.add(two) is two
        gen = tasks.join()
        gate = next(gen)
        one.set_result("one")
        assert finish(gen, after=gate) == ("one", "two")
        assert finish(TaskGroup().join()) == ()


def test_the_first_failure_cancels_the_rest():
    with TaskGroup() as tasks:
        other = tasks.add(Future())
        tasks.add(failed(KeyError("first")))
        with pytest.raises(KeyError, match="first"):
            finish(tasks.join())
        assert other.cancelled()


@pytest.mark.parametrize("error", [None, KeyError, GeneratorExit])
def test_however_the_block_is_left(error):
    fut, late = Future(), Future()

    def leave():
        with TaskGroup() as tasks:
            tasks.add(fut)
            if error is not None:
                raise error
        tasks.add(late)

    if error is None:
        leave()
        assert late.cancelled()
    else:
        with pytest.raises(error):
            leave()
    assert fut.cancelled()


def test_what_cannot_be_cancelled_goes_on():
    seen = []
    with TaskGroup(discard=seen.append) as tasks:
        under_way, over, bad = tasks.add(running()), tasks.add(done("was there")), tasks.add(running())
    assert not under_way.cancelled() and not over.cancelled() and seen == []
    under_way.set_result("it is lost")
    bad.set_exception(KeyError())
    assert seen == ["it is lost"]


@pytest.mark.parametrize("again", [False, True])
def test_what_nobody_gets_is_closed_once(again):
    """By the end of the wait, by another wait, or by that of the block: a connection goes back to its pool one time."""
    seen = []
    with TaskGroup(discard=seen.append) as tasks:
        under_way = tasks.add(running())
        tasks.add(done("was there"))
        tasks.add(failed(KeyError("first")))
        for _ in range(1 + again):
            with pytest.raises(KeyError, match="first"):
                finish(tasks.join())
    under_way.set_result("came late")
    assert seen == ["was there", "came late"]


def test_a_group_that_is_forgotten():
    fut = Future()
    TaskGroup().add(fut)
    gc.collect()
    assert fut.cancelled()


def test_added_while_it_ends():
    for _ in range(100):
        tasks, futs = TaskGroup(), []

        def add(tasks=tasks, futs=futs):
            for _ in range(5):
                futs.append(tasks.add(Future()))

        at_once(add, tasks.cancel, tasks.cancel)
        assert all(fut.cancelled() for fut in futs)


def test_no_future():
    with TaskGroup() as tasks, pytest.raises(TypeError, match=r"tasks.add\(\) takes a concurrent.futures.Future"):
        tasks.add(3)


def test_nobody_joins():
    with pytest.warns(RuntimeWarning, match=r"^tasks.join\(\) was never waited for"), TaskGroup() as tasks:
        tasks.join()


def leave_parked(request):
    request.disconnect()


def pass_the_deadline(request):
    request.deadline()


def shut_down(request):
    request.shutdown()


def end(request):
    request.complete(b"body")


def fail(request):
    with pytest.raises(OSError, match="refused"):
        request.fail(OSError("refused"))


@pytest.mark.parametrize("how", [leave_parked, pass_the_deadline, shut_down, end, fail])
def test_however_the_request_ends(how):
    child, answer = Future(), Future()

    def app(environ, start_response):
        with TaskGroup() as tasks:
            tasks.add(child)
            body = yield from wait(answer)
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield body

    request = Client(app).get("/")
    assert not child.done()
    how(request)
    assert child.cancelled() and request.over


def test_tasks_of_a_loop_are_cancelled():
    bridge, ended = AsyncBridge(), threading.Event()

    async def forever(begun):
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    def app(environ, start_response):
        begun = threading.Event()
        with TaskGroup() as tasks:
            tasks.add(bridge.run(forever(begun)))
            yield from wait(offload(begun.wait, BOUND))
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield b"done"

    assert Client(app).fetch("/").body == b"done"
    assert ended.wait(BOUND)
    bridge.close()


# background


def settle():
    """Until what the pool was given before is done: its threads take calls in turn, and each is seen to."""
    ends = [threading.Event() for _ in range(16)]
    for event in ends:
        background(event.set)
    assert all(event.wait(BOUND) for event in ends)


def test_it_is_called():
    called, seen = threading.Event(), []
    background(lambda *args: (seen.extend(args), called.set()), 1, "two")
    assert called.wait(BOUND) and seen == [1, "two"]


def logged(log, count):
    """So many failures have been logged; they are forgotten."""
    deadline = threading.Event()
    for _ in range(int(BOUND * 100)):
        if len(log.records) >= count:
            break
        deadline.wait(0.01)
    found = [(record.name, record.getMessage(), record.exc_info[0]) for record in log.records]
    log.clear()
    return found


def lose():
    raise KeyError("on purpose")


def test_a_failure_is_logged_at_once(log):
    background(lose)
    assert logged(log, 1) == [("wsgi_plus", "lose, in the background, has failed", KeyError)]


def test_the_failure_of_a_future(log):
    async def lost():
        raise ValueError("on purpose")

    bridge = AsyncBridge()
    background(bridge.run(lost()))
    ((_, said, kind),) = logged(log, 1)
    assert said.endswith("lost, in the background, has failed") and kind is ValueError
    bridge.close()
    background(failed(OSError()))
    background(done())
    assert logged(log, 1) == [("wsgi_plus", "a future, in the background, has failed", OSError)]


def test_cancelled_is_lost(log):
    background(cancelled())
    ((_, said, _),) = logged(log, 1)
    assert said == "a future, in the background, was cancelled"


def test_context_variables():
    name = contextvars.ContextVar("name")
    seen, called = [], threading.Event()

    def call():
        seen.append(name.get("none"))
        called.set()

    def ask():
        name.set("of the request")
        background(call)

    contextvars.copy_context().run(ask)
    assert called.wait(BOUND) and seen == ["of the request"]


def test_nothing_to_call():
    async def coroutine(): ...

    with pytest.raises(TypeError, match=r"background\(\) of the coroutine function .*coroutine: give what it returns"):
        background(coroutine)
    with pytest.raises(TypeError, match=r"background\(\) takes a function, and its arguments after it, not a int"):
        background(3)
    work = coroutine()
    with pytest.raises(TypeError, match=r"background\(\) takes a function, .* not a coroutine: AsyncBridge.run"):
        background(work)
    work.close()


def test_a_generator_would_do_nothing():
    """Its call gives a generator, which is not run: the work would be lost without a word."""

    def waits():
        yield from wait(done())

    async def pieces():
        yield b"piece"

    for work in (waits, pieces):
        with pytest.raises(TypeError, match=r"background\(\) of the generator function .*: what it"):
            background(work)


def test_a_future_has_no_arguments():
    with pytest.raises(TypeError, match=r"background\(\) of a future takes no arguments"):
        background(done(), 3)


def test_the_client_leaves():
    """It is begun all the same, from ``finally``, and is not cancelled."""
    called = threading.Event()

    def app(environ, start_response):
        try:
            yield Future()
        finally:
            background(called.set)

    Client(app).get("/").disconnect()
    assert called.wait(BOUND)


def test_after_the_response():
    order, called = [], threading.Event()

    def work():
        order.append("work")
        called.set()

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"body"
        order.append("response")
        background(work)

    assert Client(app).fetch("/").body == b"body"
    assert called.wait(BOUND) and order == ["response", "work"]


def test_in_a_forked_child():
    settle()

    def check():
        called = threading.Event()
        background(called.set)
        assert called.wait(BOUND)

    in_child(check)


def test_the_end_of_the_interpreter_waits():
    """Also for what has not begun."""
    code = """if True:
        import time
        from wsgi_plus import background
        for number in range(20):
            background(lambda number=number: (time.sleep(0.05), print(number, flush=True)))
    """
    ended = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(PY)}, capture_output=True, text=True, timeout=6 * BOUND
    )
    assert sorted(map(int, ended.stdout.split())) == [*range(20)] and ended.stderr == ""


@pytest.mark.parametrize("waits", [False, True])
def test_after_a_response_of_flask(waits):
    """As README.md says it: with a view that waits, too."""
    from flask import Flask, make_response
    from wsgi_plus.flask import suspending, suspends

    app, called, closed = suspending(Flask(__name__)), threading.Event(), []

    def answer():
        response = make_response("body")
        response.call_on_close(lambda: (closed.append(True), background(called.set)))
        return response

    if waits:

        @app.get("/")
        @suspends
        def view():
            yield from wait(offload(int))
            assert not closed
            return answer()
    else:
        app.get("/")(answer)

    assert Client(app).fetch("/").body == b"body"
    assert called.wait(BOUND) and closed == [True]
