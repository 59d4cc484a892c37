"""examples/systemd and the units of deployment.md, as systemd reads them, and the server as systemd starts it."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from harness.client import Connection
from harness.limits import APPS, LONG, PROMPT, ROOT, eventually, fermata
from harness.proxies import free_port, shown
from harness.server import environment
from test_notify import Manager

EXAMPLES = ROOT / "examples/systemd"
systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze (Debian: systemd)")


def verify(directory: Path, *units: str) -> str:
    """What systemd has to say against them."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(directory / unit) for unit in units)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{directory}:"},
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG,
    )
    mine = [line for line in done.stderr.splitlines() if "app." in line]
    return "\n".join(mine) if mine or done.returncode == 0 else done.stderr


def with_our_paths(text: str) -> str:
    return text.replace("/usr/local/bin/fermata", str(fermata()))


@systemd
def test_units(tmp_path):
    for name in ("app.service", "app.socket"):
        (tmp_path / name).write_text(with_our_paths((EXAMPLES / name).read_text()))
    assert verify(tmp_path, "app.service", "app.socket") == ""


@systemd
def test_verify_finds_faults(tmp_path):
    """Or the test before would say nothing."""
    text = with_our_paths((EXAMPLES / "app.service").read_text())
    (tmp_path / "app.service").write_text(text.replace("Type=notify", "Type=whatever"))
    (tmp_path / "app.socket").write_text((EXAMPLES / "app.socket").read_text())
    assert "service type" in verify(tmp_path, "app.service")
    (tmp_path / "app.service").write_text(text.replace(str(fermata()), "/nonexistent/fermata"))
    assert "/nonexistent/fermata" in verify(tmp_path, "app.service")


@systemd
def test_unit_of_the_manual(tmp_path):
    (tmp_path / "app.service").write_text(with_our_paths(shown("systemd", {})))
    assert verify(tmp_path, "app.service") == ""


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="there is no systemd-tmpfiles (Debian: systemd)")
def test_tmpfiles(tmp_path):
    """The users of the example are not here; their names are replaced by ours."""
    me, mine = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    text = (EXAMPLES / "app.conf").read_text().replace("app app", f"{me} {mine}")
    (tmp_path / "app.conf").write_text(text.replace("/run/app", f"{tmp_path}/app"))
    subprocess.run(["systemd-tmpfiles", "--create", str(tmp_path / "app.conf")], check=True, timeout=LONG)
    assert (tmp_path / "app").is_dir()
    assert (tmp_path / "app").stat().st_mode & 0o777 == 0o755


def exec_start() -> list[str]:
    text = (EXAMPLES / "app.service").read_text().replace("\\\n", " ")
    return shlex.split(re.search(r"^ExecStart=(.*)$", text, re.M)[1])


def test_the_command_of_the_unit(tmp_path):
    """It runs, with the socket that systemd hands over, and says what Type=notify waits for."""
    manager = Manager(str(tmp_path / "notify"))
    command = [str(fermata()), *exec_start()[1:-1], "rights:app"]
    command[command.index("--admin-bind") + 1] = f"127.0.0.1:{free_port()}"
    at = command.index("--venv")
    del command[at : at + 2]
    code = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "app.sock"))
        s.listen(64)
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(
                [shutil.which("python3"), "-c", code, str(s.fileno()), *command],
                cwd=APPS,
                env=environment({"LISTEN_FDS": "1", "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "30000000"}),
                pass_fds=[s.fileno()],
                stderr=log,
            )
        try:
            manager.wait("READY=1")
            with Connection(str(tmp_path / "app.sock"), timeout=LONG) as c:
                assert json.loads(c.request("GET", "/who").text)["pid"] != process.pid
            process.send_signal(1)
            manager.wait("RELOADING=1")
            manager.wait("READY=1", 2)
        finally:
            process.terminate()
            assert process.wait(LONG) == 0, (tmp_path / "log").read_text()
            manager.close()


@pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="there is no systemd-socket-activate (Debian: systemd)"
)
def test_socket_activate(tmp_path):
    """systemd's own program for trying this: the first connection starts the server, which answers it."""
    port = free_port()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            ["systemd-socket-activate", "-E", "PYTHONPYCACHEPREFIX", "-l", f"127.0.0.1:{port}", str(fermata()), "rights:app"],
            cwd=APPS,
            env=environment(),
            stderr=log,
        )
    try:
        eventually(lambda: "Listening" in (tmp_path / "log").read_text(), "it listens", within=PROMPT)
        with Connection(("127.0.0.1", port), timeout=LONG) as c:
            assert json.loads(c.request("GET", "/variables").text) == []
    finally:
        process.terminate()
        process.wait(LONG)
    assert "Drained" in (tmp_path / "log").read_text()
