"""The server that is examined: started here, or found at a URL."""

from __future__ import annotations

import json
import math
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from .check import LONG, PROMPT, Failed, NotSupported
from .client import Address, Connection

__all__ = ["OPTIONS", "PLACEHOLDERS", "CannotStart", "Server", "Settings", "Started"]

HERE = Path(__file__).resolve().parent
APPS = HERE / "apps"
APP = "conformance_app:application"

OPTIONS = {
    # what a case asks for: how the setting is called, and what stands for its value
    "deadline": "seconds",
    "drain": "seconds",
    "send_timeout": "seconds",
    "keep_alive": "seconds",
    "body_limit": "bytes",
    "threads": "n",
    "half_close": "",
}

WAYS = {"seconds": ("seconds", "whole_seconds")}
"""A value that may be written in several ways: for servers that take whole seconds only, they are rounded up."""

PLACEHOLDERS = {
    # what may stand in braces in a setting
    "server": ("host", "port", "app", "module", "callable", "apps", "python", "extra_port", "log", "options"),
    "parked": ("host", "port", "extra_port", "pid", "log", "what"),
    **{option: WAYS.get(value, (value,) if value else ()) for option, value in OPTIONS.items()},
}


class CannotStart(Exception):
    """There is no server to examine: nothing can be said about it."""


@dataclass(frozen=True)
class Settings:
    """How the server is started, or where it is."""

    server: str = ""
    """The command: PLACEHOLDERS has what may stand in it."""
    url: str = ""
    control: str = ""
    """With a URL: the CONFORMANCE_CONTROL that the server was started with."""
    deadline: str = ""
    drain: str = ""
    send_timeout: str = ""
    keep_alive: str = ""
    body_limit: str = ""
    threads: str = ""
    half_close: str = ""
    parked: str = ""
    """A command that prints how many requests are parked, on {what}: ``future`` or ``client``."""
    helper: str = "wsgi_plus:blocking"
    """MODULE:FUNCTION that makes a plain WSGI application of a WSGI+ application (S17)."""
    validator: str = "wsgi_plus:validated"
    """MODULE:FUNCTION that puts middleware around an application, with its checks between (S15.9)."""
    middleware: str = ""
    """MODULE:FACTORY that is put around every application."""
    log: str = ""
    """The file that it writes its log to; otherwise what it writes to its standard output is looked at."""
    paths: tuple[str, ...] = ()
    """Directories for the server's PYTHONPATH."""


class FreePort:
    """A free port of 127.0.0.1: below those that the kernel gives away by itself, and another than those of
    suites that run beside this one, until release()."""

    def __init__(self) -> None:
        for _ in range(1000):
            self.number = random.randrange(10_000, 32_000)
            self._claim = socket.socket(socket.AF_UNIX)
            try:
                self._claim.bind(f"\0wsgi_plus-conformance-{self.number}")
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", self.number))
                return
            except OSError:
                self.release()
        raise CannotStart("no port of 127.0.0.1 is free")

    def release(self) -> None:
        self._claim.close()


class Started:
    """The servers that run, so that all can be ended at once, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._servers: set[Server] = set()
        self._ended = False

    def add(self, server: Server) -> None:
        with self._lock:
            self._servers.add(server)
            ended = self._ended
        if ended:
            server.kill()

    def discard(self, server: Server) -> None:
        with self._lock:
            self._servers.discard(server)

    def end(self) -> None:
        """Kills them, and those that are added from now on."""
        with self._lock:
            self._ended = True
            servers = list(self._servers)
        for server in servers:
            server.kill()


class Server:
    """One running server.  A context manager: leaving it ends the process, if it is ours."""

    def __init__(self, settings: Settings, options: Mapping[str, float], started: Started | None = None) -> None:
        self.settings = settings
        self.options = dict(options)
        self._started = started or Started()
        self._process: subprocess.Popen[bytes] | None = None
        self._dir = tempfile.TemporaryDirectory(prefix="conformance-")
        self.address: Address
        self._ports = FreePort(), FreePort()
        self.extra_port = self._ports[1].number
        if settings.url:
            if options:
                self._let_go()
                raise NotSupported("needs a server of its own: use --server")
            parts = urlsplit(settings.url)
            self.address = (parts.hostname or "127.0.0.1", parts.port or 80)
            self.control_address = settings.control
            if not self._answers():
                self._let_go()
                raise CannotStart(f"{settings.url} does not answer as {APP} does")
        else:
            try:
                self._start()
            except BaseException:
                self.stop()
                raise

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    # Life

    def _start(self) -> None:
        self.address = ("127.0.0.1", self._ports[0].number)
        self.control_address = f"{self._dir.name}/control"
        words = self._command()
        with open(f"{self._dir.name}/log", "ab") as log:  # the command may have it written to by name as well
            try:
                self._process = subprocess.Popen(
                    words,
                    cwd=APPS,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise CannotStart(f"{words[0]}: {error.strerror}") from None
        self._started.add(self)
        deadline = time.monotonic() + LONG
        while not self._answers():
            if self._process.poll() is not None:
                raise CannotStart(f"{shlex.join(words)}: ended with {self._process.returncode}\n{self.log()[-3000:]}")
            if time.monotonic() > deadline:
                raise CannotStart(f"{shlex.join(words)}: does not answer\n{self.log()[-3000:]}")
            time.sleep(0.02)

    def _command(self) -> list[str]:
        module, _, name = APP.partition(":")
        host, port = self.address
        values = {
            "host": host,
            "port": port,
            "app": APP,
            "module": module,
            "callable": name,
            "apps": APPS,
            "python": sys.executable,
            "extra_port": self.extra_port,
            "log": self._log_path,
        }
        more = []
        for option, value in self.options.items():
            template = getattr(self.settings, option)
            if not template:
                raise NotSupported(f"needs --{option.replace('_', '-')}")
            number = int(value) if value == int(value) else value
            written = {OPTIONS[option] or "_": number, "whole_seconds": math.ceil(value)}
            more += [word.format(**written) for word in shlex.split(template)]
        words: list[str] = []
        for word in shlex.split(self.settings.server):
            words += more if word == "{options}" else [word.format(**values, options=shlex.join(more))]
        return words if "{options}" in self.settings.server else words + more

    def _environment(self) -> dict[str, str]:
        paths = [str(APPS), *self.settings.paths]
        more = {
            "CONFORMANCE_CONTROL": self.control_address,
            "CONFORMANCE_HELPER": self.settings.helper,
            "CONFORMANCE_VALIDATOR": self.settings.validator,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
        }
        if "PYTHONPYCACHEPREFIX" not in os.environ:  # nothing is left beside the sources
            more["PYTHONDONTWRITEBYTECODE"] = "1"
        if self.settings.middleware:
            more["CONFORMANCE_MIDDLEWARE"] = self.settings.middleware
        return {**os.environ, **more}

    def _answers(self) -> bool:
        try:
            with Connection(self.address, timeout=PROMPT) as c:
                c.get("/", close=True)
                return c.response().status == 200
        except (OSError, Failed):
            return False

    @property
    def pid(self) -> int:
        if self._process is None:
            raise NotSupported("needs a server that the suite has started: use --server")
        return self._process.pid

    def alive(self) -> bool:
        return self._process is None or self._process.poll() is None

    def terminate(self) -> None:
        """Asks it to drain (SIGTERM)."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, within: float) -> int | None:
        """The exit code; None if it has not ended by then."""
        if self._process is None:
            raise NotSupported("needs a server that the suite has started: use --server")
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """Ends the process, and what it has started."""
        process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                pass
            self.kill()
            self._process = None
            try:
                process.wait(LONG)
            except subprocess.TimeoutExpired:
                pass  # it hangs in the kernel, and cannot be ended
        self._started.discard(self)
        self._let_go()

    def kill(self) -> None:
        """Ends all that has been started at once.  In any thread, also while another one uses the server."""
        process = self._process
        if process is not None:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # a session of its own: its workers, too
            except ProcessLookupError:
                pass

    def _let_go(self) -> None:
        for port in self._ports:
            port.release()
        self._dir.cleanup()

    # Looking into it

    @property
    def _log_path(self) -> str:
        return self.settings.log or f"{self._dir.name}/log"

    def log_size(self) -> int:
        return os.path.getsize(self._log_path) if os.path.exists(self._log_path) else 0

    def log(self, start: int = 0) -> str:
        """What it has written, from a position on."""
        if not os.path.exists(self._log_path):
            raise NotSupported("needs --log, or a server that the suite has started: use --server")
        with open(self._log_path, "rb") as file:
            file.seek(start)
            return file.read().decode(errors="replace")

    def control(self, function: str, *arguments: Any) -> Any:
        """Calls a function of apps/stage.py, or MODULE.FUNCTION of another, in the server."""
        where = self.control_address
        if not where:
            raise NotSupported("needs --control")
        family = socket.AF_UNIX if "/" in where else socket.AF_INET
        with socket.socket(family) as peer:
            peer.settimeout(LONG)
            host, _, port = where.rpartition(":")
            try:
                peer.connect(where if "/" in where else (host, int(port)))
                peer.sendall(json.dumps([function, arguments]).encode() + b"\n")
                with peer.makefile("rb") as lines:
                    line = lines.readline()
            except OSError as error:
                raise Failed(f"the process that runs the application does not answer: {error}") from None
        if not line:
            raise Failed("the process that runs the application has ended")
        fine, value = json.loads(line)
        if not fine:
            raise Failed(f"{function}: {value}")
        return value

    def parked(self, what: str = "future") -> int:
        """What the server says of how many requests are parked, on a ``future`` or on a ``client``."""
        if not self.settings.parked:
            raise NotSupported("needs --parked")
        if what != "future" and "{what}" not in self.settings.parked:
            raise NotSupported("needs --parked with {what}")
        values = {"host": self.address[0], "port": self.address[1], "extra_port": self.extra_port, "pid": self.pid}
        words = [word.format(**values, log=self._log_path, what=what) for word in shlex.split(self.settings.parked)]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONG)
        try:
            return int(float(done.stdout.split()[-1]))
        except (IndexError, ValueError):
            raise Failed(f"{shlex.join(words)} said {done.stdout!r} {done.stderr!r}") from None
