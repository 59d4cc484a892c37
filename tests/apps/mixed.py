"""A mixture of everything that a request can do, with a ledger of how each ended: for the stress test and the soak.

/mixed/NUMBER/SEED answers with its number over and over, in a way that the seed says: yields futures that several
threads complete at random moments, some of which fail or are cancelled, blocks in steps, gives blocks of all sizes,
uses write(), reads a body, breaks down.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import probe  # noqa: F401 (the tests ask through it)
from routes import text

COMPLETERS = 4


class Ledger:
    """What happened to the requests of this process; each number is under the lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()

    def add(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def all(self) -> dict[str, int]:
        with self.lock:
            return dict(self.counts)


ledger = Ledger()


def report() -> dict[str, int]:
    return ledger.all()


# Futures that threads complete


class Completers:
    """Threads that complete futures when their time has come, whichever of them is first."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.due: list[tuple[float, int, Callable[[], object]]] = []
        self.number = itertools.count()

    def start(self) -> None:
        for i in range(COMPLETERS):
            threading.Thread(target=self.run, name=f"completer-{i}", daemon=True).start()

    def at(self, seconds: float, do: Callable[[], object]) -> None:
        with self.changed:
            heapq.heappush(self.due, (time.monotonic() + seconds, next(self.number), do))
            self.changed.notify()

    def run(self) -> None:
        while True:
            with self.changed:
                while not self.due or self.due[0][0] > time.monotonic():
                    self.changed.wait(self.due[0][0] - time.monotonic() if self.due else None)
                do = heapq.heappop(self.due)[2]
            do()
            do = None  # type: ignore[assignment]  # no reference while it waits


completers = Completers()
started = threading.Lock()


def complete(fut: Future[Any], how: int) -> None:
    if how == 0:
        fut.cancel()
        fut.set_running_or_notify_cancel()
    elif how == 1:
        fut.set_exception(ValueError("failed on purpose"))
    else:
        fut.set_result(how)


def future(rng: random.Random) -> Future[Any]:
    """Done now, in a moment, or later, by another thread."""
    fut: Future[Any] = Future()
    how = rng.randrange(40)
    if rng.random() < 0.2:
        complete(fut, how)
    else:
        completers.at(rng.choice([0.0, 0.0, 0.001, rng.random() * 0.03]), lambda: complete(fut, how))
    return fut


# Requests


class Guarded:
    """An iterator around a generator: notes each rule of the server's that is broken, and how it ended."""

    def __init__(self, steps: Iterator[Any]) -> None:
        self.steps: Any = steps
        self.busy = threading.Lock()
        self.fate = ""
        self.closed = False
        ledger.add("begun")

    def __iter__(self) -> Guarded:
        return self

    def _run(self, step: Callable[[], Any]) -> Any:
        if not self.busy.acquire(blocking=False):
            ledger.add("overlapped")
        try:
            if self.closed:
                ledger.add("stepped after close")
            if self.fate:
                ledger.add("stepped after its end")
            return step()
        except StopIteration:
            self.fate = "ended"
            raise
        except BaseException:
            self.fate = "failed"
            raise
        finally:
            self.busy.release()

    def __next__(self) -> Any:
        return self._run(lambda: next(self.steps))

    def throw(self, *error: Any) -> Any:
        return self._run(lambda: self.steps.throw(*error))

    def close(self) -> None:
        if not self.busy.acquire(blocking=False):
            ledger.add("overlapped")
        try:
            ledger.add("closed twice" if self.closed else "closed")
            self.closed = True
            self.steps.close()
            ledger.add(self.fate or "cut")
        finally:
            self.busy.release()


def work(environ: dict[str, Any], start_response: Any, number: str, rng: random.Random) -> Iterator[Any]:
    token = f"{number},".encode()
    blocks = [token * rng.choice([1, 10, 10, 100, 100, 1000, 1000, 10000]) for _ in range(rng.randrange(1, 5))]
    headers = [("Content-Type", "text/plain")]
    if rng.random() < 0.5:
        headers.append(("Content-Length", str(sum(map(len, blocks)))))
    if rng.random() < 0.5:
        environ["wsgi.input"].read()
    if rng.random() < 0.5:
        yield future(rng)
    if rng.random() < 0.05:
        raise RuntimeError("raised on purpose")
    write = start_response("200 OK", headers)
    if rng.random() < 0.1:
        write(blocks.pop(0))
    for block in blocks:
        what = rng.random()
        if what < 0.4:
            yield future(rng)
        elif what < 0.5:
            time.sleep(rng.random() * 0.005)
        elif what < 0.55:
            yield b""
        elif what < 0.56:
            raise RuntimeError("raised on purpose")
        yield block
    if rng.random() < 0.2:
        yield future(rng)


def application(environ: dict[str, Any], start_response: Any) -> Any:
    _, kind, *rest = environ["PATH_INFO"].split("/")
    if kind != "mixed":
        return text(start_response, "hello")
    if started.acquire(blocking=False):
        completers.start()
    number, seed = rest
    rng = random.Random(int(seed))
    return Guarded(work(environ, start_response, number, rng))
