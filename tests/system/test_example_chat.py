"""examples/chat does what its README.md says, on Fermata and on wsgi_plus.simple_server."""

from __future__ import annotations

import ast
import itertools
import json
import re
import resource
import runpy
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlencode

import pytest
from harness.client import Connection
from harness.limits import LONG, ROOT, eventually
from harness.server import Server

HERE = ROOT / "examples" / "chat"
README = (HERE / "README.md").read_text()
MANY = {"fermata": 2000, "simple_server": 300}  # clients: the second is not made for speed

Start = Callable[..., Server]


def told(pattern: str) -> list[str]:
    """The words of the one command in README.md that matches."""
    (line,) = [line.strip() for line in README.splitlines() if re.match(f"    {pattern}", line)]
    return shlex.split(line)


@pytest.fixture(params=list(MANY))
def server_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def chats(server_name: str, serve: Start) -> Callable[..., Server]:
    """Serves the chat with the command of README.md for either server."""
    commands = {"fermata": "build/fermata .* app:app", "simple_server": "PYTHONPATH=py python3 -m wsgi_plus"}

    def start(poll: float = 10 * LONG) -> Server:
        env = {"POLL": str(poll)}
        program, *options, app = told(commands[server_name])
        if "=" not in program:
            return serve(app, *options, cwd=ROOT, env=env)
        name, _, value = program.partition("=")
        assert options.pop(0) == "python3"
        return serve(app, *options, cwd=ROOT, env={**env, name: value}, program=[sys.executable])

    return start


@pytest.fixture
def chat(chats: Callable[..., Server]) -> Server:
    server = chats()
    eventually(lambda: stats(server)["waiting"] == 0, "no listener waits")
    return server


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    return re.sub(r"\W+", "-", request.node.name)[-50:]


def stats(server: Server) -> dict[str, int]:
    return json.loads(server.get("/stats", timeout=LONG).text)


def say(server: Server, room: str, text: str, name: str = "Ada") -> int:
    answer = server.request("POST", "/say", [], urlencode({"room": room, "name": name, "text": text}).encode())
    assert answer.status == 200
    return json.loads(answer.text)["number"]


def poll(server: Server, room: str, after: int = 0) -> Connection:
    return server.begin(f"/poll?room={room}&after={after}", timeout=LONG)


def heard(c: Connection) -> list[dict[str, Any]]:
    answer = c.read_response()
    assert (answer.status, answer.header("Content-Type")) == (200, "application/json")
    return json.loads(answer.text)["messages"]


def texts(c: Connection) -> list[str]:
    return [message["text"] for message in heard(c)]


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max(MANY.values()) + 500
    if hard < needed:
        pytest.skip(f"only {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_has_been_said_is_there_at_once(chat, room):
    numbers = [say(chat, room, "one"), say(chat, room, "<b>zwei</b> ✓", "Bób")]
    assert numbers == sorted(set(numbers))
    with poll(chat, room) as c:
        first, second = heard(c)
    assert (first["name"], first["text"], first["number"]) == ("Ada", "one", numbers[0])
    assert (second["name"], second["text"], second["number"]) == ("Bób", "<b>zwei</b> ✓", numbers[1])
    with poll(chat, room, after=numbers[0]) as c:
        assert texts(c) == ["<b>zwei</b> ✓"]


def test_those_in_the_room_hear_what_is_said(chat, room):
    before = say(chat, room, "before")
    with ExitStack() as stack:
        here = [stack.enter_context(poll(chat, room, before)) for _ in range(100)]
        elsewhere = stack.enter_context(poll(chat, f"{room}2"[-50:]))
        eventually(lambda: stats(chat)["waiting"] == 101, "all are waiting")
        say(chat, room, "now")
        assert [texts(c) for c in here] == [["now"]] * 100
        assert stats(chat)["waiting"] == 1
        say(chat, f"{room}2"[-50:], "there")
        assert texts(elsewhere) == ["there"]


def test_a_poll_has_an_end(chats, room):
    server = chats(poll=0.2)
    with poll(server, room) as c:
        assert heard(c) == []
    assert stats(server)["waiting"] == 0


def test_nobody_misses_a_message(chat, room):
    """Said by four at once while clients come back for more: each hears everything once, in one order."""
    said = [[f"{who} {n}" for n in range(20)] for who in "abcd"]  # not more than a room remembers

    def listen(told: list[dict[str, Any]]) -> None:
        with chat.connect(timeout=LONG) as c:
            while len(told) < sum(map(len, said)):
                after = told[-1]["number"] if told else 0
                c.send_request("GET", f"/poll?room={room}&after={after}")
                told += heard(c)

    tellings: list[list[dict[str, Any]]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=listen, args=[told], daemon=True) for told in tellings]
    threads += [
        threading.Thread(target=lambda mine=mine: [say(chat, room, text) for text in mine], daemon=True)
        for mine in said
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()
    assert sorted(message["text"] for message in tellings[0]) == sorted(itertools.chain(*said))
    assert all(told == tellings[0] for told in tellings)


def test_who_leaves_is_forgotten_at_once(chat, room):
    clients = [poll(chat, room) for _ in range(50)]
    eventually(lambda: stats(chat)["waiting"] == 50, "all are waiting")
    rooms = stats(chat)["rooms"]
    for c in clients:
        c.close()
    eventually(lambda: stats(chat) == {"rooms": rooms - 1, "waiting": 0}, "all are forgotten, and the room is")


def test_those_who_leave_just_now_do_not_disturb(monkeypatch):
    """A future that is cancelled, and whose request has not been closed yet, when a message is said."""
    monkeypatch.syspath_prepend(str(ROOT / "py"))
    chat = runpy.run_path(str(HERE / "app.py"))["chat"]
    with ExitStack() as stack:
        futures = [stack.enter_context(chat.listening("tea", 0)) for _ in range(20)]
        for future in futures[::2]:
            future.cancel()
        chat.say("tea", name="Ada", text="hello")
        assert [future.done() and not future.cancelled() for future in futures] == [False, True] * 10
    assert chat.stats() == {"rooms": 1, "waiting": 0}


def test_a_room_remembers_a_hundred_messages(chat, room):
    for n in range(105):
        say(chat, room, str(n))
    with poll(chat, room) as c:
        assert texts(c) == [str(n) for n in range(5, 105)]


def test_rooms_are_forgotten(chats):
    """Beyond a thousand: the one that has been silent longest, and those who wait in it come back."""
    server = chats(poll=20 * LONG)  # a server of its own
    last = say(server, "first", "hello")
    with server.connect(timeout=LONG) as c, poll(server, "first", last) as waiting:
        eventually(lambda: stats(server)["waiting"] == 1, "one is waiting")
        for n in range(1000):
            body = urlencode({"room": n, "name": "Ada", "text": "hello"}).encode()
            assert c.request("POST", "/say", [], body).status == 200
        assert heard(waiting) == []
    assert stats(server) == {"rooms": 1000, "waiting": 0}
    with poll(server, "first", last) as c:
        eventually(lambda: stats(server)["waiting"] == 1, "one is waiting again")
        say(server, "first", "again")
        assert texts(c) == ["again"]


def test_thousands_wait_on_two_threads(chat, server_name, room, many_files):
    many = MANY[server_name]
    with ExitStack() as stack:
        clients = [stack.enter_context(poll(chat, room)) for _ in range(many)]
        eventually(lambda: stats(chat)["waiting"] == many, "all are waiting", within=LONG)
        assert len(chat.process.threads()) < 10
        say(chat, room, "hello")
        assert [texts(c) for c in clients] == [["hello"]] * many


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("GET", "/elsewhere", None, 404),
        ("POST", "/poll?room=a", b"", 404),
        ("GET", "/say", None, 404),
        ("GET", "/poll", None, 400),
        ("GET", "/poll?room=", None, 400),
        ("GET", "/poll?room=" + "x" * 51, None, 400),
        ("GET", "/poll?room=a&after=x", None, 400),
        ("GET", "/poll?room=a&after=-1", None, 400),
        ("GET", "/poll?room=a&after=" + "1" * 30, None, 400),
        ("GET", "/poll?room=a&after=%C2%B2", None, 400),
        ("POST", "/say", b"", 400),
        ("POST", "/say", b"room=a&name=b", 400),
        ("POST", "/say", b"room=a&name=b&text=+", 400),
        ("POST", "/say", b"room=a&name=b&text=" + b"x" * 1001, 400),
        ("POST", "/say", b"room=a&name=b&text=" + b"x" * 20_000, 413),
    ],
)
def test_refused(chat, method, target, body, status):
    before = stats(chat)
    answer = chat.request(method, target, [], body)
    assert (answer.status, list(json.loads(answer.text))) == (status, ["error"])
    assert stats(chat) == before


def test_the_page(chat):
    answer = chat.get("/")
    assert (answer.status, answer.header("Content-Type")) == (200, "text/html; charset=utf-8")
    assert answer.body == (HERE / "page.html").read_bytes()
    for target in ("/poll?", "/say"):
        assert f'fetch("{target}"' in answer.text
    assert "innerHTML" not in answer.text  # what others say is text, not HTML


# In twenty lines


@pytest.fixture
def short(serve: Start) -> Server:
    _, *options, app = told("build/fermata .* twenty_lines:app")
    return serve(app, *options, cwd=ROOT, admin=True)


def test_they_are_twenty():
    """Of code, which needs nothing but the standard library."""
    text = (HERE / "twenty_lines.py").read_text()
    tree = ast.parse(text)
    doc = tree.body[0].end_lineno
    assert len([line for line in text.splitlines()[doc:] if line.strip()]) <= 20
    imported = {node.names[0].name for node in tree.body if isinstance(node, ast.Import)}
    imported |= {node.module.partition(".")[0] for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names


def test_twenty_lines(short):
    with ExitStack() as stack:
        clients = [stack.enter_context(short.begin("/tea?after=0", timeout=LONG)) for _ in range(200)]
        elsewhere = stack.enter_context(short.begin("/milk"))
        short.admin.wait_in_flight("parked_future", 201)
        assert short.request("POST", "/tea", [], "héllo".encode()).text == json.dumps(["héllo"])
        assert [json.loads(c.read_response().text) for c in clients] == [["héllo"]] * 200
        elsewhere.close()
    short.admin.wait_in_flight("parked_future", 0)
    assert short.request("POST", "/tea", [], b"again").status == 200
    assert json.loads(short.get("/tea?after=1").text) == ["again"]


def test_the_commands_are_those_of_the_head_comments():
    for name, pattern in (("app", "build/fermata .* app:app"), ("twenty_lines", "build/fermata .* twenty_lines:app")):
        docstring = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text()), clean=False) or ""
        (line,) = [line for line in docstring.splitlines() if "build/fermata" in line]
        assert shlex.split(line) == told(pattern)
