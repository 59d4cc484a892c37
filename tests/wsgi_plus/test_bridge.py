"""AsyncBridge: coroutines and asynchronous streams, in a thread of their own (S2, S8, S13)."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import CancelledError, Future

import pytest
from byhand import at_once, eventually, finish, in_child, outcome, resume, threads
from harness.limits import ROOT
from wsgi_plus import AsyncBridge, gather, settled, timeout, wait

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*fork:DeprecationWarning")

SHORT = 0.05  # seconds of watching that something does not happen


@pytest.fixture
def bridge():
    bridge = AsyncBridge()
    yield bridge
    thread = bridge._thread
    bridge.close()
    assert thread is None or not thread.is_alive()


class Source:
    """A stream whose pieces come when they are asked for; what happens to it is counted."""

    def __init__(self, number, error=None, silent=False):
        self.number, self.error, self.silent = number, error, silent
        self.asked = 0
        self.closed = threading.Event()
        self.tasks = set()

    async def pieces(self):
        try:
            for n in range(self.number):
                self.asked += 1
                self.tasks.add(asyncio.current_task())
                await asyncio.sleep(0)
                yield b"%d" % n
            if self.silent:
                await asyncio.sleep(1000)
            if self.error is not None:
                raise self.error
        finally:
            self.tasks.add(asyncio.current_task())
            await asyncio.sleep(0)  # an end that needs the loop
            self.closed.set()

    def is_closed(self):
        return self.closed.wait(10)


# run


def test_result(bridge):
    assert finish(wait(bridge.run(asyncio.sleep(0.01, "slept")))) == "slept"


def test_failure(bridge):
    async def fail():
        raise KeyError("upstream")

    with pytest.raises(KeyError, match="upstream"):
        finish(wait(bridge.run(fail())))


def test_one_daemon_thread_from_the_first_use(bridge):
    before = threads("wsgi_plus-asyncio")
    assert bridge._thread is None

    async def here():
        return threading.current_thread()

    started = set(finish(gather(*[bridge.run(here()) for _ in range(10)])))
    assert len(started) == 1 and not started & set(before)
    assert started.pop().daemon


def test_started_once_by_many():
    bridge = AsyncBridge()
    before = len(threads("wsgi_plus-asyncio"))
    at_once(*[lambda: outcome(bridge.run(asyncio.sleep(0)))] * 8)
    assert len(threads("wsgi_plus-asyncio")) == before + 1
    bridge.close()


def test_not_a_coroutine(bridge):
    with pytest.raises(TypeError):
        bridge.run(asyncio.sleep)
    assert bridge._thread is None


def test_context_of_the_caller(bridge):
    """S9: context variables follow, and what the task does to them stays there."""
    variable = contextvars.ContextVar("variable", default="unset")

    async def coroutine():
        seen = variable.get()
        variable.set("changed")
        return seen

    def request():
        variable.set("of the request")
        return (yield from wait(bridge.run(coroutine()))), variable.get()

    assert contextvars.copy_context().run(lambda: finish(request())) == ("of the request", "of the request")


def test_cancelled_with_the_request(bridge):
    """S8: the client leaves, and the task with it."""
    began, ended = threading.Event(), threading.Event()

    async def coroutine():
        began.set()
        try:
            await asyncio.sleep(1000)
        finally:
            ended.set()

    gen = wait(bridge.run(coroutine()))
    next(gen)
    assert began.wait(10)
    gen.close()
    assert ended.wait(10)


def test_cancelled_by_a_timeout(bridge):
    ended = threading.Event()

    async def coroutine():
        try:
            await asyncio.sleep(1000)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        finish(timeout(0.03, bridge.run(coroutine())))
    assert ended.wait(10)


def test_cancelled_at_any_moment(bridge):
    """Before it begins, while it runs, while it ends: nothing is logged, and the future is done."""

    async def coroutine():
        await asyncio.sleep(0)
        return 1

    for n in range(100):
        fut = bridge.run(coroutine())
        time.sleep(n % 10 * 1e-5)
        fut.cancel()
        error = outcome(fut)
        assert isinstance(error, CancelledError) or fut.result() == 1


def test_task_that_cancels_itself(bridge):
    async def coroutine():
        raise asyncio.CancelledError

    with pytest.raises(CancelledError):
        finish(wait(bridge.run(coroutine())))
    assert finish(settled(bridge.run(coroutine()))).cancelled()


def test_exit_in_a_coroutine_does_not_end_the_loop(bridge, log):
    async def leave():
        raise SystemExit(3)

    assert isinstance(outcome(bridge.run(leave())), SystemExit)
    assert finish(wait(bridge.run(asyncio.sleep(0, "goes on")))) == "goes on"
    assert "wsgi_plus._bridge" in {record.name for record in log.records}
    log.clear()


def test_uvloop_if_it_is_installed(monkeypatch, bridge):
    made = []

    def new_event_loop():
        made.append(asyncio.new_event_loop())
        return made[-1]

    monkeypatch.setitem(sys.modules, "uvloop", types.SimpleNamespace(new_event_loop=new_event_loop))

    async def loop():
        return asyncio.get_running_loop()

    assert finish(wait(bridge.run(loop()))) is made[0]


def test_asyncio_without_uvloop(monkeypatch, bridge):
    monkeypatch.setitem(sys.modules, "uvloop", None)  # import raises ImportError
    assert finish(wait(bridge.run(asyncio.sleep(0, 1)))) == 1


# iterate


@pytest.mark.parametrize("number", [0, 1, 2, 50])
def test_pieces(bridge, number):
    source = Source(number)
    pieces = []
    assert finish(bridge.iterate(source.pieces()), pieces) is None
    assert pieces == [b"%d" % n for n in range(number)]
    assert source.is_closed() and len(source.tasks) == 1


def test_pieces_inside_an_application(bridge):
    def app():
        head = yield from wait(bridge.run(asyncio.sleep(0, b"head ")))
        yield head
        yield from bridge.iterate(Source(3).pieces())
        yield b" tail"

    pieces = []
    finish(app(), pieces)
    assert b"".join(pieces) == b"head 012 tail"


def test_pieces_in_a_for_loop(bridge):
    """Futures are passed on as they are; what fails is raised at the application's own yield."""

    def app(source):
        for item in bridge.iterate(source.pieces()):
            try:
                yield item if isinstance(item, Future) else b"<%b>" % item
            except ValueError:
                yield b"failed"
                return

    pieces = []
    finish(app(Source(2)), pieces)
    finish(app(source := Source(1, ValueError())), pieces)
    assert pieces == [b"<0>", b"<1>", b"<0>", b"failed"]
    assert source.is_closed()


def test_any_asynchronous_iterable(bridge):
    class Countdown:
        left = 3

        def __aiter__(self):
            return self

        async def __anext__(self):
            if self.left == 0:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    pieces = []
    finish(bridge.iterate(Countdown()), pieces)
    assert pieces == [2, 1, 0]


def test_not_an_asynchronous_iterable(bridge):
    with pytest.raises(TypeError):
        finish(bridge.iterate([b"piece"]), [])


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("error", [ValueError("upstream"), StopIteration(), OSError()])
def test_failure_after_pieces(bridge, number, error):
    pieces = []
    with pytest.raises((type(error), RuntimeError)):  # StopIteration out of a generator is a RuntimeError
        finish(bridge.iterate(Source(number, error).pieces()), pieces)
    assert len(pieces) == number


def test_stream_that_cancels_itself(bridge):
    with pytest.raises(CancelledError):
        finish(bridge.iterate(Source(1, asyncio.CancelledError()).pieces()), [])


def test_stream_whose_task_is_cancelled_by_others(bridge):
    """The request does not wait for a piece that will never come."""
    source = Source(1, silent=True)
    gen = bridge.iterate(source.pieces())
    assert resume(gen, next(gen)) == b"0"
    fut = next(gen)
    eventually(lambda: source.tasks, "it runs")
    bridge._loop.call_soon_threadsafe(source.tasks.pop().cancel)
    with pytest.raises(CancelledError):
        finish(gen, after=fut)


def test_slow_client_slows_the_stream(bridge):
    """S13: one piece ahead, and no more."""
    source = Source(100)
    gen = bridge.iterate(source.pieces())
    for taken in range(1, 6):
        assert next_piece(gen) == b"%d" % (taken - 1)
        eventually(lambda taken=taken: source.asked == taken + 1, "one is fetched ahead")
        time.sleep(SHORT / 5)
        assert source.asked == taken + 1
    gen.close()
    assert source.is_closed()


def next_piece(gen):
    """Steps until the next piece."""
    item = next(gen)
    while isinstance(item, Future):
        item = resume(gen, item)
    return item


def test_left_while_waiting_for_a_piece(bridge):
    """S8: the stream is closed, by the task that iterates it."""
    source = Source(1, silent=True)
    gen = bridge.iterate(source.pieces())
    assert next_piece(gen) == b"0"
    assert isinstance(next(gen), Future)
    gen.close()
    assert source.is_closed() and len(source.tasks) == 1


@pytest.mark.parametrize("taken", [1, 2])
def test_left_while_a_piece_is_sent(bridge, taken):
    source = Source(10)
    gen = bridge.iterate(source.pieces())
    for _ in range(taken):
        next_piece(gen)
    gen.close()
    assert source.is_closed() and len(source.tasks) == 1


def test_left_at_any_moment(bridge):
    for n in range(60):
        source = Source(2)
        gen = bridge.iterate(source.pieces())
        next(gen)
        time.sleep(n % 10 * 2e-5)
        gen.close()
        outcome(bridge.run(no_other_task()))
        assert source.closed.is_set()


async def no_other_task():
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)


def test_left_before_the_first_step(bridge):
    """What the source has been given is closed: its generator is begun for that."""
    source = Source(1)
    bridge.iterate(source.pieces()).close()
    assert source.is_closed()


# close


def test_close_ends_tasks_and_streams():
    """Who waits is told, and what the tasks have open is closed."""
    bridge = AsyncBridge()
    source = Source(1, silent=True)
    stream = bridge.iterate(source.pieces())
    next_piece(stream)
    fut = next(stream)
    other = wait(bridge.run(asyncio.sleep(1000)))
    held = next(other)
    bridge.close()
    assert source.closed.is_set()
    for gen, after in ((stream, fut), (other, held)):
        with pytest.raises(CancelledError):
            finish(gen, after=after)


def test_close_again_and_unused():
    bridge = AsyncBridge()
    bridge.close()
    bridge.close()


def test_use_after_close():
    """Without a warning that a coroutine was never awaited."""
    bridge = AsyncBridge()
    bridge.close()
    with pytest.raises(RuntimeError, match="closed"):
        bridge.run(asyncio.sleep(0))
    with pytest.raises(RuntimeError, match="closed"):
        next(bridge.iterate(Source(1).pieces()))


def test_close_does_not_wait_for_ever():
    bridge = AsyncBridge()
    began, release = threading.Event(), threading.Event()
    fut = bridge.run(stubborn(began, release))
    assert began.wait(10)
    started = time.monotonic()
    bridge.close(0.05)
    assert time.monotonic() - started < 5 and not fut.done()
    release.set()
    assert outcome(fut) is None


async def stubborn(began, release):
    began.set()
    while not release.is_set():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            pass


def test_close_and_run_at_once():
    """Each future is done in the end, or there is none."""
    for _ in range(20):
        bridge = AsyncBridge()
        futs = []

        def run(bridge=bridge, futs=futs):
            try:
                while True:
                    futs.append(bridge.run(asyncio.sleep(0)))
            except RuntimeError:
                pass

        outcome(bridge.run(asyncio.sleep(0)))
        at_once(run, bridge.close)
        for fut in futs:
            outcome(fut)


def test_close_in_its_own_thread():
    bridge = AsyncBridge()

    async def close():
        bridge.close()

    thread = threads("wsgi_plus-asyncio")
    outcome(bridge.run(close()))
    eventually(lambda: threads("wsgi_plus-asyncio") == thread, "the thread ends")


SCRIPT = """
import asyncio
from wsgi_plus import AsyncBridge, offload, sleep

bridge = AsyncBridge()

async def task():
    try:
        print("began", flush=True)
        bridge.began.set()
        await asyncio.sleep(1000)
    finally:
        print("ended", flush=True)

import threading
bridge.began = threading.Event()
bridge.run(task())
gen = sleep(1000)
next(gen)
offload(len, "")
assert bridge.began.wait(10)
"""


def test_closed_at_exit():
    """The interpreter ends at once, without a word, and the tasks have been cancelled."""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-c", SCRIPT],
        env={"PYTHONPATH": str(ROOT / "py"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "began\nended\n", "")


# fork


def test_fork_while_it_runs(bridge):
    """The child has a loop of its own, and the parent's goes on."""
    fut = bridge.run(asyncio.sleep(0.1, "parent"))

    def check():
        assert threads("wsgi_plus-asyncio") == []
        assert finish(wait(bridge.run(asyncio.sleep(0.01, "child")))) == "child"
        pieces = []
        finish(bridge.iterate(Source(3).pieces()), pieces)
        assert len(pieces) == 3
        bridge.close()

    in_child(check)
    assert finish(wait(fut)) == "parent"
