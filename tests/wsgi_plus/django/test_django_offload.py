"""The database in threads of pools: wsgi_plus.django.offload looks after its connections, and the plain one warns."""

from __future__ import annotations

import contextvars
import gc
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
from byhand import at_once, eventually, finish, in_child, outcome
from byhand import threads as called
from django_byhand import *  # noqa: F403  # sets Django up
from django_byhand import only
from harness.limits import ROOT

# ruff: isort: split
import wsgi_plus
from django.db import DatabaseError, connections
from django.http import HttpResponse
from django.test import override_settings
from django_dropping.base import far
from wsgi_plus import gather, suspends, wait
from wsgi_plus._idle_pool import IdlePool
from wsgi_plus.django import SuspendingWSGIHandler, _offload, offload
from wsgi_plus.testing import Client

pytestmark = pytest.mark.filterwarnings("error", "ignore:.*fork:DeprecationWarning")


def ask(number=1):
    with connections["far"].cursor() as cursor:
        cursor.execute("SELECT %s", [number])
        return cursor.fetchone()[0]


@pytest.fixture
def kept(monkeypatch):
    """kept(seconds): for so long connections are kept, and looked at before they are used if ``checks``."""

    def keep(seconds, checks=False):
        for name, value in {"CONN_MAX_AGE": seconds, "CONN_HEALTH_CHECKS": checks}.items():
            monkeypatch.setitem(connections.settings["far"], name, value)

    keep(600)
    return keep


@pytest.fixture(autouse=True)
def pool(monkeypatch, kept):
    """The default pool, new, and without a connection at the end."""
    made = IdlePool(_offload.THREADS, 60, connections.close_all, name="test-django")
    monkeypatch.setattr(_offload, "_pool", made)
    monkeypatch.setattr(_offload, "_once", _offload._Once())
    yield made
    made.shutdown()
    connections.close_all()
    assert far.open == 0


def failures(count, pool=None):
    """How many of so many calls, one after the other, fail."""
    return sum(outcome(offload(ask, pool=pool)) is not None for _ in range(count))


def test_result():
    assert finish(wait(offload(ask, 3))) == 3
    assert called("test-django") and far.open == 1  # it is kept


# A database that drops its connections


@pytest.mark.parametrize("own", [True, False], ids=["a pool of ours", "the default pool"])
def test_it_recovers(own):
    """Each thread has the one failure in which it learns of it, as those of requests have."""
    with ThreadPoolExecutor(1) as mine:
        used = mine if own else None
        assert failures(3, used) == 0
        far.drop()
        assert failures(24, used) == 1
        mine.submit(connections.close_all).result()


def test_it_recovers_without_a_failure_where_django_checks(kept):
    kept(600, checks=True)
    assert failures(3) == 0
    far.drop()
    assert failures(24) == 0


def test_the_plain_one_does_not_recover(log):
    """The reason for all of this."""
    with ThreadPoolExecutor(1) as mine:
        assert outcome(wsgi_plus.offload(ask, pool=mine)) is None
        far.drop()
        for _ in range(3):
            assert isinstance(outcome(wsgi_plus.offload(ask, pool=mine)), DatabaseError)
        mine.submit(connections.close_all).result()
    log.clear()


def test_a_site_that_recovers(log):
    @suspends
    def view(request):
        return HttpResponse(str((yield from wait(offload(ask, 7)))))

    with only(view), override_settings(MIDDLEWARE=[]):
        client = Client(SuspendingWSGIHandler(), raise_errors=False)
        assert client.fetch("/").text == "7"
        far.drop()
        assert [client.fetch("/").status_code for _ in range(24)] == [500, *[200] * 23]
    log.clear()


# A database that has few of them


def test_few_connections_are_given_back(monkeypatch, kept):
    """Ten calls at once where there are four connections: all are served, and the next one is."""
    monkeypatch.setattr(far, "most", 4)
    monkeypatch.setattr(far, "seconds", 10)
    kept(0)  # as Django wants it with a pool of connections
    assert finish(gather(*[offload(ask, number) for number in range(10)])) == tuple(range(10))
    assert far.open == 0
    monkeypatch.setattr(far, "seconds", 0)
    assert ask() == 1


def test_an_idle_thread_closes_its_connections():
    pool = IdlePool(4, 0.05, connections.close_all, name="test-idle")
    assert finish(gather(*[offload(ask, number, pool=pool) for number in range(10)])) == tuple(range(10))
    eventually(lambda: far.open == 0 and not called("test-idle"), "all are closed")
    assert finish(wait(offload(ask, pool=pool))) == 1  # and it goes on
    pool.shutdown()


def test_the_default_pool_ends_its_threads():
    made = IdlePool(_offload.THREADS, _offload.IDLE, connections.close_all, name="")
    assert made._seconds < 60 and made._most < wsgi_plus._offload.THREADS


# The plain one warns


def test_a_warning_once(log):
    for _ in range(3):
        finish(wait(wsgi_plus.offload(ask)))
    (record,) = log.records
    assert record.name == "wsgi_plus.django"
    assert "ask, given to wsgi_plus.offload, has opened a connection to the database 'far'" in record.getMessage()
    assert "Use offload of wsgi_plus.django" in record.getMessage()
    log.clear()
    wsgi_plus._offload._default.pool().submit(connections.close_all).result()
    eventually(lambda: close_everywhere() == 0, "all are closed")


def close_everywhere():
    """The default pool of the plain one has several threads."""
    wsgi_plus._offload._default.pool().submit(connections.close_all).result()
    return far.open


def test_a_warning_with_a_pool_of_ones_own(log):
    with ThreadPoolExecutor(1) as mine:
        finish(wait(wsgi_plus.offload(ask, pool=mine)))
        mine.submit(connections.close_all).result()
    assert len(log.records) == 1
    log.clear()


def test_no_warning_where_nothing_was_opened():
    with ThreadPoolExecutor(1) as mine:
        finish(wait(wsgi_plus.offload(len, "", pool=mine)))
        finish(wait(offload(ask, pool=mine)))
        finish(wait(wsgi_plus.offload(ask, pool=mine)))  # by that of Django
        mine.submit(connections.close_all).result()


# The rest is as with the plain one


def test_context_of_the_caller():
    variable = contextvars.ContextVar("variable", default="unset")

    def request():
        variable.set("of the request")
        return (yield from wait(offload(variable.get)))

    assert contextvars.copy_context().run(lambda: finish(request())) == "of the request"


def test_failure_and_cycles():
    with pytest.raises(ZeroDivisionError):
        finish(wait(offload(divmod, 7, 0)))
    gc.collect()
    gc.disable()
    try:
        fut = offload(divmod, 7, 0)
        eventually(fut.done, "it has failed")
        assert isinstance(fut.exception(), ZeroDivisionError)
        gone = weakref.ref(fut)
        del fut
        eventually(lambda: gone() is None, "it is gone")
    finally:
        gc.enable()


def test_a_failure_that_nobody_looks_at(log):
    offload(divmod, 7, 0)
    eventually(lambda: log.records, "it is logged")
    assert log.records[0].getMessage() == "the application has not waited for divmod, which has failed"
    log.clear()


def test_what_is_no_function():
    with pytest.raises(TypeError, match="takes a function"):
        offload(3)


# The pool


def made(threads=2, seconds=60.0, leave=lambda: None):
    return IdlePool(threads, seconds, leave, name="test-pool")


def test_threads_are_started_as_needed_and_reused():
    pool, barrier = made(threads=8), threading.Barrier(4)
    finish(gather(*[pool.submit(barrier.wait, 10) for _ in range(4)]))
    for _ in range(20):
        eventually(lambda: pool._idle == 4, "all are idle")
        assert outcome(pool.submit(len, "")) is None
    assert len(called("test-pool")) == 4
    pool.shutdown()


def test_no_more_threads_than_said():
    pool = made(threads=2)
    futs = [pool.submit(time.sleep, 0.001) for _ in range(50)]
    assert len(called("test-pool")) <= 2
    finish(gather(*futs))
    pool.shutdown()
    assert called("test-pool") == []


def test_cancelled_before_it_began():
    pool, release, began = made(threads=1), threading.Event(), []
    pool.submit(release.wait, 10)
    fut = pool.submit(began.append, 1)
    assert fut.cancel()
    release.set()
    pool.shutdown()
    assert began == []


def test_calls_that_come_as_threads_end():
    """None is forgotten."""
    pool = made(seconds=0.0005)
    for n in range(300):
        fut = pool.submit(len, "abc")
        assert outcome(fut) is None
        time.sleep(n % 10 * 1e-4)
    pool.shutdown()


def test_submitted_by_many():
    pool, futs = made(threads=4, seconds=0.001), []
    at_once(*[lambda: futs.extend(pool.submit(len, "a") for _ in range(200))] * 4)
    assert finish(gather(*futs)) == (1,) * 800
    pool.shutdown()


def test_shut_down():
    pool, begun, release = made(threads=1), threading.Event(), threading.Event()
    running, waiting = pool.submit(lambda: begun.set() or release.wait(10)), pool.submit(len, "")
    assert begun.wait(10)
    pool.shutdown(wait=False, cancel_futures=True)
    release.set()
    assert outcome(running) is None
    assert isinstance(outcome(waiting), CancelledError)
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(len, "")


def test_leaving_that_fails_is_logged(log):
    pool = made(seconds=0.01, leave=lambda: 1 / 0)
    assert outcome(pool.submit(len, "")) is None
    eventually(lambda: log.records and not called("test-pool"), "it is logged")
    log.clear()
    assert outcome(pool.submit(len, "")) is None
    pool.shutdown()
    log.clear()


def test_fork_with_threads_in_the_pool():
    pool = made()
    assert outcome(pool.submit(len, "")) is None
    in_child(lambda: finish(wait(pool.submit(len, "child"))))
    assert outcome(pool.submit(len, "")) is None
    pool.shutdown()


SCRIPT = """
import time
import weakref
import django.conf
django.conf.settings.configure()
from wsgi_plus.django import offload

def slowly():
    time.sleep(0.2)
    print("done", flush=True)

offload(len, "")
offload(slowly)
"""


def test_the_end_of_the_interpreter_waits():
    """For what runs, and not for the idle threads."""
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-c", SCRIPT],
        env={"PYTHONPATH": str(ROOT / "py"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
    assert time.monotonic() - started < 60
