"""Rows of the table of faults (operations_table.py): what there is not enough of: the GIL, threads, processes, memory."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator

from harness.client import Connection
from harness.limits import LONG, eventually
from operations_site import Site
from operations_table import fault


@fault("two", "one", "preload", options=("--gil-timeout", "0.5"))
def a_worker_holds_the_gil(site: Site) -> None:
    """For two seconds, in which it answers nothing: another one takes its place, and what it has it answers afterwards."""
    for i in site.times(1, 5):
        one = min(site.pids())
        site.mischief("gil", one)
        site.wait_said("could not have the GIL for too long", i + 1)
        site.settled({one})
        site.crowd.go_on()


@fault("two", "one", options=("--timeout", "1"))
def all_threads_of_a_worker_sleep(site: Site) -> None:
    """Its requests wait, another worker takes its place, and all are answered when the threads are awake."""
    until = site.home / "until"
    until.touch()
    one = min(site.pids())
    with contextlib.ExitStack() as stack:
        sleeping = [stack.enter_context(connection) for connection in _connections(site, one, 4)]
        for c in sleeping:
            c.send_request("GET", f"/slow?until={until}")
        # Requests wait in it, from those of the crowd that are connected to it, or come to it.
        site.wait_said("has had all threads in one step each for too long", 1)
        eventually(lambda: site.pids() - {one}, "another one serves", within=LONG)
        until.unlink()
        assert {c.read_response().text for c in sleeping} == {str(one)}
    site.settled({one})


def _connections(site: Site, pid: int, number: int) -> Iterator[Connection]:
    """So many to this worker."""
    while number > 0:
        c = site.server.connect(timeout=LONG)
        if json.loads(c.request("GET", "/who").text)["pid"] == pid:
            number -= 1
            yield c
        else:
            c.close()


@fault("two", "one", limits="pids")
def there_are_no_more_processes(site: Site) -> None:
    """A reload cannot start any: the old workers go on, and it goes on when there is room."""
    before, group = site.pids(), site.cgroup
    assert group is not None
    group.procs.write_text(str(site.server.pid))
    group.limit_tasks(group.tasks())
    site.tell(signal.SIGHUP)
    site.wait_said("cannot start worker", 1)
    assert site.pids() == before
    site.crowd.go_on()
    group.limit_tasks(None)
    site.settled(before)


@fault("two", limits="pids")
def there_are_too_few_threads(site: Site) -> None:
    """There is room for a process, and not for the threads of a worker: that reload fails."""
    before, group = site.pids(), site.cgroup
    assert group is not None
    group.procs.write_text(str(site.server.pid))
    group.limit_tasks(group.tasks() + 3)
    site.tell(signal.SIGHUP)
    site.wait_said("Reload failed", 1)
    assert site.settled() == before
    site.crowd.go_on()
    group.limit_tasks(None)
    site.reload(before)


@fault("two", "one", "preload", limits="memory")
def there_is_no_memory(site: Site) -> None:
    """The kernel ends the worker that has taken it all, which is told, and another one takes its place."""
    group = site.cgroup
    assert group is not None
    for i in site.times(1, 5):
        group.limit_memory(400 << 20)
        one = min(site.pids())
        site.killed(one, lambda one=one: site.mischief("memory", one))
        site.wait_said("was ended by signal 9 (Killed), for want of memory", i + 1)
        site.settled({one})
        site.crowd.go_on()
    last = [slot.get("last") for slot in json.loads(site.server.admin.get("/workers").text)["slots"]]
    assert any(one and one["out_of_memory"] for one in last), last
