"""What happens to a server in operation: each row is a function that does it to a site under its crowd (operations_site.py).
In its name is what it is; the settings in which `make check` has it are in its row, and `make operations OPERATIONS=all` has
it in all of SETTINGS that suit it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from operations_site import SETTINGS, Needs, Site

Act = Callable[[Site], None]


@dataclass(frozen=True)
class Fault:
    act: Act
    quick: tuple[str, ...]  # the settings in which it is tried by `make check`
    unsuited: tuple[str, ...] = ()  # those in which it makes no sense
    expect: int = 0  # the exit code in the end
    needs: Needs = Needs()

    @property
    def name(self) -> str:
        return self.act.__name__.strip("_")

    @property
    def settings(self) -> list[str]:
        return [name for name in SETTINGS if name not in self.unsuited]


FAULTS: list[Fault] = []


def fault(
    *quick: str, unsuited: tuple[str, ...] = (), only: tuple[str, ...] = (), expect: int = 0, **needs: Any
) -> Callable[[Act], Act]:
    """only: the settings in which it makes sense, if they are few."""
    unsuited = tuple(name for name in SETTINGS if name not in only) if only else unsuited

    def add(act: Act) -> Act:
        FAULTS.append(Fault(act, quick or ("two",), unsuited, expect, Needs(**needs)))
        return act

    return add
