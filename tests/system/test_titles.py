"""What ps shows: titles of the arbiter and of workers, and --name."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from harness.client import Connection
from harness.limits import LONG, SANITIZED, eventually, fermata
from harness.process import Process


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode()


def workers_of(server) -> list[dict]:
    return json.loads(server.admin.get("/workers").text)["workers"]


def wait_ready(server, number: int) -> list[int]:
    def ready():
        found = [w for w in workers_of(server) if w["state"] == "ready"]
        return [w["pid"] for w in sorted(found, key=lambda w: w["slot"])] if len(found) == number else None

    return eventually(ready, f"{number} workers are ready", within=LONG)


def test_arbiter_and_workers(launch):
    server = launch("rights:app", "--workers", "2", admin=True)
    pids = wait_ready(server, 2)
    assert title(server.pid) == "fermata: arbiter"
    assert [title(pid) for pid in pids] == ["fermata: worker 0", "fermata: worker 1"]


@pytest.mark.skipif(shutil.which("ps") is None, reason="there is no ps (Debian: procps)")
def test_as_ps_shows_it(launch):
    """A worker is executed by another name than the command's, which is not to be seen."""
    server = launch("rights:app", "--workers", "1", "--name", "shop", admin=True)
    (pid,) = wait_ready(server, 1)
    for number, shown in ((server.pid, "fermata: arbiter [shop]"), (pid, "fermata: worker 0 [shop]")):
        done = subprocess.run(["ps", "-o", "args=", "-p", str(number)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == shown
        assert Path(f"/proc/{number}/comm").read_text().strip() == "fermata"


def test_replaced_workers_get_them_too(launch):
    """A worker is the command executed again, with the arguments as they were given."""
    server = launch("rights:app", "--workers", "1", admin=True)
    (before,) = wait_ready(server, 1)
    os.kill(before, signal.SIGKILL)
    (after,) = eventually(lambda: [p for p in wait_ready(server, 1) if p != before], "another one", within=LONG)
    assert title(after) == "fermata: worker 0"
    assert server.get("/who").status == 200


@pytest.mark.parametrize("option", ["-n", "--name"])
def test_one_process(launch, option):
    """Its command line stays, unless it is given a name."""
    server = launch("rights:app", bind=["127.0.0.1:0"])
    assert title(server.pid).endswith(f"{fermata()} --bind 127.0.0.1:0 rights:app")  # behind Python's, of the extension
    named = launch("rights:app", option, "shop")
    assert title(named.pid) == "fermata: server [shop]"


def test_parked_requests(launch):
    """As many as there are, whichever threads have parked them, and none when none is left."""
    server = launch("rights:app", "--workers", "1", "--threads", "4", admin=True)
    (pid,) = wait_ready(server, 1)
    parked = [server.begin("/park?seconds=3600") for _ in range(12)]
    eventually(lambda: title(pid) == "fermata: worker 0 (12 parked)", "12 are parked", within=LONG)
    for c in parked[2:]:
        c.close()
    eventually(lambda: title(pid) == "fermata: worker 0 (2 parked)", "2 are parked", within=LONG)
    for c in parked:
        c.close()
    eventually(lambda: title(pid) == "fermata: worker 0", "none is parked", within=LONG)


def test_parked_requests_under_load(launch):
    """The title is right when it is quiet again, whatever came at the same time."""
    server = launch("rights:app", "--workers", "1", "--threads", "4", admin=True)
    (pid,) = wait_ready(server, 1)

    def come_and_go() -> None:
        with Connection(server.address, timeout=LONG) as c:
            for _ in range(100):
                assert c.request("GET", "/park?seconds=0.001").status == 200

    with Connection(server.address, timeout=LONG) as c:
        c.send_request("GET", "/park?seconds=3600")
        threads = [threading.Thread(target=come_and_go) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        eventually(lambda: title(pid) == "fermata: worker 0 (1 parked)", "one is left", within=LONG)


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime has a thread that wakes up")
def test_idle(launch):
    """A title wakes nothing up."""
    server = launch("rights:app", "--workers", "1", admin=True)
    (pid,) = wait_ready(server, 1)
    with server.begin("/park?seconds=3600"):
        eventually(lambda: "(1 parked)" in title(pid), "it is parked", within=LONG)

        def sleeps() -> bool:
            before = Process(pid).switches()
            time.sleep(2)
            return Process(pid).switches() == before

        eventually(sleeps, "nothing wakes up for two seconds", within=LONG, every=0)


def test_environment_and_arguments_are_as_they_were(launch, tmp_path):
    """The title is written where they were; they have been moved before."""
    (tmp_path / "moved.py").write_text(
        "import json, os, subprocess, sys\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    child = subprocess.run(['env'], capture_output=True, text=True).stdout.splitlines()\n"
        "    return [json.dumps([sys.argv, os.environ['ONE'], os.environ['TWO'], 'ONE=1' in child, 'TWO=2' in child]).encode()]\n"
    )
    server = launch(
        None,
        *("-n", "a-name-that-is-longer-than-all-of-the-arguments-together-so-that-the-environment-is-needed-" + "x" * 60),
        *("-e", "TWO=2", "--pythonpath", str(tmp_path), "moved:app", "--", "first", "second"),
        bind=None,
        env={"ONE": "1", "PORT": "0"},
    )
    said = json.loads(server.get("/").text)
    assert said[0][1:] == ["first", "second"]
    assert said[1:] == ["1", "2", True, True]


def test_a_short_command(launch, tmp_path):
    """A title that is longer than the command goes on where the environment was."""
    (tmp_path / "f").symlink_to(fermata())
    (tmp_path / "a.py").write_text("def app(e, s):\n    s('200 OK', [])\n    return [b'a']\n")
    server = launch("a", bind=None, cwd=tmp_path, program=["./f"], env={"PORT": "0", "WEB_CONCURRENCY": "1", "LONG": "x" * 200})
    assert title(server.pid) == "fermata: arbiter"
    assert server.get("/").text == "a"
    kept = [int(p.name) for p in Path("/proc").glob("[0-9]*") if parent(p) == server.pid]
    eventually(lambda: [title(pid) for pid in kept] == ["fermata: worker 0"], "the worker has one", within=LONG)


def parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
