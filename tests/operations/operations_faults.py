"""Rows of the table of faults (operations_table.py): reloads, other numbers, ends, logs, and what applications do."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import time
from collections import Counter

from harness.limits import LONG, eventually
from operations_site import Site
from operations_table import Act, fault

# ---- HUP ----


@fault("two", "one", "unix", "limit", "queue", "preload")
def reload(site: Site) -> None:
    before = site.pids()
    for _ in site.times(2, 50):
        before = site.reload(before)


@fault()
def reload_again_and_again(site: Site) -> None:
    """HUPs that come faster than it can do them: each takes the place of the one before."""
    before = site.pids()
    for _ in site.times(20, 200):
        site.tell(signal.SIGHUP)
        time.sleep(0.005)
    site.settled(before)


@fault("two", "one")
def reload_while_it_loads(site: Site) -> None:
    """The import hangs: all are served meanwhile, and the next HUP takes its place."""
    before = site.pids()
    site.hold()
    site.tell(signal.SIGHUP)
    (first,) = site.wait_loading()
    site.crowd.go_on(3)
    site.tell(signal.SIGHUP)
    eventually(lambda: site.wait_loading() - {first}, "another one loads", within=LONG)
    site.crowd.go_on(3)
    assert site.pids() == before
    site.release()
    site.settled(before)


@fault()
def reload_while_it_drains(site: Site) -> None:
    """A request that is parked keeps an old worker; two more generations pass by, and it is answered by its own."""
    until = site.home / "until"
    until.touch()
    before = site.pids()
    with site.begin(f"/held/parked-1?until={until}") as c:
        eventually(lambda: "parked-1" in site.crowd.begun(), "it is parked", within=LONG)
        (its,) = site.crowd.begun()["parked-1"]
        for _ in range(2):
            site.tell(signal.SIGHUP)
            before |= eventually(lambda: _other(site, before), "the others are new", within=LONG)
            site.crowd.go_on()
        assert its in site.pids("draining")
        until.unlink()
        assert c.read_response().text == f"parked-1 {its}"
    site.settled({its})


def _other(site: Site, before: set[int]) -> set[int] | None:
    found = site.pids()
    return found if len(found) == site.setting.workers and not found & before and not site.pids("loading") else None


def _fails(how: str) -> Act:
    def act(site: Site) -> None:
        """The old ones go on as if nothing had been."""
        before = site.pids()
        site.broken.write_text(how)
        for i in site.times(1, 5):
            site.tell(signal.SIGHUP)
            eventually(lambda n=i: site.server.log_now().count("Reload failed") > n, "it has failed", within=LONG)
            assert site.settled() == before
        site.crowd.go_on()
        site.broken.unlink()
        site.reload(before)

    act.__name__ = f"reload_whose_import_{how}"
    return act


for _how in ("syntax", "import", "raise", "exit", "kill"):
    fault(*(("two", "one") if _how == "raise" else ("two",)))(_fails(_how))


@fault(unsuited=("one", "preload"))  # by one none is served while it crashes; what is preloaded does not crash
def reload_in_the_crash_loop_of_one(site: Site) -> None:
    """It fails, as they crash; what is mended then comes with the next one."""
    before = site.pids()
    site.broken.write_text("kill")
    site.kill(min(before))
    eventually(lambda: site.server.log_now().count("ended by signal 9") >= 3, "it has tried again", within=LONG)
    site.tell(signal.SIGHUP)
    site.server.wait_log("Reload failed", within=LONG)
    site.crowd.go_on()
    site.broken.unlink()
    site.reload(before)


@fault()
def reload_that_cannot_start_a_process(site: Site) -> None:
    """The arbiter has no descriptor left for it: the old ones go on, and it tries again."""
    before, pid = site.pids(), site.server.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    site.tell(signal.SIGHUP)
    site.server.wait_log("cannot start worker", within=LONG)
    site.crowd.go_on()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    site.settled(before)


# ---- more and fewer ----


@fault("two", "one")
def more_and_fewer(site: Site) -> None:
    n = site.setting.workers
    for _ in site.times(1, 10):
        site.tell(signal.SIGTTIN)
        site.settled(workers=n + 1)
        site.crowd.go_on()
        site.tell(signal.SIGTTOU)
        site.settled(workers=n)


@fault()
def more_and_fewer_at_once(site: Site) -> None:
    for _ in site.times(5, 50):
        for number in (signal.SIGTTIN, signal.SIGHUP, signal.SIGTTOU):
            site.tell(number)
            time.sleep(0.005)
    while (wanted := _wanted(site)) != site.setting.workers:  # signals that came while one waited were one
        site.tell(signal.SIGTTOU if wanted > site.setting.workers else signal.SIGTTIN)
        eventually(lambda: _wanted(site) != wanted, "it wants another number", within=LONG)
    site.settled()


def _wanted(site: Site) -> int:
    wanted: int = json.loads(site.server.admin.get("/workers").text)["wanted"]
    return wanted


@fault("two", "one", options=("--max-requests", "60", "--max-requests-jitter", "20"))
def recycling(site: Site) -> None:
    """Workers that have answered enough are replaced, again and again."""
    for _ in site.times(2, 50):
        before = site.pids()
        eventually(lambda b=before: not site.pids() & b, "all are new", within=LONG)
        site.crowd.go_on()


# ---- ends that were not wanted ----


def _killed(number: int) -> Act:
    def act(site: Site) -> None:
        for _ in site.times(2, 20):
            one = min(site.pids())
            site.kill(one, number)
            site.settled({one})
            site.crowd.go_on()

    act.__name__ = f"a_worker_gets_{signal.Signals(number).name}"
    return act


fault("two", "one", "preload")(_killed(signal.SIGKILL))
fault()(_killed(signal.SIGSEGV))


@fault("two", "one")
def a_worker_is_told_to_end(site: Site) -> None:
    """SIGTERM to a worker, by mistake: it drains, so nothing is lost."""
    for _ in site.times(2, 20):
        one = min(site.pids())
        os.kill(one, signal.SIGTERM)
        site.settled({one})
        site.crowd.go_on()


@fault()
def all_workers_are_killed(site: Site) -> None:
    """At once: the sockets are the arbiter's, so that clients wait and are not refused."""
    for _ in site.times(1, 10):
        before = site.pids()
        for pid in before:
            site.victims[pid] = float("inf")
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        for pid in before:
            site.killed(pid, lambda: None)
        site.settled(before)
        site.crowd.go_on()


@fault(unsuited=("one",))
def a_worker_is_stopped(site: Site) -> None:
    """SIGSTOP, and after a while SIGCONT: a client that it serves waits, others do not."""
    one = min(site.pids())
    os.kill(one, signal.SIGSTOP)
    site.crowd.go_on(3, some=1)
    os.kill(one, signal.SIGCONT)
    site.crowd.go_on()


@fault()
def all_workers_are_stopped_in_a_reload(site: Site) -> None:
    """Connections fill the queue; the new worker takes them, and the old ones theirs when they go on."""
    before = site.pids()
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    site.tell(signal.SIGHUP)
    eventually(lambda: site.pids() - before, "a new one is ready", within=LONG)
    for pid in before:
        os.kill(pid, signal.SIGCONT)
    site.settled(before)


@fault(unsuited=("preload",))
def a_crash_loop_of_one(site: Site) -> None:
    """The other one serves, and only the one is started again and again."""
    one, *others = sorted(site.pids())
    site.broken.write_text("kill")
    site.kill(one)
    eventually(lambda: site.server.log_now().count("ended by signal 9") >= 4, "it has tried again", within=LONG)
    if others:
        site.crowd.go_on()
        assert site.pids() == set(others)
    site.broken.unlink()
    site.settled({one})


@fault("two", "unix")
def the_arbiter_is_stopped(site: Site) -> None:
    """Workers serve without it; what it was told meanwhile it does when it goes on."""
    before = site.pids()
    site.tell(signal.SIGSTOP)
    site.tell(signal.SIGHUP)  # not SIGTTIN: the kernel forgets it at SIGCONT, as each signal that stops
    site.crowd.go_on(3)
    if site.thorough:
        time.sleep(60)
        site.crowd.go_on()
    assert site.server.log_now().count("SIGHUP") == 0
    site.tell(signal.SIGCONT)
    site.settled(before)


@fault(expect=-signal.SIGKILL, unsuited=("unix", "queue"))  # the path of a unix socket stays
def the_arbiter_is_killed(site: Site) -> None:
    """Its workers drain: what they have been sent they answer."""
    site.stop(signal.SIGKILL)
    site.server.wait_exit(LONG)


# ---- logs ----


@fault(access="file")
def logs_are_opened_anew(site: Site) -> None:
    """By all processes: every request has one line, in one of the files."""
    for i in site.times(3, 30):
        site.log.rename(site.home / f"access.{i}")
        site.tell(signal.SIGUSR1)
        eventually(site.log.exists, "it is made anew", within=LONG)
        site.crowd.go_on()
    site.check_lines = _one_line_each


def _one_line_each(site: Site) -> None:
    _whole_lines(site)
    counts = Counter(found[1] for line in site.lines() if (found := LINE.fullmatch(line)))
    assert counts == Counter(site.crowd.ledger.answered.keys())


LINE = re.compile(r'127\.0\.0\.1 - - \[[^]]+\] "(?:GET|POST) /\w+/(\w+-\d+)(?:\?\S+)? HTTP/1\.1" 200 \d+ "-" "-" [+-]')


def _whole_lines(site: Site) -> None:
    wrong = [line for line in site.lines() if not LINE.fullmatch(line)]
    assert not wrong, wrong[:5]


@fault(access="pipe")
def a_log_that_is_not_read(site: Site) -> None:
    """A pipe that is full of the lines of all workers: no request waits, and what it has are whole lines, then and when it
    takes again."""
    site.crowd.go_on(10)  # there are a hundred lines then, and it has room for 4,096 bytes
    site.reload()
    for _ in range(8):
        site.crowd.go_on(1)
        _whole_lines(site)
    site.check_lines = _whole_lines


# ---- the end ----


def _ends(number: int) -> Act:
    def act(site: Site) -> None:
        """What has been sent is answered."""
        site.stop(number)

    act.__name__ = f"all_get_{signal.Signals(number).name}"
    return act


# Where the queue of connections is full TCP takes some for made that are not, and nothing tells the server of them.
fault("two", "one", "unix", "limit", "preload", unsuited=("queue",))(_ends(signal.SIGTERM))
fault(unsuited=("queue",))(_ends(signal.SIGINT))


@fault("two", "one", unsuited=("queue",))
def the_end_in_a_reload(site: Site) -> None:
    """TERM wins, whatever loads."""
    site.hold()
    site.tell(signal.SIGHUP)
    site.wait_loading()
    site.tell(signal.SIGHUP)
    site.stop()
    site.tell(signal.SIGHUP)


@fault(unsuited=("queue", "preload"))
def the_end_in_a_crash_loop(site: Site) -> None:
    site.broken.write_text("kill")
    site.kill(min(site.pids()))
    eventually(lambda: site.server.log_now().count("ended by signal 9") >= 2, "it has tried again", within=LONG)
    site.stop()


@fault(unsuited=("queue",))
def the_end_while_the_arbiter_is_stopped(site: Site) -> None:
    """It is told while it cannot do anything, as PID 1 of a frozen container is."""
    site.tell(signal.SIGSTOP)
    site.crowd.go_on()
    site.stop()
    site.tell(signal.SIGCONT)


# ---- what applications do ----


def _mischief(what: str) -> Act:
    def act(site: Site) -> None:
        for pid in site.pids():
            site.mischief(what, pid)
        site.crowd.go_on()
        site.reload()

    act.__name__ = f"the_application_{what}"
    return act


for _what in ("fork", "orphan", "return", "directory", "umask", "mask", "threads", "environment"):
    fault()(_mischief(_what))


@fault()
def the_application_closes_descriptors(site: Site) -> None:
    """All of them: that worker cannot go on, and is replaced."""
    one = min(site.pids())
    site.killed(one, lambda: site.mischief("close", one))
    site.settled({one})
    site.reload()
