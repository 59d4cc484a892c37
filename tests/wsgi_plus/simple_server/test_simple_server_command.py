"""python -m wsgi_plus.simple_server: what it takes, what it says, how it refuses and ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from byhand import BOUND
from harness.limits import ROOT, eventually
from harness.server import Server, environment

COMMAND = [sys.executable, "-m", "wsgi_plus.simple_server"]
PATH = {"PYTHONPATH": str(ROOT / "py")}

SHOP = """
from concurrent.futures import Future

def said(text):
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [text.encode()]
    return application

application = said("application")

def create_app(name="default", *, size=0):
    return said(f"{name} {size}")

class Site:
    inner = staticmethod(said("inner"))

waits = Future()

def parks(environ, start_response):
    yield waits

nothing = None
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "only_app.py").write_text("from shop import application as app\n")
    (tmp_path / "broken.py").write_text("raise LookupError('broken on purpose')\n")
    (tmp_path / "elsewhere").mkdir()
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Any]:
    servers: list[Server] = []

    def start(app: str, *options: str, cwd: Path = folder) -> Server:
        servers.append(Server(app, *options, program=COMMAND, env=PATH, cwd=cwd))
        return servers[-1].wait_ready()

    yield start
    for server in servers:
        server.stop()


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments]
    how: dict[str, Any] = {"cwd": cwd, "env": environment(PATH), "stdin": subprocess.DEVNULL, "timeout": 3 * BOUND}
    return subprocess.run(command, capture_output=True, text=True, **how)


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("shop", "application"),
        ("only_app", "application"),
        ("shop:application", "application"),
        ("shop:Site.inner", "inner"),
        ("shop:create_app()", "default 0"),
        ("shop:create_app('prod', size=-3)", "prod -3"),
    ],
)
def test_module_and_callable(start: Any, target: str, answer: str) -> None:
    assert start(target).get("/").text == answer


def test_chdir_and_pythonpath(start: Any, folder: Path) -> None:
    """The application is found in either, whatever the directory is that the server is started in."""
    assert start("shop", "--chdir", str(folder), cwd=folder / "elsewhere").get("/").text == "application"
    assert (
        start("only_app", "--pythonpath", f"/nowhere,{folder}", cwd=folder / "elsewhere").get("/").text == "application"
    )


@pytest.mark.parametrize(
    "target", ["no_such_module", "broken", "shop:no_such_name", "shop:nothing", "shop:create_app(x)"]
)
def test_application_that_cannot_be_loaded(folder: Path, target: str) -> None:
    """Exit code 3, and the traceback."""
    done = run("--bind", "127.0.0.1:0", target, cwd=folder)
    assert done.returncode == 3
    assert "Traceback" in done.stderr and "Listening" not in done.stderr
    wanted = {"broken": "broken on purpose", "shop:nothing": "shop:nothing is not callable"}
    assert wanted.get(target, "") in done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "MODULE"),
        (["--no-such-option", "shop"], "--no-such-option"),
        (["--threads", "0", "shop"], "--threads"),
        (["--threads", "many", "shop"], "--threads"),
        (["--thread", "4", "shop"], "--thread"),
        (["--keep-alive", "-1", "shop"], "--keep-alive"),
        (["--request-timeout", "nan", "shop"], "--request-timeout"),
        (["--send-timeout", "soon", "shop"], "--send-timeout"),
        (["--limit-request-body", "1.5", "shop"], "--limit-request-body"),
        (["--bind", "127.0.0.1", "shop"], "--bind"),
        (["--bind", "127.0.0.1:65536", "shop"], "--bind"),
        (["-b", ":http", "shop"], "--bind"),
        (["--chdir", "/no/such/folder", "shop"], "--chdir"),
    ],
)
def test_usage_error(folder: Path, arguments: list[str], named: str) -> None:
    """Exit code 2, and a message that names what was wrong."""
    done = run(*arguments, cwd=folder)
    assert done.returncode == 2
    assert named in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_help_says_the_defaults(folder: Path) -> None:
    done = run("--help", cwd=folder)
    assert done.returncode == 0
    for option, default in (
        ("--threads N", "[8]"),
        ("--keep-alive SEC", "[5.0]"),
        ("--bind HOST:PORT", "[127.0.0.1:8000]"),
    ):
        assert re.search(rf"{re.escape(option)}[^\[]*{re.escape(default)}", done.stdout), done.stdout
    assert "--allow-half-close" in done.stdout


def test_address_in_use(start: Any, folder: Path) -> None:
    host, port = start("shop").address
    done = run("--bind", f"{host}:{port}", "shop", cwd=folder)
    assert done.returncode == 1
    assert re.search(rf"Cannot listen on {host} port {port}: ", done.stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_drain(start: Any, number: int) -> None:
    """Exit code 0, and nothing but what it says of itself."""
    server = start("shop")
    assert server.get("/").status == 200
    server.signal(number)
    assert server.wait_exit() == 0
    line = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] \[INFO\] "
    assert re.fullmatch(rf"{line}Listening at: http://127\.0\.0\.1:\d+\n{line}Draining\n", server.log())


def test_parked_requests_are_shown(start: Any) -> None:
    """S12.6: on SIGUSR1, while it serves."""
    server = start("shop:parks")
    clients = [server.begin(f"/{n}") for n in range(3)]

    def shown() -> bool:
        at = server.log_size()
        os.kill(server.pid, signal.SIGUSR1)
        return bool(re.search(r"\d+ requests are parked(?:\nGET /\d: Future at 0x[0-9a-f]+){3}$", wait(server, at)))

    eventually(shown, "three are parked")
    for c in clients:
        c.close()


def wait(server: Server, at: int) -> str:
    return eventually(lambda: server.log(at) if server.log(at).endswith("\n") else "", "it says something")


def test_serves_after_many_signals(start: Any) -> None:
    """Signals that arrive while it is at work do no harm."""
    server = start("shop")
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        os.kill(server.pid, signal.SIGUSR1)
        assert server.get("/").text == "application"
