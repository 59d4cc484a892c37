"""Starts the server under test, watches what it writes, and ends it: only the process that it started, by its pid."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .admin import Admin
from .client import Address, Connection, Response, build
from .limits import APPS, LONG, PROMPT, ROOT, SLOW, eventually, fermata
from .process import Process

# What must never be in the log of a server, whatever a test does to it.
DEFECTS = re.compile(
    r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|SUMMARY: \w+Sanitizer|runtime error: |Fatal Python error"
    r"|Assertion .* failed|exception calling callback|double free|malloc\(\)|stack smashing"
)

POOL_THREAD = re.compile(r"fermata-\d+")  # the name of a thread that runs the application

# A test decides about these itself; what the person at the keyboard has set must not matter.
CLEARED = ("PORT", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONWARNINGS", "TMPDIR")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in CLEARED}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env["PYTHONPYCACHEPREFIX"] = str(ROOT / "build" / "pycache")  # nothing is left beside the sources
    env.update(extra or {})
    return env


def virtualenv() -> str:
    """The virtual environment that the tests run in: the one with the frameworks."""
    assert sys.prefix != sys.base_prefix, "run the tests from a virtual environment made from tests/requirements.txt"
    return sys.prefix


def run(*arguments: str, cwd: Path = APPS, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end: for usage errors and the like."""
    return subprocess.run(
        [str(fermata()), *arguments],
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=LONG,
    )


_started: list[Server] = []


def end_all() -> None:
    """Ends what is still running when the tests are over, because a test was interrupted."""
    for server in _started:
        if server.alive():
            server.discard()


class Server:
    """One running server.  Use the `launch` and `serve` fixtures, which also end it and look at how it ended."""

    def __init__(
        self,
        app: str | None,
        *options: str,
        bind: Sequence[str] | None = ("127.0.0.1:0",),
        admin: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: Path = APPS,
        expect: int = 0,
        program: Sequence[str] | None = None,
    ) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="fermata-"))
        self.expect = expect
        self._probe = self.dir / "probe"
        self._err = self.dir / "stderr"
        self._out = self.dir / "stdout"
        self._ended = False
        self.spoiled = False  # a test with it has failed
        self.final_log = ""  # both are set by stop()
        self.stdout_text = ""
        self._binds = len(bind) if bind is not None else 1
        self._wants_admin = admin
        command = [*(program or [str(fermata())]), *options]
        for address in bind or ():
            command += ["--bind", address]
        if admin:
            command += ["--admin-bind", "127.0.0.1:0"]
        if app is not None:
            command.append(app)
        self.command = command
        with self._err.open("wb") as err, self._out.open("wb") as out:
            self._popen = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment({"FERMATA_TEST_PROBE": str(self._probe), **(env or {})}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        _started.append(self)
        self.pid = self._popen.pid
        self.process = Process(self.pid)

    # Life

    def wait_ready(self) -> Server:
        """Returns when it listens everywhere it was asked to."""

        def listening() -> bool:
            if self._popen.poll() is not None:
                raise AssertionError(f"ended with {self._popen.returncode} instead of serving:\n{self.log_now()}")
            return len(self.addresses()) >= self._binds and (not self._wants_admin or self.admin_address() is not None)

        eventually(listening, "the server says where it listens", within=LONG)
        return self

    def alive(self) -> bool:
        return self._popen.poll() is None

    def signal(self, number: int) -> None:
        if self.alive():
            os.kill(self.pid, number)

    def wait_exit(self, within: float = LONG) -> int:
        """The exit code (negative: the signal that ended it); fails when it does not end."""
        try:
            return self._popen.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"has not ended within {within:g} s") from None

    def stop(self) -> None:
        """Ends it with SIGTERM and looks at how it ended."""
        if self._ended:
            return
        self._ended = True
        try:
            had_ended = not self.alive()
            self.signal(signal.SIGTERM)
            stuck = False
            try:
                code = self._popen.wait(30 + LONG)  # the default graceful timeout, and some
            except subprocess.TimeoutExpired:
                stuck = True
                self._popen.send_signal(signal.SIGABRT)  # a core, or faulthandler's stacks, where they are on
                try:
                    code = self._popen.wait(PROMPT)
                except subprocess.TimeoutExpired:
                    self._popen.kill()
                    code = self._popen.wait()
            log = self.log_now()
            assert not stuck, f"did not end after SIGTERM\n{log[-4000:]}"
            assert code == self.expect, f"{'had ended' if had_ended else 'ended'} with {code}\n{log[-4000:]}"
            self.check_log()
        finally:
            if self.alive():
                self._popen.kill()
                self._popen.wait()
            self.final_log = self.log_now()
            self.stdout_text = self.stdout()
            shutil.rmtree(self.dir, ignore_errors=True)

    def discard(self) -> None:
        """Ends it without a look at how: a test has failed with it already."""
        self._ended = True
        self._popen.terminate()
        try:
            self._popen.wait(2)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self.final_log = self.log_now()
        shutil.rmtree(self.dir, ignore_errors=True)

    # What it writes

    def log(self, start: int = 0) -> str:
        """The error log from a byte position on, when nothing more comes."""
        if self._err.exists():
            self.log_size()
        return self.log_now(start)

    def log_now(self, start: int = 0) -> str:
        """The same, as far as it has been written."""
        if not self._err.exists():
            return self.final_log
        with self._err.open("rb") as f:
            f.seek(start)
            return f.read().decode(errors="replace")

    def log_size(self) -> int:
        """When nothing more comes: lines are written by a thread, and those of what is over may be under way."""
        size, until = -1, time.monotonic() + PROMPT
        while size != (size := self._err.stat().st_size if self._err.exists() else 0) and time.monotonic() < until:
            time.sleep(0.05)
        return size

    def stdout(self) -> str:
        return self._out.read_text(errors="replace")

    def wait_log(self, pattern: str, *, start: int = 0, within: float = PROMPT) -> re.Match[str]:
        found = re.compile(pattern, re.MULTILINE)
        return eventually(lambda: found.search(self.log_now(start)), f"/{pattern}/ in the log", within=within)

    def wait_stack(self, pattern: str) -> None:
        """Waits for a stack in the log; without a GIL it says that it cannot show one."""
        self.wait_log(pattern if self.has_gil() else r"the stack cannot be shown, as there is no GIL")

    def has_gil(self) -> bool:
        """Is it built with a Python that is not free-threaded?"""
        return self.wait_log(r"Listening at: .*, Python [0-9.a-z+]*?(t?), fermata").group(1) == ""

    def check_log(self, start: int = 0) -> None:
        found = DEFECTS.search(self.log_now(start))
        assert not found, f"the log has {found.group(0)!r}:\n{self.log_now(start)[-8000:]}" if found else ""

    # Where it is

    def addresses(self) -> list[Address]:
        found: list[Address] = []
        for line in self.log_now().splitlines():
            _, said, where = line.partition("Listening at: ")
            if said:
                found += [_address(text) for text in re.findall(r"https?://[^\s,/]+|unix:[^\s,]+", where)]
        return found

    @property
    def address(self) -> Address:
        return self.addresses()[0]

    @property
    def port(self) -> int:
        address = self.address
        assert not isinstance(address, str)
        return address[1]

    def admin_address(self) -> Address | None:
        found = re.search(r"Admin at: (\S+)", self.log_now())
        return _address(found.group(1)) if found else None

    @property
    def admin(self) -> Admin:
        address = self.admin_address()
        assert address is not None, "started without admin=True"
        return Admin(address)

    # Talking to it

    def connect(self, **how: Any) -> Connection:
        return Connection(self.address, **how)

    def request(self, method: str, target: str, *args: Any, timeout: float = PROMPT, **more: Any) -> Response:
        """One request on a connection of its own."""
        with self.connect(timeout=timeout) as c:
            return c.request(method, target, *args, **more)

    def get(self, target: str, *args: Any, **more: Any) -> Response:
        return self.request("GET", target, *args, **more)

    def begin(self, target: str, **how: Any) -> Connection:
        """A connection on which a GET has been sent and nothing is read yet."""
        c = self.connect(**how)
        c.send(build("GET", target))
        return c

    def park(self, target: str, key: str, **how: Any) -> Connection:
        """The same, when the application has recorded under key that it is parking, and no step runs any more."""
        c = self.begin(target, **how)
        self.wait_events(key, "parking")
        self.admin.wait_in_flight("running", 0)
        return c

    def call(self, function: str, *args: Any, timeout: float = PROMPT) -> Any:
        """Calls "module.function" inside the server, on a thread that belongs to the test application (apps/probe.py);
        arguments and result are JSON."""
        eventually(self._probe.exists, "the application has loaded its probe", within=LONG)
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout)
            s.connect(str(self._probe))
            s.sendall(json.dumps([function, args]).encode() + b"\n")
            with s.makefile("rb") as f:
                line = f.readline()
        assert line, f"no answer from {function}"
        ok, value = json.loads(line)
        assert ok, f"{function}: {value}"
        return value

    def events(self, key: str) -> list[Any]:
        """What the application has recorded under key."""
        return self.call("probe.events", key)

    def wait_events(self, key: str, *wanted: str, within: float = PROMPT) -> list[Any]:
        """Waits until each of the named events is recorded under key (as often as it is named)."""
        names: list[str] = []

        def there() -> list[Any] | None:
            events = self.events(key)
            names[:] = [event[0] for event in events]
            return events if all(names.count(w) >= wanted.count(w) for w in wanted) else None

        return eventually(there, f"{wanted} recorded under {key}, which has {names}", within=within)


def _address(text: str) -> Address:
    kind, _, rest = text.partition(":")
    if kind == "unix":
        return rest
    host, _, port = rest.lstrip("/").rstrip("/").rpartition(":")
    return host.strip("[]"), int(port)


class Pool:
    """Servers that several tests of a module share: one for each command line, started when first asked for, again if
    it has died, or a test has failed that may have left something behind in it."""

    def __init__(self) -> None:
        self._servers: dict[Any, Server] = {}

    def get(self, app: str, *options: str, **more: Any) -> Server:
        key = (app, options, json.dumps(more, sort_keys=True, default=str))
        server = self._servers.get(key)
        if server is not None and (server.spoiled or not server.alive()):
            server.discard()
            server = None
        if server is None:
            server = self._servers[key] = Server(app, *options, "--graceful-timeout", "5", **more).wait_ready()
        return server

    def stop(self) -> None:
        errors = []
        for server in self._servers.values():
            try:
                if server.spoiled:
                    server.discard()
                else:
                    server.stop()
            except AssertionError as error:
                errors.append(f"{' '.join(server.command)}: {error}")
        self._servers.clear()
        assert not errors, "\n".join(errors)


def wait_refused(address: Address, within: float = PROMPT) -> None:
    """Returns when no process listens there any more."""

    def refused() -> bool:
        try:
            Connection(address, timeout=1).close()
        except OSError:
            return True
        return False

    eventually(refused, "connections are refused", within=within)


def sleep(seconds: float) -> None:
    """A pause that a slow machine needs longer."""
    time.sleep(seconds * min(SLOW, 3))
