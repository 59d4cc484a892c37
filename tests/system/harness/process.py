"""What /proc says about a process that we started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    pid: int

    @property
    def _dir(self) -> Path:
        return Path("/proc") / str(self.pid)

    def _fields(self, text: str) -> dict[str, str]:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}

    def _status(self) -> dict[str, str]:
        return self._fields((self._dir / "status").read_text(errors="replace"))

    def _of_each_thread(self, file: str) -> dict[int, str]:
        found = {}
        for task in (self._dir / "task").iterdir():
            try:
                found[int(task.name)] = (task / file).read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                pass  # it has just ended
        return found

    def threads(self) -> dict[int, str]:
        """Thread id -> the kernel's name of it."""
        return {tid: comm.strip() for tid, comm in self._of_each_thread("comm").items()}

    def statuses(self) -> list[dict[str, str]]:
        """What /proc/PID/task/TID/status says of each thread."""
        return [self._fields(text) for text in self._of_each_thread("status").values()]

    def switches(self) -> dict[int, int]:
        """Thread id -> context switches so far, voluntary or not: it grows whenever the thread wakes up."""
        statuses = {tid: self._fields(text) for tid, text in self._of_each_thread("status").items()}
        return {
            tid: int(status["voluntary_ctxt_switches"]) + int(status["nonvoluntary_ctxt_switches"])
            for tid, status in statuses.items()
        }

    def sleeps(self) -> int:
        """How often threads have gone to sleep so far, all together, other than because another had the processor."""
        return sum(int(status["voluntary_ctxt_switches"]) for status in self.statuses())

    def rss(self) -> int:
        """Resident bytes without those of mapped files and of the page cache."""
        return int(self._status()["RssAnon"].split()[0]) * 1024

    def peak(self) -> int:
        """The largest resident size so far, in bytes."""
        return int(self._status()["VmHWM"].split()[0]) * 1024

    def fds(self) -> dict[int, str]:
        """Descriptor -> what it is."""
        found = {}
        for entry in (self._dir / "fd").iterdir():
            try:
                found[int(entry.name)] = os.readlink(entry)
            except FileNotFoundError:
                pass
        return found

    def cpu(self) -> float:
        """Seconds of processor time, user and system."""
        fields = (self._dir / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def nofile(self) -> int:
        """The soft limit of open files."""
        for line in (self._dir / "limits").read_text().splitlines():
            if line.startswith("Max open files"):
                return int(line.split()[3])
        raise AssertionError("no limit of open files in /proc")
