"""Futures for the WSGI+ applications: those that are done, and threads that complete them."""

from __future__ import annotations

import asyncio
import atexit
import functools
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import probe


def done(value=None):
    f = Future()
    f.set_result(value)
    return f


def failed(message="failed on purpose"):
    f = Future()
    f.set_exception(ValueError(message))
    return f


def cancelled():
    f = Future()
    f.cancel()
    f.set_running_or_notify_cancel()
    return f


class Loop:
    """An asyncio loop in a thread of its own, started when first needed."""

    lock = threading.Lock()
    loop = None

    @classmethod
    def run(cls, coroutine):
        with cls.lock:
            if cls.loop is None:
                cls.loop = asyncio.new_event_loop()
                thread = threading.Thread(target=cls.loop.run_forever, name="asyncio-loop", daemon=True)
                thread.start()
                atexit.register(cls.stop, cls.loop, thread)
        return asyncio.run_coroutine_threadsafe(coroutine, cls.loop)

    @staticmethod
    def stop(loop, thread):
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


@functools.cache
def executor():
    return ThreadPoolExecutor(4, thread_name_prefix="executor")


# S1: what suspends


class Iterator:
    """An iterable that is no generator, with nothing but __next__ and close."""

    def __init__(self, items, key="-"):
        self.items, self.key = iter(items), key

    def __iter__(self):
        return self

    def __next__(self):
        probe.record(self.key, "next")
        item = next(self.items)
        return item() if callable(item) else item

    def close(self):
        probe.record(self.key, "closed")


# S5: failures


def a_future(asked):
    """kind: failed or cancelled; late: after parking."""
    kind = asked["kind"]
    if "late" not in asked:
        return failed() if kind == "failed" else cancelled()
    f = Future()

    def complete():
        if kind == "failed":
            f.set_exception(ValueError("failed on purpose"))
        elif kind == "cancelled":
            f.cancel()
            f.set_running_or_notify_cancel()
        elif kind == "cancelled-only":  # cancel() alone runs the callbacks too
            f.cancel()
        else:
            f.set_exception(BaseException("a base exception"))

    threading.Timer(0.05, complete).start()
    return f


# S6


def caught():
    try:
        raise ValueError("the reason for the change")
    except ValueError:
        return sys.exc_info()
