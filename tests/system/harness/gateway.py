"""examples/django_site, as its README.md says: its commands, and the toy upstream that it is in front of."""

from __future__ import annotations

import json
import re
import select
import shlex
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from .client import Connection
from .limits import LONG, ROOT
from .server import environment, virtualenv

HERE = ROOT / "examples" / "django_site"
README = (HERE / "README.md").read_text()
HOST = "127.0.0.1"  # of ALLOWED_HOSTS

COMMANDS = {"fermata": "build/fermata .* gateway.wsgi", "simple_server": ".*wsgi_plus.simple_server"}


def told(pattern: str) -> list[str]:
    """The words of the one command in README.md that matches."""
    (line,) = [line.strip() for line in README.splitlines() if re.match(f"    {pattern}", line)]
    return shlex.split(line.replace("/tmp/site", virtualenv()))


def make(env: Mapping[str, str]) -> None:
    """Makes the site's database, by the commands of README.md with these environment variables."""
    for pattern in (".*manage.py migrate", ".*manage.py loaddata", ".*manage.py createsuperuser"):
        words = told(pattern)
        variables = {"PYTHONPATH": str(ROOT / "py"), **env}
        while "=" in words[0]:
            name, _, variables[name] = words.pop(0).partition("=")
        ran = subprocess.run(
            words, cwd=ROOT, env=environment(variables), capture_output=True, text=True, timeout=2 * LONG, check=False
        )
        assert ran.returncode == 0, ran.stderr


class Toy:
    """The toy upstream, started as README.md says but on a free port."""

    def __init__(self) -> None:
        python, script, _ = told("python3 .*slow_upstream")
        assert python == "python3"
        self._process = subprocess.Popen(
            [sys.executable, script, "0"], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], LONG)[0]
        self.address = self._process.stdout.readline().split("//")[1].strip()

    def stats(self) -> dict[str, int]:
        host, _, port = self.address.rpartition(":")
        with Connection((host, int(port))) as c:
            found: Any = json.loads(c.request("GET", "/stats").text)
        return found  # type: ignore[no-any-return]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
