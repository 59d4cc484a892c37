"""examples/django_site does what its README.md says, on Fermata and on wsgi_plus.simple_server."""

from __future__ import annotations

import ast
import json
import re
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from harness.browser import Browser
from harness.client import Response
from harness.gateway import COMMANDS, HERE, HOST, README, Toy, make, told
from harness.limits import LONG, ROOT, eventually, timeout
from harness.server import Server
from test_examples import Upstream

Start = Callable[..., Server]


@pytest.fixture(scope="module")
def toy() -> Iterator[Toy]:
    with closing(Toy()) as made:
        yield made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the database that the commands of README.md make."""
    made = tmp_path_factory.mktemp("site")
    make({"SITE_DATA": str(made)})
    return made


@pytest.fixture(params=list(COMMANDS))
def site(request: pytest.FixtureRequest, serve: Start, data: Path, toy: Toy) -> Callable[..., Server]:
    """site(upstream): the site, started as README.md says, in front of the toy unless told otherwise."""
    assert "\n    export PYTHONPATH=$PWD/py\n" in README
    *command, app = told(COMMANDS[request.param])

    def start(upstream: str = toy.address) -> Server:
        env = {"SITE_DATA": str(data), "UPSTREAM": upstream, "SECRET_KEY": "for tests only"}
        if request.param == "fermata":
            return serve(app, *command[1:], cwd=ROOT, env=env)
        return serve(app, cwd=ROOT, env={**env, "PYTHONPATH": str(ROOT / "py")}, program=command)

    return start


def get(server: Server, target: str) -> Response:
    return server.get(target, timeout=LONG, host=HOST)


@timeout(120)
def test_the_site_and_its_admin(site):
    """The pages are listed, changed in the admin, and served; the others are not there."""
    server = site()
    with Browser(server, host=HOST) as b:
        page = b.get("/").text
        assert {"broken", "silent", "slow"} <= set(re.findall('href="/pages/([^"]+)"', page))
        assert "Log in" in b.get("/admin/").text
        b.post("/admin/login/?next=/admin/", {"username": "ada", "password": "secret", "next": "/admin/"})
        assert "Site administration" in b.page.text
        assert b.get("/static/admin/css/base.css").status == 200
        name = f"extra{server.pid}"
        b.get("/admin/gateway/page/add/")
        assert (
            "Enter a valid value."
            in b.post("/admin/gateway/page/add/", {"name": name, "path": "echo", "patience": "9"}).text
        )
        page = b.post("/admin/gateway/page/add/", {"name": name, "path": "/echo", "patience": "9"}).text
        assert "was added successfully" in page
        answer = b.get(f"/pages/{name}")
        assert json.loads(answer.text)["target"] == "/echo"
        assert f"{name}</a>, served 1 times" in b.get("/").text
        assert b.get("/pages/none").status == 404
        assert b.open("POST", f"/pages/{name}").status == 403


def test_many_wait_on_two_threads(site):
    """The upstream answers none before all have asked; the rest of the site answers meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        listener.settimeout(LONG)
        server = site(f"127.0.0.1:{listener.getsockname()[1]}")
        clients = [stack.enter_context(server.connect(timeout=LONG)) for _ in range(50)]
        for client in clients:
            client.send_request("GET", "/pages/slow", host=HOST)
        waiting = [stack.enter_context(listener.accept()[0]) for _ in clients]
        assert "Gateway" in get(server, "/").text
        for number, peer in enumerate(waiting):
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d" % number)
        answers = sorted(client.read_response().text for client in clients)
    assert answers == [f"{number:02}" for number in range(50)]


@pytest.mark.parametrize(("name", "status"), [("broken", 502), ("silent", 504)])
def test_what_the_upstream_does_wrong(site, name, status):
    answer = get(site(), f"/pages/{name}")
    assert (answer.status, answer.header("X-Frame-Options")) == (status, "DENY")
    assert answer.text.startswith("the upstream ")


NONSENSE = [
    b"hello\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nno length",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5_0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + 10_000_000 * b".",
    b"HTTP/1.1 200 OK\r\nX: " + 100_000 * b"a" + b"\r\n\r\n",
    b"",
]


def test_an_upstream_that_talks_nonsense(site):
    said = b""

    def answer(peer: socket.socket) -> None:
        peer.sendall(said)
        peer.shutdown(socket.SHUT_WR)
        peer.recv(1)

    with closing(Upstream(answer)) as upstream:
        server = site(upstream.address.removeprefix("http://"))
        for said in NONSENSE:
            assert get(server, "/pages/slow").status == 502, said[:60]
        said = b"HTTP/1.0 404 Not there\r\ncontent-length: 2\r\nContent-Type: text/x-mine\r\n\r\nno more"
        found = get(server, "/pages/slow")
    assert (found.status, found.header("Content-Type"), found.body) == (404, "text/x-mine", b"no")
    assert {heard.split(b"\r\n")[0] for heard in upstream.heard} == {b"GET /slow?ms=1000 HTTP/1.1"}


def test_no_upstream(site):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        assert get(site(f"127.0.0.1:{silent.getsockname()[1]}"), "/pages/slow").status == 502


def test_clients_that_leave_take_their_requests_along(site, toy):
    server = site()
    before = toy.stats()["left"]
    clients = [server.connect() for _ in range(10)]
    for client in clients:
        client.send_request("GET", "/pages/silent", host=HOST)
    eventually(lambda: toy.stats()["open"] == 11, "all have reached the upstream, beside this question")
    for client in clients:
        client.close()
    eventually(lambda: toy.stats()["left"] == before + 10, "the upstream has seen them leave")


# In twenty lines


def test_they_are_twenty():
    """Of code, which needs nothing but the standard library."""
    text = (HERE / "twenty_lines.py").read_text()
    tree = ast.parse(text)
    assert len([line for line in text.splitlines()[tree.body[0].end_lineno :] if line.strip()]) <= 20
    imported = {node.names[0].name for node in tree.body if isinstance(node, ast.Import)}
    imported |= {node.module.partition(".")[0] for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names


@pytest.fixture
def short(launch: Start, toy: Toy, tmp_path: Path) -> Server:
    """It, asking the toy, whose port is not the one of README.md."""
    _, *options, app = told("build/fermata .* twenty_lines:app")
    changed = (HERE / "twenty_lines.py").read_text().replace(", 9000)", f", {toy.address.rpartition(':')[2]})")
    assert toy.address.rpartition(":")[2] in changed
    (tmp_path / "twenty_lines.py").write_text(changed)
    options[options.index("--chdir") + 1] = str(tmp_path)
    return launch(app, *options, cwd=ROOT)


def test_twenty_lines(short, toy):
    answer = short.get("/slow?ms=1")
    assert (answer.status, answer.text) == (200, "Sorry to have kept you waiting.\n")
    assert short.get("/none").status == 404
    assert short.get("/fail").status == 502
    assert short.get("/hang").status == 504
    before = toy.stats()["left"]
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(short.begin("/slow?ms=1900"))
        eventually(lambda: toy.stats()["open"] == 21, "they wait together, on two threads")
    eventually(lambda: toy.stats()["left"] == before + 20, "the upstream has seen them leave")


def test_the_command_is_that_of_the_head_comment():
    docstring = ast.get_docstring(ast.parse((HERE / "twenty_lines.py").read_text()), clean=False) or ""
    (line,) = [line for line in docstring.splitlines() if "build/fermata" in line]
    assert shlex.split(line) == told("build/fermata .* twenty_lines:app")
