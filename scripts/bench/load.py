"""Runs the load generators, wrk and our own, and reads what they say."""

import json
import math
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from .paths import BUILD, HERE, ROOT
from .server import Failed

# Nothing that is measured waits longer for a response.
TIMEOUT = 20
MARK = "bench: "


@dataclass(frozen=True)
class Wrk:
    """One use of wrk, on one server."""

    port: int
    connections: int
    seconds: float
    path: str = "/"
    headers: tuple[str, ...] = ()
    post: str | None = None
    threads: int = 1

    def command(self) -> list[str]:
        # wrk takes whole seconds only; a shorter run is interrupted, see start().
        threads = min(self.threads, self.connections)
        command = ["wrk", f"-t{threads}", f"-c{self.connections}", f"-d{math.ceil(self.seconds)}s"]
        command += ["--timeout", f"{TIMEOUT}s", "-s", f"{HERE}/wrk.lua"]
        for header in self.headers:
            command += ["-H", header]
        command.append(f"http://127.0.0.1:{self.port}{self.path}")
        return command + (["--", self.post] if self.post else [])


def parse_wrk(output: str) -> dict[str, float]:
    """The line that wrk.lua prints, as our metrics."""
    line = next((line for line in output.splitlines() if line.startswith(MARK)), None)
    if line is None:
        raise Failed(f"wrk says nothing: {output.strip()[-200:]}")
    said: dict[str, int] = json.loads(line[len(MARK) :])
    errors = sum(said[kind] for kind in ("connect", "read", "write", "status", "timeout"))
    requests, seconds = said["requests"], said["duration_us"] / 1e6
    return {
        "requests": requests,
        "errors": errors,
        "read_errors": said["read"],
        "seconds": seconds,
        "rps": requests / seconds,
        "mb_per_s": said["bytes"] / seconds / 1e6,
        **{name: said[name] for name in ("p50_us", "p90_us", "p99_us", "max_us")},
    }


class Running:
    """A load generator that has been started."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def finish(self, timeout: float) -> str:
        """Its output; after `timeout` it is ended by force."""
        try:
            output, said = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.command[0]} did not end within {timeout:.0f} seconds") from None
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.communicate()
        return output or said


def run_wrk(wrk: Wrk) -> dict[str, float]:
    running = Running(wrk.command())
    if wrk.seconds < math.ceil(wrk.seconds):
        time.sleep(wrk.seconds)
        running.interrupt()
    return parse_wrk(running.finish(wrk.seconds + TIMEOUT + 10))


def parse_load(output: str) -> dict[str, Any]:
    """What `load` prints; it does so even when it exits with 1."""
    try:
        said: dict[str, Any] = json.loads(output)
    except ValueError:
        raise Failed(f"load says: {output.strip()[-200:] or 'nothing'}") from None
    return said


def start_load(mode: str, port: int, path: str, *options: str) -> Running:
    return Running([f"{BUILD}/load", mode, "--port", str(port), "--path", path, *options])
