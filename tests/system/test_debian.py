"""What scripts/debian has, without building it: units as systemd reads them, the command of the service, and metadata.

`make deb-tests` is about the packages themselves.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from harness.client import Connection
from harness.limits import APPS, LONG, ROOT, fermata
from harness.proxies import shown
from harness.server import environment, run, virtualenv
from harness.told import unit
from test_notify import Manager

DEBIAN = ROOT / "scripts/debian"
SERVICE = (DEBIAN / "fermata.fermata@.service").read_text()
SOCKET = (DEBIAN / "fermata.fermata@.socket").read_text()


def verify(folder: Path, service: str) -> str:
    """What systemd has to say of an instance of the units, with the program that is here."""
    service = service.replace("/usr/bin/fermata", str(fermata()))
    (folder / "fermata@.service").write_text(service)
    (folder / "fermata@.socket").write_text(SOCKET)
    command = ["systemd-analyze", "verify", "--man=no", *(str(folder / f"fermata@app.{kind}") for kind in ("service", "socket"))]
    env = {**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=LONG)
    mine = [line for line in done.stderr.splitlines() if "fermata@" in line]
    return "\n".join(mine) if mine or done.returncode == 0 else done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze (Debian: systemd)")
def test_units(tmp_path: Path) -> None:
    """And a fault in them is found."""
    assert verify(tmp_path, SERVICE) == ""
    assert "service type" in verify(tmp_path, SERVICE.replace("Type=notify", "Type=whatever"))
    assert "/no/fermata" in verify(tmp_path, SERVICE.replace("/usr/bin/fermata", "/no/fermata"))


def test_the_command_of_the_unit(tmp_path: Path) -> None:
    """It serves what the file of its instance names, at the socket that systemd hands over."""
    program, *words = shlex.split(unit(SERVICE)["ExecStart"].replace("%i", "app"))
    assert program == "/usr/bin/fermata"
    config = tmp_path / "app.toml"
    config.write_text(f'wsgi_app = "rights:app"\nchdir = "{APPS}"\nworkers = 1\n')
    words = [str(config) if word == "/etc/fermata/app.toml" else word for word in words]
    assert str(config) in words
    manager = Manager(str(tmp_path / "notify"))
    code = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    with socket.socket(socket.AF_UNIX) as s, (tmp_path / "log").open("w") as log:
        s.bind(str(tmp_path / "app.sock"))
        s.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(s.fileno()), str(fermata()), *words],
            env=environment({"LISTEN_FDS": "1", "NOTIFY_SOCKET": manager.address}),
            pass_fds=[s.fileno()],
            stderr=log,
        )
        try:
            manager.wait("READY=1")
            with Connection(str(tmp_path / "app.sock"), timeout=LONG) as c:
                assert json.loads(c.request("GET", "/who").text)["pid"] != process.pid
        finally:
            process.terminate()
            assert process.wait(LONG) == 0, (tmp_path / "log").read_text()
            manager.close()


def test_socket() -> None:
    """The service does not start without its socket, which a proxy of Debian's may connect to."""
    assert unit(SERVICE)["Requires"] == "fermata@%i.socket"
    assert (unit(SOCKET)["SocketGroup"], unit(SOCKET)["SocketMode"]) == ("www-data", "0660")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Debian's Python has tomllib")
def test_metadata(tmp_path: Path) -> None:
    """What importlib.metadata reads is what pyproject.toml says."""
    subprocess.run([sys.executable, DEBIAN / "dist-info", ROOT / "py/pyproject.toml", tmp_path], check=True, timeout=LONG)
    [found] = importlib.metadata.distributions(path=[str(tmp_path)])
    version = re.search(r"^## ([0-9.]+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert version and (found.name, found.version) == ("wsgi-plus", version[1])
    assert found.metadata["Requires-Python"] == ">=3.10"


def test_wrong_usage() -> None:
    done = subprocess.run([ROOT / "scripts/deb"], capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("scripts/deb DIR\n")


def test_the_file_of_the_manual(tmp_path: Path) -> None:
    """Its names are known, and the application is what it names."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/wsgi.py").write_text("def application(environ, start_response): ...\n")
    text = shown("shop.toml", {"/srv/shop/venv": virtualenv(), "/srv/shop": str(tmp_path)})
    (tmp_path / "shop.toml").write_text(text)
    done = run("-c", str(tmp_path / "shop.toml"), "--check-config")
    assert done.returncode == 0, done.stderr
