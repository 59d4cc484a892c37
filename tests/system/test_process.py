"""What surrounds the process: standard streams that are closed, and orphans, where it is process 1 of a container."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness.burst import Burst
from harness.limits import LONG, PROMPT, eventually, fermata, timeout
from harness.server import Server

pytestmark = [timeout(60)]

PRINTS = """
import sys
def application(environ, start_response):
    print("to standard output", flush=True)
    print("to standard error", file=sys.stderr, flush=True)
    sys.stdin.read()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams(launch, tmp_path, closed):
    """Requests that print are served: the numbers are not those of something else."""
    (tmp_path / "prints.py").write_text(PRINTS)
    log = tmp_path / "log"
    server = launch(
        "prints",
        *("--error-logfile", str(log), "--access-logfile", "-"),
        bind=[f"unix:{tmp_path}/s"],
        cwd=tmp_path,
        program=["sh", "-c", f'exec "$0" "$@" {closed}', str(fermata())],
        ready=False,
    )
    eventually(lambda: log.exists() and "Listening" in log.read_text(), "it listens", within=LONG)
    server.addresses = lambda: [f"{tmp_path}/s"]
    for _ in range(2):
        assert server.get("/").text == "ok"
    assert "Traceback" not in log.read_text()
    fds = server.process.fds()
    for part in closed.split():
        assert fds[int(part[0])] == "/dev/null"


# Orphans

FORKS = """
import json, os, subprocess
def application(environ, start_response):
    if environ["PATH_INFO"] == "/orphan":
        answer = subprocess.run(["sh", "-c", "sleep 0.1 & echo $!"], stdout=subprocess.PIPE).stdout
    elif environ["PATH_INFO"] == "/child":
        child = subprocess.Popen(["sh", "-c", "exit 42"])
        answer = str(child.wait()).encode()
    else:
        answer = json.dumps([os.getpid(), os.getppid()]).encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
"""

SUBREAPER = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
NEW_PIDS = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def has_pid_namespaces() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*NEW_PIDS, "true"], capture_output=True).returncode == 0


def children(pid: int) -> dict[int, tuple[str, str]]:
    """Number of each child -> its name and state."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if int(parent) == pid:
            found[int(stat.parent.name)] = (head.partition("(")[2], state)
    return found


@pytest.fixture(params=["subreaper", "process 1"])
def contained(request, launch, tmp_path):
    """A server to which orphans come; init is the process that is seen from outside."""
    (tmp_path / "forks.py").write_text(FORKS)
    if request.param == "process 1" and not has_pid_namespaces():
        pytest.skip("no namespace of process ids can be made here")
    program = [sys.executable, "-c", SUBREAPER] if request.param == "subreaper" else NEW_PIDS

    def start(app: str = "forks", *options: str, **more) -> Server:
        server = launch(app, *options, cwd=tmp_path, program=[*program, str(fermata())], ready=False, **more)
        if request.param == "process 1":
            server.pid = eventually(lambda: list(children(server.pid)), "unshare has forked", within=LONG)[0]
        return server

    return start


def test_orphans_are_reaped(contained):
    """A process that has lost its parent leaves no zombie, and the application gets the exit codes of its own."""
    server = contained().wait_ready()
    for _ in range(5):
        server.get("/orphan")
        assert server.get("/child").text == "42"
    [(inner, (name, _))] = [item for item in children(server.pid).items() if item[1][0] == "fermata"]
    eventually(lambda: list(children(server.pid)) == [inner], "nothing but the server is left")
    assert not children(inner)
    assert name == "fermata"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signals_are_handed_on(contained, number):
    """A signal to the init is one to the server, and its exit code is the server's. No request is lost."""
    server = contained().wait_ready()
    burst = Burst(server, 10, target="/child", kinds=("kept", "new"))
    burst.run(number)
    if number != signal.SIGQUIT:
        assert not burst.lost, burst.outcomes
    assert server.wait_exit(PROMPT) == 0
    assert server.log().count("Draining") == 1


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2, signal.SIGWINCH])
def test_others_too(contained, number):
    """Those that end nothing do not end the init either."""
    server = contained().wait_ready()
    server.signal(number)
    server.wait_log(f"{number.name}: there is nothing to do")
    assert server.get("/child").text == "42"


def test_server_that_is_killed(contained):
    """What ends the server ends the init, as a shell says it: 137, which an out-of-memory kill looks like."""
    server = contained().wait_ready()
    [inner] = children(server.pid)
    server.expect = 137
    os.kill(inner, signal.SIGKILL)
    assert server.wait_exit(PROMPT) == 137
    assert "the server was ended by signal 9" in server.log()


def test_init_that_is_killed(contained):
    """The server does not go on without it."""
    server = contained().wait_ready()
    [inner] = children(server.pid)
    os.kill(server.pid, signal.SIGKILL)
    server.wait_exit(PROMPT)
    server.expect = server.wait_exit(PROMPT)

    def is_gone() -> bool:
        try:
            return Path(f"/proc/{inner}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    eventually(is_gone, "the server is gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_loading(contained, tmp_path, number):
    """Process 1 ends for no signal that it does not handle: while the application is imported, too."""
    (tmp_path / "slow.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(600)\n")
    server = contained("slow")
    eventually(lambda: "loading" in server.stdout(), "it is being imported", within=LONG)
    server.signal(number)
    assert server.wait_exit(PROMPT) == 0


def test_no_second_process_elsewhere(launch):
    """Where orphans do not come there is no init."""
    server = launch("about")
    assert not children(server.pid)
    assert server.process.threads()[server.pid] == "fermata"
