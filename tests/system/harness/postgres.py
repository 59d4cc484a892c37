"""A PostgreSQL of the tests' own: a cluster in a temporary directory, on a unix socket in it, that ends with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from .limits import LONG, eventually

USER = "site"  # the cluster's superuser
SYSTEM_USER = "postgres"  # PostgreSQL refuses to run as root
MISSING = "there is no PostgreSQL in {}: scripts/install-deps check"
PLACE = Path("/usr/lib/postgresql")


def programs(place: Path = PLACE) -> Path:
    """The directory of the newest version's programs.  Without one the test is skipped, and fails if CI=true."""
    found = sorted(place.glob("*/bin/postgres"), key=lambda path: int(path.parent.parent.name))
    if found:
        return found[-1].parent
    if os.environ.get("CI") == "true":
        pytest.fail(MISSING.format(place), pytrace=False)
    pytest.skip(MISSING.format(place))


class Cluster:
    """A running one, that takes up to ``most`` connections.  Clients find it by ``variables``, those of libpq."""

    def __init__(self, most: int = 100) -> None:
        at = programs()
        self.dir = Path(tempfile.mkdtemp(prefix="fermata-postgres-"))
        self.variables = {"PGHOST": str(self.dir), "PGUSER": USER, "PGDATABASE": "postgres"}
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self.dir / "log"
        as_user: dict[str, Any] = {"cwd": "/"}
        if os.getuid() == 0:
            shutil.chown(self.dir, SYSTEM_USER)
            as_user |= {"user": SYSTEM_USER, "group": SYSTEM_USER, "extra_groups": []}
        try:
            data = str(self.dir / "data")
            self._run(at / "initdb", "-D", data, "-A", "trust", "-U", USER, "-E", "UTF8", "--no-sync", **as_user)
            settings = (
                "listen_addresses=",
                "fsync=off",
                f"max_connections={most}",
                f"unix_socket_directories={self.dir}",
            )
            command = [str(at / "postgres"), "-D", data, *(word for s in settings for word in ("-c", s))]
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **as_user)
            eventually(lambda: self._is_ready(at), "PostgreSQL is ready", within=LONG)
        except BaseException:
            self.close()
            raise

    def _run(self, program: Path, *arguments: str, **how: Any) -> None:
        ran = subprocess.run(
            [str(program), *arguments], capture_output=True, text=True, timeout=2 * LONG, check=False, **how
        )
        assert ran.returncode == 0, f"{program}: {ran.stderr}"

    def _is_ready(self, at: Path) -> bool:
        assert self._process is not None and self._process.poll() is None, self._log.read_text(errors="replace")
        return (
            subprocess.run([str(at / "pg_isready"), "-q", "-h", str(self.dir)], timeout=LONG, check=False).returncode
            == 0
        )

    def close(self) -> None:
        """Ends it, whichever clients are still connected, and removes it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # "fast": it ends its own processes
            try:
                self._process.wait(LONG)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)  # "immediate"
                self._process.wait(LONG)
        shutil.rmtree(self.dir, ignore_errors=True)
