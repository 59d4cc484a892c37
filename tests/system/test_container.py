"""What spec/manual/in-a-container.md shows: the commands start, the probes answer, and the times fit together."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from harness.client import Connection
from harness.limits import LONG, ROOT, eventually, timeout
from harness.proxies import free_port, shown
from harness.server import environment
from harness.told import docker_command, dockerfile, here
from ruamel.yaml import YAML

pytestmark = [timeout(120)]

PORTS = {"0.0.0.0:8000": "127.0.0.1:0", "0.0.0.0:8001": "127.0.0.1:0"}

APP = """
import os, time
from pathlib import Path

while Path("wait").exists():
    time.sleep(0.02)

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"from a container"]
"""


def loaded(name: str) -> Any:
    return YAML(typ="safe").load(shown(name, {}))


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


EXAMPLE = ROOT / "examples/container"


def test_dockerfile_is_the_example() -> None:
    assert shown("dockerfile", {}) == (EXAMPLE / "Dockerfile").read_text()


def test_dockerfile(launch):
    """Its command serves the example; what it exposes is what it binds; it is not root's, and gets its signal itself."""
    text = (EXAMPLE / "Dockerfile").read_text()
    found = dict(dockerfile(text))
    words = docker_command(text)
    assert [port for port in found["EXPOSE"].split() if f"0.0.0.0:{port}" in words] == found["EXPOSE"].split()
    assert found["USER"] == "app"
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert words[0] == "fermata"
    server = launch(None, *here(words[1:], PORTS), bind=None, cwd=EXAMPLE, env={"PYTHONPATH": str(ROOT / "py")})
    assert server.get("/", timeout=LONG).text == "one second later\n"


def test_files_of_the_dockerfile() -> None:
    """What it copies is there, and what it installs has our name."""
    for name, rest in dockerfile((EXAMPLE / "Dockerfile").read_text()):
        if name == "COPY":
            assert all((EXAMPLE / source).is_file() for source in rest.split()[:-1]), rest
    assert (EXAMPLE / "requirements.txt").read_text().split() == ["fermata-server"]
    assert 'name = "fermata-server"' in (ROOT / "pyproject.toml").read_text()


def test_compose(launch, directory):
    """The check fails while the application is loaded, and not any more when it is there."""
    service = loaded("compose")["services"]["app"]
    kind, *check = service["healthcheck"]["test"]
    assert (kind, check[0]) == ("CMD", "python3")
    (directory / "wait").touch()
    admin = f"127.0.0.1:{free_port()}"
    launch("app:app", "--admin-bind", admin, cwd=directory, ready=False)
    assert "127.0.0.1:8001" in check[-1]
    command = [sys.executable, *check[1:-1], check[-1].replace("127.0.0.1:8001", admin)]

    def healthy() -> bool:
        return subprocess.run(command, capture_output=True, timeout=LONG, env=environment(), check=False).returncode == 0

    assert not healthy()
    (directory / "wait").unlink()
    eventually(healthy, "it is healthy", within=LONG)


def test_kubernetes(launch, directory):
    """The command serves, the probes are answered on the port that it has for them, and the grace period is long enough."""
    spec = loaded("kubernetes")["spec"]
    (container,) = spec["containers"]
    program, *words = container["command"]
    assert program == "fermata"
    said = {word: float(words[words.index(word) + 1]) for word in ("--drain-delay", "--graceful-timeout")}
    assert spec["terminationGracePeriodSeconds"] > sum(said.values()) + 12
    assert f"0.0.0.0:{container['ports'][0]['containerPort']}" == words[words.index("--bind") + 1]
    words[words.index("--drain-delay") + 1] = "0.1"
    server = launch(None, *here(words, PORTS), bind=None, cwd=directory)
    assert server.get("/", timeout=LONG).text == "from a container"
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container[name]["httpGet"]
        assert f"0.0.0.0:{probe['port']}" == container["command"][container["command"].index("--admin-bind") + 1]
        with Connection(server.admin_address()) as c:
            assert c.request("GET", probe["path"]).status == 200, name


STEPS = ROOT / "scripts/dev/containerfile"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM x\nADD a b\n", "ADD is not known here"),
        ('FROM x\nUSER nobody\nCMD fermata app:app\n', "JSONDecodeError"),
        ('FROM x\nCMD ["true"]\n', "it would run as root"),
    ],
)
def test_steps_that_are_refused(tmp_path, text, said) -> None:
    """Where scripts/fresh-install does the steps of the Dockerfile."""
    (tmp_path / "Dockerfile").write_text(text)
    done = subprocess.run([sys.executable, STEPS, tmp_path, "http://127.0.0.1:1/", "x"], capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 1
    assert said in done.stderr
