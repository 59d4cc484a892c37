"""Runs cases, each against a server that nothing else uses meanwhile."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from .check import Failed, NotSupported
from .client import Connection
from .launcher import CannotStart, Server, Settings
from .registry import Case
from .trial import Trial

__all__ = ["FAIL", "PASS", "SKIP", "Result", "run"]

PASS, FAIL, SKIP = "pass", "fail", "not supported"
BATCH = 12  # cases that are taken at once


@dataclass(frozen=True)
class Result:
    """What came out of a case."""

    name: str
    requirements: tuple[str, ...]
    result: str
    detail: str = ""
    """Why, unless it has passed."""
    seconds: float = 0.0

    def record(self) -> dict[str, Any]:
        return asdict(self)


class Servers:
    """The server that is running: another one where a case wants other options, or after a case that has failed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server: Server | None = None

    def get(self, case: Case) -> Server:
        if self._server is not None and (self._server.options != dict(case.options) or not self._server.alive()):
            self.drop()
        if self._server is None:
            self._server = Server(self._settings, case.options)
        return self._server

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
) -> list[Result]:
    """Every case, on ``jobs`` servers side by side; or only to the first result that is ``until``.

    Raises CannotStart if there is no server to begin with.
    """
    cases = list(cases)
    with Server(settings, {}) as server:
        futures = suspends(server)
    found: dict[str, Result] = {}
    left = batches(cases)

    def work() -> None:
        servers = Servers(settings)
        try:
            while batch := take(left):
                for case in batch:
                    found[case.name] = one(servers, case, futures)
                    if report is not None:
                        report(found[case.name])
                    if found[case.name].result == until:
                        left.clear()
                        return
        finally:
            servers.drop()

    with ThreadPoolExecutor(jobs) as pool:
        for worker in [pool.submit(work) for _ in range(jobs)]:
            worker.result()
    return [found[case.name] for case in cases if case.name in found]


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


def one(servers: Servers, case: Case, futures: bool) -> Result:
    started = time.monotonic()
    result, detail = attempt(servers, case, futures)
    if result == FAIL:
        servers.drop()
    return Result(case.name, case.requirements, result, detail, round(time.monotonic() - started, 3))


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
