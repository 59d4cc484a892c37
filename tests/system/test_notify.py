"""What a service manager is told: sd_notify(3), with a socket of the tests' own in its place."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time

import pytest
from harness.limits import LONG, PROMPT, SANITIZED, eventually
from harness.process import Process

both = pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])


class Manager:
    """Reads what comes, in order, with the process that has sent it."""

    def __init__(self, address: str, *, reading: bool = True) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.sock.bind("\0" + address[1:] if address.startswith("@") else address)
        self.address = address
        self.lines: list[str] = []
        self.pids: set[int] = set()
        self._thread = threading.Thread(target=self._read, daemon=True)
        if reading:
            self.read()

    def read(self) -> None:
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self.sock.recvmsg(4096, 1024)
            except OSError:
                return
            if not data:
                return
            self.pids |= {int.from_bytes(value[:4], "little") for _, _, value in ancillary}
            self.lines += data.decode().splitlines()

    def wait(self, pattern: str, number: int = 1, within: float = LONG) -> str:
        """The line that matches as the number-th one."""

        def found():
            matching = [line for line in self.lines if re.fullmatch(pattern, line)]
            return matching[number - 1] if len(matching) >= number else None

        return eventually(found, f"{pattern} (so far: {self.lines})", within=within)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:  # wakes the thread up
            s.sendto(b"", "\0" + self.address[1:] if self.address.startswith("@") else self.address)
        self._thread.join()
        self.sock.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"@fermata-test-{os.getpid()}-{time.monotonic_ns()}")
    yield made
    made.close()


@both
def test_ready_and_stopping(launch, manager, workers):
    """READY when it serves, not before; STOPPING with the time that it may take."""
    server = launch("rights:app", *workers, "--graceful-timeout", "7", env={"NOTIFY_SOCKET": manager.address})
    manager.wait("READY=1")
    assert server.get("/who").status == 200
    server.stop()
    manager.wait("STOPPING=1")
    assert int(manager.wait(r"EXTEND_TIMEOUT_USEC=\d+").partition("=")[2]) >= 7_000_000
    assert manager.lines.index("READY=1") < manager.lines.index("STOPPING=1")
    assert manager.lines.count("READY=1") == 1
    assert manager.pids == {server.pid}, "a service has NotifyAccess=main"


@both
def test_not_ready_while_it_loads(launch, manager, tmp_path, workers):
    (tmp_path / "broken").write_text("hang")
    env = {"NOTIFY_SOCKET": manager.address, "WORKERS_BREAK": str(tmp_path / "broken")}
    server = launch("workers:app", *workers, ready=False, env=env)
    time.sleep(1)
    assert "READY=1" not in manager.lines
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert "READY=1" not in manager.lines


@both
def test_the_application_finds_nothing(launch, manager, workers):
    """What it starts would speak for the server."""
    env = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}
    server = launch("rights:app", *workers, env=env)
    assert json.loads(server.get("/variables").text) == []
    assert server.get("/fork").status == 200
    server.stop()
    manager.wait("STOPPING=1")
    assert manager.lines.count("STOPPING=1") == 1


def test_status(launch, manager):
    server = launch("rights:app", "--workers", "2", env={"NOTIFY_SOCKET": manager.address})
    manager.wait("STATUS=2 of 2 workers are ready")
    server.signal(signal.SIGTTIN)
    manager.wait("STATUS=3 of 3 workers are ready")


def test_reload(launch, manager):
    """RELOADING with a time after the signal, and READY when all are replaced."""
    server = launch("rights:app", "--workers", "2", env={"NOTIFY_SOCKET": manager.address})
    manager.wait("STATUS=2 of 2 workers are ready")
    for number in (1, 2):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        server.signal(signal.SIGHUP)
        manager.wait("RELOADING=1", number)
        assert int(manager.wait(r"MONOTONIC_USEC=\d+", number).partition("=")[2]) >= before
        manager.wait("READY=1", number + 1)
    assert manager.pids == {server.pid}


def test_reload_that_fails(launch, manager, tmp_path):
    """It is told, and that the service is as ready as it was."""
    env = {"NOTIFY_SOCKET": manager.address, "WORKERS_BREAK": str(tmp_path / "broken")}
    server = launch("workers:app", "--workers", "1", env=env)
    manager.wait("READY=1")
    (tmp_path / "broken").write_text("raise")
    server.signal(signal.SIGHUP)
    manager.wait("RELOADING=1")
    manager.wait("READY=1", 2)
    manager.wait("STATUS=1 of 1 workers are ready; the last reload has failed.*")


@both
def test_watchdog(launch, manager, workers):
    server = launch("rights:app", *workers, env={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "300000"})
    manager.wait("WATCHDOG=1", 5)
    os.kill(server.pid, signal.SIGSTOP)
    time.sleep(0.5)
    count = manager.lines.count("WATCHDOG=1")
    time.sleep(1)
    assert manager.lines.count("WATCHDOG=1") == count
    os.kill(server.pid, signal.SIGCONT)
    manager.wait("WATCHDOG=1", count + 2)


def test_watchdog_of_another_process(launch, manager):
    env = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}
    launch("rights:app", env=env)
    manager.wait("READY=1")
    time.sleep(0.5)
    assert "WATCHDOG=1" not in manager.lines


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime has a thread that wakes up")
@both
def test_idle(launch, manager, workers):
    """Without a watchdog nothing wakes up for the manager."""
    server = launch("rights:app", *workers, env={"NOTIFY_SOCKET": manager.address})
    manager.wait("READY=1")
    process = Process(server.pid)

    def sleeps() -> bool:
        before = process.switches()
        time.sleep(2)
        return process.switches() == before

    eventually(sleeps, "nothing wakes up for two seconds", within=LONG, every=0)


def test_a_manager_that_is_behind(launch, tmp_path):
    """Its queue is full: the server serves, and what it has to say comes when there is room."""
    late = Manager(str(tmp_path / "notify"), reading=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.setblocking(False)
        with pytest.raises(BlockingIOError):
            for _ in range(100000):
                s.sendto(b"OTHER=1", late.address)
    server = launch("rights:app", env={"NOTIFY_SOCKET": late.address})
    assert server.get("/who").status == 200
    late.read()
    late.wait("READY=1")
    server.stop()
    late.wait("STOPPING=1")
    late.close()


@pytest.mark.parametrize("where", ["{}/nothing", "relative", "vsock:2:1234"])
def test_no_manager(launch, tmp_path, where):
    """It is said, and the server serves."""
    server = launch("rights:app", env={"NOTIFY_SOCKET": where.format(tmp_path)})
    assert server.get("/who").status == 200
    assert "the service manager is told nothing" in server.log()


def test_a_manager_that_goes_away(launch, tmp_path):
    gone = Manager(str(tmp_path / "notify"))
    server = launch("rights:app", "--workers", "1", env={"NOTIFY_SOCKET": gone.address, "WATCHDOG_USEC": "100000"})
    gone.wait("WATCHDOG=1", within=PROMPT)
    gone.close()
    time.sleep(0.3)
    assert server.get("/who").status == 200
