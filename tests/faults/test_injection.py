"""Every call site of the server that a scenario reaches fails in turn, in each way it can, once and for a while.

Required each time: the server goes on; of the requests under way at most the one that the failure hit is refused (a 5xx,
or its connection is closed or visibly cut off), where the failure allows it at all; a failure of resources is in the
log, and not once for each call; when it is over, nothing is left: no request, no connection, no descriptor, no Python
object, and at the end of the server no memory (LeakSanitizer).

FERMATA_INJECT=all tries all of it, otherwise a share that is chosen by FERMATA_INJECT_SEED; FERMATA_INJECT_ONLY is an
expression that picks faults by their names.
"""

from __future__ import annotations

import errno
import os
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from control import ENDLESS, FAIL, INSIDE, NOTHING, OVERFLOW, SHORT, Control, Site, how_name
from harness.limits import LONG, eventually, timeout
from harness.server import Server
from scenario import LATE, PARTS, Part, run

ALL = os.environ.get("FERMATA_INJECT") == "all"
SEED = os.environ["FERMATA_INJECT_SEED"]  # see conftest.py
ONLY = re.compile(os.environ.get("FERMATA_INJECT_ONLY") or "")

ATTEMPTS = 5
WHILE = 0.4  # seconds that something goes on failing

Hows = Sequence[int]

# In which ways each function fails.
TRANSFER = (SHORT, errno.EINTR)
SYSTEM: dict[str, Hows] = {
    "accept4": (errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.ENOMEM, errno.EINTR),
    "epoll_ctl": (errno.ENOMEM, errno.ENOSPC),
    "epoll_wait": (errno.EINTR,),
    "eventfd_read": (errno.EAGAIN, errno.EINTR),
    "eventfd_write": (OVERFLOW,),
    "fcntl": (errno.EINVAL,),
    "getsockopt": (errno.ENOBUFS,),
    "ioctl": (errno.EINVAL,),
    "open": (errno.EMFILE, errno.ENOSPC, errno.EACCES),
    "mkostemp": (errno.EMFILE, errno.ENOSPC),
    "ppoll": (errno.EINTR, errno.ENOMEM),
    "pread": (*TRANSFER, errno.EIO, NOTHING),
    "pthread_create": (errno.EAGAIN,),
    "pwrite": (*TRANSFER, errno.ENOSPC, errno.EIO, NOTHING),
    "read": (*TRANSFER, errno.EAGAIN),
    "recv": (*TRANSFER, errno.EAGAIN, errno.ECONNRESET, errno.ETIMEDOUT, errno.ENOMEM),
    "send": (*TRANSFER, errno.EAGAIN, errno.ENOBUFS, errno.EPIPE, errno.ECONNRESET),
    "sendfile": (*TRANSFER, errno.EAGAIN, errno.EIO, errno.EPIPE, NOTHING),
    "sendmsg": (*TRANSFER, errno.EAGAIN, errno.ENOBUFS, errno.EPIPE, errno.ECONNRESET),
    "setsockopt": (errno.ENOBUFS,),
    "shutdown": (errno.ENOTCONN,),
    "write": (*TRANSFER, errno.ENOSPC),
}
MEMORY = ("malloc", "calloc", "realloc")

# These need no refusal: the call is tried again, or what it does can be done without.
HARMLESS = {SHORT, OVERFLOW, errno.EINTR, errno.EAGAIN, errno.ENOBUFS, errno.ECONNABORTED, errno.EINVAL, errno.ENOTCONN}

# Of these calls they are no passing trouble, but the answer.
FINAL = {("pthread_create", errno.EAGAIN), ("fcntl", errno.EINVAL)}

# What the log must name when a request was refused for it.
NAMED = {
    FAIL: "memory|MemoryError",
    INSIDE: "memory|MemoryError",
    errno.ENOMEM: "memory|MemoryError",
    errno.ENOSPC: "No space left",
    errno.EIO: "Input/output error",
    errno.EMFILE: "Too many open files",
    errno.ENFILE: "Too many open files in system",
}


@dataclass(frozen=True)
class Fault:
    site: Site
    how: int
    endless: bool
    part: Part  # one that reaches the site

    @property
    def name(self) -> str:
        return f"{self.site.label}: {how_name(self.how)}{', for a while' if self.endless else ''}"


def hows_of(site: Site) -> Hows:
    if site.function in MEMORY:
        return (errno.ENOMEM,)
    if site.function in SYSTEM:
        return SYSTEM[site.function]
    return (FAIL, INSIDE) if site.allocations else (FAIL,)


class Rig:
    """A server, its control, and what it is like when nothing happens."""

    def __init__(self, control: Control, options: Sequence[str], parts: list[Part], access: Path) -> None:
        self.control = control
        self.options = options
        self.parts = parts
        self.access = access
        self.idle: list[str] = []  # faults whose call did not come
        self.server = self.start()

    def start(self) -> Server:
        server = Server(
            "faulted:app",
            *self.options,
            *("--threads", "3", "--graceful-timeout", "5", "--access-logfile", str(self.access)),
            admin=True,
            env={**self.control.env, "PYTHONMALLOC": "malloc"},
        )
        server.wait_ready()
        server.call("faulted.settle")
        return server

    def reach(self, besides: list[Part]) -> list[tuple[Site, Part]]:
        """The sites that the parts reach, each with a part that does; without those that the others reach."""
        found: dict[int, Part] = {}
        self.parts_right(besides * 3)
        before = self.control.sites()
        known = set(before) if besides else set()
        for one in [*self.parts, *self.parts]:
            self.parts_right([one])
            after = self.control.sites()
            for slot, site in after.items():
                if slot not in known and (slot not in before or before[slot].calls < site.calls):
                    found.setdefault(slot, one)
            before = after
        self.quiet()
        self.fds = len(self.server.process.fds())
        sites = self.control.sites()
        return [(sites[slot], one) for slot, one in sorted(found.items())]

    def parts_right(self, parts: list[Part]) -> None:
        bad = {name: outcome for name, outcome in run(self.server, parts) if outcome}
        assert not bad, f"without a fault: {bad}\n{self.server.log()[-3000:]}"

    def quiet(self) -> None:
        def nothing_under_way() -> bool:
            metrics = self.server.admin.metrics()
            states = sum(v for (name, _), v in metrics.samples.items() if name == "fermata_requests_in_flight")
            return states == 0 and metrics.value("fermata_connections") == 0

        eventually(nothing_under_way, "no request and no connection is left", every=0.002)

    def live(self) -> int:
        self.server.call("faulted.settle")
        return self.control.live()


def together(server: Server, parts: list[Part], control: Control, seconds: float) -> dict[str, str]:
    """Runs the parts side by side; after so many seconds nothing fails any more, so that who waits gets on."""
    outcomes: dict[str, str] = {}
    threads = [threading.Thread(target=lambda p=p: outcomes.update(run(server, [p]))) for p in parts]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        control.cancel()
    for thread in threads:
        thread.join(LONG)
    return outcomes


def try_fault(rig: Rig, fault: Fault, first: bool = True) -> list[str]:
    """What is wrong, if anything."""
    server, control = rig.server, rig.control
    others = [p for p in PARTS if p.__name__ in ("keep_alive", "parked")]
    parts = [fault.part, *(p for p in others if p is not fault.part)]
    start = server.log_size()
    for _ in range(ATTEMPTS if fault.part in PARTS else 2):  # some calls are made only when two things meet
        control.order(fault.site, fault.how, ENDLESS if fault.endless else 1)
        outcomes = together(server, parts, control, WHILE if fault.endless and fault.part in PARTS else LONG)
        if control.fired() or not server.alive() or any(outcomes.values()):
            break
    fired = control.cancel()
    if not fired:
        rig.idle.append(fault.name)
    if not server.alive():
        return [f"the server ended with {server.wait_exit(1)}: {server.log(start)[-1500:]}"]
    complaints = [f"{name}: {outcome}" for name, outcome in outcomes.items() if outcome.startswith("wrong")]
    hit = {name: outcome for name, outcome in outcomes.items() if outcome}
    log = server.log(start)
    harmless = fault.how in HARMLESS and (fault.site.function, fault.how) not in FINAL
    if not fault.endless and (len(hit) > 1 or (hit and (harmless or not fired))):
        complaints.append(f"refused: {hit}")
    named = NAMED.get(fault.how)
    end = time.monotonic() + 1
    while hit and named and not re.search(named, log) and time.monotonic() < end:
        time.sleep(0.01)  # a thread writes the log
        log = server.log(start)
    if hit and named and not re.search(named, log):
        if first:  # it may just have said it of another fault: what is frequent is logged every tenth of a second here
            time.sleep(0.2)
            return try_fault(rig, fault, first=False)
        complaints.append(f"refused {hit}, and the log does not say why: {log[-500:]!r}")
    records = len(re.findall(r"^\[\d{4}-", log, re.MULTILINE)) + log.count("[warn]")
    if records > 3 * len(parts) + 4:
        complaints.append(f"{records} records in the log: {log[-1000:]!r}")
    try:
        rig.parts_right([p for p in PARTS if p.__name__ in ("keep_alive", "parked")])
        rig.quiet()
        eventually(lambda: len(server.process.fds()) <= rig.fds, f"{rig.fds} descriptors again", every=0.002)
    except Exception as error:
        complaints.append(f"afterwards: {type(error).__name__}: {error}")
    return complaints


def keeps_memory(rig: Rig, fault: Fault) -> list[str]:
    """The same fault again and again must not leave more Python objects behind than the same requests without it."""
    times, rounds = 6, []
    for _ in range(10):
        counts = [rig.live()]
        for broken in (True, False):
            for _ in range(times):
                if broken:
                    rig.control.order(fault.site, fault.how)
                list(run(rig.server, [fault.part]))
                rig.control.cancel()
            rig.quiet()
            counts.append(rig.live())
        rounds.append((counts[1] - counts[0]) - (counts[2] - counts[1]))
        if rounds[-1] < times:
            return []
    return [f"{times} times leave {rounds} blocks of memory behind"]


def chosen(faults: list[Fault], share: int) -> list[Fault]:
    picked = [f for f in faults if ONLY.search(f.name)]
    if ALL or os.environ.get("FERMATA_INJECT_ONLY"):
        return picked
    return [f for f in picked if zlib.crc32(f"{SEED} {f.name}".encode()) % share == 0]


Say = Callable[[str, object], None]  # record_property


def tell(say: Say, results: list[tuple[str, list[str]]], of: int, more: str = "") -> None:
    """Says what was done, and fails with all that was wrong."""
    bad = [(name, complaints) for name, complaints in results if complaints]
    said = f"{len(results)} of {of} faults{more}"
    say("faults", said)
    report = "\n\n".join(f"{name}\n" + "\n".join(f"    {c}" for c in complaints) for name, complaints in bad)
    assert not bad, f"{len(bad)} wrong; {said}, FERMATA_INJECT_SEED={SEED}\n{report}"


def try_all(say: Say, rig: Rig, faults: list[Fault], of: int) -> None:
    """Tries them, and starts the server again where one has ended it."""
    begin = time.monotonic()
    results = []
    for fault in faults:
        complaints = try_fault(rig, fault)
        if rig.idle and rig.idle[-1] == fault.name and rig.server.alive():  # made only once in the life of a server
            rig.idle.pop()
            rig.server.stop()
            rig.server = rig.start()
            complaints += try_fault(rig, fault)
        if is_python(fault.site) and fault.part in PARTS and not complaints:
            complaints = keeps_memory(rig, fault)
        results.append((fault.name, complaints))
        if not rig.server.alive() or any("afterwards" in c for c in complaints):
            rig.server.discard()
            rig.server = rig.start()
    if any(complaints for _, complaints in results):
        rig.server.discard()
    else:
        rig.server.stop()
    tell(say, results, of, f" in {time.monotonic() - begin:.0f} s, {len(rig.idle)} of them not reached {rig.idle}")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(*options: str, parts: list[Part]) -> Rig:
        rigs.append(Rig(Control(tmp_path / f"control{len(rigs)}"), options, parts, tmp_path / "access"))
        return rigs[-1]

    yield make
    for r in rigs:
        if r.server.alive():
            r.server.discard()
        r.control.close()


def is_python(site: Site) -> bool:
    return site.function not in SYSTEM and site.function not in MEMORY


GROUPS: dict[str, tuple[Callable[[Site], bool], int]] = {
    "memory": (lambda s: s.function in MEMORY, 5),
    "system": (lambda s: s.function in SYSTEM, 7),
    "python": (is_python, 8),
}


@timeout(600)
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("parts", ["usual", "late"])
def test_each_call(rig: Callable[..., Rig], group: str, parts: str, record_property: Say) -> None:
    wanted, share = GROUPS[group]
    if parts == "late":
        r = rig("--request-timeout", "1.5", parts=LATE)
        sites = r.reach(besides=PARTS)
    else:
        r = rig(parts=PARTS)
        sites = r.reach(besides=[])
    reached = [(site, one) for site, one in sites if wanted(site)]
    faults = [
        Fault(site, how, endless, one) for site, one in reached for how in hows_of(site) for endless in (False, True)
    ]
    try_all(record_property, r, chosen(faults, share), len(faults))
