"""Where it listens: unix sockets with their mode, abstract ones, and both families of addresses."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
from pathlib import Path

import pytest
from harness.admin import Admin
from harness.client import Connection, build
from harness.limits import APPS, PROMPT, eventually
from harness.proxies import free_port
from harness.server import run


def seen(server, address, host: str | None = "test.example"):
    with Connection(address) as c:
        return json.loads(c.request("GET", "/seen", host=host).text)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as s:
        try:
            s.bind(("::1", 0))
        except OSError:
            return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")


# Unix sockets


@pytest.mark.parametrize("before", [0o022, 0o077])
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((), 0o777),
        (("--umask", "027"), 0o750),
        (("-m", "0o007"), 0o770),
        (("--socket-mode", "660"), 0o660),
        (("--socket-mode", "0666", "--umask", "077"), 0o666),
    ],
    ids=str,
)
def test_mode_of_a_unix_socket(launch, tmp_path, options, wanted, before):
    """All users may connect, as with gunicorn's default, or those that --socket-mode or --umask leave, whatever the umask
    of the shell is."""
    path = tmp_path / "s"
    umask = os.umask(before)
    try:
        server = launch("basic", *options, bind=[f"unix:{path}"])
    finally:
        os.umask(umask)
    assert mode(path) == wanted
    assert server.get("/hello").status == 200


def test_umask_of_the_process(launch, tmp_path):
    """--umask is for what the application makes, too; without it the umask is what it was."""
    (tmp_path / "makes.py").write_text("open('made', 'w')\nfrom about import application\n")
    for options, wanted in (("--umask", "137"), 0o640), ((), 0o604):
        before = os.umask(0o062)
        try:
            launch("makes", *options, "--pythonpath", str(APPS), cwd=tmp_path)
        finally:
            os.umask(before)
        assert mode(tmp_path / "made") == wanted
        (tmp_path / "made").unlink()


@pytest.mark.parametrize("option", ["--umask", "--socket-mode"])
@pytest.mark.parametrize("value", ["8", "1000", "-1", "", "0x1f", "rwx", "0o"])
def test_bad_mode(option, value):
    done = run(option, value, "about")
    assert done.returncode == 2
    assert option in done.stderr and "octal" in done.stderr


@pytest.mark.parametrize("end", ["drain", "last resort", "not loaded"])
def test_relative_path_of_an_application_that_goes_elsewhere(launch, tmp_path, end):
    """However it ends, it does not leave the socket behind."""
    then = "raise LookupError" if end == "not loaded" else "from basic import application"
    (tmp_path / "goes.py").write_text(f"import os\nos.chdir('/')\n{then}\n")
    options = ("--pythonpath", str(APPS), "--graceful-timeout", "1")
    code = {"drain": 0, "last resort": 1, "not loaded": 3}[end]
    server = launch("goes", *options, bind=["unix:s"], cwd=tmp_path, ready=end != "not loaded", expect=code)
    if end == "not loaded":
        assert server.wait_exit() == code
    else:
        with Connection(str(tmp_path / "s")) as c:
            if end == "last resort":
                c.send(build("GET", "/gate?key=never"))
                server.wait_events("never", "entered")
                server.signal(signal.SIGTERM)
                assert server.wait_exit() == code
            else:
                assert c.request("GET", "/hello").status == 200
        server.stop()
    assert not (tmp_path / "s").exists()


def test_socket_of_a_successor_is_left_alone(launch, tmp_path):
    """A path that has been removed and made anew by the next server stays when the first one ends."""
    path = tmp_path / "s"
    first = launch("basic", bind=[f"unix:{path}"])
    path.unlink()
    second = launch("basic", bind=[f"unix:{path}"])
    first.stop()
    assert second.get("/hello").status == 200
    second.stop()
    assert not path.exists()


def test_socket_of_a_successor_at_the_last_resort(launch, tmp_path):
    """Nor when it ends without its threads."""
    path = tmp_path / "s"
    first = launch("suspend:app", "--graceful-timeout", "0.1", bind=[f"unix:{path}"], expect=1)
    with first.begin("/gate?key=k"):
        first.wait_events("k", "entered")
        path.unlink()
        second = launch("basic", bind=[f"unix:{path}"])
        first.signal(signal.SIGTERM)
        assert first.wait_exit(2 + PROMPT) == 1
    assert second.get("/hello").status == 200


def test_abstract_socket(launch, tmp_path):
    """unix:@NAME has no path, no mode, and nothing stays behind; a second server cannot have the same name."""
    name = f"@fermata-{os.getpid()}-abstract"
    server = launch("basic", bind=[f"unix:{name}"], cwd=tmp_path, env={"PYTHONPATH": str(APPS)})
    assert server.addresses() == [name]
    facts = seen(server, name)
    assert (facts["SERVER_NAME"], facts["SERVER_PORT"], facts["REMOTE_ADDR"]) == ("localhost", "80", "")
    assert not list(tmp_path.iterdir())
    other = launch("basic", bind=[f"unix:{name}"], ready=False, expect=1)
    assert other.wait_exit() == 1
    assert f"--bind unix:{name}: bind: Address already in use" in other.log()
    assert server.get("/hello").status == 200
    server.stop()
    launch("basic", bind=[f"unix:{name}"])


def test_abstract_socket_without_a_name():
    done = run("--bind", "unix:@", "about")
    assert done.returncode == 2
    assert "the name is empty" in done.stderr


# Both families


@ipv6
@pytest.mark.parametrize("and_ipv4", [None, "0.0.0.0", "127.0.0.1"])
def test_any_ipv6_address_takes_ipv4(launch, and_ipv4):
    """[::] serves both families; where an IPv4 address has the same port that one has IPv4."""
    port = free_port()
    server = launch("basic", bind=[f"[::]:{port}", *([f"{and_ipv4}:{port}"] if and_ipv4 else [])])
    assert seen(server, ("::1", port))["SERVER_NAME"] == "[::]"
    facts = seen(server, ("127.0.0.1", port))
    assert facts["SERVER_NAME"] == (and_ipv4 or "[::]")
    assert facts["REMOTE_ADDR"] == "127.0.0.1"


@ipv6
@pytest.mark.parametrize(("address", "admin"), [("0.0.0.0", "[::]"), ("[::]", "0.0.0.0"), ("127.0.0.1", "[::]")])
def test_both_families_for_the_application_and_the_admin(launch, address, admin):
    """With one port, whichever of them has which family."""
    port = free_port()
    launch("basic", "--admin-bind", f"{admin}:{port}", bind=[f"{address}:{port}"])
    ipv4, ipv6 = ("127.0.0.1", port), ("::1", port)
    of_admin, of_application = (ipv6, ipv4) if admin == "[::]" else (ipv4, ipv6)
    assert Admin(of_admin).get("/healthz").status == 200
    with Connection(of_application) as c:
        assert c.request("GET", "/hello").status == 200


@ipv6
def test_any_ipv6_address_beside_the_admin_port(launch):
    """The admin port's address counts too."""
    server = launch("basic", bind=["[::]:0"], admin=True)
    assert server.admin.get("/healthz").status == 200
    assert seen(server, ("127.0.0.1", server.port))["SERVER_NAME"] == "[::]"


@ipv6
@pytest.mark.parametrize("given", [True, False], ids=["port", "port 0"])
def test_localhost_is_both_addresses(launch, given):
    """127.0.0.1 and ::1, with one port, for one bind."""
    server = launch("basic", bind=[f"localhost:{free_port() if given else 0}"])
    addresses = server.addresses()
    assert [host for host, _ in addresses] == ["127.0.0.1", "::1"]
    assert len({port for _, port in addresses}) == 1
    assert [seen(server, address)["SERVER_NAME"] for address in addresses] == ["127.0.0.1", "[::1]"]


@ipv6
def test_localhost_that_is_half_taken(launch):
    """If another program has the port of one of the addresses, a client of localhost could get that one: no start."""
    with socket.socket(socket.AF_INET6) as s:
        s.bind(("::1", 0))
        s.listen()
        port = s.getsockname()[1]
        server = launch("basic", bind=[f"localhost:{port}"], ready=False, expect=1)
        assert server.wait_exit() == 1
    assert "bind: Address already in use" in server.log()


@ipv6
def test_server_name_of_an_ipv6_address(launch):
    """RFC 3875, 4.1.14: it has brackets."""
    server = launch("basic", bind=["[::1]:0"])
    facts = seen(server, server.address)
    assert (facts["SERVER_NAME"], facts["REMOTE_ADDR"]) == ("[::1]", "::1")


# What is said at the start


@pytest.mark.parametrize("level", ["INFO", "Info", "warn", "WARN", "Warning", "CRITICAL"])
def test_log_level_in_any_case(launch, level):
    server = launch("basic", "--log-level", level, bind=["127.0.0.1:0"], ready=False)
    if level.lower() == "info":
        server.wait_log("Listening at")
    else:
        eventually(lambda: len(server.process.threads()) > 8, "it has its threads")
        assert "[INFO]" not in server.log()


def test_temporary_directory_that_cannot_be_used(launch, tmp_path):
    """It is named, and serving goes on."""
    server = launch("basic", env={"TMPDIR": str(tmp_path / "missing")})
    assert re.search(rf"\[WARNING\] {tmp_path}/missing: No such file or directory; .*TMPDIR", server.log())
    assert server.get("/hello").status == 200


HINTS = {
    ("--preload-app",): "it is --preload",
    ("--certfile", "x"): "no TLS",
    ("-D",): "use systemd",
    ("--logger-class", "x"): "--log-syslog",
    ("--secure-scheme-headers", "x"): "--proxy-headers",
}


@pytest.mark.parametrize(("words", "hint"), HINTS.items(), ids=[" ".join(words) for words in HINTS])
def test_hint_for_an_option_of_gunicorn(words, hint):
    done = run(*words, "about")
    assert done.returncode == 2
    assert f"there is no option {words[0]}: " in done.stderr
    assert hint in done.stderr


def test_no_hint_for_others():
    """An unknown option; a long one of one letter, and one that begins as one of gunicorn's: that may be meant."""
    for word in ("--nonsense", "--w", "-?"):
        done = run(word, "about")
        assert f"there is no option {word}\n" in done.stderr
    assert "there is no option --workers-of-the-world, but there is --workers\n" in run("--workers-of-the-world", "about").stderr
