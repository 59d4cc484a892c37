"""What the kernel says about processes: CPU time, memory, context switches, and how busy the machine is otherwise.

The functions that take text are pure; the others read /proc.
"""

import itertools
import os
import resource
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Stat:
    """What is of interest in /proc/PID/stat; times in seconds."""

    pid: int
    parent: int
    cpu: float
    user: float  # of cpu, that outside the kernel
    reaped: float  # of children that have ended and been waited for


def parse_stat(text: str) -> Stat:
    """The name in parentheses may hold spaces and parentheses of its own, so the rest begins after the last one."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    user, system, child_user, child_system = (int(f) * TICK for f in fields[11:15])
    return Stat(int(head.split()[0]), int(fields[1]), user + system, user, child_user + child_system)


def parse_busy(text: str) -> float:
    """Seconds of CPU that the machine has spent on anything, from /proc/stat; what the host took counts as well."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(f) for f in text.split("\n", 1)[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) * TICK


def parse_field(text: str, name: str) -> int:
    """A number of /proc/PID/status or smaps_rollup; 0 if it is not there."""
    for line in text.splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0


def descendants(parents: dict[int, int], root: int) -> list[int]:
    """`root` and all below it, where `parents` says whose child each process is."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def read(path: str) -> str:
    """A file of /proc; empty if the process has ended."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def tree(root: int) -> list[int]:
    """The processes that are `root` or below it."""
    stats = (read(f"/proc/{name}/stat") for name in os.listdir("/proc") if name.isdigit())
    return descendants({s.pid: s.parent for s in (parse_stat(text) for text in stats if text)}, root)


def process_cpu(pid: int) -> float:
    """Seconds of CPU of all threads of one process, those that have ended too.

    The process's CPU clock, which is what /proc/PID/stat shows rounded to hundredths of a second.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def tree_cpu(pids: Iterable[int]) -> float:
    """Seconds of CPU of these processes and of the children that they have waited for."""
    total = 0.0
    for pid in pids:
        if text := read(f"/proc/{pid}/stat"):
            total += process_cpu(pid) + parse_stat(text).reaped
    return total


def tree_user(pids: Iterable[int]) -> float:
    """Seconds of CPU outside the kernel of these processes, in ticks of the kernel's clock."""
    texts = [read(f"/proc/{pid}/stat") for pid in pids]
    return sum(parse_stat(text).user for text in texts if text)


def own_cpu() -> float:
    """Seconds of CPU of this process and everything that it has started, running or ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    below = [pid for pid in tree(os.getpid()) if pid != os.getpid()]
    return time.process_time() + ended.ru_utime + ended.ru_stime + tree_cpu(below)


def busy() -> float:
    """Seconds of CPU that the machine has spent, on whatever."""
    return parse_busy(read("/proc/stat"))


def memory_kb(pids: Iterable[int]) -> tuple[int, int]:
    """Resident memory of these processes: RSS, which counts shared pages in each, and PSS, which splits them."""
    pids = list(pids)
    rss = sum(parse_field(read(f"/proc/{pid}/status"), "VmRSS") for pid in pids)
    return rss, sum(parse_field(read(f"/proc/{pid}/smaps_rollup"), "Pss") for pid in pids)


def wakeups(pids: Iterable[int]) -> int:
    """How often the threads of these processes have gone to sleep by themselves, so how often they were woken."""
    return switches(pids, "voluntary_ctxt_switches")


def preemptions(pids: Iterable[int]) -> int:
    """How often the threads of these processes have lost their processor to another thread."""
    return switches(pids, "nonvoluntary_ctxt_switches")


def switches(pids: Iterable[int], kind: str) -> int:
    total = 0
    for pid in pids:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            total += parse_field(read(f"/proc/{pid}/task/{thread}/status"), kind)
    return total


class OtherLoad:
    """How many cores other processes than ours have used since this was made."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.monotonic(), busy(), own_cpu()

    def cores(self) -> float:
        """Never negative: /proc/stat counts in ticks, so an idle machine may seem to have done less than we did."""
        elapsed = time.monotonic() - self._began
        return max(0.0, (busy() - self._busy - (own_cpu() - self._own)) / elapsed)


def interpolate(samples: list[tuple[float, float]], at: float) -> float:
    """The value at a time between samples (time, value) in order; the nearest one outside them."""
    for (t0, v0), (t1, v1) in itertools.pairwise(samples):
        if t0 <= at <= t1:
            return v0 + (v1 - v0) * (at - t0) / (t1 - t0) if t1 > t0 else v0
    return samples[0][1] if at < samples[0][0] else samples[-1][1]


class Sampler:
    """Records the CPU time of a tree while a load generator runs that measures only the last part of its run."""

    INTERVAL = 0.02

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._samples = [(time.monotonic(), tree_cpu(pids))]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self.INTERVAL):
            self._samples.append((time.monotonic(), tree_cpu(self._pids)))

    def last(self, seconds: float) -> float:
        """Ends sampling; the CPU time spent in the last `seconds`."""
        end = time.monotonic()
        self._samples.append((end, tree_cpu(self._pids)))
        self._stop.set()
        self._thread.join()
        samples = sorted(self._samples)
        return samples[-1][1] - interpolate(samples, end - seconds)
