"""offload: blocking calls on other threads (S2)."""

from __future__ import annotations

import contextvars
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from byhand import at_once, finish, in_child, threads
from wsgi_plus import _offload, gather, offload, wait

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*fork:DeprecationWarning")


def test_result():
    assert finish(wait(offload(divmod, 7, 2))) == (3, 1)


def test_failure():
    with pytest.raises(ZeroDivisionError):
        finish(wait(offload(divmod, 7, 0)))


def test_on_a_thread_of_the_default_pool():
    assert finish(wait(offload(threading.current_thread))).name.startswith("wsgi_plus-offload")
    assert threading.current_thread() not in threads("wsgi_plus-offload")


def test_calls_run_side_by_side():
    barrier = threading.Barrier(8)
    finish(gather(*[offload(barrier.wait, 10) for _ in range(8)]))
    assert len(threads("wsgi_plus-offload")) <= _offload.THREADS


def test_own_pool():
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
        assert finish(wait(offload(threading.current_thread, pool=pool))).name.startswith("mine")
    with pytest.raises(RuntimeError):
        offload(len, "", pool=pool)


def test_cancelled_before_it_began():
    began: list[int] = []
    release = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        offload(release.wait, 10, pool=pool)
        gen = wait(offload(began.append, 1, pool=pool))
        fut = next(gen)
        gen.close()
        assert fut.cancelled()
        release.set()
    assert began == []


def test_context_of_the_caller():
    """S9: context variables follow, and what the call does to them stays there."""
    variable = contextvars.ContextVar("variable", default="unset")

    def call():
        seen = variable.get()
        variable.set("changed")
        return seen

    def request():
        variable.set("of the request")
        return (yield from wait(offload(call))), variable.get()

    assert contextvars.copy_context().run(lambda: finish(request())) == ("of the request", "of the request")


def test_one_pool_for_all():
    default = _offload.PoolOfProcess()
    pools: list[object] = []
    at_once(*[lambda: pools.append(default.pool())] * 8)
    assert len(pools) == 8 and len(set(pools)) == 1


def test_fork_with_threads_in_the_pool():
    finish(wait(offload(time.sleep, 0)))

    def check():
        fut: Future[int] = offload(len, "child")
        assert finish(wait(fut)) == 5

    in_child(check)
    assert finish(wait(offload(len, "parent"))) == 6
