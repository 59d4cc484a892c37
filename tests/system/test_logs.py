"""Logs: that no request waits for them, and that what they say is true."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import time

import pytest
from harness.client import Connection, build
from harness.limits import APPS, LONG, PROMPT, eventually, fermata
from harness.process import Process
from harness.server import environment, run

LINE = re.compile(
    r'^(?P<host>\S+) - (?P<user>\S+) \[(?P<time>[^]]+)\] "(?P<request>[^"]*)" (?P<status>\d{3}) (?P<bytes>\d+)'
    r' "(?P<referer>[^"]*)" "(?P<agent>[^"]*)" (?P<end>[X+-])$'
)


def lines(path, number: int) -> list[dict[str, str]]:
    eventually(lambda: path.exists() and path.read_text().count("\n") >= number, f"{number} lines in {path}")
    found = [LINE.match(line) for line in path.read_text().splitlines()]
    assert all(found) and len(found) == number, path.read_text()
    return [line.groupdict() for line in found if line]


# ---- no request waits for a log ----


class Blocked:
    """A server whose standard output and error are pipes that are not read, and full."""

    def __init__(self, *options: str) -> None:
        self.read, self.write = os.pipe()
        os.set_blocking(self.write, False)
        try:
            while True:
                os.write(self.write, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(self.write, True)
        self.process = subprocess.Popen(
            [str(fermata()), "--bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0", *options],
            cwd=APPS,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=self.write,
            stderr=self.write,
        )
        os.close(self.write)

    def ports(self) -> list[int]:
        """Where it listens, by /proc: it cannot say so."""

        def listening() -> list[int] | None:
            assert self.process.poll() is None, "it ended"
            inodes = set(Process(self.process.pid).fds().values())
            with open("/proc/net/tcp") as table:
                rows = [row.split() for row in table.readlines()[1:]]
            ports = [int(r[1].split(":")[1], 16) for r in rows if r[3] == "0A" and f"socket:[{r[9]}]" in inodes]
            return ports if len(ports) == 2 else None

        return eventually(listening, "it listens twice", within=LONG)

    def end(self) -> None:
        os.close(self.read)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def blocked():
    made = []

    def start(*options: str) -> Blocked:
        made.append(Blocked(*options))
        return made[-1]

    yield start
    for b in made:
        b.end()


def ask(port: int, target: str, timeout: float = PROMPT):
    with Connection(("127.0.0.1", port), timeout=timeout) as c:
        return c.request("GET", target)


@pytest.mark.parametrize("log", ["access", "debug", "errors"])
def test_a_log_that_nobody_reads(blocked, log):
    """Requests and health checks are answered, SIGTERM is obeyed, and what was dropped is counted."""
    options = {"access": ["--access-logfile", "-"], "debug": ["--log-level", "debug"], "errors": []}[log]
    server = blocked(*options, "--log-buffer", "65536", "--graceful-timeout", "2", "basic")
    ports = server.ports()

    def kind(port: int) -> bool:
        return ask(port, "/healthz").body == b"ok\n"

    (admin,) = [port for port in ports if kind(port)]
    (main,) = [port for port in ports if port != admin]
    for i in range(600):
        target = {"access": "/hello", "debug": "/hello", "errors": "/raise"}[log]
        assert ask(main, target + f"?{'x' * 200}{i}").status == (500 if log == "errors" else 200)
        if log == "debug":
            be_refused(main)
    assert ask(admin, "/healthz").status == 200
    name = "access" if log == "access" else "error"
    page = ask(admin, "/metrics").text
    dropped = re.search(rf'fermata_log_dropped_lines_total{{log="{name}"}} (\d+)', page)
    assert dropped and int(dropped.group(1)) > 0, page[-2000:]
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(LONG) == 0
    assert time.monotonic() - began < 2 + PROMPT


def be_refused(port: int) -> None:
    with Connection(("127.0.0.1", port)) as c:
        c.send(b"GET /" + b"y" * 200 + b" HTTP/1.1\r\n\r\n")
        assert c.read_response().status == 400


def test_nothing_is_lost_on_a_non_blocking_pipe():
    """Another process made it so; the reader takes its time."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    process = subprocess.Popen(
        [str(fermata()), "--bind", "127.0.0.1:0", "--access-logfile", "-", "basic"],
        cwd=APPS,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    try:
        assert process.stderr is not None
        port = 0
        while not port:
            found = re.search(r"Listening at: http://127.0.0.1:(\d+)", process.stderr.readline())
            port = int(found.group(1)) if found else 0
        with Connection(("127.0.0.1", port)) as c:
            for i in range(400):
                assert c.request("GET", f"/hello?{'x' * 500}{i}").status == 200
        process.send_signal(signal.SIGTERM)
        text = b""
        while block := os.read(read, 65536):
            text += block
            time.sleep(0.005)
        assert process.wait(LONG) == 0
        found = re.findall(rb"/hello\?x+(\d+) ", text)
        assert [int(n) for n in found] == list(range(400))
    finally:
        os.close(read)
        if process.poll() is None:
            process.kill()
        process.communicate()


# ---- what the access log says ----


@pytest.fixture
def logged(launch, tmp_path):
    def start(app: str = "basic", *options: str, **more):
        path = tmp_path / "access.log"
        return launch(app, "--access-logfile", str(path), *options, **more), path

    return start


def test_size_is_what_was_sent(logged):
    server, path = logged("basic", "--send-timeout", "1", "--threads", "2")
    with server.connect(receive_buffer=4096, timeout=LONG) as c:  # reads nothing: broken off
        c.send(build("GET", "/declared?length=50000000&size=50000000&step=1000000&key=cut"))
        server.wait_events("cut", "closed", within=LONG)
    (cut,) = lines(path, 1)
    assert cut["status"] == "200" and cut["end"] == "X"
    assert 0 < int(cut["bytes"]) < 20_000_000


def test_statuses_without_a_body(logged):
    server, path = logged("basic")
    with server.connect() as c:
        c.request("HEAD", "/hello")
        assert c.request("GET", "/respond?status=304+Not+Modified&body=five5").status == 304
    assert [entry["bytes"] for entry in lines(path, 2)] == ["0", "0"]


def test_own_answers_have_their_size(logged):
    server, path = logged("basic", "--request-timeout", "0.5")
    assert server.get("/raise").status == 500
    gate = server.begin("/gate?key=g")
    assert gate.read_response().status == 504
    server.call("probe.open_gate", "g")
    first, second = lines(path, 2)
    assert (first["status"], first["bytes"], first["end"]) == ("500", str(len("Internal Server Error\n")), "-")
    assert (second["status"], second["bytes"]) == ("504", str(len("Gateway Timeout\n")))


def test_refused_requests(logged):
    """They are in the access log, and in the error log as warnings that say why."""
    server, path = logged("basic", "--limit-request-body", "10", "--header-timeout", "0.5")
    cases = [
        (b"GET /a HTTP/1.1\r\n\r\n", "400", "GET /a HTTP/1.1", "host_missing"),
        (b"GET /" + b"l" * 9000 + b" HTTP/1.1\r\n", "414", "GET /lll", "request_line_too_long"),
        (build("POST", "/b", [("Content-Length", "11")]), "413", "POST /b HTTP/1.1", "body_too_large"),
        (b"GET /c HTTP/1.1\r\nX: " + b"v" * 9000, "431", "GET /c HTTP/1.1", "field_too_long"),
        (b"GET /d HTTP/1.1\r\nX: y\r\n", "408", "GET /d HTTP/1.1", "header_timeout"),
        (b"\x16\x03\x01\x02\x00", "400", "-", "control_char"),
    ]
    for data, status, *_ in cases:
        with server.connect() as c:
            c.send(data)
            assert str(c.read_response().status) == status
    for entry, (_, status, request, slug) in zip(lines(path, len(cases)), cases, strict=True):
        assert entry["status"] == status
        assert entry["request"].startswith(request) or request == "-", entry
        assert entry["end"] == "-"
        assert re.search(rf"\[WARNING\] refused with {status} \({slug}\)", server.log()), server.log()


def test_refusals_do_not_flood_the_error_log(logged):
    server, path = logged("basic")
    for _ in range(50):
        with server.connect() as c:
            c.send(b"GET /a HTTP/1.1\r\n\r\n")
            assert c.read_response().status == 400
    lines(path, 50)
    assert server.log().count("host_missing") == 1


def test_a_client_that_leaves(logged):
    server, path = logged("suspend:app")
    c = server.begin("/park?key=p")
    server.wait_events("p", "parking")
    c.close()
    (entry,) = lines(path, 1)
    assert (entry["status"], entry["bytes"], entry["end"]) == ("499", "0", "X")


def test_complete_and_kept_or_closed(logged):
    server, path = logged("basic")
    with server.connect() as c:
        c.request("GET", "/hello")
        c.request("GET", "/hello", [("Connection", "close")])
    assert [entry["end"] for entry in lines(path, 2)] == ["+", "-"]


def test_format(launch, tmp_path):
    """gunicorn's atoms; what a client sent cannot forge a line."""
    path = tmp_path / "access.log"
    form = '%(h)s "%(r)s" %(s)s %(b)s %(m)s %(U)s %(q)s %(H)s %({X-Id}i)s %(L)s %(X)s'
    server = launch("basic", "--access-logfile", str(path), "--access-logformat", form)
    server.get("/hello?a=b", [("X-Id", 'one"\xe4')])
    text = eventually(lambda: path.read_text().endswith("\n") and path.read_text(), "a line")
    pattern = r'127\.0\.0\.1 "GET /hello\?a=b HTTP/1\.1" 200 \d+ GET /hello a=b HTTP/1\.1 one\\x22\\xe4 \d\.\d{6} [+-]\n'
    assert re.fullmatch(pattern, text), text


def test_json(launch, tmp_path):
    path = tmp_path / "access.log"
    server = launch("basic", "--access-logfile", str(path), "--access-log-json")
    server.get("/hello?a=b", [("User-Agent", 'a "b"\\\xe4')])
    with server.connect() as c:
        c.send(b"\x16\x03\x01\n")
        assert c.read_response().status == 400
    lines = eventually(lambda: path.read_text().count("\n") == 2 and path.read_text().splitlines(), "two lines")
    first, second = (json.loads(line) for line in lines)
    assert (first["method"], first["path"], first["query"], first["status"]) == ("GET", "/hello", "a=b", 200)
    assert first["user_agent"] == 'a "b"\\\xe4'
    assert first["duration"] >= 0 and first["bytes"] > 0 and first["user"] is None
    assert second["status"] == 400 and second["method"] is None


def test_a_response_that_breaks_off(logged):
    """Its framing shows the client that it is cut short, and the log says so."""
    server, path = logged("basic")
    with server.connect() as c:
        c.send(build("GET", "/declared?length=1000&size=500&step=100&key=short"))
        c.drain()
    (entry,) = lines(path, 1)
    assert (entry["status"], entry["bytes"], entry["end"]) == ("200", "500", "X")


@pytest.mark.parametrize(
    ("credentials", "user"),
    [
        ("Basic " + base64.b64encode(b"anna:secret").decode(), "anna"),
        ("basic " + base64.b64encode(b"anna:a:b").decode(), "anna"),
        ("Basic " + base64.b64encode(b'a "b"\n:x').decode(), r"a \x22b\x22\x0a"),
        ("Basic " + base64.b64encode(b":x").decode(), "-"),
        ("Basic " + base64.b64encode(b"no colon").decode(), "-"),
        ("Basic !!!", "-"),
        ("Bearer abc", "-"),
    ],
)
def test_basic_user(logged, credentials, user):
    server, path = logged("basic")
    server.get("/hello", [("Authorization", credentials)])
    eventually(lambda: path.exists() and path.read_text().count("\n") == 1, "a line")
    assert f" - {user} [" in path.read_text()
    assert "secret" not in path.read_text()


def test_paths_that_are_left_out(logged):
    """The whole path has to be the same; a query does not matter."""
    server, path = logged("basic", "--access-log-exclude", "/hello", "--access-log-exclude", "/he%6Cth")
    for target in ("/hello", "/hello?a=b", "/he%6Cth", "/hello/", "/hello2", "/health", "/"):
        server.get(target)
    assert [entry["request"].split()[1] for entry in lines(path, 4)] == ["/hello/", "/hello2", "/health", "/"]


@pytest.mark.parametrize("wrong", ["healthz", "", "/a?b"])
def test_paths_that_are_none(wrong):
    done = run("--access-log-exclude", wrong, "basic")
    assert done.returncode == 2
    assert f"--access-log-exclude {wrong}: it takes a path" in done.stderr
