"""--preload: the application is loaded once, by a process that the workers are forked from."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from harness.burst import Burst
from harness.limits import LONG, PROMPT, SANITIZED, TSAN, eventually, never, timeout
from harness.process import Process
from harness.workers import Load, children, is_gone, pids, wait_ready, who, workers_of

pytestmark = [timeout(120)]

ALONE = "each worker loads the application by itself"


@pytest.fixture
def site(launch, tmp_path):
    """site("thread", ...): a server whose import does that.  Its `does` writes what the next import is to do."""

    def start(*does: str, workers: int = 2, options: tuple[str, ...] = (), preload: bool = True, ready=True, **more):
        plan = tmp_path / "import"
        plan.write_text(" ".join(does))
        options = ("--workers", str(workers), "--graceful-timeout", "10", *(["--preload"] if preload else []), *options)
        env = {"PRELOAD_IMPORT": str(plan)}
        server = launch("preloaded:app", *options, admin=True, env=env, ready=ready, **more)
        server.does = lambda *actions: plan.write_text(" ".join(actions))
        if ready:
            wait_ready(server, workers)
        return server

    return start


def everyone(server, number: int, ask: str = "/who") -> dict[int, list | dict]:
    """The first answer of each worker, by its pid."""
    seen: dict[int, list | dict] = {}

    def all_of_them() -> bool:
        answer = json.loads(server.get(ask, timeout=LONG).text)
        seen.setdefault(answer["pid"] if isinstance(answer, dict) else answer[0], answer)
        return len(seen) == number

    eventually(all_of_them, f"all {number} have answered", within=LONG)
    return seen


def zygotes(server) -> list[int]:
    """The pids of those that have loaded the application, the oldest first."""
    said = re.findall(r"\[(\d+)\] \[INFO\] The application is loaded", server.log_now())
    return [int(pid) for pid in said]


def imports(server) -> list[int]:
    return [int(pid) for pid in re.findall(r"^imported in (\d+)$", server.log_now(), re.M)]


def private(pid: int) -> int:
    """Bytes that are this process's alone."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


# ---- what is there ----


def test_served(site):
    """Loaded in one process, which is no worker; each worker is the arbiter's child and knows which it is."""
    server = site(workers=3)
    seen = everyone(server, 3)
    (zygote,) = zygotes(server)
    assert imports(server) == [zygote]
    assert set(seen) == pids(server)
    assert {one["loaded_in"] for one in seen.values()} == {zygote}
    assert {one["slot"] for one in seen.values()} == {"0", "1", "2"}
    assert all(one["born_as"] == [one["slot"]] for one in seen.values())  # known to what runs after the fork
    assert all(one["main"] == pid for pid, one in seen.items())
    assert all(one["handed"] is None and one["multiprocess"] is True for one in seen.values())
    assert children(server.pid) == {zygote, *seen}
    assert len({os.getpgid(pid) for pid in seen}) == 3
    assert server.get("/who").status == 200


def test_nothing_is_in_it_but_python(site):
    """One thread, no listening socket, none of the workers' memory files; the workers have none of its socket."""
    server = site()
    (zygote,) = zygotes(server)
    threads = Process(zygote).threads()
    assert len(threads) == 1 or SANITIZED
    assert threads[zygote] == "fermata-zygote"
    open_files = list(Process(zygote).fds().values())
    assert sum(name.startswith("socket:") for name in open_files) == 1, open_files
    assert not [name for name in open_files if "counters" in name or "epoll" in name]
    worker = min(pids(server))
    assert Process(worker).threads()[worker] == "fermata"
    assert set(Process(zygote).fds().values()).isdisjoint(
        name for name in Process(worker).fds().values() if name.startswith("socket:")
    )


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime has memory of its own")
def test_memory_is_shared(site):
    """The objects of the import are there once; some pages are written to, by counts of references."""
    shared, own = site("ballast"), site("ballast", preload=False)

    def most(server) -> int:
        for _ in range(50):
            assert server.get("/hello").status == 200
        return max(private(pid) for pid in pids(server))

    assert most(own) - most(shared) > 20 << 20


def test_what_is_drawn_is_different(site):
    """Of random, OpenSSL and uuid, whose state was copied by the fork."""
    drawn = everyone(site(workers=4), 4, "/draw").values()
    for column in list(zip(*drawn, strict=True))[1:]:
        assert len(set(column)) == 4, column


def test_what_was_printed_is_printed_once(site):
    server = site("prints")
    everyone(server, 2)
    server.stop()
    assert server.stdout_text.count("said once") == 1


def test_one_process(launch):
    """Without workers there is nothing to fork."""
    server = launch("preloaded:app", "--preload")
    assert who(server)["pid"] == server.pid
    assert children(server.pid) == set()


def test_forks_of_the_import(site):
    server = site("forks")
    assert imports(server) == zygotes(server)
    assert len(everyone(server, 2)) == 2


def test_handlers_of_the_application(site):
    """Those that the import has set run in the worker; the server's own stay its own."""
    server = site("handlers")
    one = min(pids(server))
    os.kill(one, signal.SIGUSR2)
    eventually(lambda: everyone(server, 2)[one]["took"] == [one], "the handler has run")
    os.kill(one, signal.SIGTERM)
    wait_ready(server, 2, {one})


def test_atexit_is_for_the_workers(site):
    server = site("at_exit")
    before = pids(server)
    (zygote,) = zygotes(server)
    server.stop()
    said = {int(pid) for pid in re.findall(r"^put away in (\d+)$", server.final_log, re.M)}
    assert said == before
    assert zygote not in said


# ---- what cannot be forked ----


def test_a_thread_at_import(site):
    """It would be lost in a worker: it is named, and each worker loads by itself."""
    server = site("thread")
    found = server.wait_log(r"--preload: the import .* threads running.*: .*\d+ 'poller'")
    assert ALONE in found.string[found.start() :]
    seen = everyone(server, 2)
    assert all(one["loaded_in"] == pid for pid, one in seen.items())
    assert {one["slot"] for one in seen.values()} == {"0", "1"}
    assert not zygotes(server)
    eventually(lambda: children(server.pid) == set(seen), "what had tried is gone")
    one = min(seen)
    os.kill(one, signal.SIGKILL)
    wait_ready(server, 2, {one})
    assert server.log_now().count(ALONE) == 1


@pytest.mark.skipif(TSAN, reason="its runtime starts a thread of its own with the first one")
def test_threads_that_have_ended(site):
    server = site("joined_thread")
    assert len(zygotes(server)) == 1
    assert ALONE not in server.log()


def test_a_reload_may_do_without_the_thread(site):
    server = site("thread")
    before = pids(server)
    server.does()
    server.signal(signal.SIGHUP)
    wait_ready(server, 2, before)
    (zygote,) = zygotes(server)
    assert {one["loaded_in"] for one in everyone(server, 2).values()} == {zygote}
    before = pids(server)
    server.does("thread")
    server.signal(signal.SIGHUP)
    wait_ready(server, 2, before)
    eventually(lambda: is_gone(zygote), "the one of the generation before is gone")
    assert all(one["loaded_in"] == pid for pid, one in everyone(server, 2).items())


def test_a_connection_at_import(site):
    """All workers would talk through the same one: a warning says where to."""
    server = site("connection")
    server.wait_log(r"WARNING\] --preload: .* sockets open.* \d+ to 127\.0\.0\.1:\d+, \d+ to 127\.0\.0\.1:\d+$")
    assert {one["loaded_in"] for one in everyone(server, 2).values()} == set(zygotes(server))


def test_no_warning_without_need(site):
    server = site()
    assert "[WARNING]" not in server.log()


def test_an_import_that_closes_descriptors(site):
    """Those of the server's, too."""
    server = site("closes_all", ready=False, expect=1)
    assert server.wait_exit(LONG) == 1
    assert "the application closed the socket to the arbiter, which was ours" in server.log()


# ---- what cannot be loaded ----


@pytest.mark.parametrize(("how", "code"), [("breaks", 3), ("exits", 7), ("kills", 1)])
def test_an_application_that_cannot_be_loaded(site, how, code):
    server = site(how, ready=False, expect=code, workers=3)
    assert server.wait_exit(LONG) == code
    log = server.log()
    assert len(imports(server)) == 1
    assert log.count("RuntimeError: this version is broken") == (how == "breaks")
    assert re.search(r"Worker 0 \(pid \d+\) .* before it was ready, and none has been", log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_stop_while_it_loads(site, number):
    """Also where the import has handlers of its own."""
    server = site("hangs", ready=False)
    eventually(lambda: imports(server), "it has begun", within=LONG)
    before = children(server.pid)
    server.signal(number)
    assert server.wait_exit(LONG) == 0
    assert all(is_gone(pid) for pid in before)


# ---- reload ----


def test_reload(site):
    """A new zygote, then its workers; nothing is lost meanwhile."""
    server = site()
    before = pids(server)
    with Load(server) as load:
        for _ in range(3):
            server.signal(signal.SIGHUP)
            before = wait_ready(server, 2, before)
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert len(zygotes(server)) == len(imports(server)) == 4
    assert {one["loaded_in"] for one in everyone(server, 2).values()} == {zygotes(server)[-1]}
    eventually(lambda: all(is_gone(pid) for pid in zygotes(server)[:-1]), "the others are gone")


@pytest.mark.parametrize("how", ["breaks", "exits", "kills"])
def test_a_reload_that_fails(site, how):
    """The old workers go on, and so does what they were forked from: it makes the next ones, too."""
    server = site()
    before = pids(server)
    (zygote,) = zygotes(server)
    server.does(how)
    with Load(server, 2) as load:
        server.signal(signal.SIGHUP)
        server.wait_log("Reload failed", within=LONG)
        assert wait_ready(server, 2) == before
    assert set(load.outcomes) == {"200"}
    one = min(before)
    os.kill(one, signal.SIGKILL)
    wait_ready(server, 2, {one})
    assert {one["loaded_in"] for one in everyone(server, 2).values()} == {zygote}
    server.does()
    before = pids(server)
    server.signal(signal.SIGHUP)
    wait_ready(server, 2, before)
    assert zygotes(server)[0] == zygote and len(zygotes(server)) == 2


def test_a_reload_that_hangs(site):
    """The next SIGHUP takes its place; until then the old ones serve."""
    server = site()
    before = pids(server)
    server.does("hangs")
    server.signal(signal.SIGHUP)
    eventually(lambda: len(imports(server)) == 2, "a new one is loading", within=LONG)
    assert who(server)["pid"] in before
    server.does()
    server.signal(signal.SIGHUP)
    wait_ready(server, 2, before)
    eventually(lambda: is_gone(imports(server)[1]), "the one that hung is gone")


def test_reloads_in_a_burst(site):
    server = site()
    before = pids(server)
    for _ in range(20):
        server.signal(signal.SIGHUP)
        time.sleep(0.01)
    after = wait_ready(server, 2, before)
    (last,) = {one["loaded_in"] for one in everyone(server, 2).values()}
    eventually(lambda: children(server.pid) == after | {last}, "only the last one is left")
    assert "cannot start" not in server.log()


# ---- what ends by itself ----


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_dies_is_replaced(site, number):
    server = site()
    before = pids(server)
    one = min(before)
    os.kill(one, number)
    after = wait_ready(server, 2, {one})
    assert before - {one} < after
    assert imports(server) == zygotes(server)
    assert len(zygotes(server)) == 1
    assert {w["slot"] for w in workers_of(server)} == {0, 1}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_zygote_that_dies(site, number):
    """The workers do not mind; it is started again when one is needed."""
    server = site()
    before = pids(server)
    (zygote,) = zygotes(server)
    os.kill(zygote, number)
    server.wait_log(rf"process that had loaded the application \(pid {zygote}\) has ended")
    never(lambda: children(server.pid) != before, "nothing is started")
    one = min(before)
    os.kill(one, signal.SIGKILL)
    wait_ready(server, 2, {one})
    assert len(zygotes(server)) == 2
    assert {w["loaded_in"] for w in everyone(server, 2).values()} == set(zygotes(server))


def test_both_die_at_once(site):
    server = site(workers=3)
    for _ in range(5):
        before = pids(server)
        one = min(before)
        os.kill(zygotes(server)[-1], signal.SIGKILL)
        os.kill(one, signal.SIGKILL)
        wait_ready(server, 3, {one})
    assert server.get("/hello").status == 200


def test_a_zygote_that_is_stopped(site):
    """It answers nothing: what is asked of it waits, a reload takes its place, and the end does not wait for it."""
    server = site("at_exit")
    before = pids(server)
    (zygote,) = zygotes(server)
    os.kill(zygote, signal.SIGSTOP)
    one = min(before)
    os.kill(one, signal.SIGKILL)
    eventually(lambda: pids(server, "loading"), "one is asked for", within=LONG)
    assert who(server)["pid"] in before - {one}
    server.signal(signal.SIGHUP)
    eventually(lambda: len(zygotes(server)) == 2, "there is a new one", within=LONG)
    os.kill(zygote, signal.SIGCONT)
    wait_ready(server, 2, before)


def test_an_arbiter_that_is_killed(site):
    server = site()
    before = children(server.pid)
    assert len(before) == 3
    server.expect = -signal.SIGKILL
    os.kill(server.pid, signal.SIGKILL)
    assert server.wait_exit(PROMPT) == -signal.SIGKILL
    eventually(lambda: all(is_gone(pid) for pid in before), "all have ended", within=LONG)


def test_more_and_fewer(site):
    server = site()
    server.signal(signal.SIGTTIN)
    wait_ready(server, 3)
    assert {one["slot"] for one in everyone(server, 3).values()} == {"0", "1", "2"}
    server.signal(signal.SIGTTOU)
    wait_ready(server, 2)
    assert len(zygotes(server)) == 1


def test_logs_of_the_next_worker(site, tmp_path):
    """They go to the file that is there now, also where it was moved away since the application was loaded."""
    log = tmp_path / "error.log"
    server = site(options=("--error-logfile", str(log)), ready=False)
    eventually(lambda: log.exists() and "The application is loaded" in log.read_text(), "it is loaded", within=LONG)
    admin = re.search(r"Admin at: http://(\S+):(\d+)", log.read_text())
    server.admin_address = lambda: (admin[1], int(admin[2]))
    before = wait_ready(server, 2)
    log.rename(tmp_path / "error.1")
    server.signal(signal.SIGUSR1)
    eventually(log.exists, "it is made anew")
    one = min(before)
    os.kill(one, signal.SIGTERM)
    (new,) = wait_ready(server, 2, {one}) - before
    os.kill(new, signal.SIGTERM)
    eventually(lambda: re.search(rf"\[{new}\] \[INFO\] Drain", log.read_text()), "its lines are in the new file", within=LONG)
    assert f"[{new}]" not in (tmp_path / "error.1").read_text()


# ---- the end ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_stop(site, number):
    server = site()
    before = children(server.pid)
    server.signal(number)
    assert server.wait_exit(LONG) == 0
    assert all(is_gone(pid) for pid in before)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_stop_loses_nothing(site, tmp_path, kind):
    """The last process that has the sockets is a worker: what it has forked them from has none of them."""
    bind = {"tcp": ["127.0.0.1:0"], "unix": [f"unix:{tmp_path}/s"]}[kind]
    for _ in range(3):
        server = site(bind=bind)
        burst = Burst(server, 50).run()
        assert not burst.lost, burst.outcomes
        assert server.wait_exit(LONG) == 0


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime has a thread that wakes up")
def test_idle(site):
    """Nothing wakes up, what they were forked from included."""
    server = site()
    processes = [Process(server.pid), *(Process(pid) for pid in children(server.pid))]
    assert len(processes) == 4

    def sleeps() -> bool:
        before = [p.switches() for p in processes]
        time.sleep(2)
        return [p.switches() for p in processes] == before

    eventually(sleeps, "nothing wakes up for two seconds", within=LONG, every=0)
