"""The command: where it listens, and what it says of it."""

from __future__ import annotations

import os
import re
import socket
import stat
from datetime import datetime

import pytest
from harness.client import Connection
from harness.proxies import free_port
from harness.server import run


def test_start_line(launch):
    """At start one line says what is served where, with how many threads and which Python."""
    server = launch("loading.both:app", "--threads", "5")
    line = next(line for line in server.log().splitlines() if "Listening at" in line)
    assert f"http://127.0.0.1:{server.port}" in line
    assert "loading.both:app" in line
    assert re.search(r"\b5 threads\b", line)
    assert re.search(r"Python 3\.1\d", line)


def test_log_lines_have_time_pid_and_level(launch):
    """Lines of the error log look like gunicorn's: [time with zone] [pid] [LEVEL] text."""
    server = launch("about")
    for line in server.log().splitlines():
        found = re.fullmatch(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4})\] \[(\d+)\] \[([A-Z]+)\] .+", line)
        assert found, line
        assert abs(datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S %z").timestamp() - datetime.now().timestamp()) < 60
        assert int(found[2]) == server.pid


def test_default_bind():
    """Without --bind and PORT it is 127.0.0.1:8000 (or an error that says so, where that is taken)."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", 8000))
            s.listen(1)
        except OSError:
            pass
        done = run("about")
    assert done.returncode == 1
    assert "127.0.0.1:8000" in done.stderr


def test_port_variable(launch):
    """Without --bind, PORT makes it listen on 0.0.0.0:$PORT."""
    port = free_port()
    server = launch("about", bind=None, env={"PORT": str(port)})
    assert server.addresses() == [("0.0.0.0", port)]
    with Connection(("127.0.0.1", port)) as c:
        assert c.request("GET", "/").status == 200


def test_bind_wins_over_port_variable(launch):
    """PORT does not matter beside --bind."""
    assert [host for host, _ in launch("about", env={"PORT": "1"}).addresses()] == ["127.0.0.1"]


def test_several_binds(launch, tmp_path):
    """--bind may be repeated, families mixed; every one serves."""
    path = tmp_path / "s"
    server = launch("about", bind=["127.0.0.1:0", "[::1]:0", f"unix:{path}", "127.0.0.1:0"])
    assert len(server.addresses()) == 4
    for address in server.addresses():
        with Connection(address) as c:
            assert c.request("GET", "/").status == 200


def test_ipv6(launch):
    """[IPv6]:PORT, as it is said in the log as well."""
    server = launch("about", bind=["[::1]:0"])
    assert server.address[0] == "::1"
    assert f"http://[::1]:{server.port}" in server.log()
    assert server.get("/").status == 200


def test_host_name(launch):
    """A bind may name a host instead of an address."""
    assert launch("about", bind=["localhost:0"]).get("/").status == 200


def test_unix_socket_and_its_removal(launch, tmp_path):
    """unix:PATH serves there, and the file is gone afterwards."""
    path = tmp_path / "socket"
    server = launch("about", bind=[f"unix:{path}"])
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert server.get("/").status == 200
    server.stop()
    assert not path.exists()


def test_stale_unix_socket_is_replaced(launch, tmp_path):
    """A socket file that a dead process has left does not hinder the start."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))
    assert launch("about", bind=[f"unix:{path}"]).get("/").status == 200


def test_unix_path_that_is_a_file_stays(launch, tmp_path):
    """A file that is no socket is not removed: exit code 1 and the path in the message."""
    path = tmp_path / "precious"
    path.write_text("precious")
    server = launch("about", bind=[f"unix:{path}"], ready=False, expect=1)
    assert server.wait_exit() == 1
    assert str(path) in server.log()
    assert path.read_text() == "precious"


@pytest.mark.parametrize("option", ["--bind", "--admin-bind"])
def test_address_in_use(launch, option):
    """An address that is taken: exit code 1, and the message names it."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        taken = f"127.0.0.1:{s.getsockname()[1]}"
        binds = ("127.0.0.1:0",) if option != "--bind" else None
        server = launch("about", option, taken, bind=binds, ready=False, expect=1)
        assert server.wait_exit() == 1
    assert taken in server.log()
    assert re.search(os.strerror(98), server.log(), re.IGNORECASE)


def test_second_of_two_binds_in_use(launch, tmp_path):
    """One bad bind of several ends it: it does not serve half of what was asked for; the others are cleaned up."""
    path = tmp_path / "s"
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        taken = f"127.0.0.1:{s.getsockname()[1]}"
        server = launch("about", bind=[f"unix:{path}", taken], ready=False, expect=1)
        assert server.wait_exit() == 1
    assert taken in server.log()
    assert not path.exists()


def test_host_that_does_not_resolve(launch):
    """A name without an address ends the start with a message that names it."""
    server = launch("about", bind=["no-such-host.invalid:0"], ready=False, expect=2)
    assert server.wait_exit() == 2
    assert "no-such-host.invalid" in server.log()


def test_address_can_be_used_again_at_once(launch):
    """A restart on the same port works while old connections are in TIME_WAIT."""
    first = launch("about")
    port = first.port
    c = first.connect()
    assert c.request("GET", "/").status == 200
    first.stop()  # the server closes first, so the TIME_WAIT is on its side
    c.close()
    assert launch("about", bind=[f"127.0.0.1:{port}"]).get("/").status == 200
