"""Debuggers of other processes (PEP 768, CPython 3.14): sys.remote_exec and `python -m pdb -p` reach the main thread, which is
asleep while nothing happens, with the next request; and requests are served meanwhile."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
from harness.limits import LONG, PROMPT, TSAN, eventually, fermata, never, timeout
from harness.server import Server, environment, run

# Says where it ran, and stays for as long as there is a file `stay` beside it.
SCRIPT = """
import pathlib, sys, threading, time
here = pathlib.Path({here!r})
part = here / "part"
part.write_text(f"{{threading.current_thread().name}} {{sys._getframe(1).f_code.co_name}}")
part.rename(here / "said")
while (here / "stay").exists():
    time.sleep(0.01)
"""


@pytest.fixture(scope="module", autouse=True)
def _has_pep_768():
    version = re.search(r"Python (\d+)\.(\d+)", run("--version").stdout)
    assert version
    if (int(version[1]), int(version[2])) < (3, 14):
        pytest.skip(f"{fermata().name} has {version[0]}; another process can run code in it from 3.14 on")


@pytest.fixture
def python(serve) -> str:
    """The path of the server's own Python: no other version may look into it."""
    return json.loads(serve("about").get("/").text)["executable"]


class Remote:
    """A script that is run in the server."""

    def __init__(self, server: Server, python: str, here: Path, body: str = SCRIPT) -> None:
        self.here = here
        script = here / "script.py"
        script.write_text(body.format(here=str(here)))
        code = f"import sys; sys.remote_exec({server.pid}, {str(script)!r})"
        done = subprocess.run([python, "-c", code], env=environment(), capture_output=True, text=True, timeout=LONG)
        if "PermissionError" in done.stderr:
            pytest.skip("this user may not write into other processes (kernel.yama.ptrace_scope)")
        assert done.returncode == 0, done.stderr

    def said(self) -> str:
        path = self.here / "said"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def server(launch):
    return launch("basic", "--threads", "4", admin=True)


@pytest.mark.parametrize("what", ["request", "admin"])
def test_script_runs_with_the_next_request(server, python, tmp_path, what):
    """Of the application, or of the admin port: until then the server sleeps.  On the main thread, in a frame of Python."""
    remote = Remote(server, python, tmp_path)
    never(remote.said, "an idle server has run it")
    if what == "request":
        assert server.get("/hello").status == 200
    else:
        assert server.admin.get("/healthz").status == 200
    assert eventually(remote.said, "the script runs").startswith("MainThread ")


def test_script_runs_while_requests_are_served(server, python, tmp_path):
    """Under load nobody has to do anything for it, and it does no harm that there is another one, and another."""
    with server.connect() as c:
        for number in range(5):
            here = tmp_path / str(number)
            here.mkdir()
            remote = Remote(server, python, here)

            def served(remote=remote) -> str:
                assert c.request("GET", "/hello").status == 200
                return remote.said()

            assert eventually(served, "the script runs", every=0)


def test_others_are_served_meanwhile(server, python, tmp_path):
    """The main thread is the monitor: somebody else is, while it is in a debugger.  A step that blocks is still replaced."""
    (tmp_path / "stay").touch()
    remote = Remote(server, python, tmp_path)
    assert server.get("/hello").status == 200
    eventually(remote.said, "the script runs")
    for number in range(3):
        key = f"{number}"
        with server.begin(f"/gate?key={key}", timeout=LONG) as held:
            server.wait_events(key, "entered")
            # Were the thread that polls in the gate for as long as that is closed, nobody would read this.
            assert server.get("/hello").status == 200
            server.call("probe.open_gate", key)
            assert held.read_response().text == "opened\n"
    (tmp_path / "stay").unlink()
    server.wait_log("The debugger has left the main thread")


def test_script_that_raises(server, python, tmp_path):
    """It is told on standard error, and the server goes on."""
    Remote(server, python, tmp_path, "1 / 0")
    assert server.get("/hello").status == 200
    server.wait_log("ZeroDivisionError")
    server.wait_log("The debugger has left the main thread")
    assert server.get("/hello").status == 200


def test_script_that_does_not_exist(server, python, tmp_path):
    """As long as it has not been run it can be taken away."""
    Remote(server, python, tmp_path)
    (tmp_path / "script.py").unlink()
    assert server.get("/hello").status == 200
    server.wait_log("The debugger has left the main thread")
    assert server.get("/hello").status == 200


def test_script_at_the_end(launch, python, tmp_path):
    """A server that is told to end drains, and ends: it does not wait for who sits before the debugger."""
    server = launch("basic", "--graceful-timeout", "1", admin=True, expect=1)
    (tmp_path / "stay").touch()
    remote = Remote(server, python, tmp_path)
    assert server.get("/hello").status == 200
    eventually(remote.said, "the script runs")
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 1
    server.wait_log("the main thread does not come back from a signal handler of the application, or a debugger")


@timeout(120)
@pytest.mark.skipif(TSAN, reason="its runtime may keep a write to the process back")
def test_pdb(server, python, tmp_path):
    """`python -m pdb -p PID`: a prompt on the main thread, twice, for it is left as it was."""
    Remote(server, python, tmp_path)  # is it allowed?
    for n in (6, 7):
        with subprocess.Popen(
            [python, "-m", "pdb", "-p", str(server.pid)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as pdb:
            try:
                pdb.stdin.write(f"p {n}*7\nimport threading\np threading.current_thread().name\nq\n")
                pdb.stdin.flush()

                def ended(pdb=pdb) -> bool:
                    assert server.get("/hello").status == 200
                    return pdb.poll() is not None

                eventually(ended, "pdb ends", within=LONG, every=0.1)
                said = pdb.stdout.read()
            finally:
                pdb.kill()
        assert str(n * 7) in said and "'MainThread'" in said, said
    assert server.get("/hello", timeout=PROMPT).status == 200
