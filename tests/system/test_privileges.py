"""--user, --group, --initgroups: what is opened before, and what is left afterwards."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from harness.client import Connection
from harness.limits import APPS, LONG, eventually, fermata
from harness.server import run
from harness.users import starter, why_not
from harness.workers import is_gone, wait_ready

root = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

NOBODY = pwd.getpwnam("nobody")
DAEMON = pwd.getpwnam("daemon")
both = pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])


@pytest.fixture
def launch_open(launch):
    """launch, where any user can read Python."""

    def start(*arguments, **more):
        return launch(*arguments, program=[*starter(), str(fermata())], **more)

    return start


@pytest.fixture
def place():
    """A directory that all users can reach, unlike pytest's."""
    path = Path(tempfile.mkdtemp(prefix="fermata-place-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def who(server) -> dict:
    return json.loads(server.get("/who").text)


def owner(path: Path) -> tuple[int, int]:
    return path.lstat().st_uid, path.lstat().st_gid


@root
@both
def test_becomes_the_user(launch_open, workers):
    """All three ids, the user's own group and no other, no capability, and none to be had."""
    said = who(launch_open("rights:app", "--user", "nobody", *workers))
    assert said["users"] == [NOBODY.pw_uid] * 3
    assert said["groups"] == [NOBODY.pw_gid] * 3
    assert said["all"] == [NOBODY.pw_gid]
    assert {int(mask, 16) for mask in said["capabilities"]} == {0}
    assert said["no_new_privileges"] == "1"


@root
def test_preload(launch_open):
    """The application is loaded by the user, and so are the workers that are forked from there; also those that come later."""
    server = launch_open("rights:app", "--user", "nobody", "--workers", "2", "--preload", admin=True)
    before: set[int] = set()
    for _ in range(2):
        before = wait_ready(server, 2, before)
        loaded_in = re.findall(r"\[(\d+)\] \[INFO\] The application is loaded", server.log_now())
        for pid in (int(loaded_in[-1]), *before):
            text = Path(f"/proc/{pid}/status").read_text()
            uid, gid = NOBODY.pw_uid, NOBODY.pw_gid
            assert f"Uid:\t{uid}\t{uid}\t{uid}" in text, text
            assert f"Gid:\t{gid}\t{gid}\t{gid}" in text, text
            assert f"Groups:\t{gid} \n" in text, text
            assert "CapPrm:\t0000000000000000" in text, text
            assert "NoNewPrivs:\t1" in text, text
        server.signal(signal.SIGHUP)
    wait_ready(server, 2, before)
    server.expect = -signal.SIGKILL
    last = wait_ready(server, 2)
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: all(is_gone(pid) for pid in last), "their tie to the arbiter is not lost", within=LONG)


@root
def test_every_thread(launch_open):
    """Also those that were there before."""
    server = launch_open("rights:app", "--user", "nobody", "--access-logfile", "/dev/null")
    who(server)
    for status in server.process.statuses():
        assert status["Uid"].split() == [str(NOBODY.pw_uid)] * 4, status
        assert status["CapEff"] == "0000000000000000", status
        assert status["NoNewPrivs"] == "1", status


@root
def test_the_arbiter_stays_what_it_was(launch_open):
    """It has to open logs and to remove files where only root may, as gunicorn's master does."""
    server = launch_open("rights:app", "--user", "nobody", "--workers", "1")
    assert who(server)["pid"] != server.pid
    assert "Uid:\t0\t0\t0\t0" in Path(f"/proc/{server.pid}/status").read_text()


@root
@pytest.mark.parametrize(
    ("options", "uid", "gid"),
    [
        (("-u", "daemon", "-g", "nogroup"), DAEMON.pw_uid, grp.getgrnam("nogroup").gr_gid),
        (("--user", "4711", "--group", "4712"), 4711, 4712),
        (("--user", str(DAEMON.pw_uid)), DAEMON.pw_uid, DAEMON.pw_gid),
        (("--group", "daemon"), 0, DAEMON.pw_gid),
    ],
)
def test_names_and_numbers(launch_open, options, uid, gid):
    said = who(launch_open("rights:app", *options))
    assert said["users"] == [uid] * 3
    assert said["groups"] == [gid] * 3
    assert said["all"] == [gid]


@root
def test_initgroups(launch_open):
    found = [(p, os.getgrouplist(p.pw_name, p.pw_gid)) for p in pwd.getpwall()]
    several = [(p, groups) for p, groups in found if len(groups) > 1 and p.pw_uid != 0]
    if not several:
        pytest.skip("there is no user with several groups here")
    entry, groups = several[0]
    said = who(launch_open("rights:app", "--user", entry.pw_name, "--initgroups"))
    assert said["all"] == sorted(groups)
    assert who(launch_open("rights:app", "--user", entry.pw_name))["all"] == [entry.pw_gid]


@root
@both
def test_a_port_of_roots(launch_open, workers):
    """It is bound before."""
    host = f"127.77.{os.getpid() % 250}.{9 if workers else 8}"
    server = launch_open("rights:app", "--user", "nobody", *workers, bind=[f"{host}:80"])
    assert server.address == (host, 80)
    assert who(server)["users"] == [NOBODY.pw_uid] * 3


@root
@both
@pytest.mark.parametrize("whose", ["root", "nobody"])
def test_unix_socket(launch_open, place, workers, whose):
    """It is the user's, with the mode that was asked for, whosever the directory is."""
    shutil.chown(place, whose)
    path = place / "socket"
    server = launch_open("rights:app", "--user", "nobody", "--socket-mode", "600", *workers, bind=[f"unix:{path}"])
    assert owner(path) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert path.stat().st_mode & 0o777 == 0o600
    with Connection(str(path)) as c:
        assert c.request("GET", "/who").status == 200
    server.stop()
    if workers or whose == "nobody":  # by itself it may not remove what is in root's directory
        assert not path.exists()


@root
@both
@pytest.mark.parametrize("whose", ["root", "nobody"])
def test_log_files(launch_open, place, workers, whose):
    """They are the user's, so that they can be opened anew; in a directory of root's they have to be there for that."""
    shutil.chown(place, whose)
    access, error = place / "access.log", place / "error.log"
    options = ("--access-logfile", str(access), "--error-logfile", str(error), "--user", "nobody", "--workers", "2")
    server = launch_open("rights:app", *(options if workers else options[:-2]), ready=False)
    address = eventually(lambda: listening(error), "it listens", within=LONG)
    with Connection(address) as c:
        c.request("GET", "/who?1")
    eventually(lambda: "?1" in access.read_text(), "a line")
    assert {owner(access), owner(error)} == {(NOBODY.pw_uid, NOBODY.pw_gid)}
    for path in (access, error):
        path.rename(path.with_suffix(".1"))
        if whose == "root":  # as logrotate's `create` does
            path.touch(0o640)
            shutil.chown(path, "nobody")
    server.signal(signal.SIGUSR1)
    eventually(lambda: error.exists() and "opened anew" in error.read_text(), "the error log is opened anew")

    def written() -> bool:
        with Connection(address) as c:
            c.request("GET", "/who?2")
        return access.exists() and "?2" in access.read_text()

    eventually(written, "lines in the new file")
    assert {owner(access), owner(error)} <= {(NOBODY.pw_uid, NOBODY.pw_gid), (NOBODY.pw_uid, 0)}


def listening(log: Path):
    text = log.read_text() if log.exists() else ""
    _, found, rest = text.partition("Listening at: http://127.0.0.1:")
    return ("127.0.0.1", int(rest.split()[0])) if found else None


@root
def test_a_log_that_leads_elsewhere(place):
    """A link in a directory of the user's does not make root write, or give away, what the user may not."""
    (place / "precious").write_text("precious")
    mine = place / "mine"
    mine.mkdir()
    shutil.chown(mine, "nobody")
    (mine / "log").symlink_to(place / "precious")
    done = run("--bind", "127.0.0.1:0", "--user", "nobody", "--error-logfile", str(mine / "log"), "rights:app")
    assert done.returncode == 1
    assert f"--error-logfile {mine / 'log'}" in done.stderr
    assert (place / "precious").read_text() == "precious"
    assert owner(place / "precious") == (0, 0)


@root
def test_setuid_programs_gain_nothing(launch_open, place):
    """no_new_privs: what the application starts is the user, whatever the bits of its file say."""
    program = place / "id"
    shutil.copy(shutil.which("id"), program)
    program.chmod(0o4755)
    (place / "app_.py").write_text(
        "import subprocess\n"
        f"said = subprocess.run(['{program}', '-u'], capture_output=True).stdout\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [said]\n"
    )
    server = launch_open("app_:app", "--user", "nobody", "--pythonpath", str(place))
    assert server.get("/").text.strip() == str(NOBODY.pw_uid)


@root
def test_workers_die_with_their_arbiter(launch_open):
    """A change of the user takes the tie away, and it is made anew."""
    server = launch_open("rights:app", "--user", "nobody", "--workers", "2")
    pid = who(server)["pid"]
    server.expect = -signal.SIGKILL
    os.kill(server.pid, signal.SIGKILL)
    server.wait_exit()
    eventually(lambda: not Path(f"/proc/{pid}/exe").exists() or is_zombie(pid), "the worker has ended", within=LONG)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_oneself_is_nothing_to_do(launch):
    """Any user may name itself."""
    said = who(launch("rights:app", "--user", str(os.geteuid()), "--group", str(os.getegid())))
    assert said["users"] == [os.geteuid()] * 3
    assert said["no_new_privileges"] == Path("/proc/self/status").read_text().partition("NoNewPrivs:\t")[2][0]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--user", "no-such-user"), "--user no-such-user: it takes the name of a user that there is, or a number"),
        (("--user", "4294967295"), "--user 4294967295: it takes"),
        (("--group", "no-such-group"), "--group no-such-group: it takes the name of a group that there is, or a number"),
        (("--user", "4711"), "--user is a number that the user database does not have: name the group as well"),
    ],
)
def test_wrong(options, named):
    done = run(*options, "rights:app")
    assert done.returncode == 2
    assert named in done.stderr


@root
@both
def test_only_root_can(workers):
    done = subprocess.run(
        [str(fermata()), "--user", "daemon", *workers, "rights:app"],
        cwd=APPS,
        user="nobody",
        group=NOBODY.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert done.returncode == 2
    assert "only root can become another user or group" in done.stderr
