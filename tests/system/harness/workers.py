"""Which workers a server has, as its admin port says."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

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
