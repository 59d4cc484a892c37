"""A server with workers under a crowd, in one of several settings; and what must be so when it is over: no client has lost
anything, and no process, descriptor, file or port is left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.client import Connection, Truncated, build
from harness.limits import LONG, eventually, fermata
from harness.process import Process
from harness.server import Server
from harness.workers import children, pids, wait_ready
from operations_cgroups import Cgroup
from operations_crowd import Crowd, listeners, refused


@dataclass(frozen=True)
class Needs:
    """What a fault needs of its site."""

    access: str = ""  # the access log: a `file`, a `pipe`
    options: tuple[str, ...] = ()  # of the server
    config: str = ""  # text of a configuration file
    limits: str = ""  # the controller of a cgroup: `memory` has the site start in it, `pids` does not


@dataclass(frozen=True)
class Setting:
    """How the server is run."""

    workers: int = 2
    options: tuple[str, ...] = ()
    unix: bool = False
    bare: bool = False  # of the file system only its own directory can be written, and it has neither HOME nor /dev/shm


SETTINGS: dict[str, Setting] = {
    "two": Setting(),
    "one": Setting(workers=1),
    "unix": Setting(unix=True),
    "limit": Setting(options=("--worker-connections", "3")),  # there are eight clients
    "queue": Setting(options=("--backlog", "1")),
    "bare": Setting(bare=True),
    "preload": Setting(options=("--preload",)),
}

MAKE_BARE = """
mount --bind "$1" "$1" && mount -t tmpfs -o ro none /dev/shm && mount -o remount,bind,ro / && shift && exec env -u HOME "$@"
"""


def bare(home: Path) -> list[str]:
    """What to put before a command so that it runs so."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", MAKE_BARE, "sh", str(home)]


def why_not_bare(home: Path) -> str | None:
    done = subprocess.run([*bare(home), "true"], capture_output=True, text=True, check=False)
    return f"mounts cannot be changed here: {done.stderr.strip()}" if done.returncode else None

TAKEN_OVER = "SIGUSR2: this is fermata"
F_SETPIPE_SZ = 1031  # which Python 3.10 has no name for yet

OPTIONS = ("--graceful-timeout", "20", "--keep-alive", "75", "--threads", "4")


def kinds(fds: Mapping[int, str]) -> Counter[str]:
    """What kinds of descriptors there are; files by their names."""
    return Counter(re.sub(r"\[\d+\]", "", what) for what in fds.values())


def one_ended(pid: int) -> list[str]:
    """Pipes of which the process has one end."""
    counts = Counter(what for what in Process(pid).fds().values() if what.startswith("pipe:"))
    return [what for what, n in counts.items() if n == 1]


def connections() -> set[str]:
    """Sockets that are connected, by TCP."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{fields[9]}]" for fields in lines if fields[3] != "0A"}


@dataclass
class Site:
    """What a fault is done to."""

    server: Server
    setting: Setting
    home: Path  # a directory of its own
    crowd: Crowd
    thorough: bool  # a fault that is done several times is done often
    cgroup: Cgroup | None = None  # that was asked for
    victims: dict[int, float] = field(default_factory=dict)  # that a fault has killed, and when they were gone
    told: float | None = None  # when all were told to end
    check_lines: Callable[[Site], None] | None = None  # looks at the access log in the end
    pipe: int = -1  # which the access log goes to, and is read by none but us
    descriptors: Counter[str] = field(default_factory=Counter)
    of_worker: Counter[str] = field(default_factory=Counter)

    # What there is

    @property
    def broken(self) -> Path:
        """How the next workers are to load (apps/workers.py)."""
        return self.home / "broken"

    @property
    def program(self) -> Path:
        """By which name the command was given: SIGUSR2 executes what is there."""
        return self.home / "fermata"

    def install(self, script: str | None) -> None:
        """Another program in its place, or the real one again."""
        new = self.home / "new"
        if script is None:
            new.symlink_to(fermata())
        else:
            new.write_text(f"#!/bin/sh\n{script}\n")
            new.chmod(0o755)
        new.rename(self.program)

    @property
    def config(self) -> Path:
        return self.home / "conf.py"

    def said(self, text: str) -> int:
        return self.server.log_now().count(text)

    def wait_said(self, text: str, times: int) -> None:
        eventually(lambda: self.said(text) >= times, f"the log says {times} times: {text}", within=LONG)

    def pids(self, state: str = "ready") -> set[int]:
        return pids(self.server, state)

    def settled(self, besides: Collection[int] = (), *, workers: int | None = None) -> set[int]:
        return wait_ready(self.server, workers or self.setting.workers, besides)

    def times(self, few: int, many: int) -> range:
        return range(many if self.thorough else few)

    # What is done to it

    def tell(self, number: int) -> None:
        self.server.signal(number)

    def reload(self, before: Collection[int] | None = None) -> set[int]:
        """All are replaced."""
        before = self.pids() if before is None else before
        self.tell(signal.SIGHUP)
        return self.settled(before)

    def upgrade(self, before: Collection[int] | None = None) -> set[int]:
        """Another program takes over, and all are replaced."""
        before, times = self.pids() if before is None else before, self.said(TAKEN_OVER)
        self.tell(signal.SIGUSR2)
        self.wait_said(TAKEN_OVER, times + 1)
        return self.settled(before)

    def others(self) -> set[int]:
        """Children of the arbiter that are no workers."""
        workers = {pid for state in ("loading", "ready", "draining", "killed") for pid in self.pids(state)}
        return children(self.server.pid) - workers

    def hold(self) -> None:
        """What is imported from now on waits until release()."""
        self.broken.write_text("hold")

    def release(self) -> None:
        self.broken.unlink()

    def wait_loading(self, number: int = 1) -> set[int]:
        def loading() -> set[int] | None:
            found = self.pids("loading")
            return found if len(found) >= number else None

        return eventually(loading, f"{number} are loading", within=LONG)

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        self.killed(pid, lambda: os.kill(pid, number))

    def killed(self, pid: int, act: Callable[[], object]) -> None:
        """act ends this worker, and what it was doing may be lost."""
        self.victims[pid] = float("inf")  # until it is known
        act()
        eventually(lambda: not Path(f"/proc/{pid}").exists(), f"{pid} has ended", within=LONG)
        self.victims[pid] = time.monotonic()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """All are told to end: what has been sent is answered."""
        self.crowd.ending = True
        self.told = time.monotonic()
        self.tell(number)

    @property
    def log(self) -> Path:
        return self.home / "access.log"

    def lines(self) -> list[str]:
        """Of the access log, in all files that it has been in, or what is in the pipe."""
        if self.pipe < 0:
            return "".join(p.read_text() for p in self.home.glob("access.*")).splitlines()
        parts = []
        with contextlib.suppress(BlockingIOError):
            while True:
                parts.append(os.read(self.pipe, 65536))
        return b"".join(parts).decode().splitlines()

    def begin(self, target: str) -> Connection:
        c = self.server.connect(timeout=LONG)
        c.send(build("GET", target))
        return c

    def mischief(self, what: str, pid: int) -> None:
        """This worker's application does it; it may be its last deed."""

        def done() -> bool:
            with self.server.connect(timeout=LONG) as c:
                if f'"pid": {pid},' not in c.request("GET", "/who").text:
                    return False
                with contextlib.suppress(Truncated, OSError):
                    c.request("GET", f"/mischief?what={what}")
                return True

        eventually(done, f"worker {pid} does its {what}", within=LONG)

    # What must be so

    def look(self) -> None:
        """Notes what descriptors there are before anything has happened: without the connection on which we have asked,
        and the pipe on which a worker has said that it is ready."""
        one = min(self.pids())
        eventually(lambda: not one_ended(one), "a worker has said that it is ready", within=LONG)
        self.of_worker, asked = _fds(one), connections()
        fds = Process(self.server.pid).fds()
        self.descriptors = kinds({fd: what for fd, what in fds.items() if what not in asked})

    def check_descriptors(self) -> None:
        """When no client is there: as many as at the start, in every process."""

        def same() -> bool:
            return _fds(self.server.pid) == self.descriptors

        def all_same() -> bool:
            return all(_fds(pid) == self.of_worker for pid in self.pids())

        try:
            eventually(same, "the arbiter has the descriptors that it had", within=LONG)
            eventually(all_same, "each worker has the descriptors that the first one had", within=LONG)
        except AssertionError as error:
            now = {pid: _fds(pid) for pid in (self.server.pid, *self.pids())}
            raise AssertionError(f"{error}: {self.descriptors}, {self.of_worker}, now {now}") from None

    def check_nothing_left(self, marker: str, port: int | None, path: Path | None) -> None:
        """When it has ended.  The port is free at once, also if children of the application are there."""
        if port is not None:
            assert not list(listeners(port))
            assert refused(("127.0.0.1", port))
        eventually(lambda: not processes(marker), "no process is left", within=LONG)
        assert not list((self.home / "tmp").iterdir())
        assert path is None or not path.exists()


def _fds(pid: int) -> Counter[str]:
    try:
        return kinds(Process(pid).fds())
    except OSError:
        return Counter()


def processes(marker: str) -> list[int]:
    """Those whose environment says that they come from this server."""
    found = []
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if marker.encode() in (directory / "environ").read_bytes():
                found.append(int(directory.name))
    return found


def start(
    launch: Callable[..., Server], home: Path, setting: Setting, thorough: bool, needs: Needs, group: Cgroup | None
) -> Site:
    """A server of which all workers are ready, and a crowd that is there and has been served."""
    (home / "tmp").mkdir()
    counted, log, pipe = home / "counted", home / "access.log", -1
    counted.touch()
    if needs.access == "pipe":
        os.mkfifo(log)
        pipe = os.open(log, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(pipe, F_SETPIPE_SZ, 4096)
    env = {"WORKERS_BREAK": str(home / "broken"), "COUNTED": str(counted), "TMPDIR": str(home / "tmp")}
    bind = [f"unix:{home}/socket"] if setting.unix else ["127.0.0.1:0"]
    options = ("--workers", str(setting.workers), *OPTIONS, *setting.options, *needs.options)
    options += ("--access-logfile", str(log)) if needs.access else ()
    if needs.config:
        (home / "conf.py").write_text(needs.config)
        options += ("-c", str(home / "conf.py"))
    (home / "fermata").symlink_to(fermata())
    program = [*(bare(home) if setting.bare else []), str(home / "fermata")]
    if needs.limits == "memory" and group:
        program = ["sh", "-c", f'echo $$ > {group.procs} && exec "$@"', "sh", *program]
    server = launch("counted:app", *options, admin=True, bind=bind, env=env, program=program)
    site = Site(server, setting, home, Crowd(server.address, counted), thorough, group, pipe=pipe)
    site.settled()
    site.look()
    site.crowd.start()
    site.crowd.go_on()
    return site


def finish(site: Site) -> str:
    """Ends it and holds everything against each other.  What was answered."""
    server, crowd = site.server, site.crowd
    marker, port = str(server.dir), None if site.setting.unix else server.port
    path = Path(str(server.address)) if site.setting.unix else None
    if site.told is None:
        crowd.go_on()
        crowd.stop()
        site.check_descriptors()
    else:
        eventually(lambda: not processes(marker), "all have ended", within=2 * LONG)
        crowd.stop()
    wrong = crowd.judge(site.victims, site.told)
    assert not wrong, "\n".join([f"{len(wrong)} of {len(crowd.begun())}:", *wrong[:20]])
    server.stop()
    site.check_nothing_left(marker, port, path)
    if site.check_lines is not None:
        site.check_lines(site)
    return crowd.summary()
