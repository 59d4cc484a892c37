"""The databases that applications ask: each is started for the workload that names it, with its data, on a socket in a
directory of its own, and ended with it.  What it takes of the processors is ours (proc.OtherLoad), not the server's.
"""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .server import Failed, Process, as_user

ITEMS, USERS, ITEMS_EACH = 10_000, 1_000, 10
START_TIMEOUT = 30.0
POSTGRES_USER = "postgres"  # the system's: PostgreSQL refuses to run as root

SCHEMA = f"""
CREATE TABLE bench_user (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE bench_item (id integer PRIMARY KEY, user_id integer NOT NULL, name text NOT NULL, price integer NOT NULL);
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {USERS - 1})
    INSERT INTO bench_user SELECT i, 'user ' || (1000 + i) FROM n;
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {ITEMS - 1})
    INSERT INTO bench_item SELECT i, i % {USERS}, 'item ' || (10000 + i), 100 + i % 900 FROM n;
CREATE INDEX bench_item_user ON bench_item (user_id);
"""


def wait_for(what: str, process: Process, is_there: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not is_there():
        if process.ended():
            raise Failed(f"{what} has ended: {process.last_words()}")
        if time.monotonic() - began > START_TIMEOUT:
            raise Failed(f"{what} does not start: {process.last_words()}")
        time.sleep(0.05)


def run(command: list[str], user: str | None = None, text: str | None = None) -> None:
    done = subprocess.run(
        command, input=text or "", capture_output=True, text=True, check=False, cwd="/", **as_user(user)
    )
    if done.returncode:
        raise Failed(f"{command[0]}: {done.stderr.strip().splitlines()[-1]}")


@contextlib.contextmanager
def postgres(directory: Path) -> Iterator[dict[str, str]]:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not programs:
        raise Failed("PostgreSQL is not installed: scripts/install-deps bench does that")
    user, at, data = POSTGRES_USER if os.getuid() == 0 else None, programs[-1], directory / "data"
    if user:
        shutil.chown(directory, user)
    run([str(at / "initdb"), "-D", str(data), "-A", "trust", "-U", "bench", "--no-sync", "-E", "UTF8"], user)
    settings = ("listen_addresses=", "fsync=off", "max_connections=300", f"unix_socket_directories={directory}")
    command = [str(at / "postgres"), "-D", str(data), *(word for s in settings for word in ("-c", s))]
    with Process("postgres", command, {}, user) as process:
        ready = [str(at / "pg_isready"), "-q", "-h", str(directory)]
        wait_for("PostgreSQL", process, lambda: subprocess.run(ready, check=False).returncode == 0)
        psql = [str(at / "psql"), "-q", "-h", str(directory), "-U", "bench", "-v", "ON_ERROR_STOP=1", "postgres"]
        run(psql, text=SCHEMA + "ANALYZE;")
        yield {"BENCH_POSTGRES": str(directory)}


@contextlib.contextmanager
def redis(directory: Path) -> Iterator[dict[str, str]]:
    path, server = directory / "redis", shutil.which("redis-server")
    if not server:
        raise Failed("Redis is not installed: scripts/install-deps bench does that")
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", str(directory)]
    with Process("redis", [server, *options], {}) as process:
        wait_for("Redis", process, path.exists)
        yield {"BENCH_REDIS": str(path)}


@contextlib.contextmanager
def sqlite(directory: Path) -> Iterator[dict[str, str]]:
    path = directory / "bench.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL;" + SCHEMA)
        connection.commit()
    yield {"BENCH_SQLITE": str(path)}


BACKENDS = {"postgres": postgres, "redis": redis, "sqlite": sqlite}


@contextlib.contextmanager
def running(name: str | None) -> Iterator[dict[str, str]]:
    """The environment that applications find it by.  Raises Failed if it cannot be had."""
    if not name:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="fermata-bench-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        with BACKENDS[name](Path(directory)) as environment:
            yield environment
