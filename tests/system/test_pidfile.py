"""--pid: which process the server is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness.limits import LONG, eventually
from harness.server import run

both = pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])


@both
def test_while_it_runs(launch, tmp_path, workers):
    """It is there before the server listens, whole, readable for all, and gone afterwards; nothing is left beside it."""
    path = tmp_path / "pid"
    server = launch("rights:app", *workers, "--pid", str(path))
    assert path.read_text() == f"{server.pid}\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert server.get("/fork").status == 200
    assert path.exists()
    server.stop()
    assert list(tmp_path.iterdir()) == []


def test_relative(launch, tmp_path):
    """To where the command was given, whatever --chdir says."""
    (tmp_path / "there").mkdir()
    apps = str(Path(__file__).parents[1] / "apps")
    server = launch("rights:app", "-p", "pid", "--chdir", "there", "--pythonpath", apps, cwd=tmp_path)
    assert (tmp_path / "pid").read_text() == f"{server.pid}\n"
    server.stop()
    assert not (tmp_path / "pid").exists()


@both
def test_of_a_process_that_runs(launch, tmp_path, workers):
    path = tmp_path / "pid"
    path.write_text(f"{os.getpid()}\n")
    server = launch("rights:app", *workers, "--pid", str(path), ready=False, expect=1)
    assert server.wait_exit() == 1
    assert f"--pid {path}: it is the file of process {os.getpid()}, which runs" in server.log()
    assert path.read_text() == f"{os.getpid()}\n"


def test_two_of_them(launch, tmp_path):
    path = tmp_path / "pid"
    first = launch("rights:app", "--pid", str(path))
    second = launch("rights:app", "--pid", str(path), ready=False, expect=1)
    assert second.wait_exit() == 1
    assert path.read_text() == f"{first.pid}\n"


def ended() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("left", ["gone", "empty", "nonsense", "recycled"])
def test_stale(launch, tmp_path, left):
    """Of a process that is gone, also where its number is another's now: that one has begun after the file was written."""
    path = tmp_path / "pid"
    with subprocess.Popen(["sleep", "100"]) as other:
        texts = {"gone": f"{ended()}\n", "empty": "", "nonsense": "yesterday\n", "recycled": f"{other.pid}\n"}
        path.write_text(texts[left])
        if left == "recycled":
            os.utime(path, (time.time() - 3600, time.time() - 3600))
        server = launch("rights:app", "--pid", str(path))
        assert path.read_text() == f"{server.pid}\n"
        other.kill()


def test_of_another_one(launch, tmp_path):
    """A successor has written its own meanwhile: that stays."""
    path = tmp_path / "pid"
    server = launch("rights:app", "--pid", str(path))
    path.write_text("1\n")
    server.stop()
    assert path.read_text() == "1\n"


def test_a_link(launch, tmp_path):
    """What a link leads to is not written to."""
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "pid").symlink_to(tmp_path / "precious")
    server = launch("rights:app", "--pid", str(tmp_path / "pid"))
    assert (tmp_path / "pid").read_text() == f"{server.pid}\n"
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("how", ["raise", "bind", "directory"])
def test_that_does_not_start(launch, tmp_path, how):
    """Nothing is left behind."""
    (tmp_path / "broken").write_text("raise")
    place = tmp_path / "run"
    place.mkdir()
    options = ["--pid", str(place / "pid")] if how != "directory" else ["--pid", str(tmp_path / "nowhere/pid")]
    env = {"WORKERS_BREAK": str(tmp_path / "broken")} if how == "raise" else {}
    binds = {"bind": ["192.0.2.1:1"]}.get(how, ["127.0.0.1:0"])
    code = 3 if how == "raise" else 1
    server = launch("workers:app", *options, bind=binds, env=env, ready=False, expect=code)
    assert server.wait_exit() == code
    assert list(place.iterdir()) == []
    if how == "directory":
        assert "nowhere/pid: No such file or directory" in server.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_while_it_loads(launch, tmp_path, number):
    """An import that hangs and is interrupted, or left behind."""
    (tmp_path / "broken").write_text("hang")
    path = tmp_path / "pid"
    server = launch("workers:app", "--pid", str(path), ready=False, env={"WORKERS_BREAK": str(tmp_path / "broken")})
    eventually(path.exists, "it is there", within=LONG)
    server.signal(number)
    assert server.wait_exit() == 0
    assert not path.exists()


def test_wrong():
    assert run("--pid", "", "rights:app").returncode == 2
