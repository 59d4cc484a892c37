"""Rows of the table of faults (operations_table.py): another program takes over, configuration files, and the processes that
help the arbiter."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from harness.limits import LONG, eventually
from operations_site import TAKEN_OVER, Site
from operations_table import Act, fault

GOES_ON = "the old program goes on"

# ---- USR2 ----


@fault("two", "one", "unix", "preload")
def upgrade(site: Site) -> None:
    before = site.pids()
    for _ in site.times(2, 10):
        before = site.upgrade(before)


@fault("two", "preload")
def upgrade_and_reload_at_once(site: Site) -> None:
    before = site.pids()
    for _ in site.times(3, 30):
        for number in (signal.SIGUSR2, signal.SIGHUP, signal.SIGUSR2):
            site.tell(number)
            time.sleep(0.03)
    eventually(lambda: site.said(TAKEN_OVER) == site.said("which is to take over"), "none is tried any more", within=LONG)
    assert site.said(TAKEN_OVER) > 0
    site.settled(before)


@fault("two", "one")
def upgrade_while_it_loads(site: Site) -> None:
    """The worker that loads is not ready for the new program either, which starts another one."""
    before = site.pids()
    site.hold()
    site.tell(signal.SIGHUP)
    (first,) = site.wait_loading()
    site.tell(signal.SIGUSR2)
    site.wait_said(TAKEN_OVER, 1)
    eventually(lambda: site.wait_loading() - {first}, "another one loads", within=LONG)
    site.crowd.go_on(3)
    assert site.pids() == before
    site.release()
    site.settled(before)


@fault()
def upgrade_while_it_drains(site: Site) -> None:
    """A request that is parked keeps a worker over two of them, and is answered by it."""
    until = site.home / "until"
    until.touch()
    before = site.pids()
    with site.begin(f"/held/parked-1?until={until}") as c:
        eventually(lambda: "parked-1" in site.crowd.begun(), "it is parked", within=LONG)
        (its,) = site.crowd.begun()["parked-1"]
        for number in (1, 2):
            site.tell(signal.SIGUSR2)
            site.wait_said(TAKEN_OVER, number)
            eventually(lambda: its in site.pids("draining"), "its worker drains", within=LONG)
            site.crowd.go_on()
        until.unlink()
        assert c.read_response().text == f"parked-1 {its}"
    site.settled({its, *before})


def _cannot(how: str, script: str) -> Act:
    def act(site: Site) -> None:
        before = site.pids()
        site.install(script)
        for i in site.times(1, 5):
            site.tell(signal.SIGUSR2)
            site.wait_said(GOES_ON, i + 1)
            assert site.settled() == before
        site.crowd.go_on()
        site.install(None)
        site.upgrade(before)

    act.__name__ = f"upgrade_to_a_program_that_{how}"
    return act


fault("two", "one")(_cannot("exits", "exit 7"))
fault()(_cannot("crashes", "kill -SEGV $$"))


@fault("two", "one", "preload")
def upgrade_whose_import_raises(site: Site) -> None:
    """The new program has taken over, and the old workers go on."""
    before = site.pids()
    site.broken.write_text("raise")
    site.tell(signal.SIGUSR2)
    site.wait_said("Reload failed", 1)
    assert site.said(TAKEN_OVER) == 1
    assert site.settled() == before
    site.crowd.go_on()
    site.broken.unlink()
    site.reload(before)


@fault()
def a_worker_is_killed_while_another_program_takes_over(site: Site) -> None:
    """Whichever of them sees it."""
    for _ in site.times(2, 20):
        before = site.pids()
        times, one = site.said(TAKEN_OVER), min(before)
        site.tell(signal.SIGUSR2)
        site.kill(one)
        site.wait_said(TAKEN_OVER, times + 1)
        site.settled(before)


# ---- the configuration file ----

CONFIG = "graceful_timeout = 20\n"
MISTAKES = ("graceful_timeout = (", "graceful_timeout = 'a while'", "raise SystemExit(3)")


@fault("two", "one", "preload", config=CONFIG)
def a_config_file_that_is_wrong(site: Site) -> None:
    """Neither a reload nor another program begins with it: all go on as they were."""
    before = site.pids()
    for mistake in MISTAKES:
        reloads, upgrades = site.said("Reload failed"), site.said(GOES_ON)
        site.config.write_text(mistake)
        site.tell(signal.SIGHUP)
        site.wait_said("Reload failed", reloads + 1)
        site.tell(signal.SIGUSR2)
        site.wait_said(GOES_ON, upgrades + 1)
        assert site.settled() == before
        site.crowd.go_on()
    site.config.write_text(CONFIG)
    site.upgrade(site.reload(before))


@fault(config=CONFIG)
def a_config_file_that_is_gone(site: Site) -> None:
    before = site.pids()
    site.config.unlink()
    site.tell(signal.SIGHUP)
    site.wait_said("Reload failed", 1)
    site.tell(signal.SIGUSR2)
    site.wait_said(GOES_ON, 1)
    assert site.settled() == before
    site.config.write_text(CONFIG)
    site.reload(before)


# ---- processes that help the arbiter ----


def _helper(site: Site) -> int:
    (pid,) = eventually(lambda: found if len(found := site.others()) == 1 else None, "there is one helper", within=LONG)
    return pid


def _gone(pid: int) -> None:
    eventually(lambda: not Path(f"/proc/{pid}").exists(), f"{pid} has ended", within=LONG)


HOLDS = CONFIG + "import os, time\nwhile os.path.exists(os.environ['WORKERS_BREAK'] + '.config'):\n    time.sleep(0.01)\n"


@fault("two", config=HOLDS)
def the_config_reader_is_killed(site: Site) -> None:
    """That reload fails, the next one does not."""
    before, holds = site.pids(), site.home / "broken.config"
    for i in site.times(1, 10):
        holds.touch()
        site.tell(signal.SIGHUP)
        reader = _helper(site)
        site.crowd.go_on()
        os.kill(reader, signal.SIGKILL)
        site.wait_said("Reload failed: what reads the file has ended", i + 1)
        _gone(reader)
        assert site.settled() == before
    holds.unlink()
    site.reload(before)


@fault("two", config=HOLDS)
def reload_whose_config_file_hangs(site: Site) -> None:
    """The next one takes its place, and then the file is read."""
    before, holds = site.pids(), site.home / "broken.config"
    holds.touch()
    site.tell(signal.SIGHUP)
    first = _helper(site)
    site.crowd.go_on()
    site.tell(signal.SIGHUP)
    _gone(first)
    assert site.pids() == before
    holds.unlink()
    site.settled(before)


HOOKS = CONFIG + "def pre_fork(server, worker):\n    pass\ndef child_exit(server, worker):\n    pass\n"


@fault("two", "one", config=HOOKS)
def the_hook_process_is_killed(site: Site) -> None:
    """Another one calls the hooks of what happens next."""
    before = site.pids()
    for i in site.times(2, 20):
        hooks = _helper(site)
        os.kill(hooks, signal.SIGKILL)
        site.wait_said("The hook process has ended", i + 1)
        _gone(hooks)
        site.crowd.go_on()
        before = site.reload(before)


@fault(config=HOOKS)
def the_hook_process_is_stopped(site: Site) -> None:
    """It is not waited for: what it does not do in ten seconds another one does, also if the file has been read again
    meanwhile."""
    hooks = _helper(site)
    os.kill(hooks, signal.SIGSTOP)
    site.reload()
    site.crowd.go_on()
    _gone(hooks)
    hooks = _helper(site)
    os.kill(hooks, signal.SIGSTOP)
    one = min(site.pids())
    site.kill(one)
    site.wait_said("The hook process has been in a hook for ten seconds; it is killed", 1)
    _gone(hooks)
    site.reload({one, *site.pids()})


@fault("preload", only=("preload",))
def the_zygote_is_killed(site: Site) -> None:
    """Workers go on, and one that is started next has a new one."""
    for i in site.times(2, 20):
        zygote = _helper(site)
        os.kill(zygote, signal.SIGKILL)
        site.wait_said("The process that had loaded the application", i + 1)
        _gone(zygote)
        site.crowd.go_on()
        one = min(site.pids())
        site.kill(one)
        site.settled({one})
        site.crowd.go_on()
    site.reload()


@fault("preload", only=("preload",))
def the_zygote_is_killed_while_it_loads(site: Site) -> None:
    """That reload fails."""
    before = site.pids()
    site.hold()
    site.tell(signal.SIGHUP)
    (second,) = site.wait_loading()  # as the first worker that it is to fork
    site.crowd.go_on()
    os.kill(second, signal.SIGKILL)
    site.wait_said("Reload failed", 1)
    assert site.settled() == before
    site.release()
    site.reload(before)
