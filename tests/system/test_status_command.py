"""`fermata status` and `fermata top`: a server that runs is asked from a terminal, by its address, its process, or as the
only one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time

import jsonschema
import pytest
from harness.limits import APPS, LONG, PROMPT, ROOT, SLOW, eventually, fermata, timeout
from harness.server import environment, run
from harness.workers import wait_ready, workers_of

SCHEMA = json.loads((ROOT / "spec/status.schema.json").read_text())


@pytest.fixture
def server(launch):
    return launch("places", "--threads", "2", admin=True)


def where(server) -> str:
    return "{}:{}".format(*server.admin_address())


def complaint(*arguments: str) -> tuple[int, str]:
    """The exit code and the first line of what it says, where it has nothing to show."""
    done = run(*arguments)
    assert done.stdout == "" and done.returncode != 0
    return done.returncode, done.stderr.splitlines()[0]


def ways(server):
    """All there are to name a server."""
    return [
        [where(server)],
        [f"http://{where(server)}"],
        [f"http://{where(server)}/"],
        ["--pid", str(server.pid)],
        [f"--pid={server.pid}"],
    ]


def test_status(server):
    """It is /status.txt, however the server is named; --json is /status.json."""
    with server.begin("/deep/here", timeout=LONG) as waiting:
        server.admin.wait_in_flight("parked_future", 1)
        for way in ways(server):
            done = run("status", *way)
            assert (done.returncode, done.stderr) == (0, ""), way
            assert done.stdout.startswith("places  fermata ") and "GET /deep/here" in done.stdout
            assert re.search(r"places\.py:\d+ leaf", done.stdout)
            done = run("status", "--json", *way)
            assert (done.returncode, done.stderr) == (0, ""), way
            told = json.loads(done.stdout)
            jsonschema.Draft202012Validator(SCHEMA).validate(told)
            assert told["server"]["pid"] == server.pid and told["in_flight"]["parked_future"]["n"] == 1
        assert server.get("/go").status == 200 and waiting.read_response().status == 200


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]], ids=["alone", "workers"])
def test_unix_socket(launch, tmp_path, workers):
    """It is asked by its path, also where that is relative to the server's directory."""
    for named, bound in ((str(tmp_path / "a"), str(tmp_path / "a")), (str(tmp_path / "b"), "b")):
        server = launch("places", "--pythonpath", str(APPS), "--admin-bind", f"unix:{bound}", *workers, cwd=tmp_path)
        eventually(lambda: "Admin at: " in server.log_now(), "the admin port is open", within=LONG)
        eventually(
            lambda: run("status", f"unix:{named}").returncode == 0, "its worker is ready, if it has one", within=LONG
        )
        for way in ([f"unix:{named}"], ["--pid", str(server.pid)]):
            done = run("status", *way)
            assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("places  fermata"), way
    code, said = complaint("status", f"unix:{tmp_path}/none")
    assert (code, said) == (1, f"fermata: unix:{tmp_path}/none: there is no such socket")


def test_localhost(launch):
    """The name has two addresses, and the server one of them."""
    server = launch("places", "--admin-bind", "[::1]:0")
    eventually(lambda: server.admin_address() is not None, "the admin port is open", within=LONG)
    port = server.admin_address()[1]
    for address in (f"localhost:{port}", f"http://localhost:{port}", f"[::1]:{port}", f"http://[::1]:{port}/"):
        assert run("status", address).returncode == 0, address


def test_all_addresses(launch):
    """A port of all addresses is found by its process, and is asked on this machine."""
    server = launch("places", "--admin-bind", "0.0.0.0:0", "--admin-status")
    eventually(lambda: server.admin_address() is not None, "the admin port is open", within=LONG)
    assert run("status", "--pid", str(server.pid)).returncode == 0
    hidden = launch("places", "--admin-bind", "0.0.0.0:0")
    eventually(lambda: hidden.admin_address() is not None, "the admin port is open", within=LONG)
    code, said = complaint("status", "--pid", str(hidden.pid))
    assert code == 1 and said.endswith(
        ": 403: only health and metrics are shown to other machines, without --admin-status"
    )


def test_names_that_are_refused(server):
    """The name that is asked for is the one that was given, so that --admin-host decides."""
    port = server.admin_address()[1]
    code, said = complaint("status", f"{socket.gethostname()}:{port}")
    assert code == 1 or "cannot be resolved" in said


def test_with_workers(launch):
    """Each is shown below a line of its own, or the one that is asked for; of a worker it is said whose it is."""
    server = launch("places", "--workers", "2", "--threads", "2", admin=True)
    wait_ready(server, 2)
    worker = workers_of(server)[0]
    with server.begin("/deep/here", timeout=LONG):
        server.admin.wait_in_flight("parked_future", 1, within=LONG)
        done = run("status", "--pid", str(server.pid))
        assert (done.returncode, done.stderr) == (0, "")
        sums, *each = re.split(r"^==== worker (\d), ready ====\n\n", done.stdout, flags=re.M)
        assert sums.startswith("places  fermata ") and "These are sums of 2 workers" in sums
        assert each[::2] == ["0", "1"] and [f"worker {n}, up" in text for n, text in enumerate(each[1::2])] == [
            True,
            True,
        ]
        assert sorted("GET /deep/here" in text for text in each[1::2]) == [False, True]

        done = run("status", "--json", "--pid", str(server.pid))
        assert (done.returncode, done.stderr) == (0, "")
        told = json.loads(done.stdout)
        assert set(told) == {"0", "1"}
        for slot, page in told.items():
            jsonschema.Draft202012Validator(SCHEMA).validate(page)
            assert page["server"]["worker"] == int(slot)
        assert sum(page["in_flight"]["parked_future"]["n"] for page in told.values()) == 1

        for form in (["--worker", "1"], ["--worker=1"]):
            done = run("status", where(server), *form)
            assert done.returncode == 0 and "worker 1, up" in done.stdout and "====" not in done.stdout
        one = json.loads(run("status", where(server), "--worker", "0", "--json").stdout)
        assert one["server"]["worker"] == 0

    done = run("stacks", where(server))
    none = "no thread runs the application\n"
    assert (done.returncode, done.stdout) == (
        0,
        f"==== worker 0, ready ====\n\n{none}\n==== worker 1, ready ====\n\n{none}",
    )
    assert run("stacks", where(server), "--worker", "1").stdout == none

    assert complaint("status", where(server), "--worker", "7") == (
        1,
        f"fermata: http://{where(server)}: 404: there is no worker 7, but there are 0, 1",
    )
    code, said = complaint("status", "--pid", str(worker["pid"]))
    assert (code, said) == (
        1,
        f"fermata: process {worker['pid']} has no admin port, but its parent has one, for all its workers: --pid {server.pid}",
    )


def test_a_worker_that_does_not_answer(launch, tmp_path):
    """The others are shown, what is wrong with it is said where it would be, and the exit code is 1."""
    broken = tmp_path / "broken"
    server = launch("workers:app", "--workers", "2", admin=True, env={"WORKERS_BREAK": str(broken)})
    wait_ready(server, 2)
    broken.write_text("hold")
    (one,) = (w["pid"] for w in workers_of(server) if w["slot"] == 1)
    os.kill(one, signal.SIGKILL)
    eventually(lambda: "loading" in {w["state"] for w in workers_of(server)}, "another one is started", within=LONG)
    (one,) = (w["pid"] for w in workers_of(server) if w["slot"] == 1)
    said = f"http://{where(server)}: 503: worker 1 (pid {one}) is being started"
    done = run("status", where(server))
    assert (done.returncode, done.stderr) == (1, f"fermata: {said}\n")
    assert "worker 0, up" in done.stdout and done.stdout.endswith(f"==== worker 1, loading ====\n\n{said}\n")
    done = run("status", where(server), "--json")
    assert (done.returncode, done.stderr) == (1, f"fermata: {said}\n")
    told = json.loads(done.stdout)
    assert told["1"] is None and told["0"]["server"]["worker"] == 0
    broken.unlink()


def test_no_worker(server):
    """A server by itself has none that could be asked for."""
    for command in ("status", "stacks", "top"):
        said = f"fermata: http://{where(server)}: it is a server by itself, without workers"
        assert complaint(command, where(server), "--worker", "0") == (1, said)


def test_the_admin_port_goes_over(launch):
    """After SIGUSR2 the process has one, and it is the same."""
    server = launch("places", "--workers", "1", admin=True)
    eventually(lambda: server.admin.get("/readyz").status == 200, "it is ready", within=LONG)
    server.signal(signal.SIGUSR2)
    eventually(lambda: server.log_now().count("Admin at: ") == 2, "the new program goes on", within=LONG)
    assert eventually(lambda: run("status", "--pid", str(server.pid)).returncode == 0, "it is found", within=LONG)


def processes(script: str) -> subprocess.CompletedProcess[str]:
    """What a shell prints that sees no processes but its own, and whose network is its own."""
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "sh", "-euc", script],
        cwd=APPS, env=environment({"FERMATA_COMMAND": str(fermata())}), capture_output=True, text=True, timeout=LONG * 3,
    )  # fmt: skip


needs_processes = pytest.mark.skipif(
    subprocess.run(
        ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "true"], capture_output=True
    ).returncode
    != 0,
    reason="this machine lets nobody have processes of their own (unshare --pid)",
)

START = """
start() { # N: the N-th server
    "$FERMATA_COMMAND" --bind 127.0.0.1:0 --admin-bind 127.0.0.1:0 places 2>"$1" & eval "server$1=$!"
    i=0; while ! grep -q 'Listening at' "$1"; do i=$((i + 1)); [ $i -lt 600 ]; sleep 0.1; done
}
cd "$(mktemp -d)"; export PYTHONPATH="$OLDPWD"; exec 3>&2
"""


@needs_processes
@timeout(240)
def test_the_only_one():
    """Without an address it is the only server there is; none and several are told."""
    done = processes(
        START
        + """
        "$FERMATA_COMMAND" status 2>&1 || echo "exit $?"
        start 1
        "$FERMATA_COMMAND" status; echo "exit $?"
        start 2
        "$FERMATA_COMMAND" status 2>&1 || echo "exit $?"
        kill $server1 $server2; wait
        """
    )
    assert done.returncode == 0, done.stderr
    none, one, several = re.split(r"exit \d\n", done.stdout)[:3]
    assert "no server of this user runs with --admin-bind here" in none
    assert one.startswith("places  fermata ")
    assert re.search(
        r"several servers run \(\d+ at http://127.0.0.1:\d+, \d+ at http://127.0.0.1:\d+\): name one", several
    )
    assert re.findall(r"exit (\d)", done.stdout) == ["1", "0", "1"]


def from_another_network(server) -> subprocess.CompletedProcess[str]:
    """What `fermata status` of the server says where there is another network."""
    done = subprocess.run(
        ["unshare", "--net", str(fermata()), "status", "--pid", str(server.pid)],
        cwd=APPS, env=environment(), capture_output=True, text=True, timeout=LONG,
    )  # fmt: skip
    if "unshare" in done.stderr:
        pytest.skip(done.stderr)
    return done


@pytest.mark.skipif(os.geteuid() != 0, reason="making network namespaces takes root")
def test_another_network(server):
    """An address of another network is not asked for in this one."""
    done = from_another_network(server)
    assert done.returncode == 1
    assert (
        f"process {server.pid} has a network of its own, in which its admin port is http://{where(server)}"
        in done.stderr
    )


NO_FILES = (
    subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], capture_output=True).returncode != 0
)


@pytest.mark.skipif(NO_FILES, reason="this machine lets nobody have mounts of their own (unshare --mount)")
def test_other_files(launch, tmp_path):
    """A path that means another file here than for the server is not asked for, least of all where another server is there."""
    path = tmp_path / "run"
    path.mkdir()
    other = launch("places", "--admin-bind", f"unix:{path}/admin")
    eventually(lambda: "Admin at: " in other.log_now(), "the admin port is open", within=LONG)
    with subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc",
         f'mount -t tmpfs none {path}; exec "$0" --bind 127.0.0.1:0 --admin-bind unix:{path}/admin places', str(fermata())],
        cwd=APPS, env=environment(), stderr=subprocess.PIPE, text=True,
    ) as inside, contextlib.ExitStack() as stack:  # fmt: skip
        stack.callback(inside.kill)
        for line in inside.stderr:
            if "Listening at" in line:
                break
        told = f"fermata: process {inside.pid} has files of its own, in which its admin port is unix:{path}/admin: ask there"
        assert complaint("status", "--pid", str(inside.pid)) == (1, told)
        assert f"pid {other.pid}," in run("status", "--pid", str(other.pid)).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="making network namespaces takes root")
def test_another_network_and_a_path(launch, tmp_path):
    """A unix socket is in no network."""
    server = launch("places", "--admin-bind", f"unix:{tmp_path}/admin")
    eventually(lambda: "Admin at: " in server.log_now(), "the admin port is open", within=LONG)
    done = from_another_network(server)
    assert done.returncode == 0 and f"pid {server.pid}," in done.stdout


FIFO = """
import ctypes, os
os.chdir("/mnt")
os.mkfifo("memfd:fermata-admin")
os.mkdir("old")
fd = os.open("memfd:fermata-admin", os.O_RDONLY | os.O_NONBLOCK)
assert ctypes.CDLL(None).pivot_root(b".", b"old") == 0
os.unlink("/memfd:fermata-admin")
print(flush=True)
os.read(0, 1)
"""


@pytest.mark.skipif(NO_FILES, reason="this machine lets nobody have mounts of their own (unshare --mount)")
def test_a_fifo_of_that_name():
    """What another process has open under the name of the file that tells of admin ports is not waited for."""
    with subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", 'mount -t tmpfs none /mnt; exec "$0" -c "$1"', sys.executable, FIFO],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == b"\n"
        assert os.readlink(f"/proc/{process.pid}/fd/3") == "/memfd:fermata-admin (deleted)"
        try:
            code, said = complaint("status", "--pid", str(process.pid))
        finally:
            process.stdin.close()
    assert (code, said) == (
        1,
        f"fermata: process {process.pid} has no admin port: a server has one with --admin-bind ADDRESS",
    )


# ---- what goes wrong ----


def test_nothing_there(launch):
    """Refused connections, processes without an admin port, and none at all."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = "127.0.0.1:{}".format(s.getsockname()[1])
        assert complaint("status", address) == (1, f"fermata: http://{address}: nothing listens there")
    server = launch("places")
    without = f"fermata: process {server.pid} has no admin port: a server has one with --admin-bind ADDRESS"
    assert complaint("status", "--pid", str(server.pid)) == (1, without)
    assert complaint("status", "--pid", str(os.getpid()))[1].startswith(
        f"fermata: process {os.getpid()} has no admin port"
    )
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert complaint("status", "--pid", str(ended.pid)) == (1, f"fermata: there is no process {ended.pid}")


def test_another_server(launch):
    """The application's own port, and what speaks no HTTP, are told from an admin port."""
    server = launch("places")
    address = "{}:{}".format(*server.address)
    assert complaint("status", address) == (
        1,
        f"fermata: http://{address}: what answers there is no admin port of Fermata's",
    )
    for answer in (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\nhello", b"x" * 100_000):
        with serving(answer) as address:
            assert complaint("status", address) == (
                1,
                f"fermata: http://{address}: what answers there is no admin port of Fermata's",
            )
    with serving(b"HTTP/1.1 200 OK\r\nServer: ferm") as address:
        assert complaint("status", address) == (
            1,
            f"fermata: http://{address}: it has closed the connection before it had answered",
        )


@contextlib.contextmanager
def serving(answer: bytes):
    """A server that gives this answer to each client."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                c, _ = listening.accept()
                with c:
                    c.recv(65536)
                    c.sendall(answer)
                    c.shutdown(socket.SHUT_WR)
                    c.settimeout(PROMPT)
                    while c.recv(65536):
                        pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield "127.0.0.1:{}".format(listening.getsockname()[1])
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def test_what_a_terminal_would_obey():
    """Who answers may be anybody: control characters are shown, and not sent to the terminal."""
    body = b"one\x1b[2Jtwo\r\n\x00three\x9b31m\xe2\x80\xaefour\n"
    head = b"HTTP/1.1 %s\r\nServer: fermata\r\nContent-Length: %d\r\n\r\n"
    with serving(head % (b"200 OK", len(body)) + body) as address:
        done = run("status", address)
        assert done.returncode == 0
        assert done.stdout == "one\\x1b[2Jtwo\\x0d\n\\x00...\n"
    body = body.replace(b"\x00", b"")
    with serving(head % (b"404 Not Found", len(body)) + body) as address:
        assert complaint("status", address) == (1, f"fermata: http://{address}: 404: one\\x1b[2Jtwo")
    with serving(head % (b"200 OK", len(body)) + body) as address:
        assert run("status", address).stdout == "one\\x1b[2Jtwo\\x0d\nthree\\x9b31m\\xe2\\x80\\xaefour\n"


@pytest.mark.parametrize("length", [b"", b"Content-Length: 99999999999\r\n", b"Content-Length: 3\r\n"])
def test_lengths(length):
    """An answer up to the end, one that is too long to be kept, and one that is shorter than what comes."""
    with serving(b"HTTP/1.0 200 OK\r\nserver:  fermata\r\n" + length + b"\r\nshort\n") as address:
        done = run("status", address)
        if len(length) > 25:
            assert (done.returncode, done.stderr) == (1, f"fermata: http://{address}: the answer is too long\n")
        else:
            assert (done.returncode, done.stdout) == (0, "sho" if length else "short\n")


@contextlib.contextmanager
def stopped(server):
    """A server that is stopped, and so answers nobody."""
    server.signal(signal.SIGSTOP)
    try:
        eventually(lambda: "T (stopped)" in open(f"/proc/{server.pid}/status").read(), "it is stopped")
        yield
    finally:
        server.signal(signal.SIGCONT)


@pytest.mark.parametrize("command", ["status", "top"])
def test_a_server_that_does_not_answer(launch, tmp_path, command):
    """The wait is bounded, whether the kernel takes the connection or not."""
    tcp = launch("places", admin=True)
    unix = launch("places", "--admin-bind", f"unix:{tmp_path}/admin")
    eventually(lambda: "Admin at: " in unix.log_now(), "the admin port is open", within=LONG)
    with stopped(tcp), stopped(unix):
        began = time.monotonic()
        assert complaint(command, where(tcp)) == (1, f"fermata: http://{where(tcp)}: no answer within 5 seconds")
        assert 5 <= time.monotonic() - began < 5 + 5 * SLOW
        assert complaint(command, "--pid", str(unix.pid)) == (
            1,
            f"fermata: unix:{tmp_path}/admin: no answer within 5 seconds",
        )
        with contextlib.ExitStack() as stack:  # until there is no room for one that waits to be accepted
            for _ in range(1000):
                s = stack.enter_context(socket.socket(socket.AF_UNIX))
                s.setblocking(False)
                if s.connect_ex(str(tmp_path / "admin")) != 0:
                    break
            assert complaint(command, f"unix:{tmp_path}/admin") == (
                1,
                f"fermata: unix:{tmp_path}/admin: no connection within 5 seconds",
            )


USAGE = [
    (["--nothing"], "--nothing: there is no such option"),
    (["--pid"], "--pid: it takes the number of a process"),
    (["--pid", "x"], "--pid: it takes the number of a process"),
    (["--pid=-1"], "--pid: it takes the number of a process"),
    (["--pid", "99999999999999"], "--pid: it takes the number of a process"),
    (["127.0.0.1:1", "127.0.0.1:2"], "127.0.0.1:2: there is an address already"),
    (["127.0.0.1:1", "--pid", "1"], "127.0.0.1:1: an address, or --pid, but not both"),
    (["--bind", "127.0.0.1:1"], "--bind: there is no such option"),
    (["--worker"], "--worker: it takes the number of a worker, its slot"),
    (["--worker", "x"], "--worker: it takes the number of a worker, its slot"),
    (["--worker=-1"], "--worker: it takes the number of a worker, its slot"),
    (["--worker=1x"], "--worker: it takes the number of a worker, its slot"),
]


@pytest.mark.parametrize(("arguments", "said"), USAGE)
def test_usage(arguments, said):
    """What cannot be asked like that; the usage shows how, and how a module is served that is called so."""
    for command in ("status", "top", "stacks"):
        done = run(command, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"fermata: {command}: {said}\nusage: fermata {command} [ADDRESS | --pid N]")
        assert f"fermata {command}:CALLABLE" in done.stderr
    assert run("top", "--json").returncode == 2


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.0.0.1:x",
        "https://127.0.0.1:1",
        "http://127.0.0.1:1/status.txt",
        "fd://3",
        "unix:",
        "[::1:1",
        "x" * 1000,
    ],
)
def test_addresses_that_are_none(address):
    for command in ("status", "top", "stacks"):
        done = run(command, address)
        assert (done.returncode, done.stdout) == (2, "")
        first, form, usage = done.stderr.splitlines()[:3]
        assert first.startswith(f"fermata: {address[:40]}")
        assert form == "ADDRESS is HOST:PORT, http://HOST:PORT or unix:PATH"
        assert usage.startswith(f"usage: fermata {command} [ADDRESS | --pid N]")


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["stacks"]])
def test_output_that_cannot_be_written(server, command):
    """It is said, and not taken for an answer."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [str(fermata()), *command, "--pid", str(server.pid)],
            stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), timeout=LONG,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "fermata: standard output: No space left on device\n")


def test_help():
    """Of each command, and of all in --help."""
    for command in ("status", "top", "stacks"):
        done = run(command, "--help")
        assert done.returncode == 0 and done.stdout.startswith(f"usage: fermata {command} ")
        assert f"\n  {command} " in run("--help").stdout
        assert f".B fermata {command} " in run("--help=man").stdout


@pytest.mark.parametrize("word", ["status", "top", "stacks"])
@pytest.mark.parametrize("form", ["{}:application", "-- {}", "--threads 1 {}", "--threads 1 {}:app"])
def test_modules_that_are_called_so(launch, tmp_path, word, form):
    """A word is a command only as it stands in the first place."""
    app = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'served']\n\napplication = app\n"
    (tmp_path / f"{word}.py").write_text(app)
    server = launch(None, *form.format(word).split(), bind=None, cwd=tmp_path, env={"PORT": "0"})
    assert server.get("/").text == "served"


# ---- top ----


def start(*arguments: str, **how) -> subprocess.Popen:
    return subprocess.Popen([str(fermata()), *arguments], cwd=APPS, env=environment({"TERM": "xterm"}), **how)


def test_top_without_a_terminal(server):
    """One status below the other, until it is told to end, or nobody reads."""
    top = start("top", where(server), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    text, began = "", time.monotonic()
    while text.count("WHERE THEY WAIT") < 2:
        text += top.stdout.readline()
    assert time.monotonic() - began >= 1.9
    assert "\x1b" not in text and text.startswith("places  fermata ") and text.count("places  fermata ") == 2
    top.send_signal(signal.SIGINT)
    assert top.wait(LONG) == 0
    top.stdout.close()
    top = start("top", where(server), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    top.stdout.readline()
    top.stdout.close()
    assert top.wait(LONG) in (1, -signal.SIGPIPE)


def test_top_with_workers(launch):
    """All of them, or one."""
    server = launch("places", "--workers", "2", admin=True)
    wait_ready(server, 2)
    for options, expected in (([], ["0", "1"] * 2), (["--worker", "1"], ["1"] * 2)):
        top = start("top", where(server), *options, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        text = ""
        while text.count("OLDEST REQUESTS") < len(expected):
            text += top.stdout.readline()
        top.send_signal(signal.SIGINT)
        assert top.wait(LONG) == 0
        top.stdout.close()
        assert re.findall(r"worker (\d), up", text) == expected


class Terminal:
    """`fermata top` on a terminal of its own."""

    def __init__(self, *arguments: str, rows=24, columns=80):
        self.master, slave = pty.openpty()
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.resize(rows, columns)
        self.shown = self.seen = b""
        self.process = start(
            "top", *arguments, stdin=slave, stdout=slave, stderr=slave,
            preexec_fn=lambda: (os.setsid(), fcntl.ioctl(slave, termios.TIOCSCTTY, 0)),
        )  # fmt: skip

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self, pattern: str, *, within: float = LONG) -> str:
        """Reads until it is there; what has been read is gone."""
        until = time.monotonic() + within
        while not (found := re.search(pattern, self.shown.decode(errors="replace"), re.S)):
            assert time.monotonic() < until, f"not shown: {pattern}, but {self.shown[-1000:]!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    read = os.read(self.master, 65536)
                    self.shown += read
                    self.seen += read
        text = found.group(0)
        self.shown = self.shown.decode(errors="replace")[found.end() :].encode()
        return text

    def type(self, keys: bytes):
        os.write(self.master, keys)

    def ends(self, code=0):
        """It ends, and leaves the terminal as it was."""
        self.wait(re.escape("\x1b[?7h\x1b[?25h\x1b[?1049l"))
        assert self.process.wait(LONG) == code
        assert termios.tcgetattr(self.slave) == self.before

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal():
    with contextlib.ExitStack() as stack:

        def make(*arguments, **how):
            made = Terminal(*arguments, **how)
            stack.callback(made.close)
            return made

        yield make


@pytest.mark.parametrize("end", [b"q", b"\x03", b"Q", b"xyzq"])
def test_top_on_a_terminal(server, terminal, end):
    """It has a screen of its own, that is drawn again, and ends with q or ^C; the terminal is as it was then."""
    t = terminal("--pid", str(server.pid))
    t.wait(re.escape("\x1b[?1049h\x1b[?25l\x1b[?7l") + r".*\x1b\[Hplaces  fermata .*OLDEST REQUESTS\x1b\[K\r\n\x1b\[J")
    with server.begin("/deep/seen", timeout=LONG) as c:
        t.wait(r"\x1b\[Hplaces  .*GET /deep/seen.*\x1b\[J")
        assert server.get("/go").status == 200 and c.read_response().status == 200
    t.type(end)
    t.ends()


def test_top_on_a_small_terminal(server, terminal):
    """It shows as many lines as there is room for, and says how many are left; another size is taken at once, also while
    the server does not answer."""
    t = terminal(where(server), rows=5, columns=20)
    text = t.wait(r"\x1b\[Hplaces.*\((\d+) lines more\)\x1b\[K\x1b\[J")
    assert text.count("\r\n") == 4
    with stopped(server):
        t.resize(1, 1)
        t.wait(r"\x1b\[H\(\d+ lines more\)\x1b\[K\x1b\[J")
        t.resize(60, 200)
        t.wait(r"\x1b\[Hplaces.*OLDEST REQUESTS\x1b\[K\r\n\x1b\[J")
    t.type(b"q")
    t.ends()


@contextlib.contextmanager
def silent(address: str):
    """What is there instead of a server takes a connection, reads a request, and says nothing."""
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))) as listening:
        listening.settimeout(LONG)
        with listening.accept()[0] as client:
            client.settimeout(LONG)
            assert client.recv(1000).startswith(b"GET /")
            yield


@pytest.mark.parametrize("end", [b"q", b"\x03"])
def test_top_ends_while_a_server_does_not_answer(launch, terminal, end):
    """Nobody has to wait for the answer, and who has ended it is not told that there is none."""
    server = launch("places", admin=True)
    address = where(server)
    t = terminal(address)
    t.wait(r"OLDEST REQUESTS.*\x1b\[J")
    server.stop()
    t.wait("nothing listens there")
    with silent(address):
        t.type(end)
        t.wait(re.escape("\x1b[?1049l"))
        assert t.process.wait(LONG) == 0
        assert b"no answer" not in t.seen


def test_top_is_stopped(server, terminal):
    """^Z gives the terminal back, and it goes on where it was."""
    t = terminal(where(server))
    t.wait(r"OLDEST REQUESTS.*\x1b\[J")
    t.process.send_signal(signal.SIGTSTP)
    t.wait(re.escape("\x1b[?1049l"))
    eventually(lambda: "T (stopped)" in open(f"/proc/{t.process.pid}/status").read(), "it is stopped")
    assert termios.tcgetattr(t.slave) == t.before
    t.process.send_signal(signal.SIGCONT)
    t.wait(re.escape("\x1b[?1049h") + r".*\x1b\[Hplaces")
    t.type(b"q")
    t.ends()


def test_top_goes_on_without_the_server(launch, terminal):
    """A server that is gone, or does not answer, is said so; when it is back it is shown again."""
    server = launch("places", admin=True)
    address = where(server)
    t = terminal(address)
    t.wait(r"\x1b\[Hplaces")
    with stopped(server):
        t.wait(re.escape(f"\x1b[Hhttp://{address}: no answer within 5 seconds\x1b[K\r\n\x1b[J"))
    t.wait(r"\x1b\[Hplaces")
    server.stop()
    t.wait(re.escape(f"\x1b[Hhttp://{address}: nothing listens there\x1b[K\r\n\x1b[J"))
    again = launch("places", "--admin-bind", address)
    t.wait(rf"\x1b\[Hplaces  [^\r]*pid {again.pid},")
    t.type(b"q")
    t.ends()
