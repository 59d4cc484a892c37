"""examples/aggregator does what its README.md says, on Fermata and on wsgi_plus.simple_server."""

from __future__ import annotations

import ast
import json
import os
import re
import select
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from harness.client import Connection
from harness.limits import LONG, ROOT, eventually, never
from harness.server import Server, environment, virtualenv

HERE = ROOT / "examples" / "aggregator"
README = (HERE / "README.md").read_text()
SERVICES = ["price", "stock", "reviews", "shipping", "similar"]

Start = Callable[..., Server]


def told(pattern: str) -> list[str]:
    """The words of the one command in README.md that matches, with the virtual environment of the tests."""
    (line,) = [line.strip() for line in README.splitlines() if re.match(f"    {pattern}", line)]
    return shlex.split(line.replace("/tmp/flask", virtualenv()))


class Started:
    """A command in a process of its own, which says on what port it is."""

    def __init__(self, *command: str, **how: Any) -> None:
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **how
        )
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        said = b""
        while not (found := re.search(rb"http://127\.0\.0\.1:(\d+)\s", said)):
            assert select.select([fd], [], [], LONG)[0], said
            more = os.read(fd, 65536)
            assert more, f"it has ended: {said!r}"
            said += more
        self.port = int(found[1])

    def get(self, target: str) -> Any:
        with Connection(("127.0.0.1", self.port), timeout=LONG) as c:
            return c.request("GET", target)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Toy(Started):
    """The services, started as README.md says but on a free port."""

    def __init__(self) -> None:
        python, script, _ = told("python3 .*upstreams")
        assert python == "python3"
        super().__init__(sys.executable, script, "0", cwd=ROOT, env=environment())
        self.url = f"http://127.0.0.1:{self.port}"

    def count(self, what: str) -> dict[str, int]:
        return {name: numbers[what] for name, numbers in json.loads(self.get("/stats").text).items()}

    def wait_open(self, number: int) -> None:
        """Until each service has so many requests that it has not answered."""
        expected = dict.fromkeys(SERVICES, number)
        eventually(lambda: self.count("open") == expected, f"{number} open requests", within=LONG)


@pytest.fixture(scope="module")
def one_toy() -> Iterator[Toy]:
    with closing(Toy()) as toy:
        yield toy


@pytest.fixture
def toy(one_toy: Toy) -> Toy:
    one_toy.wait_open(0)
    return one_toy


@pytest.fixture(params=["fermata", "simple_server"])
def serve_by_command(request: pytest.FixtureRequest, serve: Start) -> Start:
    """Serves the aggregator with the command of README.md for either server.  Servers alike are shared."""
    commands = {"fermata": "build/fermata .* app:app", "simple_server": "PYTHONPATH=py .* -m wsgi_plus.simple_server"}

    def start(upstreams: str, patience: float = LONG) -> Server:
        env = {"UPSTREAMS": upstreams, "PATIENCE": str(patience)}
        program, *options, app = told(commands[request.param])
        if "=" not in program:
            return serve(app, *options, cwd=ROOT, env=env)
        name, _, value = program.partition("=")
        return serve(app, *options[1:], cwd=ROOT, env={**env, name: value}, program=options[:1])

    return start


@pytest.fixture
def server(serve_by_command: Start, toy: Toy) -> Server:
    """One that is patient."""
    return serve_by_command(toy.url)


@pytest.fixture
def hasty(serve_by_command: Start, toy: Toy) -> Server:
    return serve_by_command(toy.url, patience=0.5)


def all_of(manner: str) -> str:
    return "&".join(f"{name}={manner}" for name in SERVICES)


def product(server: Server, query: str = "") -> tuple[int, dict[str, Any]]:
    answer = server.get(f"/products/42?{query}", timeout=LONG)
    assert answer.header("Content-Type") == "application/json"
    return answer.status, json.loads(answer.text)


WHOLE = {
    "product": 42,
    "price": {"amount": 142, "currency": "EUR"},
    "stock": {"pieces": 2},
    "reviews": {"stars": 3, "count": 42},
    "shipping": {"days": 1},
    "similar": {"products": [43, 44]},
    "failed": {},
}


def without(*names: str, **failed: str) -> dict[str, Any]:
    parts = {name: part for name, part in WHOLE.items() if name not in (*names, *failed)}
    return {**parts, "failed": failed}


def test_all_five(server):
    assert product(server) == (200, WHOLE)
    assert server.get("/products/forty-two").status == 404


@pytest.mark.parametrize(
    ("manner", "why"),
    [
        ("fail", "broke off"),
        ("busy", "said 503 Service Unavailable"),
        ("nonsense", "Expecting value: line 1 column 1 (char 0)"),
        ("endless", "its answer has a length of unknown"),
    ],
)
@pytest.mark.parametrize("service", ["price", "similar"])
def test_one_fails(server, service, manner, why):
    assert product(server, f"{service}={manner}") == (200, without(**{service: why}))


def test_some_are_late(hasty):
    late = "no answer within 0.5 s"
    assert product(hasty, "stock=hang&reviews=fail&price=1ms&similar=60000ms") == (
        200,
        without(reviews="broke off", stock=late, similar=late),
    )


def test_the_answer_that_the_readme_shows(hasty):
    (shown,) = re.findall("```json\n(.*?)```", README, re.DOTALL)
    (query,) = re.findall(r"products/42\?(stock=hang[^\"]*)", README)
    assert product(hasty, query) == (200, json.loads(shown.replace("2 s", "0.5 s")))


def test_flaky(server):
    """One in two, in whatever order."""
    failed = [product(server, "reviews=flaky")[1]["failed"] for _ in range(4)]
    assert [bool(one) for one in failed] in ([True, False, True, False], [False, True, False, True])


def test_nothing_is_left(server, hasty):
    late = dict.fromkeys(SERVICES, "no answer within 0.5 s")
    assert product(hasty, all_of("hang")) == (504, {"product": 42, "failed": late})
    failed = dict.fromkeys(SERVICES, "broke off")
    assert product(server, all_of("fail")) == (502, {"product": 42, "failed": failed})
    assert product(hasty, all_of("hang").replace("price=hang", "price=fail"))[0] == 502


def test_nobody_listens(serve_by_command):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        server = serve_by_command(f"http://127.0.0.1:{silent.getsockname()[1]}")
        status, body = product(server)
    assert (status, list(body["failed"])) == (502, sorted(SERVICES))


def test_many_on_two_threads(server, toy):
    """Three hundred wait; each service is asked two hundred things at once."""
    with ExitStack() as stack:
        for n in range(300):
            stack.enter_context(server.begin(f"/products/{n}?{all_of('hang')}", timeout=LONG))
        toy.wait_open(200)
        assert server.get("/products/not-a-number").status == 404  # the threads are free
        never(lambda: max(toy.count("open").values()) > 200, "more than two hundred at once")
    toy.wait_open(0)
    assert product(server) == (200, WHOLE)


def test_answers_are_not_mixed_up(server):
    with ExitStack() as stack:
        clients = {
            n: stack.enter_context(server.begin(f"/products/{n}?{all_of(f'{100 + n * 7 % 100}ms')}", timeout=LONG))
            for n in range(100)
        }
        for n, c in clients.items():
            body = json.loads(c.read_response().text)
            assert (body["product"], body["price"]["amount"], body["similar"]["products"]) == (
                n,
                100 + n,
                [n + 1, n + 2],
            )


def test_client_leaves(server, toy):
    before = toy.count("left")
    with server.begin(f"/products/42?{all_of('hang')}"):
        toy.wait_open(1)
    toy.wait_open(0)
    assert toy.count("left") == {name: number + 1 for name, number in before.items()}


# On other servers


def test_flask_run(toy):
    """The same answers, as README.md says."""
    (words,) = re.findall("such as `(flask [^`]+)`", README)
    _, *options = words.split()
    command = [sys.executable, "-m", "flask", *options, "--port", "0"]
    env = environment(
        {"UPSTREAMS": toy.url, "PATIENCE": "0.5", "PYTHONPATH": str(ROOT / "py"), "PYTHONUNBUFFERED": "1"}
    )
    with closing(Started(*command, cwd=HERE, env=env)) as server:
        assert json.loads(server.get("/products/42").text) == WHOLE
        answer = server.get("/products/42?stock=hang&reviews=fail")
        failed = {"stock": "no answer within 0.5 s", "reviews": "broke off"}
        assert (answer.status, json.loads(answer.text)) == (200, without(**failed))


# In twenty lines


@pytest.fixture
def short(launch: Start, toy: Toy, tmp_path: Path) -> Server:
    _, *options, app = told("build/fermata .* twenty_lines:app")
    (tmp_path / "twenty_lines.py").write_text((HERE / "twenty_lines.py").read_text().replace("9000", str(toy.port)))
    options[options.index("--chdir") + 1] = str(tmp_path)
    return launch(app, *options, cwd=ROOT)


def test_they_are_twenty():
    """Of code, which needs nothing but the standard library."""
    text = (HERE / "twenty_lines.py").read_text()
    tree = ast.parse(text)
    doc = tree.body[0].end_lineno
    assert len([line for line in text.splitlines()[doc:] if line.strip()]) <= 20
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    assert names | {node.module for node in imports if isinstance(node, ast.ImportFrom)} == {
        "json",
        "concurrent.futures",
        "urllib.parse",
        "urllib.request",
    }


def test_twenty_lines(short):
    parts = {name: part for name, part in WHOLE.items() if name in SERVICES}
    assert json.loads(short.get("/42").text) == parts
    answer = json.loads(short.get("/42?stock=hang&reviews=busy", timeout=LONG).text)
    assert answer["stock"] == "failed: timed out"
    assert answer["reviews"] == "failed: HTTP Error 503: Service Unavailable"
    assert {name: answer[name] for name in ("price", "shipping", "similar")}.items() <= parts.items()


def test_twenty_lines_hold_no_thread(short, toy):
    """Twenty requests wait at once on the two threads of the command."""
    with ExitStack() as stack:
        clients = [stack.enter_context(short.begin(f"/{n}?{all_of('500ms')}", timeout=LONG)) for n in range(20)]
        toy.wait_open(20)
        assert [json.loads(c.read_response().text)["price"]["amount"] for c in clients] == [100 + n for n in range(20)]
