"""The types of py/wsgi_plus: they hold within, they say the right things to an application, and they find mistakes.

To mypy, and to pyright, which basedpyright brings with the program that runs it.  Both are strict.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from harness.limits import SLOW

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "mypy"
FILES = [*sorted((ROOT / "py/wsgi_plus").rglob("*.py")), *sorted((ROOT / "tests/wsgi_plus/typed").glob("*.py"))]

PREAMBLE = """\
import asyncio
from collections.abc import AsyncIterator, Generator, Iterable
from concurrent.futures import Future
from typing import Any
from wsgi_plus import AsyncBridge, blocking, first, gather, offload, settled, shield, sleep, suspends, timeout, wait
from wsgi_plus import Channel, RequestBody, Semaphore, TaskGroup, Topic, background, deadline, retry, single_flight
from wsgi_plus import validated, validator
from wsgi_plus.simple_server import Server
from wsgi_plus.testing import Client
Waits = Generator[Future[Any], None, None]
number: Future[int] = Future()
text: Future[str] = Future()
bridge = AsyncBridge()
async def ask(path: str) -> bytes: return b""
async def pieces() -> AsyncIterator[bytes]: yield b""
def load(name: str, size: int) -> bytes: return b""
def app(environ: dict[str, Any], start_response: Any) -> Iterable[Any]: return []
"""

WRONG = {
    # What is done, and how mypy calls the error and describes it.
    "wait for a value": ("def f() -> Waits: yield from wait(3)", "arg-type", "Future"),
    "wait for a coroutine": ("def f() -> Waits: yield from wait(ask('/'))", "arg-type", "Coroutine"),
    "wait for a future of asyncio": (
        "def f(fut: asyncio.Future[int]) -> Waits: yield from wait(fut)",
        "arg-type",
        "concurrent.futures",
    ),
    "wait without yield from": ("def f() -> int: return wait(number)", "return-value", "Generator"),
    "another result of wait": ("def f() -> Waits: value: str = yield from wait(number)", "assignment", '"int".*"str"'),
    "settled gives the future": ("def f() -> Waits: value: int = yield from settled(number)", "assignment", "Future"),
    "another result of gather": (
        "def f() -> Waits: both: tuple[int, int] = yield from gather(number, text)",
        "assignment",
        '"tuple\\[int, str\\]"',
    ),
    "more names than results": ("def f() -> Waits: a, b, c = yield from gather(number, text)", "misc", "3 expected"),
    "gather of a list": ("def f() -> Waits: yield from gather([number, text])", "call-overload", "list"),
    "first gives the future": ("def f() -> Waits: value: int = yield from first(number)", "assignment", "Future"),
    "sleep for a text": ("def f() -> Waits: yield from sleep('1')", "arg-type", '"str".*"float"'),
    "timeout after a text": ("def f() -> Waits: yield from timeout('2', number)", "arg-type", '"str".*"float"'),
    "another result of timeout": ("def f() -> Waits: value: str = yield from timeout(2, number)", "assignment", "str"),
    "deadline of a future": ("def f() -> Waits: yield from deadline(2, number)", "arg-type", "Generator"),
    "single_flight of a future": ("def f() -> Waits: yield from single_flight('key', number)", "arg-type", "Callable"),
    "so many places as a text": ("Semaphore('2')", "arg-type", '"str".*"int"'),
    "publish what it is not for": ("topic: Topic[bytes] = Topic()\ntopic.publish('text')", "arg-type", '"str".*"bytes"'),
    "another item of a channel": (
        "def f(lines: Channel[bytes]) -> Waits: line: str = yield from lines.get()",
        "assignment",
        '"bytes".*"str"',
    ),
    "what to do with the slow": ("Topic(slow='wait')", "arg-type", "Literal"),
    "retry of a future": ("def f() -> Waits: yield from retry(number)", "call-overload", "Future"),
    "retry without a pause": ("retry(lambda: number, pause=3)", "call-overload", "retry"),
    "a task that is a coroutine": ("TaskGroup().add(ask('/'))", "arg-type", "Coroutine"),
    "background without arguments": ("background(load, 'a')", "arg-type", "background"),
    "background of a result": ("background(load('a', 1))", "arg-type", "bytes"),
    "a body of a file": ("RequestBody(open('/'))", "arg-type", "TextIOWrapper"),
    "shield of a coroutine": ("shield(ask('/'))", "arg-type", "Coroutine"),
    "offload without arguments": ("offload(load, 'a')", "arg-type", "load"),
    "offload with others": ("offload(load, 1, 'a')", "arg-type", "load"),
    "offload of a result": ("offload(load('a', 1))", "arg-type", "bytes"),
    "another result of offload": ("fut: Future[str] = offload(load, 'a', 1)", "arg-type", "bytes"),
    "offload to a number of threads": ("offload(load, 'a', 1, pool=4)", "arg-type", "Executor"),
    "run a function": ("bridge.run(ask)", "arg-type", "Coroutine"),
    "run an iterator": ("bridge.run(pieces())", "arg-type", "AsyncIterator"),
    "another result of run": ("fut: Future[str] = bridge.run(ask('/'))", "arg-type", "bytes"),
    "iterate over a coroutine": ("bridge.iterate(ask('/'))", "arg-type", "AsyncIterable"),
    "iterate over a list": ("bridge.iterate([b''])", "arg-type", "AsyncIterable"),
    "iterate with what is not opened": ("bridge.iterate(pieces(), number)", "arg-type", "Opened"),
    "open a coroutine": ("def f() -> Waits: yield from bridge.open(ask('/'))", "arg-type", "ContextManager"),
    "open what is no manager": ("def f() -> Waits: yield from bridge.open(open('/'))", "arg-type", "AsyncContext"),
    "discard what it is not": (
        "def f() -> Waits: yield from wait(number, discard=str.upper)",
        "arg-type",
        "Callable",
    ),
    "close by": ("bridge.close('soon')", "arg-type", "float"),
    "a view that does not wait": ("@suspends\ndef f() -> str: return ''", "arg-type", "Generator"),
    "a view that yields blocks": (
        "@suspends\ndef f() -> Generator[bytes, None, str]:\n yield b''\n return ''",
        "arg-type",
        "bytes",
    ),
    "another argument of a view": (
        "@suspends\ndef f(n: int) -> Generator[Future[Any], None, str]:\n yield number\n return ''\nf('1')",
        "arg-type",
        '"str".*"int"',
    ),
    "another result of a view": (
        "@suspends\ndef f() -> Generator[Future[Any], None, str]:\n yield number\n return ''\nvalue: int = f()",
        "assignment",
        '"str".*"int"',
    ),
    "blocking of a response": ("blocking([b''])", "arg-type", "list"),
    "validator of a name": ("validator('app')", "arg-type", "str"),
    "validated by what is no middleware": ("validated(app, app)", "arg-type", "Callable"),
    "a test that asks for what there is not": ("Client(app).get('/', header={})", "call-arg", "header"),
    "a test that fails a future with a text": ("Client(app).get('/').fail('late')", "arg-type", "BaseException"),
    "a server with a timeout as a text": ("Server(app, request_timeout='1')", "arg-type", '"str".*"float"'),
    "a server with an option that there is not": ("Server(app, theads=2)", "call-arg", "theads"),
}


pytestmark = pytest.mark.timeout(300 * SLOW)  # nothing is in the checkers' caches at first, and other tests run meanwhile

WRONG_FILES = {name: BUILD / f"wrong_{number}.py" for number, name in enumerate(WRONG)}


PYRIGHTS = {"reportArgumentType", "reportAssignmentType", "reportCallIssue", "reportReturnType"}
"""The rules of pyright that find these."""


class Finding(NamedTuple):
    line: int
    code: str
    message: str


Findings = dict[Path, list[Finding]]


def once(tmp_path_factory: pytest.TempPathFactory, name: str, check: Callable[[], str]) -> str:
    """What a checker says, in one run over everything: for all workers of pytest-xdist as well."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    said = shared / name
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            for wrong, path in WRONG_FILES.items():
                path.write_text(f"{PREAMBLE}{WRONG[wrong][0]}\n")
            said.write_text(check())
    return said.read_text()


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """The errors that mypy finds."""
    found: Findings = {}
    for line in once(tmp_path_factory, "mypy.json", check).splitlines():
        error = json.loads(line)
        if error["severity"] == "error":
            found.setdefault(ROOT / error["file"], []).append(Finding(error["line"], error["code"], error["message"]))
    return found


def check() -> str:
    options = ["--strict", "--config-file=", "--output=json", f"--cache-dir={BUILD / 'cache'}"]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *FILES, *WRONG_FILES.values()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280 * SLOW,
    )
    assert (ran.returncode, ran.stderr) == (1, ""), ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def pyrights(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """The errors that pyright finds, with the configuration that editors see."""
    found: Findings = {}
    said = json.loads(once(tmp_path_factory, "pyright.json", check_with_pyright))
    assert said["summary"]["filesAnalyzed"] == len([*FILES, *WRONG_FILES])
    for error in said["generalDiagnostics"]:
        if error["severity"] == "error":
            finding = Finding(error["range"]["start"]["line"] + 1, error.get("rule", ""), error["message"])
            found.setdefault(Path(error["file"]), []).append(finding)
    return found


def check_with_pyright() -> str:
    options = ["--outputjson", "--project", ROOT / "py", "--pythonpath", sys.executable]
    ran = subprocess.run(
        [sys.executable, "-m", "basedpyright", *options, *FILES, *WRONG_FILES.values()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280 * SLOW,
    )
    assert (ran.returncode, ran.stderr) == (1, ""), ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_right(findings: Findings, path: Path) -> None:
    assert findings.get(path, []) == []


@pytest.mark.parametrize("name", WRONG)
def test_wrong(findings: Findings, name: str) -> None:
    """The mistake is found, and nothing else."""
    _, code, message = WRONG[name]
    (said,) = findings[WRONG_FILES[name]]
    assert said.line > PREAMBLE.count("\n")
    assert said.code == code
    assert re.search(message, said.message)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_right_to_pyright(pyrights: Findings, path: Path) -> None:
    assert pyrights.get(path, []) == []


@pytest.mark.parametrize("name", WRONG)
def test_wrong_to_pyright(pyrights: Findings, name: str) -> None:
    """The mistake is found; besides, that a variable is not used, and the like."""
    rules = {said.code for said in pyrights[WRONG_FILES[name]] if said.line > PREAMBLE.count("\n")}
    assert rules & PYRIGHTS


def test_no_error_is_overlooked(findings: Findings, pyrights: Findings) -> None:
    """All are in files that the tests above look at."""
    assert {*findings, *pyrights} <= {*FILES, *WRONG_FILES.values()}
