"""SIGUSR2: another program takes the arbiter's place, in the same process, with the same workers and sockets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
from harness.client import Connection
from harness.limits import LONG, PROMPT, eventually, fermata, never, timeout
from harness.process import Process
from harness.workers import Load, children, is_gone, pids, wait_ready, who
from test_notify import Manager

pytestmark = [timeout(180)]


@pytest.fixture
def site(launch, tmp_path):
    """site(*options): a server whose program is a file of the test's own, which it may replace.  It is a script that
    becomes the real one, so that it is seen which one has been executed."""
    program = tmp_path / "bin/fermata"
    program.parent.mkdir()

    def install(name: str, before: str = "") -> None:
        new = program.with_suffix(".new")
        new.write_text(f'#!/bin/bash\necho {name} >> {tmp_path}/executed\n{before}\nexec -a "$0" {fermata()} "$@"\n')
        new.chmod(0o755)
        new.rename(program)

    def start(*options: str, workers: int = 2, real: bool = False, admin: bool = True, **more):
        if real:
            shutil.copy(fermata(), program)
        else:
            install("first")
        env = {"WORKERS_BREAK": str(tmp_path / "broken"), **more.pop("env", {})}
        server = launch(
            "workers:app",
            *("--workers", str(workers), "--graceful-timeout", "10", *options),
            program=[str(program)],
            admin=admin,
            env=env,
            **more,
        )
        server.program, server.install, server.broken = program, install, tmp_path / "broken"
        server.executed = lambda: (tmp_path / "executed").read_text().split()
        if admin:
            wait_ready(server, workers)
        return server

    return start


def taken_over(server, number: int = 1) -> None:
    eventually(lambda: server.log_now().count("the workers are replaced") >= number, "it has taken over", within=LONG)


def exe(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/exe")


def test_takes_over(site):
    """The same process, new workers of the new program, and nothing lost meanwhile."""
    server = site(real=True)
    inode = server.program.stat().st_ino
    before = pids(server)
    with Load(server) as load:
        for number in (1, 2, 3):
            new = server.program.with_suffix(".new")
            shutil.copy(fermata(), new)
            new.rename(server.program)
            server.signal(signal.SIGUSR2)
            taken_over(server, number)
            before = wait_ready(server, 2, before)
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert sum(load.outcomes.values()) > 50
    for pid in (server.pid, *before):
        assert exe(pid) == str(server.program)
        assert os.stat(f"/proc/{pid}/exe").st_ino != inode


def test_old_workers_serve_until_they_are_replaced(site):
    """A request that is parked in one of them is answered by it."""
    server = site()
    before = pids(server)
    with server.begin("/park?seconds=4", timeout=LONG) as c:
        time.sleep(0.3)
        server.signal(signal.SIGUSR2)
        taken_over(server)
        assert json.loads(c.read_response().text)["pid"] in before
    wait_ready(server, 2, before)


def test_arguments_and_directory(site, tmp_path):
    """It is called as the command was, where that was; unix sockets, logs and the pid file are found again."""
    server = site(
        *("--pid", "pid", "--access-logfile", "access.log", "--chdir", "/", "--pythonpath", str(Path(__file__).parents[1] / "apps")),
        bind=["unix:" + str(tmp_path / "s"), "127.0.0.1:0"],
        cwd=tmp_path,
    )
    before, inode = pids(server), (tmp_path / "s").stat().st_ino
    server.signal(signal.SIGUSR2)
    taken_over(server)
    wait_ready(server, 2, before)
    assert (tmp_path / "s").stat().st_ino == inode
    with Connection(str(tmp_path / "s")) as c:
        assert c.request("GET", "/who").status == 200
    assert (tmp_path / "pid").read_text() == f"{server.pid}\n"
    server.stop()
    assert "/who" in (tmp_path / "access.log").read_text()
    assert not (tmp_path / "s").exists()
    assert not (tmp_path / "pid").exists()


@pytest.mark.parametrize("how", ["missing", "exits", "crashes", "lies", "hangs", "no program", "breaks the state"])
def test_a_program_that_cannot(site, how):
    """It is tried before; the old one serves on, and can be told again."""
    server = site()
    before = pids(server)
    if how == "missing":
        server.program.unlink()
    elif how == "no program":
        server.program.write_text("")
        server.program.chmod(0o644)
    else:
        server.install(
            "second",
            {
                "exits": "exit 7",
                "crashes": "kill -SEGV $$",
                "lies": "exit 0",
                "hangs": "exec sleep 3600",
                "breaks the state": "FERMATA_UPGRADE=check:99:98; export FERMATA_UPGRADE",
            }[how],
        )
    with Load(server, 2) as load:
        server.signal(signal.SIGUSR2)
        server.wait_log("the old program goes on", within=LONG)
        assert wait_ready(server, 2) == before
    assert set(load.outcomes) == {"200"}, load.outcomes
    server.install("third")
    server.signal(signal.SIGUSR2)
    taken_over(server)
    wait_ready(server, 2, before)


def test_a_program_that_cannot_be_executed_after_all(site):
    """It was well when it was tried."""
    server = site()
    before = pids(server)
    server.install("second", f'case "$FERMATA_UPGRADE" in check:*) chmod 0 {server.program};; esac')
    server.signal(signal.SIGUSR2)
    server.wait_log("cannot be executed: Permission denied; the old program goes on", within=LONG)
    assert wait_ready(server, 2) == before
    assert who(server)["cwd"]
    server.install("third")
    server.signal(signal.SIGUSR2)
    taken_over(server)
    wait_ready(server, 2, before)


def test_an_application_that_cannot_be_loaded(site):
    """The new program has taken over, and the old workers serve on."""
    server = site()
    before = pids(server)
    server.broken.write_text("raise")
    server.signal(signal.SIGUSR2)
    taken_over(server)
    server.wait_log("Reload failed", within=LONG)
    assert wait_ready(server, 2) == before
    assert who(server)["pid"] in before
    server.broken.unlink()
    server.signal(signal.SIGHUP)
    wait_ready(server, 2, before)


def test_workers_die_with_it(site):
    """Those of before are its children as well: they are seen to end, and end with it."""
    server = site()
    server.broken.write_text("hang")
    before = pids(server)
    server.signal(signal.SIGUSR2)
    taken_over(server)
    one, other = sorted(before)
    os.kill(one, signal.SIGKILL)
    server.wait_log(rf"pid {one}\) was ended by signal 9", within=LONG)
    assert is_gone(one)
    loading = pids(server, "loading")
    server.expect = -signal.SIGKILL
    os.kill(server.pid, signal.SIGKILL)
    server.wait_exit()
    eventually(lambda: all(is_gone(pid) for pid in (other, *loading)), "its workers have ended", within=LONG)


def test_stop_afterwards(site):
    server = site()
    before = pids(server)
    server.signal(signal.SIGUSR2)
    taken_over(server)
    server.signal(signal.SIGTERM)
    assert server.wait_exit(LONG) == 0
    assert all(is_gone(pid) for pid in before)


def test_stop_while_it_is_tried(site):
    server = site()
    server.install("second", "exec sleep 3600")
    server.signal(signal.SIGUSR2)
    server.wait_log("trying")
    server.signal(signal.SIGTERM)
    assert server.wait_exit(LONG) == 0


def test_resized_and_counted(site):
    """How many are wanted, and what has been counted, goes over."""
    server = site()
    for _ in range(10):
        assert server.get("/hello").status == 200
    server.signal(signal.SIGTTIN)
    before = wait_ready(server, 3)
    eventually(lambda: counted(server) == 10, "all are counted")
    server.signal(signal.SIGUSR2)
    taken_over(server)
    wait_ready(server, 3, before)
    assert counted(server) == 10
    assert server.get("/hello").status == 200
    eventually(lambda: counted(server) == 11, "the next one is counted")


def counted(server) -> float:
    return server.admin.metrics().value("fermata_requests_total", **{"class": "2xx"})


def test_descriptors_do_not_grow(site):
    server = site()
    numbers = []
    before = pids(server)
    for number in range(1, 5):
        server.signal(signal.SIGUSR2)
        taken_over(server, number)
        before = wait_ready(server, 2, before)
        numbers.append(len(server.process.fds()))
    assert numbers[-1] <= numbers[0] + 1, numbers  # one may be a connection to the admin port that has just ended
    inherited = [target for pid in before for target in fds(pid) if "memfd:fermata-state" in target]
    assert not inherited


def fds(pid: int) -> list[str]:
    return list(Process(pid).fds().values())


def test_the_manager_is_told(site, tmp_path):
    """The service manager's socket is not lost on the way."""
    manager = Manager(str(tmp_path / "notify"))
    server = site(env={"NOTIFY_SOCKET": manager.address})
    manager.wait("READY=1")
    before = pids(server)
    server.signal(signal.SIGUSR2)
    taken_over(server)
    wait_ready(server, 2, before)
    manager.wait("RELOADING=1")
    manager.wait("READY=1", 2)
    assert manager.pids == {server.pid}
    server.stop()
    manager.wait("STOPPING=1")
    manager.close()


def test_signals_meanwhile(site):
    """None is lost, and none ends it."""
    server = site()
    before = pids(server)
    for number in (signal.SIGUSR2, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGHUP):
        server.signal(number)
        time.sleep(0.02)
    taken_over(server)
    wait_ready(server, 2, before)
    assert server.get("/hello").status == 200


def test_the_admin_port_answers_before(site):
    """Who has connected to the admin port is answered by the old program, who comes meanwhile by the new one."""
    server = site()
    with Connection(server.admin.address) as asks, Connection(server.admin.address) as idles:
        assert idles.request("GET", "/healthz").status == 200
        asks.send(b"GET /healthz HTTP/1.1\r\nHost:")
        server.signal(signal.SIGUSR2)
        assert idles.readable(within=LONG)
        assert idles.ended() == "eof"  # it has been answered
        with Connection(server.admin.address) as waits:
            waits.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            asks.send(b" x\r\n\r\n")
            answer = asks.read_response("GET")
            assert (answer.status, answer.header("connection")) == (200, "close")
            assert waits.read_response("GET").status == 200
        taken_over(server)


def test_an_admin_client_that_says_nothing(site):
    """It does not keep the new program from taking over."""
    server = site()
    before = pids(server)
    with Connection(server.admin.address) as c:
        server.signal(signal.SIGUSR2)
        taken_over(server)
        wait_ready(server, 2, before)
        assert c.ended()


def test_two_at_once(site):
    server = site()
    server.install("second", "sleep 1")
    server.signal(signal.SIGUSR2)
    server.wait_log("trying")
    server.signal(signal.SIGUSR2)
    server.wait_log("is being tried already")
    taken_over(server)
    never(lambda: server.log_now().count("the workers are replaced") > 1, "it has taken over once")


# ---- with other options ----


def test_with_a_configuration_file(site, tmp_path):
    """It is read by the new program: what takes a restart otherwise takes this."""
    config = tmp_path / "conf.py"
    config.write_text("threads = 3\n")
    server = site("-c", str(config))
    before = pids(server)
    config.write_text("threads = 5\n")
    server.signal(signal.SIGUSR2)
    taken_over(server)
    for pid in wait_ready(server, 2, before):
        threads = Process(pid).threads().values()
        assert sum(name.startswith("fermata-") and name[8:].isdigit() for name in threads) == 6
    server.signal(signal.SIGHUP)  # and again by this one
    server.wait_log("is read again")
    eventually(lambda: pids(server) and server.get("/who").status == 200, "it serves", within=LONG)


@pytest.mark.parametrize("text", ["threads = (", "threads = 0", "raise SystemExit(0)", None])
def test_with_a_configuration_file_that_is_wrong(site, tmp_path, text):
    """The check reads it, as the program in the arbiter's place would: that one could only end."""
    config = tmp_path / "conf.py"
    config.write_text("threads = 3\n")
    server = site("-c", str(config))
    before = pids(server)
    if text is None:
        config.unlink()
    else:
        config.write_text(text)
    server.signal(signal.SIGUSR2)
    server.wait_log("instead of saying that it can take over; the old program goes on", within=LONG)
    assert wait_ready(server, 2) == before
    config.write_text("threads = 2\n")
    server.signal(signal.SIGUSR2)
    taken_over(server)
    wait_ready(server, 2, before)


def test_descriptors_with_a_configuration_file(site, tmp_path):
    """What the settings were handed over in does not stay behind."""
    config = tmp_path / "conf.py"
    config.write_text("threads = 3\n")
    server = site("-c", str(config))
    before, numbers = pids(server), []
    for number in range(1, 4):
        server.signal(signal.SIGUSR2)
        taken_over(server, number)
        before = wait_ready(server, 2, before)
        numbers.append(sum("memfd:fermata-settings" in target for target in fds(server.pid)))
    assert numbers == [1, 1, 1]


def test_with_another_address(site, tmp_path):
    """Whether it is free or taken, the sockets stay as they are, and the log says what is not so as the file has it."""
    config = tmp_path / "conf.py"
    config.write_text("bind = '127.0.0.1:0'\n")
    server = site("-c", str(config), bind=None)
    before, address = pids(server), server.address
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config.write_text(f"bind = ['127.0.0.1:{port}', '127.0.0.1:{address[1]}']\n")
        server.signal(signal.SIGUSR2)
        taken_over(server)
        wait_ready(server, 2, before)
    assert server.log().count("is not open: the sockets stay as they are") == 1
    assert f"--bind http://127.0.0.1:{port} is not open" in server.log()
    with Connection(address) as c:
        assert c.request("GET", "/who").status == 200


def test_with_what_it_can_go_on_without(site, tmp_path):
    """An admin port that is taken, a pid file that cannot be: the workers serve, and the log says so."""
    config = tmp_path / "conf.py"
    config.write_text("")
    server = site("-c", str(config), admin=False)
    assert server.get("/who", timeout=LONG).status == 200
    with socket.create_server(("127.0.0.1", 0)) as taken:
        pidfile, bind = str(tmp_path / "no/such/pid"), f"127.0.0.1:{taken.getsockname()[1]}"
        config.write_text(f"pidfile = {pidfile!r}\nadmin_bind = {bind!r}\n")
        server.signal(signal.SIGUSR2)
        taken_over(server)
        server.wait_log("going on without a pid file", within=LONG)
        server.wait_log("going on without an admin port", within=LONG)
        server.wait_log("all workers are of the new generation", within=LONG)
    assert server.get("/who").status == 200


def test_an_admin_port_with_a_path(site, tmp_path):
    """It is found again, and removed in the end, or when it is wanted no more."""
    config, path = tmp_path / "conf.py", tmp_path / "admin"
    config.write_text(f"admin_bind = 'unix:{path}'\n")
    server = site("-c", str(config), admin=False)
    assert server.get("/who", timeout=LONG).status == 200
    inode = path.stat().st_ino
    server.signal(signal.SIGUSR2)
    taken_over(server)
    server.wait_log("all workers are of the new generation", within=LONG)
    with Connection(str(path)) as c:
        assert c.request("GET", "/healthz").status == 200
    assert path.stat().st_ino == inode
    config.write_text("")
    server.signal(signal.SIGUSR2)
    taken_over(server, 2)
    eventually(lambda: not path.exists(), "the path is removed", within=LONG)
    server.stop()


def test_the_path_of_an_admin_port_in_the_end(site, tmp_path):
    path = tmp_path / "admin"
    server = site("--admin-bind", f"unix:{path}", admin=False)
    assert server.get("/who", timeout=LONG).status == 200
    server.signal(signal.SIGUSR2)
    taken_over(server)
    assert path.exists()
    server.stop()
    assert not path.exists()


def test_another_admin_address(site, tmp_path):
    """The socket stays as it is, and the log says so."""
    config = tmp_path / "conf.py"
    config.write_text("admin_bind = '127.0.0.1:0'\n")
    server = site("-c", str(config), admin=False)
    address = eventually(server.admin_address, "the admin port is open", within=LONG)
    assert server.get("/who", timeout=LONG).status == 200
    config.write_text("admin_bind = '127.0.0.1:1'\n")
    server.signal(signal.SIGUSR2)
    server.wait_log("--admin-bind http://127.0.0.1:1 is not open: the socket stays as it is", within=LONG)
    taken_over(server)
    with Connection(address) as c:
        assert c.request("GET", "/healthz").status == 200


def test_an_admin_port_that_is_wanted_no_more(site, tmp_path):
    """It is closed, and no worker has it."""
    config = tmp_path / "conf.py"
    config.write_text("admin_bind = '127.0.0.1:0'\n")
    server = site("-c", str(config), admin=False)
    address = eventually(server.admin_address, "the admin port is open", within=LONG)
    assert server.get("/who", timeout=LONG).status == 200
    config.write_text("")
    server.signal(signal.SIGUSR2)
    taken_over(server)
    server.wait_log("all workers are of the new generation", within=LONG)
    with pytest.raises(ConnectionRefusedError):
        Connection(address)
    assert server.get("/who").status == 200


HOOKS = """
import os

def note(text):
    with open(os.environ["NOTES"], "a") as f:
        f.write(text + "\\n")

def on_starting(server):
    note("on_starting")

def when_ready(server):
    note("when_ready")

def pre_fork(server, worker):
    note("pre_fork")

def post_fork(server, worker):
    note(f"post_fork {worker.pid}")

def child_exit(server, worker):
    note(f"child_exit {worker.pid}")

def on_exit(server):
    note("on_exit")
"""


def test_with_hooks(site, tmp_path):
    """Those of the arbiter's side are called by a process of the new program's, also for workers of the old one."""
    config, notes = tmp_path / "conf.py", tmp_path / "notes"
    config.write_text(HOOKS)
    server = site("-c", str(config), env={"NOTES": str(notes)})
    before = pids(server)
    server.signal(signal.SIGUSR2)
    taken_over(server)
    after = wait_ready(server, 2, before)

    def noted(*names: str) -> list[str]:
        return [line for line in notes.read_text().splitlines() if line.split()[0] in names]

    for pid in before:
        eventually(lambda p=pid: f"child_exit {p}" in noted("child_exit"), f"the end of {pid} is noted", within=LONG)
    assert {f"post_fork {pid}" for pid in (*before, *after)} == set(noted("post_fork"))
    assert noted("on_starting", "when_ready") == ["on_starting", "when_ready"] * 2
    assert not noted("on_exit")
    server.stop()
    assert len(noted("child_exit")) == 4
    assert noted("on_exit") == ["on_exit"]


def test_with_preload(site):
    """The application is loaded by a new process, and the old one is gone."""
    server = site("--preload")
    before = pids(server)
    (zygote,) = children(server.pid) - before
    server.signal(signal.SIGUSR2)
    taken_over(server)
    after = wait_ready(server, 2, before)
    eventually(lambda: is_gone(zygote), "the process that had loaded it is gone", within=LONG)
    (other,) = eventually(lambda: len(rest := children(server.pid) - after) == 1 and rest, "there is one more", within=LONG)
    assert other != zygote
    os.kill(min(after), signal.SIGKILL)
    assert len(wait_ready(server, 2, {min(after)})) == 2
    assert children(server.pid) == {other, *pids(server)}


def test_one_process(launch):
    """Without --workers there is nothing that could go on meanwhile."""
    server = launch("workers:app")
    server.signal(signal.SIGUSR2)
    server.wait_log("SIGUSR2: there is nothing to do", within=PROMPT)
    assert server.get("/hello").status == 200
