"""Limits of the kernel for a group of processes: a cgroup of our own, of version 1 or 2, where the machine lets us have one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.limits import LONG, eventually

ROOT = Path("/sys/fs/cgroup")


class Cgroup:
    """One with limits of `memory` or `pids`; of version 1 or 2."""

    def __init__(self, directory: Path, version: int) -> None:
        self.directory, self.version = directory, version

    @property
    def procs(self) -> Path:
        """A process that writes its pid here is in it, with what it starts from then on."""
        return self.directory / "cgroup.procs"

    def limit_memory(self, size: int) -> None:
        """None of it is swapped."""
        names = ("memory.max", "memory.swap.max") if self.version == 2 else ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        for name, value in zip(names, (size, 0 if self.version == 2 else size)):
            if (self.directory / name).exists():  # the second is not without swapping
                (self.directory / name).write_text(str(value))

    def limit_tasks(self, number: int | None) -> None:
        """Processes and threads; None: as many as they like."""
        (self.directory / "pids.max").write_text("max" if number is None else str(number))

    def tasks(self) -> int:
        return int((self.directory / "pids.current").read_text())


def _place(kind: str) -> tuple[Path, int] | None:
    if (ROOT / kind / "cgroup.procs").exists():
        return ROOT / kind, 1
    control = ROOT / "cgroup.subtree_control"
    return (ROOT, 2) if control.exists() and kind in control.read_text().split() else None


def why_not(kind: str) -> str | None:
    place = _place(kind)
    if place is None:
        return f"there is no cgroup with the controller {kind} here that could have a part"
    return None if os.access(place[0], os.W_OK) else f"{place[0]} cannot be written to"


@contextmanager
def cgroup(kind: str) -> Iterator[Cgroup]:
    place = _place(kind)
    assert place is not None
    directory = place[0] / f"fermata-test-{os.getpid()}"
    directory.mkdir()
    group = Cgroup(directory, place[1])
    try:
        yield group
    finally:
        for pid in group.procs.read_text().split():  # the server's of a test that has failed: the fixture ends them
            with contextlib.suppress(OSError):
                (place[0] / "cgroup.procs").write_text(pid)
        eventually(lambda: not group.procs.read_text(), "the cgroup is empty", within=LONG)
        directory.rmdir()
