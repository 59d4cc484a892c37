"""The conformance suite (spec/conformance): its frame, and that both servers of this project pass it."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness.limits import ROOT, fermata, timeout
from harness.server import Server as Launched

sys.path.insert(0, str(ROOT / "spec"))

from conformance import __main__ as command
from conformance import results
from conformance.check import LONG, Failed, NotSupported, eventually, holds, never, same
from conformance.client import Connection, NoResponse, request
from conformance.document import with_cases
from conformance.launcher import PLACEHOLDERS, CannotStart, FreePort, Server, Settings
from conformance.pep3333 import RULES
from conformance.registry import SPEC, Case, all_cases, case, level, requirements
from conformance.report import Lines, document
from conformance.runner import FAIL, PASS, SKIP, Result, run
from conformance.servers import KNOWN

HERE = ROOT / "spec" / "conformance"
README = HERE / "README.md"


@pytest.fixture
def conformance(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int | str | None, str, str]]:
    """conformance(*arguments): runs the command here; its exit code, output and error output."""

    def call(*arguments: str) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["conformance", *arguments])
        capsys.readouterr()
        try:
            code: int | str | None = command.main()
        except SystemExit as ended:
            code = ended.code
        return (code, *capsys.readouterr())

    return call


def made(name: str, function: Callable[[Any], None], *, requirements: tuple[str, ...] = ("P1",), **more: Any) -> Case:
    return Case(name, requirements, function, **more)


# Ports


def test_a_port_is_given_to_one_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to another before it is given back, although nobody listens there yet; and not where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        first, spare = FreePort(), FreePort()
        spare.release()
        offered = [somebody.getsockname()[1], first.number, first.number, spare.number, first.number]
        monkeypatch.setattr("random.randrange", lambda *_: offered.pop(0))
        second = FreePort()
        assert (second.number, len(offered)) == (spare.number, 1)
        first.release()
        third = FreePort()
        assert third.number == first.number
        second.release()
        third.release()


# The registry


def shown(t: Any) -> None:
    """A case that shows nothing."""


@pytest.mark.parametrize(
    ("numbers", "more", "said"),
    [
        (("S99.1",), {}, "S99.1"),
        (("S1.1", "S1.99"), {}, "S1.99"),
        (("S1",), {}, "S1"),
        (("P0",), {}, "P0"),
        (("P1",), {"needs": ["threads"]}, "threads"),
        (("P1",), {"deadlin": 1}, "deadlin"),
    ],
)
def test_registry_refuses_what_there_is_not(numbers: tuple[str, ...], more: dict[str, Any], said: str) -> None:
    before = [found.name for found in all_cases()]
    with pytest.raises(ValueError, match=rf"the case shown names {re.escape(said)}, which there is not"):
        case(*numbers, **more)(shown)
    assert [found.name for found in all_cases()] == before


def test_registry_refuses_a_name_twice() -> None:
    taken = all_cases()[0].run
    with pytest.raises(ValueError, match="two cases are called"):
        case("P1")(taken)


def test_registry_refuses_a_case_that_says_nothing() -> None:
    def silent(t: Any) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match="the case silent does not say what it is"):
        case("P1")(silent)


@pytest.mark.parametrize(
    ("text", "strongest"),
    [("a MAY b MUST NOT c", "MUST"), ("a SHOULD, and MAY", "SHOULD"), ("MAY", "MAY"), ("MUSTY may", ""), ("", "")],
)
def test_level_is_the_strongest_word(text: str, strongest: str) -> None:
    assert level(text) == strongest


def test_requirements_are_those_of_the_specification() -> None:
    """Each has a level, a text without its reason, and a number of its own; the rules are counted from 1."""
    found = {requirement.number: requirement for requirement in requirements()}
    assert len(found) == len(requirements())
    assert list(found)[0] == "S1.1"
    assert {number: found[number].level for number in ("S1.1", "S1.4", "S1.7", "S5.8", "P5", "P12")} == {
        "S1.1": "MUST", "S1.4": "SHOULD", "S1.7": "MAY", "S5.8": "MUST", "P5": "MUST", "P12": "SHOULD",
    }  # fmt: skip
    assert [r.number for r in found.values() if r.level not in ("MUST", "SHOULD", "MAY")] == []
    assert [r.number for r in found.values() if "Why" in r.text or "Cases" in r.text or not r.text] == []
    assert found["S4.1"].text.startswith("The server MUST resume by plain iteration")
    rules = [number for number in found if number.startswith("P")]
    assert rules == [f"P{number}" for number in range(1, len(rules) + 1)]


def test_every_requirement_has_a_case() -> None:
    covered = {number for found in all_cases() for number in found.requirements}
    assert [requirement.number for requirement in requirements() if requirement.number not in covered] == []


def test_every_application_is_asked_for() -> None:
    """No module of applications without cases, nor the other way round."""
    cases = {path.stem for path in (HERE / "cases").glob("*.py")} - {"__init__"}
    apps = {path.stem for path in (HERE / "apps").glob("*.py") if re.fullmatch(r"s\d\d|pep3333_\w+", path.stem)}
    assert cases - apps == set()
    assert apps - cases == set()


# What a case says


def test_same_says_both() -> None:
    same(1, 1, "never said")
    with pytest.raises(Failed, match="^the number: 2 was to be expected, and not 1$"):
        same(1, 2, "the number")


def test_long_values_are_cut() -> None:
    with pytest.raises(Failed) as caught:
        same("x" * 10_000, "", "the text")
    assert len(str(caught.value)) < 400


def test_holds_and_never_and_eventually() -> None:
    holds([1], "never said")
    with pytest.raises(Failed, match="^it is so$"):
        holds([], "it is so")
    never(lambda: 0, "never said", during=0.01)
    with pytest.raises(Failed, match="^it came: 5$"):
        never(lambda: 5, "it came", during=LONG)
    turns = iter([0, 0, 7])
    assert eventually(lambda: next(turns), "never said") == 7
    with pytest.raises(Failed, match="^it comes: not within 0.01 s$"):
        eventually(lambda: 0, "it comes", within=0.01)


# The client


def unsent(sock: socket.socket) -> int:
    """Bytes that have not been acknowledged: a reset throws them away."""
    left: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
    return left


@contextmanager
def answering(*pieces: bytes, end: str = "close", to: int = 1) -> Iterator[Connection]:
    """A connection to somebody who, when so many requests have come, says these pieces and closes, resets or waits."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LONG)
        over = threading.Event()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(LONG)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                seen = b""
                while seen.count(b"\r\n\r\n") < to:
                    data = peer.recv(65536)
                    if not data:
                        return
                    seen += data
                for piece in pieces:
                    peer.sendall(piece)
                if end == "reset":
                    eventually(lambda: unsent(peer) == 0, "the client's machine has all that was said")
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if end == "wait":
                    over.wait(LONG)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            with Connection(listener.getsockname(), timeout=LONG) as c:
                yield c
        finally:
            over.set()
            thread.join(LONG)
            assert not thread.is_alive()


OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"Content-Length: 5\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CLOSE = OK + b"X-A: b\r\n\r\n"

READ = {
    # what is said, how the connection ends: the body, whether it is whole, and what frames it
    "length": (LENGTH + b"hello", "wait", b"hello", True, "length"),
    "length-0": (OK + b"content-length: 0\r\n\r\n", "wait", b"", True, "length"),
    "length-cut": (LENGTH + b"hel", "close", b"hel", False, "length"),
    "length-reset": (LENGTH + b"hel", "reset", b"hel", False, "length"),
    "length-no-body": (LENGTH, "close", b"", False, "length"),
    "chunked": (CHUNKED + b"3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\n\r\n", "wait", b"hello", True, "chunked"),
    "chunked-hex": (CHUNKED + b"1A\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n", "wait", b"x" * 26, True, "chunked"),
    "chunked-trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n", "wait", b"hello", True, "chunked"),
    "chunked-empty": (CHUNKED + b"0\r\n\r\n", "wait", b"", True, "chunked"),
    "chunked-cut-before-the-last": (CHUNKED + b"5\r\nhello\r\n", "close", b"hello", False, "chunked"),
    "chunked-reset": (CHUNKED + b"5\r\nhello\r\n", "reset", b"hello", False, "chunked"),
    "chunked-cut-in-a-chunk": (CHUNKED + b"5\r\nhello\r\n5\r\nwor", "close", b"hello", False, "chunked"),
    "chunked-cut-in-a-size": (CHUNKED + b"5\r\nhello\r\n5", "close", b"hello", False, "chunked"),
    "chunked-cut-behind-0": (CHUNKED + b"5\r\nhello\r\n0\r\n", "close", b"hello", False, "chunked"),
    "close": (CLOSE + b"hello", "close", b"hello", True, "close"),
    "close-empty": (CLOSE, "close", b"", True, "close"),
    "close-reset": (CLOSE + b"hello", "reset", b"hello", False, "close"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", "wait", b"", True, "none"),
    "304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "wait", b"", True, "none"),
}


@pytest.mark.parametrize("apart", [False, True], ids=["at-once", "byte-by-byte"])
@pytest.mark.parametrize("what", list(READ))
def test_client_reads(what: str, apart: bool) -> None:
    sent, end, body, complete, framing = READ[what]
    pieces = [sent[place : place + 1] for place in range(len(sent))] if apart else [sent]
    with answering(*pieces, end=end) as c:
        c.get("/")
        answer = c.response()
    assert (answer.body, answer.complete, answer.framing, answer.over) == (body, complete, framing, True)
    assert b"".join(answer.chunks) == (body if framing == "chunked" else b"")


def test_client_reads_the_head() -> None:
    with answering(
        b"HTTP/1.0 404 Not  Found\r\nSet-Cookie: a\r\nX-A:  b c \r\nset-cookie: d\r\nX-Caf\xe9: \xff\r\n\r\n"
    ) as c:
        c.get("/")
        answer = c.response()
    assert (answer.version, answer.status, answer.reason) == ("HTTP/1.0", 404, "Not  Found")
    assert answer.headers == [("Set-Cookie", "a"), ("X-A", "b c"), ("set-cookie", "d"), ("X-Caf\xe9", "\xff")]
    assert (answer.header("SET-COOKIE"), answer.header("x-a"), answer.header("X-B")) == ("a, d", "b c", None)


def test_client_knows_which_answer_is_to_head() -> None:
    with answering(LENGTH + LENGTH + b"hello" + LENGTH, to=3) as c:
        c.get("/", method="HEAD")
        c.get("/")
        c.get("/", method="HEAD")
        assert [(answer.body, answer.framing) for answer in (c.response(), c.response(), c.response())] == [
            (b"", "none"), (b"hello", "length"), (b"", "none"),
        ]  # fmt: skip


def test_client_sees_interim_responses() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with answering(early + LENGTH + b"hello") as c:
        c.get("/")
        assert c.response().body == b"hello"
        assert c.interim == [100, 103]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"what\r\n\r\n", "not a response: b'what'"),
        (b"HTTP/2 200 OK\r\n\r\n", "not a response"),
        (b"HTTP/1.1 OK\r\n\r\n", "not a response"),
        (b"HTTP/1.1 20", "not a response: b'HTTP/1.1 20'"),
        (b"HTTP/1.1 200 OK\r\nX-A: b", "ended within its headers"),
        (OK + b"Content-Length: 5, 5\r\n\r\nhello", "not a Content-Length: 5, 5"),
        (OK + b"Content-Length: -1\r\n\r\n", "not a Content-Length: -1"),
        (CHUNKED + b"hello\r\n", "not the size of a chunk: b'hello'"),
        (CHUNKED + b"5\r\nhello, world\r\n", "a chunk of 5 bytes goes on"),
        (b"", "ended without a response"),
    ],
)
def test_client_refuses(sent: bytes, said: str) -> None:
    with answering(sent) as c:
        c.get("/")
        with pytest.raises(Failed, match=said):
            c.response()


def test_client_waits_no_longer_than_it_is_to() -> None:
    with answering(LENGTH + b"hel", end="wait") as c:
        c.get("/")
        answer = c.start()
        assert c.part(answer, 3) == b"hel"
        c.timeout = 0.05
        c.socket.settimeout(0.05)
        with pytest.raises(Failed, match=r"no answer within 0.05 s"):
            c.finish(answer)


def test_client_where_perhaps_nothing_comes() -> None:
    with answering(LENGTH + b"hello") as c:
        c.get("/")
        answer = c.response_if_any()
        assert answer is not None
        assert answer.body == b"hello"
        assert c.response_if_any() is None
        with pytest.raises(NoResponse):
            c.start()


@pytest.mark.parametrize("head", [LENGTH, CLOSE, CHUNKED])
def test_client_reads_in_parts(head: bytes) -> None:
    """What is here is given, though more is to come."""
    body = b"3\r\nhel\r\n" if head is CHUNKED else b"hel"
    rest = b"2\r\nlo\r\n0\r\n\r\n" if head is CHUNKED else b"lo"
    with answering(head + body, end="wait") as c:
        c.get("/")
        answer = c.start()
        assert c.part(answer, 2)[:2] == b"he"
        assert c.part(answer, 3) == b"hel"
        assert not answer.over
    with answering(head + body, rest) as c:
        c.get("/")
        answer = c.start()
        c.part(answer, 1)
        assert c.part(answer, 100) == b"hello"
        assert c.finish(answer).complete
        assert answer.body == b"hello"


def test_client_knows_silence_and_the_end() -> None:
    with answering(LENGTH + b"hello", end="wait") as c:
        assert c.silent(0.01)
        c.get("/")
        c.response()
        assert c.silent(0.01)
        assert not c.ended(0.01)
    with answering(LENGTH + b"hello" + b"more") as c:
        c.get("/")
        assert not c.silent(LONG)
        assert not c.silent(LONG)
        assert c.response().body == b"hello"
        assert c.rest() == b"more"
        assert c.ended(LONG)


def test_client_says_what_it_is_told() -> None:
    assert request("GET", "/a?b", close=True) == b"GET /a?b HTTP/1.1\r\nHost: conformance\r\nConnection: close\r\n\r\n"
    sent = request("POST", "/", headers=(("X-A", "caf\xe9"),), body=b"12", version="HTTP/1.0")
    assert sent == b"POST / HTTP/1.0\r\nHost: conformance\r\nX-A: caf\xe9\r\nContent-Length: 2\r\n\r\n12"
    assert b"Content-Length" not in request("POST", "/", headers=(("Transfer-Encoding", "chunked"),), body=b"0\r\n\r\n")


# The runner, on a server that has only the skeleton of one

FAKE = """
import os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if "--slow" in sys.argv:
            time.sleep(0.5)
        if self.path.startswith("/end-all"):
            os._exit(3)
        if self.path.startswith("/endless"):
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(b".")
                time.sleep(0.01)
        said = " ".join(sys.argv[2:]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    def log_message(self, *args):
        print("log of", self.path, flush=True)

if "--bad" in sys.argv:
    sys.exit("no such option: --bad")
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def fake(tmp_path: Path) -> Settings:
    """A server that answers every GET with its command line, and knows no application."""
    path = tmp_path / "fake.py"
    path.write_text(FAKE)
    return Settings(server=f"{sys.executable} {path} {{port}}")


def outcome(settings: Settings, *cases: Case, **how: Any) -> dict[str, tuple[str, str]]:
    return {found.name: (found.result, found.detail) for found in run(settings, cases, **how)}


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


def asks(t: Any) -> None:
    c = t.connect()
    c.get("/")
    same(c.response().status, 200, "the status")


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


@pytest.mark.parametrize("function", [hangs, waits_for_nobody])
def test_a_case_that_hangs_does_not_hang_the_suite(fake: Settings, function: Callable[[Any], None]) -> None:
    """Its server is killed; if that does not help, the case is left behind, and the next one has another server."""
    released.clear()
    cases = [made("one", asks), made("hangs", function), made("two", asks)]
    try:
        assert outcome(fake, *cases, bound=0.5) == {
            "one": (PASS, ""),
            "hangs": (FAIL, "it has not come to an end within 0.5 s"),
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

    eventually(refused, "nobody listens any more")


# The command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "one of --server, --url and --known is needed"),
        (("--known", "fermata", "--url", "http://127.0.0.1:1/"), "one of --server, --url and --known is needed"),
        (("--known", "nginx"), "--known: one of fermata"),
        (("--server", "server --port 8000"), "--server: {port} is missing"),
        (("--server", "server {port} {prt}"), "--server: {prt} is not known: {host}, {port}"),
        (("--server", "server {port"), "--server: "),
        (("--server", "server '{port}"), "--server: "),
        (("--known", "fermata", "--deadline", "--timeout"), "--deadline: {seconds} is missing"),
        (("--known", "fermata", "--deadline=--timeout 5"), "--deadline: {seconds} is missing"),
        (("--known", "fermata", "--deadline"), "--deadline: expected one argument"),
        (("--known", "fermata", "--body-limit=--limit {n}"), "--body-limit: {n} is not known: {bytes}"),
        (("--known", "fermata", "--half-close=--half {n}"), "--half-close: {n} is not known"),
        (("--known", "fermata", "--parked", "count {prot}"), "--parked: {prot} is not known"),
        (("--known", "fermata", "--helper", "module"), "--helper: MODULE:NAME"),
        (("--known", "fermata", "--middleware", "a:b:c"), "--middleware: MODULE:NAME"),
        (("--known", "fermata", "--control", "127.0.0.1:1"), "--control: only with --url"),
        (("--known", "fermata", "--jobs", "0"), "--jobs: at least 1"),
        (("--known", "fermata", "--only", "S1.1", "--only", "S99"), "--only: no case for S99"),
        (("--known", "fermata", "--json", "/nowhere/at/all.json"), "--json: /nowhere/at is no directory"),
        (("--url", "https://127.0.0.1/"), "--url: http://HOST:PORT/"),
        (("--url", "http://127.0.0.1:1/app"), "--url: http://HOST:PORT/"),
        (("--url", "http://127.0.0.1:100000/"), "--url: http://HOST:PORT/"),
        (("--url", "127.0.0.1:80"), "--url: http://HOST:PORT/"),
    ],
)
def test_wrong_usage(conformance: Callable[..., Any], arguments: tuple[str, ...], said: str) -> None:
    """Exits 2 and names the option."""
    code, out, err = conformance(*arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_no_server(conformance: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for arguments in (("--url", f"http://127.0.0.1:{port}/"), ("--server", "no-such-program {port}")):
        code, out, err = conformance(*arguments, "--only", "P1")
        assert (code, out) == (2, "")
        assert "there is no server" in err


def test_known_server_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KNOWN, "gunicorn", type(KNOWN["gunicorn"])("gunicorn", "/no/gunicorn {port}", ("false",), {}))
    with pytest.raises(CannotStart, match="/no/gunicorn is not there"):
        KNOWN["gunicorn"].settings()


def test_exit_code_is_about_musts(conformance: Callable[..., Any], fake: Settings) -> None:
    """The skeleton of a server fails everything: 1, but 0 where it is asked for nothing but SHOULDs."""
    code, out, _ = conformance("--server", fake.server, "--only", "environ-is-a-dict", "-v")
    assert code == 1
    assert "fail           environ-is-a-dict" in out
    assert re.search(r"^P1     MUST   FAIL           environ-is-a-dict$", out, re.M)
    code, out, _ = conformance("--server", fake.server, "--only", "P34")
    assert code == 0
    assert re.search(r"^P34    SHOULD FAIL           errors-in-any-language$", out, re.M)


def test_list(conformance: Callable[..., Any]) -> None:
    """A line a case: its name, its requirements and what it shows; --only chooses."""
    code, out, _ = conformance("--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [found.name for found in all_cases()]
    _, out, _ = conformance("--list", "--only", "P8", "--only", "environ-is-a-dict")
    assert [line.split()[0] for line in out.splitlines()] == [
        found.name for found in all_cases() if "P8" in found.requirements or found.name == "environ-is-a-dict"
    ]
    assert "environ is a dict, and no subclass of it." in out


def test_only_by_part(conformance: Callable[..., Any]) -> None:
    listed = {line.split()[0] for line in conformance("--list", "--only", "S5")[1].splitlines()}
    wanted = {found.name for found in all_cases() if any(number.startswith("S5.") for number in found.requirements)}
    assert listed == wanted


def test_script() -> None:
    """scripts/conformance works in any directory."""
    done = subprocess.run(
        [ROOT / "scripts" / "conformance", "--list", "--only", "environ-is-a-dict"],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONG * 4,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("environ-is-a-dict ")


@contextmanager
def running(**env: str) -> Iterator[str]:
    """The URL of a server with the applications of the suite, which the suite has not started."""
    paths = f"{HERE / 'apps'},{ROOT / 'py'}"
    server = Launched("conformance_app:application", "--pythonpath", paths, env=env)
    try:
        yield f"http://127.0.0.1:{server.wait_ready().port}/"
    finally:
        server.stop()


def test_server_that_runs_already(conformance: Callable[..., Any], tmp_path: Path) -> None:
    """With its control address it is examined as any other, as far as that goes without settings and signals."""
    control = str(tmp_path / "control")
    record = tmp_path / "found.json"
    names = ["failure-ends-who-does-not-look", "environ-is-a-dict", "one-thread-is-not-many", "errors-are-found"]
    only = [word for name in names for word in ("--only", name)]
    with running(CONFORMANCE_CONTROL=control) as url:
        code, out, err = conformance("--url", url, "--control", control, *only, "--json", str(record))
    assert code == 0, out + err
    said = json.loads(record.read_text())
    assert said["server"] == url
    assert {found["name"]: (found["result"], found["detail"]) for found in said["cases"]} == {
        "failure-ends-who-does-not-look": (PASS, ""),
        "environ-is-a-dict": (PASS, ""),
        "one-thread-is-not-many": (SKIP, "needs a server of its own: use --server"),
        "errors-are-found": (SKIP, "needs --log, or a server that the suite has started: use --server"),
    }


def test_server_that_runs_already_without_control(conformance: Callable[..., Any], tmp_path: Path) -> None:
    """Then only what responses show is examined; nothing fails for that, and nothing is left that waits."""
    record = tmp_path / "found.json"
    rules = [word for rule in RULES for word in ("--only", rule)]
    with running() as url:
        conformance("--url", url, *rules, "--json", str(record))
    found = {case["name"]: (case["result"], case["detail"]) for case in json.loads(record.read_text())["cases"]}
    assert found["environ-is-a-dict"] == found["empty-blocks"] == (PASS, "")
    assert found["close-at-the-end"] == found["block-is-not-held-back"] == (SKIP, "needs --control")
    wrong = {name: why for name, why in found.items() if why[0] == FAIL and name not in EXCEPT["fermata"]}
    assert wrong == {}


def test_json_is_as_the_readme_has_it() -> None:
    found = re.search(r"```json\n(.*?)```", README.read_text(), re.S)
    assert found is not None
    example = json.loads(found[1])
    made = document([Result("a-case", ("S1.1", "P1"), PASS)], server="s", version="1")
    assert made.keys() == example.keys()
    assert made["summary"].keys() == example["summary"].keys()
    assert made["summary"]["WSGI+"].keys() == example["summary"]["WSGI+"].keys()
    assert made["requirements"]["S1.1"] == example["requirements"]["S1.1"]
    assert made["cases"][0].keys() == example["cases"][0].keys()


def test_commands_of_the_readme_are_right() -> None:
    """Their options are there, and what they name as well."""
    text = README.read_text().replace("\\\n", " ")
    lines = re.findall(r"(?:^ {4}|`|\$ )scripts/conformance ([^`\n]*)", text, re.M)
    assert len(lines) >= 10
    for line in lines:
        options = command.parser().parse_args(command.joined(shlex.split(line)))
        for name in PLACEHOLDERS:
            value = getattr(options, name)
            assert value is None or command.wrong(name, value) == "", line
        command.chosen(all_cases(), options.only)
        assert options.known is None or options.known in KNOWN
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert [link for link in links if not (HERE / link).exists()] == []


def test_output_in_the_readme_is_of_cases_that_there_are() -> None:
    text = README.read_text()
    rows = re.findall(r"^ {4}([SP][\d.]+) +(MUST|SHOULD|MAY) +(?:pass|FAIL) +(.+)$", text, re.M)
    levels = {requirement.number: requirement.level for requirement in requirements()}
    assert len(rows) >= 3
    for number, said, names in rows:
        assert levels[number] == said
        assert names.split(", ") == [found.name for found in all_cases() if number in found.requirements]


def test_example_of_the_readme_runs(tmp_path: Path) -> None:
    """What it says of writing a case is true: the case passes on Fermata."""
    copy = tmp_path / "conformance"
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns(".mypy_cache", "__pycache__"))
    shutil.copy(SPEC, tmp_path)
    files = re.findall(r"```python\n# ((?:apps|cases)/\w+\.py)\n(.*?)```", README.read_text(), re.S)
    assert len(files) == 2
    for path, code in files:
        assert not (HERE / path).exists()
        (copy / path).write_text(code)
    server = f"{fermata()} --bind {{host}}:{{port}} {{app}}"
    arguments = ["--server", server, "--only", "hope-is-no-success", "-v"]
    done = subprocess.run(
        [sys.executable, "-m", "conformance", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONG * 4,
    )
    assert (done.returncode, "pass           hope-is-no-success" in done.stdout) == (0, True), done.stdout + done.stderr


# The report


def said_of(*found: Result, of: int = 0) -> list[str]:
    """The lines of a run of these, and of so many cases more that have not been tried."""
    cases = [made(result.name, asks, requirements=result.requirements, levels=result.levels) for result in found]
    lines = Lines([*cases, *(made(f"untried-{number}", asks, requirements=("S1.1",)) for number in range(of))])
    return [line for result in found for line in lines.add(result)] + lines.end()


def test_lines() -> None:
    """A requirement is said when its last case has been tried, with its failures; why not, once, at the end."""
    assert said_of(
        Result("one", ("S1.1",), PASS),
        Result("alone", ("P1",), SKIP, "needs --other"),
        Result("two", ("S1.1", "S1.4"), FAIL, "first line\nsecond line"),
        *(Result(f"skipped-{number}", ("S1.7",), SKIP, "needs --more") for number in range(3)),
    ) == [
        "P1     MUST   not supported  alone",
        "S1.1   MUST   FAIL           one, two",
        "       two: first line",
        "       two: second line",
        "S1.4   SHOULD FAIL           two",
        "       two: first line",
        "       two: second line",
        "S1.7   MAY    not supported  skipped-0, skipped-1, skipped-2",
        "",
        "not supported: needs --other (alone)",
        "not supported: needs --more (3 cases)",
        "",
        "MUST fails: S1.1",
        "SHOULD fails: S1.4",
        "WSGI+: 0 pass, 2 fail, 1 not supported",
        "PEP 3333: 0 pass, 0 fail, 1 not supported",
    ]


def test_lines_of_a_run_that_was_ended() -> None:
    """What has been tried of a requirement is said then."""
    assert said_of(Result("one", ("S1.1",), PASS), of=2) == [
        "S1.1   MUST   pass           one",
        "",
        "WSGI+: 1 pass, 0 fail, 0 not supported",
        "ended early: 2 of 3 cases have not been tried",
    ]


def test_a_weaker_word_is_judged_by_itself() -> None:
    """A requirement with a MUST and a SHOULD is two: what fails of one does not fail the other."""
    strong = Result("strong", ("S12.4",), PASS)
    weak = Result("weak", ("S12.4", "S1.4"), FAIL, "not so", levels={"S12.4": "SHOULD"})
    assert said_of(strong, weak) == [
        "S12.4  MUST   pass           strong",
        "S12.4  SHOULD FAIL           weak",
        "       weak: not so",
        "S1.4   SHOULD FAIL           weak",
        "       weak: not so",
        "",
        "SHOULD fails: S1.4, S12.4",
        "WSGI+: 1 pass, 2 fail, 0 not supported",
    ]
    said = document([strong, weak], server="", version="")
    assert said["requirements"]["S12.4"] == {"level": "MUST", "result": PASS, "weaker": {"SHOULD": FAIL}}
    assert [found.get("levels") for found in said["cases"]] == [None, {"S12.4": "SHOULD"}]
    alone = document([weak], server="", version="")
    assert alone["requirements"]["S12.4"] == {"level": "SHOULD", "result": FAIL}


@pytest.mark.parametrize(
    "how",
    [{"should": ["S1.2"]}, {"should": ["S1.1"]}, {"may": ["S1.4"]}, {"should": ["S12.1"]}],
    ids=["of-another", "no-such-word", "neither", "no-weaker"],
)
def test_registry_refuses_words_that_there_are_not(how: dict[str, list[str]]) -> None:
    def shows_much(t: Any) -> None:
        """What it shows."""

    with pytest.raises(ValueError, match=r"the case shows-much shows no (SHOULD|MAY) of S\S+ that is weaker"):
        case("S1.1", "S1.4", "S12.1", **how)(shows_much)


# Servers that break what their requirement says with SHOULD, and no MUST: what is looked at, and what fails of it.
WEAKLY_WRONG = {
    "S8.5": ("S8.6", {"end-of-data-and-then-parked"}),
    "S8.7": ("S8.7", {"little-is-read-of-a-parked-connection"}),
    "S12.4-silent": ("S12.4", {"report-of-a-step-beyond-its-deadline"}),
    "S14.2-memory": ("S14.2", {"large-bodies-out-of-memory"}),
    "S6.6-parked": ("S6.6", {"nothing-for-others-while-parked", "not-from-other-threads"}),
}


@pytest.mark.parametrize("name", WEAKLY_WRONG)
@timeout(180)
def test_a_server_without_a_should_breaks_no_must(conformance: Callable[..., Any], tmp_path: Path, name: str) -> None:
    only, failing = WEAKLY_WRONG[name]
    server = f"{sys.executable} -m conformance.faults --fault {name} --bind {{host}}:{{port}} {{options}} {{app}}"
    known = KNOWN["simple_server"].options
    options = [f"--{key.replace('_', '-')}={value}" for key, value in known.items()]
    paths = ["--path", str(ROOT / "spec"), "--path", str(ROOT / "py")]
    said = tmp_path / "said.json"
    code, out, _ = conformance("--server", server, *options, *paths, "--only", only, "--json", str(said))
    found = {case["name"]: case["result"] for case in json.loads(said.read_text())["cases"]}
    assert {case for case, result in found.items() if result != PASS} == failing, out
    assert code == 0, out


def test_verdict_counts_what_could_be_tried() -> None:
    found = [Result("one", ("S1.1",), PASS), Result("two", ("S1.1",), SKIP, "needs --more")]
    assert document(found, server="", version="")["requirements"]["S1.1"] == {"level": "MUST", "result": PASS}


# The specification, and the results


SPECIFICATION = """\
# Title

- **S1.1** The server MUST do
  this. *Why:* it is so.
- **S1.2** It SHOULD do that:

  ```python
  code
  ```

- **S1.3** It MAY. *Why:* why not.

## S2. Next

- **S2.1** The last one MUST.

The end.
"""


def named(number: str, *names: str) -> list[Case]:
    return [made(name, shown, requirements=(number,)) for name in names]


def test_specification_names_cases() -> None:
    cases = [*named("S1.1", "one", "two"), *named("S1.2", "three"), *named("S2.1", "four")]
    assert with_cases(SPECIFICATION, cases) == SPECIFICATION.replace(
        "it is so.\n", "it is so.\n  *Cases:* `one`, `two`.\n"
    ).replace("do that:\n", "do that:\n  *Cases:* `three`.\n").replace("one MUST.\n", "one MUST.\n  *Cases:* `four`.\n")


def test_long_lists_of_cases_are_wrapped() -> None:
    cases = named("S1.1", *(f"a-case-with-a-rather-long-name-{number}" for number in range(12)))
    text = with_cases(SPECIFICATION, cases)
    assert max(len(line) for line in text.splitlines()) <= 120
    assert all(f"`{found.name}`" in text for found in cases)
    assert with_cases(text, cases) == text
    assert with_cases(text, []) == SPECIFICATION


@pytest.mark.parametrize("more", [[], named("S1.1", "another"), named("S9.9", "unknown")])
def test_naming_cases_is_idempotent_and_changes_nothing_else(more: list[Case]) -> None:
    spec = SPEC.read_text(encoding="utf-8")
    bare = with_cases(spec, [])
    cases = [*all_cases(), *more]
    once = with_cases(bare, cases)
    assert "*Cases:*" not in bare
    assert with_cases(once, cases) == once
    assert with_cases(once, []) == bare
    added = re.sub(r"  \*Cases:\*[^\n]*\n(?:  `[^\n]*\n)*", "", once)
    assert added == bare
    for requirement in requirements():
        names = [found.name for found in cases if requirement.number in found.requirements and not requirement.pep]
        if names:
            after = once[once.index(f"- **{requirement.number}** ") :]
            said = re.search(r"\*Cases:\*([^.]*)\.", after)
            assert said is not None
            assert re.findall(r"`([\w-]+)`", said[1]) == names


def test_specification_is_up_to_date(conformance: Callable[..., Any]) -> None:
    """`scripts/conformance --spec write` would change nothing."""
    assert conformance("--spec", "check") == (0, "", "")


def test_results_page_is_what_the_records_say(conformance: Callable[..., Any]) -> None:
    """`scripts/conformance --results write` would change nothing."""
    assert conformance("--results", "check") == (0, "", "")


def test_results_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page is made of the records: versions, verdicts, and why not."""
    record = document(
        [Result("environ-is-a-dict", ("P1",), FAIL, "a <b> | c"), Result("empty-blocks", ("P20",), PASS)],
        server="Own",
        version="9.8",
    )
    monkeypatch.setattr(results, "RECORDS", tmp_path)
    monkeypatch.setattr(results, "PAGE", tmp_path / "page.md")
    (tmp_path / "gunicorn.json").write_text(json.dumps(record))
    assert results.main("write", []) == 0
    page = (tmp_path / "page.md").read_text()
    assert "| | | Own 9.8 |" in page
    assert "| PEP 3333, MUST | 1 / 1 / 0 |" in page
    assert re.search(r"^\| P1 .* \| MUST \| \*\*no\*\* \|$", page, re.M)
    assert re.search(r"^\| P20 .* \| MUST \| yes \|$", page, re.M)
    assert re.search(r"^\| P21 .* \| MUST \| – \|$", page, re.M)
    assert "- P1 `environ-is-a-dict`: environ is a dict, and no subclass of it.\n  *Not so:* a &lt;b> \\| c." in page
    assert str(ROOT) not in page
    assert results.main("check", []) == 0
    (tmp_path / "page.md").write_text(page + "more\n")
    assert results.main("check", []) == 1
    assert "more" in capsys.readouterr().out


def test_measuring_a_server(fake: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A record has no times and numbers of the run; a server that is not there has none, and keeps the one it had."""
    own = type(KNOWN["gunicorn"])("Own", fake.server, (sys.executable, "-c", "print('Own 1.2.3')"), {})
    absent = type(KNOWN["gunicorn"])("Absent", "/no/server {port}", ("false",), {})
    monkeypatch.setattr(results, "KNOWN", {"own": own, "absent": absent})
    monkeypatch.setattr(results, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(results, "PAGE", tmp_path / "page.md")

    def told(t: Any) -> None:
        """What the key says."""
        raise Failed(f"about {t.key}\nand more")

    monkeypatch.setattr(results, "all_cases", lambda: [made("told", told)])
    assert results.main("run", ["own", "absent"]) == 0
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["own.json"]
    record = json.loads((tmp_path / "records" / "own.json").read_text())
    assert (record["server"], record["version"]) == ("Own", "1.2.3")
    assert record["cases"] == [{"name": "told", "requirements": ["P1"], "result": FAIL, "detail": "about told"}]
    assert "*Not so:* about told." in (tmp_path / "page.md").read_text()


# The servers of this project

EXCEPT: dict[str, dict[str, str]] = {
    # what does not pass, and why
    "fermata": {
        "second-call-after-an-error": "a call that was rejected is as if it had not been made: frameworks then say 500",
        "hop-by-hop": "such headers are dropped: frameworks set them, and what worked elsewhere would not",
    },
    "simple_server": {},
    "gunicorn_worker": {},
}

PARTS = [*(f"S{number}" for number in range(1, 21)), *sorted({path.stem for path in (HERE / "cases").glob("pep*.py")})]


def part_of(found: Case) -> str:
    """Cases are tried by the module that they are in."""
    module = found.run.__module__.rpartition(".")[2]
    return f"S{int(module[1:])}" if module.startswith("s") else module


def test_all_cases_are_in_parts() -> None:
    assert {part_of(found) for found in all_cases()} <= set(PARTS)


def settings_of(name: str) -> Settings:
    if name == "fermata":
        known = KNOWN[name]
        return replace(known, server=known.server.replace(str(ROOT / "build" / "fermata"), str(fermata()))).settings()
    if name == "gunicorn_worker":  # with the gunicorn of the tests
        known = KNOWN[name]
        gunicorn = f"{sys.executable} -m gunicorn"
        return replace(known, server=re.sub(r"^\S+", gunicorn, known.server)).settings()
    return KNOWN[name].settings()


# All of them on Fermata; of the others, which are slower to start, one in three, or with `make faults` all.
EVERY = 1 if os.environ.get("FERMATA_FAULTS") == "all" else 3


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(("fermata", part) for part in PARTS),
        *(("simple_server", part) for part in PARTS[::EVERY]),
        *(("gunicorn_worker", part) for part in PARTS[EVERY - 1 :: EVERY]),
    ],
)
@timeout(180)
def test_our_servers_pass(name: str, part: str) -> None:
    """Every case passes, none is skipped, but for those that are listed."""
    cases = [found for found in all_cases() if part_of(found) == part]
    assert cases, "there are no cases"
    found = outcome(settings_of(name), *cases)
    wrong = {case_name: said for case_name, said in found.items() if said[0] != PASS}
    assert {case_name: said for case_name, said in wrong.items() if case_name not in EXCEPT[name]} == {}
    expected = EXCEPT[name].keys() & found.keys()
    assert wrong.keys() == expected, "what is listed as an exception passes"
