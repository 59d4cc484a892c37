"""Starts a server, waits for its first answer, and ends it with all its processes."""

import contextlib
import http.client
import os
import random
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, TypeVar

from . import proc
from .paths import APPS, BUILD, ROOT
from .peers import Peer, Setup

T = TypeVar("T", bound="Process")

START_TIMEOUT = 30.0
STOP_TIMEOUT = 3.0


class Failed(Exception):
    """A server or a load generator that does not do what it should; the text says what happened."""


def free_port() -> int:
    """A port below those that the kernel gives to clients, so that none of theirs is in the way."""
    for _ in range(1000):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise Failed("no port is free")


def environment(more: dict[str, str]) -> dict[str, str]:
    """The same small environment for every server."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": str(APPS), **more}


def shown(command: Iterable[str], env: dict[str, str]) -> str:
    """A command line as it can be repeated in the checkout's directory."""
    settings = [f"{name}={value}" for name, value in sorted({"PYTHONPATH": str(APPS), **env}.items())]
    return " ".join([*settings, shlex.join(command)])


def as_user(user: str | None) -> dict[str, Any]:
    """What subprocess takes to run something as that user, whose groups are its own."""
    return {"user": user, "group": user, "extra_groups": []} if user else {}


class Process:
    """A process in a group of its own, with its output in a log; as another user if one is named."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], user: str | None = None) -> None:
        logs = ROOT / BUILD / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._log = logs / f"{name}.log"
        with self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment(env),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    **as_user(user),
                )
            except OSError as error:
                raise Failed(f"{command[0]} cannot be started: {error}") from error
        self.pid = self._process.pid

    def ended(self) -> bool:
        return self._process.poll() is not None

    def last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"

    def stop(self) -> None:
        """SIGTERM to the group, and after a while SIGKILL: some peers wait for connections that no client closes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def answers(port: int, path: str) -> bool:
    """Whether there is a server that begins to answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=START_TIMEOUT) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
            return client.recv(65536).startswith(b"HTTP/1.")
    except OSError:
        return False


class Server(Process):
    """A peer that serves.  `first_answer_ms` is how long that took from its start."""

    def __init__(self, peer: Peer, setup: Setup, path: str) -> None:
        self.peer, self.setup = peer, setup
        began = time.monotonic()
        super().__init__(peer.name, peer.command(setup), setup.env)
        try:
            while not answers(setup.port, path):
                if self.ended():
                    raise Failed(f"{peer.label} has ended: {self.last_words()}")
                if time.monotonic() - began > START_TIMEOUT:
                    raise Failed(f"{peer.label} does not answer: {self.last_words()}")
                time.sleep(0.001)
        except BaseException:
            self.stop()
            raise
        self.first_answer_ms = (time.monotonic() - began) * 1000

    def pids(self) -> list[int]:
        return proc.tree(self.pid)


def check(port: int, path: str, headers: dict[str, str], body: bytes | None, length: int) -> None:
    """One request as the load will send it: the answer must be 200 and as long as it should be."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(client):
        try:
            client.request("POST" if body else "GET", path, body, headers)
            response = client.getresponse()
            got = len(response.read())
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"no answer to {path}: {error!r}") from error
    if response.status != 200 or got != length:
        raise Failed(f"wrong answer to {path}: {response.status}, {got} bytes instead of {length}")
