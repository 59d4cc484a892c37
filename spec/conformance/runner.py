"""Runs cases, each against a server that nothing else uses meanwhile."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from .check import LONG, Failed, NotSupported
from .client import Connection
from .launcher import CannotStart, Server, Settings, Started
from .registry import Case
from .trial import Trial

__all__ = ["FAIL", "PASS", "SKIP", "Result", "run"]

PASS, FAIL, SKIP = "pass", "fail", "not supported"
BATCH = 12  # cases that are taken at once
BOUND = 2 * LONG  # seconds: a case that takes longer is one that hangs
LOOK = 0.1  # seconds between two calls of look()
LAST = 5.0  # seconds for it to end when its server has been killed


@dataclass(frozen=True)
class Result:
    """What came out of a case."""

    name: str
    requirements: tuple[str, ...]
    result: str
    detail: str = ""
    """Why, unless it has passed."""
    seconds: float = 0.0
    levels: Mapping[str, str] = field(default_factory=dict)
    """As those of the case."""

    def record(self) -> dict[str, Any]:
        found = asdict(self)
        return found if self.levels else {name: value for name, value in found.items() if name != "levels"}


class Servers:
    """The server that is running: another one where a case wants other options, or after a case that has failed."""

    def __init__(self, settings: Settings, started: Started) -> None:
        self._settings = settings
        self._started = started
        self._server: Server | None = None

    def get(self, case: Case) -> Server:
        if self._server is not None and (self._server.options != dict(case.options) or not self._server.alive()):
            self.drop()
        if self._server is None:
            self._server = Server(self._settings, case.options, self._started)
        return self._server

    def kill(self) -> None:
        """In another thread, while a case is tried: whatever that waits for of the server ends."""
        server = self._server
        if server is not None:
            server.kill()

    def drop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()


def suspends(server: Server) -> bool:
    """Whether it knows futures at all: if not, the specification's cases say nothing about it."""
    for probe in ("suspends", "suspends-within"):
        with suppress(Failed, OSError), Connection(server.address) as c:
            c.get(f"/probe/{probe}")
            if c.response().text == "suspends":
                return True
    return False


def run(
    settings: Settings,
    cases: Iterable[Case],
    report: Callable[[Result], object] | None = None,
    *,
    jobs: int = 1,
    until: str = "",
    bound: float = BOUND,
    look: Callable[[], object] = lambda: None,
) -> list[Result]:
    """Every case, on ``jobs`` servers side by side; or only to the first result that is ``until``.

    ``report`` is called with each result as it comes, in one thread at a time.  A case that has not ended after
    ``bound`` seconds has failed, and its server is killed.  Raises CannotStart if there is no server to begin with.
    ``look`` is called in the calling thread again and again.  What it raises ends all servers that were started, and is
    raised when nothing will be reported any more.
    """
    cases = list(cases)
    started = Started()
    work = _Work(settings, started, cases, report, until, bound)
    threads: list[threading.Thread] = []
    try:
        for step, count in ((work.probe, 1), (work.run, jobs)):
            threads = [threading.Thread(target=step, name="conformance", daemon=True) for _ in range(count)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                look()
                threads[0].join(LOOK)
                threads = [thread for thread in threads if thread.is_alive()] or threads[:1]
            if work.errors:
                break
    finally:
        work.end()
        started.end()
        for thread in threads:
            thread.join(LAST)
    if work.errors:
        raise work.errors[0]
    return [work.found[case.name] for case in cases if case.name in work.found]


class _Work:
    """What the threads of a run share."""

    def __init__(
        self,
        settings: Settings,
        started: Started,
        cases: list[Case],
        report: Callable[[Result], object] | None,
        until: str,
        bound: float,
    ) -> None:
        self.found: dict[str, Result] = {}
        self.errors: list[BaseException] = []
        self._settings, self._started = settings, started
        self._report, self._until, self._bound = report, until, bound
        self._futures = False
        self._left = batches(cases)
        self._lock = threading.Lock()
        self._over = False

    def end(self) -> None:
        """Nothing is begun any more, and nothing reported."""
        with self._lock:
            self._over = True
            self._left.clear()

    def probe(self) -> None:
        """Whether there is a server, and one that suspends."""
        try:
            with Server(self._settings, {}, self._started) as server:
                self._futures = suspends(server)
        except BaseException as error:
            self.errors.append(error)

    def run(self) -> None:
        """Cases until there are none, on a server of its own."""
        servers = Servers(self._settings, self._started)
        try:
            while batch := take(self._left):
                for case in batch:
                    result, ended = one(servers, case, self._futures, self._bound)
                    if not ended:  # the thread that still tries it has that server
                        servers = Servers(self._settings, self._started)
                    if not self._take(result):
                        return
        except BaseException as error:
            self.errors.append(error)
            self.end()
        finally:
            servers.drop()

    def _take(self, result: Result) -> bool:
        """Whether there is more to do."""
        with self._lock:
            if not self._over:
                self.found[result.name] = result
                if self._report is not None:
                    self._report(result)
                if result.result == self._until:
                    self._over = True
                    self._left.clear()
            return not self._over


def batches(cases: list[Case]) -> list[list[Case]]:
    """Cases that can use the same server, a few at a time; those first that take long, with servers of their own."""
    ordered = sorted(cases, key=lambda case: sorted(case.options.items()), reverse=True)
    found = []
    for _, group in groupby(ordered, key=lambda case: dict(case.options)):
        same = list(group)
        found += [same[start : start + BATCH] for start in range(0, len(same), BATCH)]
    return found


def take(left: list[list[Case]]) -> list[Case]:
    """The next batch, or none: several threads ask."""
    try:
        return left.pop(0)
    except IndexError:
        return []


def one(servers: Servers, case: Case, futures: bool, bound: float) -> tuple[Result, bool]:
    """What comes out of a case, and whether it has ended.

    A case that a server hangs may wait for ever, as where it gets bytes without end.  So it is tried in a thread, and
    after so many seconds its server is killed; if that does not end it, it is left behind.
    """
    began = time.monotonic()
    ended: list[tuple[str, str] | BaseException] = []

    def try_it() -> None:
        try:
            ended.append(attempt(servers, case, futures))
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=try_it, name=f"conformance-{case.name}", daemon=True)
    thread.start()
    thread.join(bound)
    hangs = thread.is_alive()
    if hangs:
        servers.kill()
        thread.join(LAST)
    found = (FAIL, f"it has not come to an end within {bound:g} s") if hangs else ended[0]
    if isinstance(found, BaseException):
        raise found
    result, detail = found
    gone = bool(ended)
    if result == FAIL and gone:
        servers.drop()
    seconds = round(time.monotonic() - began, 3)
    return Result(case.name, case.requirements, result, detail, seconds, case.levels), gone


def attempt(servers: Servers, case: Case, futures: bool) -> tuple[str, str]:
    if "futures" in case.needs and not futures:
        return SKIP, "the server does not suspend for futures"
    trial = None
    try:
        server = servers.get(case)
        if "process" in case.needs:
            server.pid  # noqa: B018  # NotSupported without a process
        if "log" in case.needs:
            server.log(server.log_size())  # NotSupported without a log
        trial = Trial(server, case.name)
        case.run(trial)
        if "process" not in case.needs and not server.alive():
            raise Failed("the server has ended")
        return PASS, ""
    except NotSupported as why:
        return SKIP, str(why)
    except Failed as why:
        return FAIL, str(why)
    except CannotStart as why:
        if not case.options:
            raise
        return FAIL, str(why)
    except OSError as error:
        return FAIL, f"{type(error).__name__}: {error}"
    except Exception:
        return FAIL, f"the case itself: {traceback.format_exc(limit=-3)}"
    finally:
        if trial is not None:
            trial.close()
        if "process" in case.needs:  # it has been drained or the like
            servers.drop()
