"""The servers whose results are published, and how each is started.

Those from PyPI are looked for in the virtual environment of the benchmarks (`make bench-venv`).
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .launcher import CannotStart, Settings

__all__ = ["KNOWN", "Known"]

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / "build" / "bench" / "venv"
PY = str(ROOT / "py")

OURS = {
    "deadline": "--request-timeout {seconds}",
    "drain": "--graceful-timeout {seconds}",
    "send_timeout": "--send-timeout {seconds}",
    "keep_alive": "--keep-alive {seconds}",
    "body_limit": "--limit-request-body {bytes}",
    "threads": "--threads {n}",
    "half_close": "--allow-half-close",
}

# wsgi_plus.simple_server, and the worker for gunicorn, log what is parked when they get SIGUSR1: a line each, below one that counts them.
PARKED = """
import os, signal, sys, time
pid, path, what = sys.argv[1:]
with open(path) as log:
    log.seek(0, os.SEEK_END)
    os.kill(int(pid), signal.SIGUSR1)
    said = ""
    for _ in range(250):
        said += log.read()
        if " requests are parked" in said:
            break
        time.sleep(0.02)
lines = [line for line in said.partition(" requests are parked")[2].splitlines() if ": " in line and line[0] != "["]
print(sum(line.endswith(": its client") == (what == "client") for line in lines))
"""


@dataclass(frozen=True)
class Known:
    name: str
    server: str
    version: tuple[str, ...]
    """A command whose output has the version in it."""
    options: dict[str, str]

    def settings(self) -> Settings:
        """Raises CannotStart where it is not installed."""
        program = Path(self.server.split()[0])
        if not program.exists():
            raise CannotStart(
                f"{program} is not there: make it with `make{' bench-venv' if VENV in program.parents else ''}`"
            )
        return Settings(server=self.server, paths=(PY,), **self.options)

    def find_version(self) -> str:
        done = subprocess.run(self.version, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        found = re.search(r"\d+\.\d+(\.\w+)*", done.stdout + done.stderr)
        return found[0] if found else "of unknown version"


def _pip(package: str) -> tuple[str, ...]:
    return (str(VENV / "bin/python"), "-c", f"import importlib.metadata as m; print(m.version({package!r}))")


_BIN = VENV / "bin"

KNOWN = {
    "fermata": Known(
        "Fermata",
        f"{ROOT}/build/fermata --bind {{host}}:{{port}} --admin-bind {{host}}:{{extra_port}} {{options}} {{app}}",
        (f"{ROOT}/build/fermata", "--version"),
        {
            **OURS,
            "parked": "sh -c \"curl -s http://{host}:{extra_port}/metrics | grep 'in_flight.*parked_{what}'\"",
        },
    ),
    "simple_server": Known(
        "wsgi_plus.simple_server",
        f"{sys.executable} -m wsgi_plus.simple_server --bind {{host}}:{{port}} {{options}} {{app}}",
        (sys.executable, "-c", f"import re; print(re.search('## ([0-9.]+)', open('{ROOT}/CHANGELOG.md').read())[1])"),
        {**OURS, "parked": f"{sys.executable} -c {shlex.quote(PARKED)} {{pid}} {{log}} {{what}}"},
    ),
    "gunicorn": Known(
        "gunicorn, gthread",
        f"{_BIN}/gunicorn --bind {{host}}:{{port}} --worker-class gthread --threads 8 --no-control-socket "
        "{options} {app}",
        _pip("gunicorn"),
        {"drain": "--graceful-timeout {whole_seconds}", "threads": "--threads {n}"},
    ),
    "gunicorn_worker": Known(
        "gunicorn, wsgi_plus.gunicorn",
        f"{_BIN}/gunicorn --bind {{host}}:{{port}} --worker-class wsgi_plus.gunicorn.Worker --threads 8 "
        "--no-control-socket {options} {app}",
        _pip("gunicorn"),
        {
            "deadline": "--env WSGI_PLUS_REQUEST_TIMEOUT={seconds}",
            "drain": "--graceful-timeout {whole_seconds}",
            "send_timeout": "--env WSGI_PLUS_SEND_TIMEOUT={seconds}",
            "keep_alive": "--keep-alive {whole_seconds}",
            "body_limit": "--env WSGI_PLUS_LIMIT_REQUEST_BODY={bytes}",
            "threads": "--threads {n}",
            "half_close": "--env WSGI_PLUS_ALLOW_HALF_CLOSE=1",
            "parked": f"{sys.executable} -c {shlex.quote(PARKED)} {{pid}} {{log}} {{what}}",
        },
    ),
    "uwsgi": Known(
        "uWSGI",
        f"{_BIN}/uwsgi --http-socket {{host}}:{{port}} --threads 8 --enable-threads --lazy-apps --master --die-on-term "
        "--need-app {options} --module {app}",
        _pip("uwsgi"),
        {"threads": "--threads {n}"},
    ),
    "waitress": Known(
        "waitress",
        f"{_BIN}/waitress-serve --listen={{host}}:{{port}} --threads=8 {{options}} {{app}}",
        _pip("waitress"),
        {"threads": "--threads={n}", "body_limit": "--max-request-body-size={bytes}"},
    ),
    "granian": Known(
        "granian",
        f"{_BIN}/granian --interface wsgi --host {{host}} --port {{port}} --blocking-threads 8 --no-ws "
        "{options} {app}",
        _pip("granian"),
        {"threads": "--blocking-threads {n}"},
    ),
}
