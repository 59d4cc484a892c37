"""--workers N: an arbiter that starts workers, replaces them, and ends with them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter

import pytest
from harness.burst import Burst
from harness.client import Connection
from harness.limits import APPS, LONG, PROMPT, SANITIZED, TSAN, eventually, fermata, timeout
from harness.process import Process
from harness.workers import Load, is_gone, parent, pids, wait_ready, who, workers_of

pytestmark = [timeout(120)]


@pytest.fixture
def site(launch, tmp_path):
    """site(*options): a server with workers, all of which are ready.  Its `broken` is how the next ones are to load."""

    def start(*options: str, workers: int = 2, **more):
        broken = tmp_path / "broken"
        options = ("--workers", str(workers), "--graceful-timeout", "10", *options)
        server = launch("workers:app", *options, admin=True, env={"WORKERS_BREAK": str(broken)}, **more)
        server.broken = broken
        wait_ready(server, workers)
        return server

    return start


# ---- what is there ----


def test_all_serve(site):
    """Each worker answers, knows which it is, and finds nothing of what the arbiter handed to it."""
    server = site(workers=3)
    seen = {}

    def all_of_them():
        one = who(server)
        seen[one["pid"]] = one
        return len(seen) == 3

    eventually(all_of_them, "all three have answered", within=LONG)
    assert set(seen) == pids(server)
    assert server.pid not in seen
    assert {one["slot"] for one in seen.values()} == {"0", "1", "2"}
    assert all(one["handed"] is None and one["multiprocess"] is True for one in seen.values())
    assert {parent(pid) for pid in seen} == {server.pid}
    assert {Process(pid).threads()[pid] for pid in seen} == {"fermata"}


def test_one_worker(site):
    server = site(workers=1)
    assert who(server)["multiprocess"] is False
    assert who(server)["pid"] != server.pid


def test_without_workers_it_is_one_process(launch):
    server = launch("workers:app")
    assert who(server) == {"pid": server.pid, "slot": None, "handed": None, "multiprocess": False, "cwd": str(APPS)}


def test_accepts_are_even(site):
    server = site(workers=4)
    counts: Counter[int] = Counter(who(server)["pid"] for _ in range(400))
    assert len(counts) == 4
    assert min(counts.values()) >= 20, counts  # without its place behind the others one has nearly all of them


def test_a_worker_whose_threads_are_all_busy_gets_hardly_any(site, tmp_path):
    """A connection that it accepted would wait for a thread while another worker has one.  It takes one only if no other
    wakes up in time."""
    server = site("--threads", "1")
    until = tmp_path / "until"
    until.touch()
    with contextlib.ExitStack() as stack:
        stuck = stack.enter_context(server.begin(f"/slow?until={until}", timeout=LONG))
        eventually(lambda: server.admin.metrics().in_flight("running") == 1, "its thread is taken")
        asked = []
        for _ in range(40):
            asked.append(stack.enter_context(server.begin("/slow", timeout=LONG)))
            asked[-1].readable(1)
        until.unlink()
        busy = stuck.read_response().text
        assert Counter(c.read_response().text for c in asked)[busy] <= 10  # half of them, if it did not let others go first


def test_workers_that_are_all_busy_accept(site):
    """What none has a thread for is accepted and waits for one."""
    server = site("--threads", "1")
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(server.begin("/slow?seconds=0.5", timeout=LONG)) for _ in range(6)]
        assert {c.read_response().status for c in held} == {200}


def test_variable(launch):
    server = launch("workers:app", env={"WEB_CONCURRENCY": "2"}, admin=True)
    wait_ready(server, 2)


@pytest.mark.parametrize(
    ("options", "env", "named"),
    [
        (("--workers", "0"), {}, "--workers 0: it takes a whole number from 1 to 256"),
        (("-w", "many"), {}, "--workers many"),
        ((), {"WEB_CONCURRENCY": "-1"}, "WEB_CONCURRENCY is -1: it takes a whole number from 1 to 256"),
        ((), {"FERMATA_HANDED": "0:1"}, "FERMATA_HANDED is 0:1"),
    ],
)
def test_wrong_numbers(options, env, named):
    done = subprocess.run(
        [str(fermata()), *options, "workers:app"],
        cwd=APPS,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG,
    )
    assert done.returncode in (1, 2)
    assert named in done.stderr


def test_paths_are_relative_to_where_it_was_started(launch, tmp_path):
    """--chdir, sockets and logs, in the arbiter as in the workers."""
    (tmp_path / "there").mkdir()
    server = launch(
        "workers:app",
        *("--workers", "2", "--chdir", "there", "--pythonpath", str(APPS), "--access-logfile", "access.log"),
        bind=["unix:socket"],
        cwd=tmp_path,
        admin=True,
    )
    wait_ready(server, 2)
    assert (tmp_path / "there/socket").is_socket()
    with Connection(str(tmp_path / "there/socket")) as c:
        assert json.loads(c.request("GET", "/who").text)["cwd"] == str(tmp_path / "there")
    server.stop()
    assert "/who" in (tmp_path / "access.log").read_text()
    assert not (tmp_path / "there/socket").exists()


# ---- what ends by itself ----


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGSEGV, marks=pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime takes it")),
        signal.SIGTERM,
    ],
)
def test_one_that_dies_is_replaced(site, number):
    server = site()
    before = pids(server)
    one = min(before)
    os.kill(one, number)
    after = wait_ready(server, 2, {one})
    assert before - {one} < after
    server.wait_log(rf"Worker \d \(pid {one}\) (was ended by signal {int(number)}|has exited with 0).*started again")
    assert who(server)["pid"] in after


def test_requests_go_on_while_one_is_replaced(site):
    server = site()
    with Load(server) as load:
        for _ in range(3):
            one = min(pids(server))
            os.kill(one, signal.SIGTERM)
            wait_ready(server, 2, {one})
    assert set(load.outcomes) == {"200"}, load.outcomes


def test_an_application_that_cannot_be_loaded(launch, tmp_path):
    (tmp_path / "broken").write_text("raise")
    server = launch("workers:app", "--workers", "3", ready=False, expect=3, env={"WORKERS_BREAK": str(tmp_path / "broken")})
    assert server.wait_exit(LONG) == 3
    log = server.log()
    assert "RuntimeError: this version is broken" in log
    assert re.search(r"Worker \d \(pid \d+\) has exited with 3 before it was ready", log)


@pytest.mark.parametrize(("how", "code"), [("exit", 7), ("kill", 1)])
def test_a_first_worker_that_dies(launch, tmp_path, how, code):
    (tmp_path / "broken").write_text(how)
    server = launch("workers:app", "--workers", "2", ready=False, expect=code, env={"WORKERS_BREAK": str(tmp_path / "broken")})
    assert server.wait_exit(LONG) == code


def test_a_crash_loop_of_one_does_not_end_the_others(site):
    server = site()
    server.broken.write_text("kill")
    one, other = sorted(pids(server))
    os.kill(one, signal.SIGKILL)
    eventually(lambda: server.log_now().count("signal 9") >= 4, "it has tried again some times", within=LONG)
    assert pids(server) == {other}
    assert who(server)["pid"] == other
    assert server.admin.get("/readyz").status == 200
    server.broken.unlink()
    wait_ready(server, 2)


def test_an_arbiter_that_is_killed(site):
    """Its workers end as well: nobody would replace or stop them."""
    server = site()
    before = pids(server)
    server.expect = -signal.SIGKILL
    os.kill(server.pid, signal.SIGKILL)
    assert server.wait_exit(PROMPT) == -signal.SIGKILL
    eventually(lambda: all(is_gone(pid) for pid in before), "its workers have ended", within=LONG)


# ---- reload ----


def test_reload(site):
    """Every worker is replaced, and nothing is lost meanwhile."""
    server = site()
    before = pids(server)
    with Load(server) as load:
        for _ in range(3):
            server.signal(signal.SIGHUP)
            before = wait_ready(server, 2, before)
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert sum(load.outcomes.values()) > 50


def test_a_parked_request_survives_a_reload(site):
    server = site()
    before = pids(server)
    with server.begin("/park?seconds=3", timeout=LONG) as c:
        time.sleep(0.3)
        server.signal(signal.SIGHUP)
        assert json.loads(c.read_response().text)["pid"] in before
    wait_ready(server, 2, before)


@pytest.mark.parametrize("how", ["raise", "exit", "kill"])
def test_a_reload_that_fails(site, how):
    """The old workers go on as if nothing had been."""
    server = site()
    before = pids(server)
    server.broken.write_text(how)
    with Load(server, 2) as load:
        server.signal(signal.SIGHUP)
        server.wait_log("Reload failed", within=LONG)
        assert wait_ready(server, 2) == before
    assert set(load.outcomes) == {"200"}
    server.broken.unlink()
    server.signal(signal.SIGHUP)
    wait_ready(server, 2, before)


def test_a_reload_that_hangs(site):
    """The next SIGHUP takes its place; until then the old ones serve."""
    server = site("--graceful-timeout", "1")
    before = pids(server)
    server.broken.write_text("hang")
    server.signal(signal.SIGHUP)
    eventually(lambda: pids(server, "loading"), "a new one is loading")
    assert who(server)["pid"] in before
    server.broken.unlink()
    server.signal(signal.SIGHUP)
    wait_ready(server, 2, before)


def test_more_and_fewer(site):
    server = site()
    before = pids(server)
    server.signal(signal.SIGTTIN)
    more = wait_ready(server, 3)
    assert before < more
    server.signal(signal.SIGTTOU)
    assert wait_ready(server, 2) == before
    server.signal(signal.SIGTTOU)
    wait_ready(server, 1)
    server.signal(signal.SIGTTOU)
    server.wait_log("1 workers are wanted, 1 were")
    assert who(server)["pid"] in before


def test_signals_that_end_nothing(site):
    server = site()
    before = pids(server)
    server.signal(signal.SIGWINCH)
    for pid in before:
        for other in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH):
            os.kill(pid, other)
    time.sleep(0.3)
    assert pids(server) == before


def test_reopened_logs(site, tmp_path):
    log = tmp_path / "access.log"
    server = site("--access-logfile", str(log))
    server.get("/hello?1")
    eventually(lambda: "?1" in log.read_text(), "a line")
    log.rename(tmp_path / "access.1")
    server.signal(signal.SIGUSR1)
    eventually(log.exists, "it is made anew")
    server.wait_log("the log files are opened anew")

    def written() -> bool:
        server.get("/hello?2")
        return "?2" in log.read_text()

    eventually(written, "lines in the new file")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_signals_in_a_burst(site, number):
    """Also to workers that have just been started and have no handlers yet."""
    server = site()
    before = pids(server)
    for _ in range(10):
        server.signal(signal.SIGTTIN if number == signal.SIGUSR1 else number)
        time.sleep(0.003)
        server.signal(number)
    if number == signal.SIGUSR1:
        for _ in range(10):
            server.signal(signal.SIGTTOU)
            time.sleep(0.003)
    time.sleep(0.1)  # signals that have come are one where they were not taken in between: how many are wanted is asked
    wanted = json.loads(server.admin.get("/workers").text)["wanted"]
    after = wait_ready(server, wanted, set() if number == signal.SIGUSR1 else before)
    assert "ended by signal" not in server.log()
    assert who(server)["pid"] in after


# ---- the end ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_stop(site, number):
    server = site()
    before = pids(server)
    server.signal(number)
    assert server.wait_exit(LONG) == 0
    assert all(is_gone(pid) for pid in before)
    assert "All workers have ended" in server.log()


def test_stop_lets_requests_end(site):
    server = site()
    with server.begin("/park?seconds=1.5", timeout=LONG) as c:
        time.sleep(0.3)
        server.signal(signal.SIGTERM)
        assert c.read_response().status == 200
    assert server.wait_exit(LONG) == 0


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_stop_loses_nothing(site, tmp_path, kind):
    """What has arrived before the signal is answered, by whichever worker accepts last."""
    bind = {"tcp": ["127.0.0.1:0"], "unix": [f"unix:{tmp_path}/s"]}[kind]
    for _ in range(3):
        server = site(bind=bind)
        burst = Burst(server, 50).run()
        assert not burst.lost, burst.outcomes
        assert server.wait_exit(LONG) == 0


def test_a_second_interrupt(site):
    """Ctrl-C twice: what waits is answered 503."""
    server = site("--graceful-timeout", "60")
    with server.begin("/park?seconds=60", timeout=LONG) as c:
        time.sleep(0.3)
        server.signal(signal.SIGINT)
        server.wait_log("Stopping")
        server.signal(signal.SIGINT)
        assert c.read_response().status == 503
    assert server.wait_exit(LONG) == 0


def test_stop_while_it_loads(launch, tmp_path):
    (tmp_path / "broken").write_text("hang")
    server = launch("workers:app", "--workers", "2", env={"WORKERS_BREAK": str(tmp_path / "broken")})
    time.sleep(0.5)
    server.signal(signal.SIGTERM)
    assert server.wait_exit(LONG) == 0


@pytest.mark.skipif(TSAN, reason="its runtime may keep back a signal that comes while the process is stopped")
def test_a_worker_that_does_not_end(site):
    """A stopped process takes no signal: it is killed, and the exit code says so."""
    server = site("--graceful-timeout", "0", workers=1)
    server.expect = 4
    (one,) = pids(server)
    os.kill(one, signal.SIGSTOP)
    server.signal(signal.SIGTERM)
    assert server.wait_exit(LONG) == 4
    assert is_gone(one)


# ---- the admin port ----


def test_admin(site):
    server = site()
    assert server.admin.get("/healthz").status == 200
    assert server.admin.get("/readyz").status == 200
    page = server.admin.get("/metrics").text
    assert 'fermata_workers{state="ready"} 2' in page
    assert "fermata_workers_wanted 2" in page


def total(server) -> int:
    return int(re.search(r'^fermata_requests_total\{class="2xx"\} (\d+)', server.admin.get("/metrics").text, re.M)[1])


def test_counters_never_go_backwards(site):
    """Of all workers, those that are gone too; what only those had that are there is a gauge."""
    server = site()
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            assert stack.enter_context(server.connect()).request("GET", "/hello").status == 200
        eventually(lambda: total(server) == 20, "all are counted")
        before = pids(server)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
    wait_ready(server, 2, before)
    assert total(server) == 20
    page = server.admin.get("/metrics").text
    assert re.search(r"^fermata_connections 0$", page, re.M), page
    assert server.get("/hello").status == 200
    eventually(lambda: total(server) == 21, "the next one is counted")


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime has a thread that wakes up")
def test_idle(site):
    """Nothing wakes up: neither the arbiter nor a worker."""
    server = site()
    processes = [Process(server.pid), *(Process(pid) for pid in pids(server))]

    def sleeps() -> bool:
        before = [p.switches() for p in processes]
        time.sleep(2)
        return [p.switches() for p in processes] == before

    eventually(sleeps, "nothing wakes up for two seconds", within=LONG, every=0)


def test_ready_only_while_something_serves(site):
    server = site(workers=1)
    server.broken.write_text("hang")
    os.kill(min(pids(server)), signal.SIGKILL)
    eventually(lambda: server.admin.get("/readyz").status == 503, "it is not ready")
    assert server.admin.get("/healthz").status == 200
    server.broken.unlink()
    for w in workers_of(server):
        os.kill(w["pid"], signal.SIGKILL)
    wait_ready(server, 1)
    assert server.admin.get("/readyz").status == 200
