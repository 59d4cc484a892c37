"""The runner of the conformance suite, on a server that has only the skeleton of one."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conformance import __main__ as command
from conformance.check import LONG, Failed, NotSupported, eventually, same
from conformance.client import Connection
from conformance.launcher import CannotStart, Server, Settings
from conformance.registry import all_cases
from conformance.runner import FAIL, PASS, SKIP, run
from conformance_parts import asks, made, outcome
from harness.limits import ROOT


def fails(t: Any) -> None:
    raise Failed("as it is")


def not_supported(t: Any) -> None:
    raise NotSupported("needs more")


def broken(t: Any) -> None:
    raise LookupError("a mistake")


def is_reset(t: Any) -> None:
    raise ConnectionResetError("reset")


def ends_the_server(t: Any) -> None:
    c = t.connect()
    c.get("/end-all")
    c.response_if_any()
    t.server.wait(LONG)


def test_runner_tells_results_apart(fake: Settings) -> None:
    """A case that fails or ends the server does not disturb the next one, which gets a new server."""
    functions = (asks, fails, not_supported, broken, is_reset, ends_the_server)
    cases = [made(f"{number}-{f.__name__}", f) for number, f in enumerate([g for f in functions for g in (f, asks)])]
    found = outcome(fake, *cases)
    assert [name for name in found] == [c.name for c in cases]
    assert {result for name, result in found.items() if name.endswith("asks")} == {(PASS, "")}
    assert found["2-fails"] == (FAIL, "as it is")
    assert found["4-not_supported"] == (SKIP, "needs more")
    assert found["6-broken"][0] == FAIL
    assert "the case itself" in found["6-broken"][1]
    assert "LookupError: a mistake" in found["6-broken"][1]
    assert found["8-is_reset"] == (FAIL, "ConnectionResetError: reset")
    assert found["10-ends_the_server"] == (FAIL, "the server has ended")


def test_runner_with_several_servers(fake: Settings) -> None:
    cases = [made(f"{number}", fails if number % 7 == 3 else asks) for number in range(40)]
    reported: list[str] = []
    found = outcome(fake, *cases, jobs=2, report=lambda result: reported.append(result.name))
    assert list(found) == [c.name for c in cases]
    assert {name for name, (result, _) in found.items() if result == FAIL} == {"3", "10", "17", "24", "31", "38"}
    assert sorted(reported) == sorted(found)


def hangs(t: Any) -> None:
    """It reads what has no end."""
    c = t.connect()
    c.get("/endless")
    while c.socket.recv(65536):
        pass


def waits_for_nobody(t: Any) -> None:
    t.server.wait(LONG)
    released.wait(LONG * 4)


released = threading.Event()
BOUND = 4.0  # the other cases have to begin and end in it


@pytest.mark.parametrize("function", [hangs, waits_for_nobody])
def test_a_case_that_hangs_does_not_hang_the_suite(fake: Settings, function: Callable[[Any], None]) -> None:
    """Its server is killed; if that does not help, the case is left behind, and the next one has another server."""
    released.clear()
    cases = [made("one", asks), made("hangs", function), made("two", asks)]
    try:
        assert outcome(fake, *cases, bound=BOUND) == {
            "one": (PASS, ""),
            "hangs": (FAIL, f"it has not come to an end within {BOUND:g} s"),
            "two": (PASS, ""),
        }
    finally:
        released.set()


def test_what_is_raised_meanwhile_ends_the_run(fake: Settings) -> None:
    """Nothing is reported any more, and no server is left."""
    reported: list[str] = []
    pids: list[int] = []

    def slow(t: Any) -> None:
        pids.append(t.server.pid)
        os.kill(os.getpid(), signal.SIGTERM)
        hangs(t)

    cases = [made("one", asks), made("slow", slow), made("two", asks)]
    with pytest.raises(command.Ended), command.ended_by(signal.SIGTERM) as look:
        run(fake, cases, lambda result: reported.append(result.name), look=look)
    assert reported == ["one"]
    eventually(lambda: not alive(pids[0]), "the server has ended")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command(fake: Settings, tmp_path: Path, number: int) -> None:
    """It says what it has, also as JSON, and leaves no server."""
    record = tmp_path / "record.json"
    arguments = ["--server", f"sh -c '{fake.server} --slow & wait'", "--json", str(record), "--jobs", "2"]
    suite = subprocess.Popen(
        [ROOT / "scripts" / "conformance", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert suite.stdout is not None
        first = suite.stdout.readline()
        suite.send_signal(number)
        suite.send_signal(number)
        rest = suite.stdout.read()
        assert suite.wait(LONG) == 128 + number, first + rest
    finally:
        suite.kill()
        suite.wait()
    assert re.match(r"[SP][\d.]+ +(MUST|SHOULD|MAY) ", first)
    assert re.search(rf"^ended early: \d+ of {len(all_cases())} cases have not been tried$", rest, re.M)
    assert 0 < len(json.loads(record.read_text())["cases"]) < len(all_cases())
    mine = fake.server.split()[1].encode()  # the path of the fake server is that of this test
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if has(path, mine)]
    eventually(lambda: not [path for path in left if has(path, mine)], "the servers have ended")


def has(path: Path, words: bytes) -> bool:
    try:
        return words in path.read_bytes()
    except OSError:
        return False


def test_results_come_one_by_one(
    conformance: Callable[..., Any], fake: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line is there before the next case is tried."""
    printed: list[int] = []

    def one_case(t: Any) -> None:
        """What it shows."""
        printed.append(sys.stdout.getvalue().count("MUST   pass"))  # type: ignore[attr-defined]

    monkeypatch.setattr(sys, "stdout", io.StringIO())
    cases = [made(f"case-{number}", one_case, requirements=(f"P{number}",)) for number in (1, 2, 3)]
    monkeypatch.setattr(command, "all_cases", lambda: cases)
    assert conformance("--server", fake.server)[0] == 0
    assert printed == [0, 1, 2]


def test_server_that_does_not_suspend(fake: Settings) -> None:
    found = outcome(fake, made("futures", fails, needs=frozenset(["futures"])))
    assert found == {"futures": (SKIP, "the server does not suspend for futures")}


def test_settings_for_a_case(fake: Settings) -> None:
    """They go where {options} stands, or to the end; whole numbers are said as such; unknown ones are not supported."""
    said: list[str] = []

    def command_line(t: Any) -> None:
        c = t.connect()
        c.get("/")
        said.append(c.response().text)

    def try_with(server: str, **options: float) -> tuple[str, str]:
        settings = Settings(
            server=server,
            deadline="--deadline '{seconds}s long'",
            half_close="--half",
            drain="--drain {whole_seconds}",
            keep_alive="--keep {whole_seconds}",
        )
        return outcome(settings, made("command-line", command_line, options=options))["command-line"]

    program = fake.server
    assert try_with(f"{program} first {{options}} last", deadline=2.0, half_close=1)[0] == PASS
    assert try_with(f"{program} first", deadline=0.5)[0] == PASS
    assert try_with(f"sh -c 'exec {program} {{options}} last'", deadline=1)[0] == PASS
    assert said == ["first --deadline 2s long --half last", "first --deadline 0.5s long", "--deadline 1s long last"]
    assert try_with(program, drain=0.5, keep_alive=2)[0] == PASS
    assert said[3:] == ["--drain 1 --keep 2"]
    assert try_with(program, send_timeout=1) == (SKIP, "needs --send-timeout")


def test_server_that_does_not_start_with_a_setting(fake: Settings) -> None:
    """That is the failure of the case; where it does not start at all there is nothing to say."""
    settings = Settings(server=fake.server, deadline="--bad {seconds}")
    found = outcome(settings, made("plain", asks), made("with-deadline", asks, options={"deadline": 1.0}))
    assert found["plain"] == (PASS, "")
    assert found["with-deadline"][0] == FAIL
    assert "no such option: --bad" in found["with-deadline"][1]
    with pytest.raises(CannotStart, match="no such option: --bad"):
        run(Settings(server=f"{fake.server} --bad"), [])
    with pytest.raises(CannotStart, match="no-such-program"):
        run(Settings(server="no-such-program {port}"), [])


def test_log_of_the_server(fake: Settings, tmp_path: Path) -> None:
    """It is what the server writes from the beginning of the case on, to its standard output or to its own file."""

    def logged(t: Any) -> None:
        asks(t)
        t.wait_log("log of /")
        same(t.log().count("log of"), 1, "how many lines there are")

    needs = frozenset(["log"])
    cases = [made("first", logged, needs=needs), made("second", logged, needs=needs)]
    assert outcome(fake, *cases) == {"first": (PASS, ""), "second": (PASS, "")}
    own = tmp_path / "own.log"
    elsewhere = Settings(server=f"sh -c 'exec {fake.server} >>{own}'", log=str(own))
    assert outcome(elsewhere, *cases) == {"first": (PASS, ""), "second": (PASS, "")}
    named = Settings(server=f"sh -c 'exec {fake.server} >>{{log}}'")
    assert outcome(named, *cases) == {"first": (PASS, ""), "second": (PASS, "")}


def test_server_is_ended_with_what_it_has_started(fake: Settings) -> None:
    """Also if the command is a shell that waits for the server."""
    with Server(Settings(server=f"sh -c '{fake.server}; true'"), {}) as server:
        with Connection(server.address) as c:
            c.get("/")
            assert c.response().status == 200

    def refused() -> bool:
        try:
            Connection(server.address).close()
        except OSError:
            return True
        return False

    eventually(refused, "no server listens any more")
