"""Which workers a server has, as its admin port says; processes; and a load for what is done to them meanwhile."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from .client import NoResponse, Truncated
from .limits import LONG, eventually
from .server import Server


def workers_of(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(server.admin.get("/workers").text)["workers"]
    return found


def pids(server: Server, state: str = "ready") -> set[int]:
    return {w["pid"] for w in workers_of(server) if w["state"] == state}


def wait_ready(server: Server, number: int, besides: Collection[int] = frozenset()) -> set[int]:
    """When so many are ready that are not among `besides`, and no others are there."""

    def settled() -> set[int] | None:
        all_of_them = workers_of(server)
        found = {w["pid"] for w in all_of_them if w["state"] == "ready"}
        return found if len(found) == number == len(all_of_them) and not found & set(besides) else None

    return eventually(settled, f"{number} workers are ready", within=LONG)


def who(server: Server) -> dict[str, Any]:
    """What a worker says of itself (apps/workers.py)."""
    said: dict[str, Any] = json.loads(server.get("/who").text)
    return said


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def children(pid: int) -> set[int]:
    """Those that run."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if parent(int(stat.parent.name)) == pid and not is_gone(int(stat.parent.name)):
                found.add(int(stat.parent.name))
    return found


class Load:
    """Requests without end from some threads, each on a new connection or on one that is kept; what became of each."""

    def __init__(self, server: Server, threads: int = 4) -> None:
        self.outcomes: Counter[str] = Counter()
        self.pids: set[str] = set()
        self._server, self._over = server, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i % 2 == 0,)) for i in range(threads)]

    def _run(self, kept: bool) -> None:
        while not self._over.is_set():
            try:
                with self._server.connect(timeout=LONG) as c:
                    for _ in range(20 if kept else 1):
                        response = c.request("GET", "/slow?seconds=0.002")
                        self.outcomes[str(response.status)] += 1
                        self.pids.add(response.text)
                        if not response.keeps_alive:
                            break
            except (NoResponse, Truncated, OSError) as error:
                self.outcomes[type(error).__name__] += 1

    def __enter__(self) -> Load:
        for t in self._threads:
            t.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for t in self._threads:
            t.join()
