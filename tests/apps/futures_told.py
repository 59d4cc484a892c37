"""Requests that are parked on futures of every kind: the path names it, and all of them go on at /go."""

from __future__ import annotations

import asyncio
import atexit
import gc
import multiprocessing
import os
import shutil
import tempfile
import threading
import weakref
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import hog
import probe
from routes import arguments
from wsgi_plus import AsyncBridge, wait

gate = threading.Event()
pool = ThreadPoolExecutor(2)
bridge = AsyncBridge()
waiting: list[Future] = []
made: list[weakref.ref] = []
loop = asyncio.new_event_loop()
released = asyncio.Event()
threading.Thread(target=loop.run_forever, daemon=True).start()


class Hostile(Future):
    """Has methods and properties that note that they were asked for; the server may call none but what is agreed."""

    agreed = frozenset({"add_done_callback", "done", "exception", "result", "_condition", "_state", "_done_callbacks"})

    def __getattribute__(self, name):
        if name not in Hostile.agreed:
            probe.record("hostile", name)
        return super().__getattribute__(name)

    def __eq__(self, other):
        probe.record("hostile", "__eq__")
        return NotImplemented

    def __hash__(self):
        probe.record("hostile", "__hash__")
        return 1

    def __repr__(self):
        probe.record("hostile", "__repr__")
        return "hostile"


class Called:
    """A callback that notes that it was looked at."""

    def __getattr__(self, name):
        probe.record("hostile", f"callback.{name}")
        raise AttributeError(name)

    def __call__(self, future):
        pass


class Bare(Future):
    """Has lost what asyncio and pools look at."""

    def lose(self):
        self.__dict__["_done_callbacks"] = "none"
        self.__dict__["_state"] = object()


async def read():
    await released.wait()


async def fetch():
    await read()  # the line: fetch


async def set_name_and_fetch(name):
    asyncio.current_task().set_name(name)
    await fetch()


def later(kind=Future):
    future = kind()
    waiting.append(future)
    made.append(weakref.ref(future))
    return future


def future_of(path, asked):
    if path == "/pool":
        return pool.submit(gate.wait, 120)
    if path == "/task":
        return asyncio.run_coroutine_threadsafe(set_name_and_fetch(asked.get("name", "the-task")), loop)
    if path == "/bridge":
        return bridge.run(fetch_there())
    if path == "/processes":
        return processes().submit(os.open, _fifo, os.O_RDONLY)
    future = later({"/hostile": Hostile, "/bare": Bare}.get(path, Future))
    if path == "/hostile":
        future.add_done_callback(Called())
    return future


there: list = []


async def fetch_there():
    """In the bridge's loop, which has events of its own."""
    event = asyncio.Event()
    there.append((asyncio.get_running_loop(), event))
    await event.wait()  # the line: there


def processes():
    """Its one process opens a FIFO that nobody has open before /go."""
    global _processes
    with _making:
        if _processes is None:
            _processes = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
        return _processes


_processes: ProcessPoolExecutor | None = None
_making = threading.Lock()
_fifo = os.path.join(tempfile.mkdtemp(), "fifo")
os.mkfifo(_fifo)
atexit.register(shutil.rmtree, os.path.dirname(_fifo))


def go():
    gate.set()
    os.open(_fifo, os.O_RDWR)  # from now on it is open
    loop.call_soon_threadsafe(released.set)
    for its_loop, event in there:
        its_loop.call_soon_threadsafe(event.set)
    while waiting:
        future = waiting.pop()
        if isinstance(future, Bare):
            future.__dict__.update(_done_callbacks=future.kept, _state="PENDING")
        future.set_result(None)


def alive():
    """How many of those futures that were made there still are."""
    gc.collect()
    return sum(ref() is not None for ref in made)


def lose():
    for future in waiting:
        if isinstance(future, Bare):
            future.kept = future._done_callbacks
            future.lose()


def application(environ, start_response):
    path, asked = environ["PATH_INFO"], arguments(environ)
    if path in ("/hold-the-gil", "/hello"):
        return hog.app(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/go":
        go()
        return [b"gone"]
    return park(future_of(path, asked))


def park(future):
    yield from wait(future)
    yield b"done"
