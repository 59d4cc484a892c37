"""Sockets that were open when the server began: --bind fd://N, and systemd's LISTEN_FDS."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
from harness.client import Connection
from harness.limits import APPS, LONG, eventually, fermata
from harness.server import Server, environment, run, wait_refused

both = pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])

# Opens sockets as it is told, puts them where they are wanted, and becomes the server: argv[1] is JSON.
STARTER = r"""
import json, os, socket, sys
how = json.loads(sys.argv[1])
made = []
for kind, address in how["sockets"]:
    family = {"tcp": socket.AF_INET, "unix": socket.AF_UNIX, "udp": socket.AF_INET, "bound": socket.AF_INET}[kind]
    s = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(tuple(address) if isinstance(address, list) else address)
    if kind in ("tcp", "unix"):
        s.listen(64)
    made.append(s)
high = [os.dup2(s.fileno(), 100 + i) for i, s in enumerate(made)]
for s in made:
    s.close()
for i, fd in enumerate(high):
    os.dup2(fd, how["first"] + i, inheritable=True)
    os.close(fd)
env = dict(os.environ)
for name, value in how["env"].items():
    env[name] = str(os.getpid()) if value == "me" else value
os.execve(sys.argv[2], sys.argv[2:], env)
"""


def starter(sockets, *, first: int = 3, **env: str) -> list[str]:
    return [sys.executable, "-c", STARTER, json.dumps({"sockets": sockets, "first": first, "env": env}), str(fermata())]


def systemd(sockets, **env: str) -> list[str]:
    return starter(sockets, LISTEN_PID="me", LISTEN_FDS=str(len(sockets)), **env)


TCP = [("tcp", ["127.0.0.1", 0])]


@both
def test_fd(launch, workers):
    server = launch("rights:app", *workers, bind=["fd://3"], program=starter(TCP))
    assert server.address[1] > 0
    assert server.get("/who").status == 200


@both
def test_listen_fds(launch, tmp_path, workers):
    """All of them are served, without --bind; nothing of it is in the application's environment, or a child's."""
    sockets = [*TCP, ("unix", str(tmp_path / "s"))]
    server = launch("rights:app", *workers, bind=None, program=systemd(sockets, LISTEN_FDNAMES="web:local"))
    eventually(lambda: len(server.addresses()) == 2, "it listens at both")
    for address in server.addresses():
        with Connection(address, timeout=LONG) as c:
            assert json.loads(c.request("GET", "/variables").text) == []


def test_for_another_process(launch):
    """LISTEN_PID names it: they are not ours, and not the application's."""
    server = launch("rights:app", program=starter(TCP, LISTEN_PID="1", LISTEN_FDS="1"))
    assert json.loads(server.get("/variables").text) == []


def test_bind_is_passed_over(launch, tmp_path):
    """The unit of the socket binds it already; fd://N names one of them, or one more."""
    program = systemd(TCP)
    server = launch("rights:app", "--bind", f"unix:{tmp_path}/s", "--bind", "fd://3", bind=None, program=program)
    assert len(server.addresses()) == 1
    assert f"--bind unix:{tmp_path}/s is passed over" in server.log()
    assert not (tmp_path / "s").exists()


@both
def test_the_path_stays(launch, tmp_path, workers):
    """Who has bound it goes on listening, and what comes after the end waits there."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))
        s.listen(64)
        os.set_inheritable(s.fileno(), True)
        # The server's own descriptor is a copy of ours, as systemd's is.
        code = f"import os, sys; os.dup2({s.fileno()}, 3); os.execv(sys.argv[1], sys.argv[1:])"
        with subprocess.Popen(
            [sys.executable, "-c", code, str(fermata()), *workers, "--bind", "fd://3", "rights:app"],
            cwd=APPS,
            env=environment(),
            pass_fds=[s.fileno()],
            stderr=subprocess.DEVNULL,
        ) as process:
            with Connection(str(path), timeout=LONG) as c:
                assert c.request("GET", "/who").status == 200
            process.terminate()
            assert process.wait(LONG) == 0
        assert path.is_socket()
        s.settimeout(LONG)
        waiting = []
        for _ in range(40):  # its queue is as long as it was
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            waiting[-1].connect(str(path))
        for each in waiting:
            s.accept()[0].close()
            each.close()


@pytest.mark.parametrize("number", [0, 1])
def test_a_standard_stream(launch, number):
    """fd://0, as inetd and supervisord have it: what is printed does not go there, and children do not have it."""
    server = launch("rights:app", bind=[f"fd://{number}"], program=starter(TCP, first=number))
    assert server.get("/who").status == 200
    assert server.process.fds()[number] == "/dev/null"


def test_one_that_does_not_listen_yet(launch):
    server = launch("rights:app", bind=["fd://3"], program=starter([("bound", ["127.0.0.1", 0])]))
    assert server.get("/who").status == 200


def test_beside_others(launch):
    server = launch("rights:app", bind=["fd://3", "127.0.0.1:0"], program=starter(TCP))
    assert len(server.addresses()) == 2
    for address in server.addresses():
        with Connection(address) as c:
            assert c.request("GET", "/who").status == 200


def test_children_do_not_get_it(launch):
    """It is closed where the server executes a program, and in a child that the application forks."""
    server = launch("rights:app", bind=["fd://3"], program=starter(TCP))
    assert server.get("/fork").status == 200
    address = server.address
    server.stop()
    wait_refused(address)


@pytest.mark.parametrize(
    ("sockets", "bind", "said"),
    [
        ([], "fd://3", "--bind fd://3"),
        ([("udp", ["127.0.0.1", 0])], "fd://3", "--bind fd://3: socket: Protocol wrong type for socket"),
    ],
)
@both
def test_none_to_be_served(launch, sockets, bind, said, workers):
    server = launch("rights:app", *workers, bind=[bind], program=starter(sockets), ready=False, expect=1)
    assert server.wait_exit() == 1
    assert said in server.log()


def test_too_many(launch):
    server = launch("rights:app", bind=None, program=starter(TCP, LISTEN_PID="me", LISTEN_FDS="17"), ready=False, expect=1)
    assert server.wait_exit() == 1
    assert "LISTEN_FDS is 17: at most 16 sockets can be served" in server.log()


@pytest.mark.parametrize("text", ["fd://", "fd://x", "fd://-1", "fd://3 ", "fd://99999999999"])
def test_wrong(text):
    done = run("--bind", text, "rights:app")
    assert done.returncode == 2
    assert "behind fd:// comes the number of a descriptor" in done.stderr


def test_connections_wait_for_the_next_one(tmp_path):
    """What socket activation is for: while no server is there, clients wait, and none is refused."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(64)
        program = [
            sys.executable,
            "-c",
            f"import os, sys; os.dup2({s.fileno()}, 3); os.execv(sys.argv[1], sys.argv[1:])",
            str(fermata()),
        ]
        for _ in range(3):
            with Connection(s.getsockname(), timeout=LONG) as c:
                c.send_request("GET", "/who")
                process = subprocess.Popen(
                    [*program, "--bind", "fd://3", "rights:app"],
                    cwd=APPS,
                    env=environment(),
                    pass_fds=[s.fileno()],
                    stderr=subprocess.DEVNULL,
                )
                try:
                    assert c.read_response().status == 200
                finally:
                    process.terminate()
                    assert process.wait(LONG) == 0


def test_as_process_1(launch):
    """The init that is forked where orphans come hands the variables on."""
    code = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    program = systemd(TCP)
    program = [*program[:4], sys.executable, "-c", code, program[4]]
    server = Server("rights:app", bind=None, program=program)
    try:
        server.wait_ready()
        assert json.loads(server.get("/who").text)["pid"] != server.pid
    finally:
        server.stop()
