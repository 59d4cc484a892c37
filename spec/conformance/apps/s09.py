"""S9: threads and contexts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import stage

_lock = threading.Lock()
_others = ThreadPoolExecutor(4, thread_name_prefix="conformance-others")  # threads that know nothing of the server


def _done(error: BaseException | None = None) -> Future[Any]:
    fut: Future[Any] = Future()
    fut.set_exception(error) if error else fut.set_result(None)
    return fut


class _Threads(stage.Steps):
    """Records in which thread each step runs."""

    def __init__(self, key: str, items: stage.Items) -> None:
        super().__init__(items)
        self.key = key

    def step(self, name: str, run: Callable[[], Any]) -> Any:
        stage.record(self.key, name, threading.get_ident())
        return run()


def in_threads(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Waits for one future after another: those by KEY-0, KEY-1 and KEY-2."""
    key = stage.key_of(environ)
    stage.record(key, "call", threading.get_ident())

    def items() -> stage.Items:
        for number in range(3):
            stage.record(key, f"parking {number}")
            try:
                yield stage.future(f"{key}-{number}")
            except ValueError:
                pass
        start_response("200 OK", stage.TEXT)
        yield b"fine"

    return _Threads(key, items())


class _Alone:
    """Notices steps side by side, and counts them, without a lock."""

    def __init__(self, key: str, items: list[Callable[[], Any]]) -> None:
        self.key = key
        self.items = iter(items)
        self.inside = ""
        self.count = 0

    def _step(self, name: str) -> None:
        if self.inside:
            stage.record(self.key, "overlap", f"{name} beside {self.inside}")
        self.inside = name
        self.count += 1
        time.sleep(0.0005)  # as a step that takes its time: others run
        self.inside = ""

    def __iter__(self) -> _Alone:
        return self

    def __next__(self) -> Any:
        self._step("next")
        return next(self.items)()

    def throw(self, error: BaseException) -> Any:
        self._step("throw")
        return next(self.items)()

    def close(self) -> None:
        self._step("close")
        stage.record(self.key, "close", self.count)


def many_steps(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Futures that others complete or fail in this very moment, futures that are done, and blocks."""
    start_response("200 OK", stage.TEXT)

    def fails() -> None:
        raise ValueError("failed on purpose")

    kinds: list[Callable[[], Any]] = [
        lambda: _others.submit(int),
        lambda: b".",
        lambda: _others.submit(fails),
        lambda: _done(),
        lambda: _done(ValueError("failed on purpose")),
    ]
    return _Alone(stage.key_of(environ), kinds * 6)


class _Long(stage.Steps):
    """A step after the future that does not come back until the suite says so."""

    def __init__(self, key: str) -> None:
        super().__init__(self._wait(key))
        self.key = key

    def _wait(self, key: str) -> stage.Items:
        stage.record(key, "parking")
        yield stage.future(key)
        stage.record(key, "in the step")
        stage.gate(key)
        stage.record(key, "end of the step")

    def step(self, name: str, run: Callable[[], Any]) -> Any:
        if name == "close":
            stage.record(self.key, "close")
        return run()


def long_step(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    return _Long(stage.key_of(environ))


def own_state(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Keeps what it knows in local variables, and a lock for no longer than a step."""
    key = stage.key_of(environ)
    seen = []
    for number in range(3):
        with _lock:
            seen.append(f"{key}-{number}")
        stage.record(key, "parking")
        yield stage.future(f"{key}-{number}")
    start_response("200 OK", stage.TEXT)
    yield " ".join(seen).encode()


class _OneContext(stage.Steps):
    """Each step gives back the token that the step before it has taken, which only their own context takes."""

    def __init__(self, key: str, items: stage.Items) -> None:
        super().__init__(items)
        self.key = key
        self.token = stage.VARIABLE.set("call")
        self.last = "call"

    def step(self, name: str, run: Callable[[], Any]) -> Any:
        found = stage.VARIABLE.get()
        try:
            stage.VARIABLE.reset(self.token)
            same = found == self.last
        except ValueError:  # "was created in a different Context"
            same = False
        stage.record(self.key, name, "the same context" if same else f"another one, in which it is {found}")
        self.token = stage.VARIABLE.set(name)
        self.last = name
        return run()


def one_context(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Waits for futures of every kind, and ends as ``end`` says: ``well``, ``failed``, or waiting (``pending``)."""
    asked = stage.arguments(environ)
    key = asked["key"]

    def items() -> stage.Items:
        yield stage.future(key)
        yield _done()
        try:
            yield _done(ValueError("failed on purpose"))
        except ValueError:
            pass
        start_response("200 OK", stage.TEXT)
        yield b"block"
        if asked["end"] == "failed":
            raise ValueError("failed on purpose")
        if asked["end"] == "pending":
            stage.record(key, "parking")
            yield stage.future(f"{key}-never")

    return _OneContext(key, items())


class _LeavesBehind(stage.Steps):
    def __init__(self, key: str, items: stage.Items) -> None:
        super().__init__(items)
        self.key = key
        self.look("call")

    def look(self, name: str) -> None:
        """Records what it finds in the variable, and leaves its key there."""
        stage.record(self.key, name, stage.VARIABLE.get())
        stage.VARIABLE.set(self.key)

    def step(self, name: str, run: Callable[[], Any]) -> Any:
        self.look(name)
        return run()


def leaves_behind(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Leaves its key in the context variable, in each step; waits for its future if ``wait`` is asked for."""
    asked = stage.arguments(environ)
    key = asked["key"]

    def items() -> stage.Items:
        if "wait" in asked:
            stage.record(key, "parking")
            yield stage.future(key)
        start_response("200 OK", stage.TEXT)
        yield b"fine"

    return _LeavesBehind(key, items())


def interrupted(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Two waits, for KEY-0 and KEY-1; what is ``quick`` between them is recorded by the same key."""
    key = stage.key_of(environ)
    for number in range(2):
        stage.record(key, f"parking {number}")
        yield stage.future(f"{key}-{number}")
    start_response("200 OK", stage.TEXT)
    yield b"fine"


def quick(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    stage.record(stage.key_of(environ), "another request")
    return stage.text(start_response, "quick")
