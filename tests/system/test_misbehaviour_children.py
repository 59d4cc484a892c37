"""Applications that misbehave: they fork, and start processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path
from urllib.parse import quote

import pytest
from harness.bystander import bystander
from harness.client import build
from harness.limits import LONG, PROMPT, SANITIZED
from harness.process import Process
from harness.server import Server

not_sanitized = pytest.mark.skipif(SANITIZED, reason="the sanitizer has a view of its own on this")


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


@pytest.fixture
def server(serve):
    return serve("misbehave:app", "--threads", "4", "--keep-alive", "60", admin=True)


@pytest.mark.parametrize(
    ("how", "code", "logged"),
    [
        ("returns", 1, "a child that the application has forked came back"),
        ("returns-without-start", 1, "a child that the application has forked came back"),
        ("generator", 1, "a child that the application has forked came back"),
        ("raises", 1, r"a child that the application has forked came back[\s\S]*LookupError: raised in the child"),
        ("sys-exit", 7, None),
        ("sys-exit-text", 1, "no number"),
        ("starts", 8, None),
    ],
)
def test_fork(launch, key, tmp_path, how, code, logged):
    """A child has no client: whatever it does, it sends nothing, and it ends where it would come back to the server."""
    env = {"MISBEHAVE_DIR": str(tmp_path)}
    server = launch("misbehave:app", "--threads", "4", "--keep-alive", "60", env=env, admin=True)
    with bystander(server, key):
        with server.connect(timeout=LONG) as c:
            answer = c.request("GET", f"/forks?how={how}")
            assert (answer.status, answer.text) == (200, str(code))
            assert c.request("GET", "/hello").text == "hello"
        if logged:
            server.wait_log(logged)
        else:
            assert "[ERROR]" not in server.log()
    if how == "starts":
        said = (tmp_path / "said").read_text()
        assert said == "start_response called in a child of the process that serves the request"


@pytest.mark.parametrize(
    "where",
    ["done", "add_done_callback", "exception", "iter", "next", "look up throw", "throw", "look up close", "close", "del",
     "read", "close of the file", "message", "message of a failed close"],
)  # fmt: skip
def test_fork_anywhere(launch, key, where):
    """Whatever the server calls may fork: the child comes back to the place of the call, and no further.  The response
    is the parent's, whole and once, and the server is one process."""
    server = launch("misbehave:app", "--threads", "4", "--keep-alive", "60", admin=True)
    with bystander(server, key):
        target = f"/forks-in?key={key}&where={quote(where)}"
        with server.connect(timeout=LONG) as c:
            answer = c.request("GET", target)
            bodies = {"throw": b"thrown", "look up throw": b"thrown", "read": b"file", "close of the file": b"file"}
            bodies.update(done=b"thrown", exception=b"thrown", message=b"Internal Server Error\n")
            assert (answer.status, answer.body) == (500 if where == "message" else 200, bodies.get(where, b""))
            if where != "message":
                assert c.request("GET", "/hello").text == "hello"
            else:
                c.ended()
        events = server.wait_events(key, "child")
        assert {code for name, code in events if name == "child"} == {1}
    assert "a child that the application has forked came back" in server.log()


def test_fork_in_a_signal_handler(launch, key):
    """Handlers run on the main thread, which watches over everything: a child does not."""
    server = launch("misbehave:app", "--threads", "2", env={"MISBEHAVE": "forking_handler"}, admin=True)
    with bystander(server, key):
        server.signal(signal.SIGALRM)
        assert server.wait_events("alarms", "child") == [["child", 1]]
        assert server.get("/hello").text == "hello"
    assert "a child that the application has forked came back" in server.log()


def test_fork_at_exit(launch, key):
    """The child of an atexit handler ends as the server does, without what is left for the server to do."""
    server = launch("misbehave:app", env={"MISBEHAVE": "forking_atexit"})
    assert server.get("/hello").text == "hello"
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert server.stdout() == "child 0\n"
    assert server.log().count("Drained") == 1


def test_fork_that_stays(launch, key):
    """A child that lives on holds neither a listening socket nor a connection: what the server closes is closed, and
    when it has gone connections are refused, not left in the backlog of a server that does not exist."""
    server = launch("misbehave:app", "--threads", "4", "--keep-alive", "60", admin=True)
    with bystander(server, key):
        with server.connect() as c:
            c.send(build("GET", f"/park?key={key}", version="1.0"))
            server.wait_events(key, "parking")
            child = int(server.get("/forks-and-stays").text)
            try:
                server.call("probe.complete", key, "ended")
                assert c.read_response().text == "result ended"
                c.ended()
                names = set(Process(child).fds().values())
                assert names & tcp_sockets(server) == set()
            except BaseException:
                os.kill(child, signal.SIGKILL)
                raise
    try:
        refuses_when_stopped(server)
        os.kill(child, 0)  # it is still there
    finally:
        os.kill(child, signal.SIGKILL)


def refuses_when_stopped(server: Server) -> None:
    address = server.address
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=PROMPT)


def tcp_sockets(server: Server) -> set[str]:
    """The sockets that the server listens on or talks to clients by, as /proc names them."""
    inodes = set()
    for line in Path(f"/proc/{server.pid}/net/tcp").read_text().splitlines()[1:]:
        inodes.add(f"socket:[{line.split()[9]}]")
    return inodes & set(server.process.fds().values())


@not_sanitized
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_forked_child_can_be_ended(server, key, name):
    """The server's handlers for SIGTERM and SIGINT are not the child's: what ends any process ends it."""
    with bystander(server, key):
        answer = server.get(f"/terminates-a-child?signal={name}")
        assert answer.text == str(-getattr(signal, name))


@not_sanitized
def test_multiprocessing(server, key):
    """multiprocessing by fork, from a request: Process.terminate() and Pool work."""
    with bystander(server, key):
        assert json.loads(server.get("/multiprocessing", timeout=LONG).text) == [-signal.SIGTERM, [0, 1, 4, 9]]


def test_popen(server, key):
    """So does subprocess."""
    with bystander(server, key):
        assert server.get("/popen").text == "42"


def test_fork_at_import(launch, key):
    """A helper that is forked while the application is loaded: it does not listen when the server is gone."""
    server = launch("misbehave:app", "--threads", "2", env={"MISBEHAVE": "fork"}, admin=True)
    [child] = server.call("misbehave_children.get_children")
    try:
        with bystander(server, key):
            pass
        refuses_when_stopped(server)
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


def test_fork_at_import_that_returns(launch, key):
    """A child that comes back from loading the application does not become a second server."""
    server = launch("misbehave:app", "--threads", "2", env={"MISBEHAVE": "fork_and_return"}, admin=True)
    with bystander(server, key):
        server.wait_log("a child that the application has forked came back")
    assert server.log().count("Listening at") == 1
