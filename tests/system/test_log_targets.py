"""Logs beyond files: syslog, the journal, statsd, what is printed, Python's own logging."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.client import Connection, build
from harness.limits import APPS, LONG, eventually, fermata
from harness.server import environment, run

MESSAGE = re.compile(
    r"<(?P<priority>\d+)>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (?P<host>\S+) (?P<name>\S+) (?P<pid>\d+)"
    r" (?P<kind>error|access) - (?P<text>.*)",
    re.DOTALL,
)


class Daemon:
    """A syslog or a statsd: what has come to it."""

    def __init__(self, bound: socket.socket) -> None:
        self.socket = bound
        self.socket.setblocking(False)
        self.texts: list[str] = []

    def all(self) -> list[str]:
        while True:
            try:
                self.texts.append(self.socket.recv(1 << 17).decode())
            except BlockingIOError:
                return self.texts

    def messages(self) -> list[dict[str, str]]:
        found = [MESSAGE.fullmatch(text) for text in self.all()]
        assert all(found), self.texts
        return [message.groupdict() for message in found if message]

    def wait(self, good: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        return eventually(lambda: next(filter(good, self.messages()), None), "such a message")

    def wait_text(self, pattern: str) -> dict[str, str]:
        return self.wait(lambda message: re.search(pattern, message["text"]) is not None)

    def values(self) -> dict[str, list[str]]:
        """name -> what was sent for it, in order."""
        found: dict[str, list[str]] = {}
        for line in "\n".join(self.all()).splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name, []).append(value)
        return found

    def count(self, name: str) -> int:
        return sum(int(value.partition("|")[0]) for value in self.values().get(name, []))


@pytest.fixture
def udp() -> Iterator[tuple[Daemon, str]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        yield Daemon(bound), f"127.0.0.1:{bound.getsockname()[1]}"


def at_path(path: Path) -> Daemon:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bound.bind(str(path))
    return Daemon(bound)


# ---- syslog ----


def test_syslog_by_udp(launch, udp):
    """Both logs, each message with its priority; the files are written as they were."""
    daemon, address = udp
    options = ["--log-syslog", "--log-syslog-to", f"udp://{address}", "--log-syslog-facility", "local3"]
    server = launch("logging_app:app", *options, "--log-syslog-prefix", "shop")
    server.get("/fail", [("X-Request-ID", "id-1")])
    server.get("/say?what=hi")
    assert daemon.wait_text("Listening at: ")["priority"] == str(19 * 8 + 6)
    failed = daemon.wait_text(r"^Error handling request GET /fail \(id id-1\)\nTraceback [\s\S]*ValueError: failed as")
    assert failed["priority"] == str(19 * 8 + 3)
    assert (failed["name"], failed["kind"], failed["host"]) == ("shop", "error", socket.gethostname())
    assert failed["pid"] == str(server.pid)
    line = daemon.wait(lambda m: m["kind"] == "access" and "/fail" in m["text"])
    assert line["priority"] == str(19 * 8 + 6)
    assert re.search(r'"GET /fail HTTP/1.1" 500 ', line["text"]) and not line["text"].endswith("\n")
    assert daemon.wait_text("^errors hi$")["priority"] == str(19 * 8 + 5)
    server.wait_log(r"\[ERROR\] Error handling request GET /fail")
    server.stop()
    assert server.stdout_text == "printed at import\nout hi\n"
    daemon.wait_text("^Drained$")


def test_syslog_without_the_access_log(launch, udp):
    daemon, address = udp
    server = launch(
        "basic", "--log-syslog", "--log-syslog-to", f"udp://{address}", "--disable-redirect-access-to-syslog"
    )
    server.get("/hello")
    server.get("/raise")
    daemon.wait_text("^Error handling request")
    server.stop()
    daemon.wait_text("^Drained$")
    assert {m["kind"] for m in daemon.messages()} == {"error"}
    assert all(m["name"] == "fermata" and m["priority"] in ("14", "11", "12") for m in daemon.messages())


def test_syslog_of_workers(launch, udp):
    """Each process sends its own."""
    daemon, address = udp
    server = launch("basic", "--workers", "2", "--log-syslog", "--log-syslog-to", f"udp://{address}")
    daemon.wait_text("Listening at: ")
    for _ in range(20):
        server.get("/hello")
    eventually(lambda: sum(m["kind"] == "access" for m in daemon.messages()) == 20, "twenty lines")
    server.stop()
    daemon.wait_text("All workers have ended")
    assert str(server.pid) not in {m["pid"] for m in daemon.messages() if m["kind"] == "access"}


def test_syslog_that_comes_later(launch, tmp_path):
    """Lines wait for the daemon, requests do not; one that is started again gets what comes then."""
    path = tmp_path / "log"
    server = launch("basic", "--log-syslog", "--log-syslog-to", f"unix://{path}")
    server.get("/raise")
    server.wait_log(r"\[WARNING\] --log-syslog-to: No such file or directory; lines wait until it can be reached")
    daemon = at_path(path)
    daemon.wait_text("Listening at: ")
    daemon.wait_text("^Error handling request GET /raise")
    daemon.socket.close()
    path.unlink()
    daemon = at_path(path)
    server.get("/hello?again")
    daemon.wait_text("/hello\\?again")
    daemon.socket.close()


@pytest.mark.parametrize("way", ["unread", "missing", "unresolvable"])
def test_syslog_that_does_not_take(launch, tmp_path, way):
    """No request waits for it, what does not fit is counted, and the process ends in its time."""
    path = tmp_path / "log"
    daemon = at_path(path) if way == "unread" else None
    to = "udp://name.invalid:514" if way == "unresolvable" else f"unix://{path}"
    server = launch("basic", "--log-syslog", "--log-syslog-to", to, "--log-buffer", "65536", admin=True)
    with server.connect() as c:
        for i in range(600):
            assert c.request("GET", f"/hello?{'x' * 400}{i}").status == 200
    server.admin.wait("fermata_log_dropped_lines_total", 1, log="syslog")
    assert server.admin.metrics().value("fermata_log_dropped_lines_total", log="error") == 0
    server.stop()
    if daemon:
        assert len(daemon.messages()) > 0
        daemon.socket.close()


@pytest.mark.parametrize(
    ("option", "value", "takes"),
    [
        ("--log-syslog-to", "localhost", "takes udp://HOST:PORT"),
        ("--log-syslog-to", "unix:///dev/log#seqpacket", "takes udp://HOST:PORT"),
        ("--log-syslog-facility", "local8", "takes user, daemon, local0"),
        ("--log-syslog-prefix", "a b", "takes 1 to 48 visible"),
        ("--statsd-host", "host:0", "takes HOST:PORT"),
        ("--statsd-prefix", "a|b", "takes 1 to 500 visible"),
        ("--dogstatsd-tags", "a b", "takes 1 to 500 visible"),
        ("--log-config", "/nonexistent.ini", "takes a file that can be read"),
        ("--log-config-json", "/nonexistent.json", "takes a file that can be read"),
    ],
)
def test_wrong_values(option, value, takes):
    done = run(option, value, "basic")
    assert done.returncode == 2
    assert f"{option} {value}: it {takes}" in done.stderr


# ---- the journal ----


def test_journal(tmp_path):
    """Where standard error is the journal, lines begin with their priority, and have no time of their own."""
    ours, theirs = socket.socketpair()
    st = os.fstat(theirs.fileno())
    path = tmp_path / "s"
    process = subprocess.Popen(
        [str(fermata()), "--bind", f"unix:{path}", "logging_app:app"],
        cwd=APPS,
        env=environment({"JOURNAL_STREAM": f"{st.st_dev}:{st.st_ino}", "FERMATA_TEST_PROBE": str(tmp_path / "probe")}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    theirs.close()
    try:
        eventually(lambda: path.exists() and can_connect(path), "it serves", within=LONG)
        with Connection(str(path)) as c:
            assert c.request("GET", "/say?what=%3C0%3Ehi").status == 200
        with Connection(str(path)) as c:
            assert c.request("GET", "/fail", [("X-Request-ID", "i")]).status == 500
        process.send_signal(signal.SIGTERM)
        text = b""
        ours.settimeout(LONG)
        while block := ours.recv(65536):
            text += block
        assert process.wait(LONG) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        ours.close()
    # What the application prints comes in two pieces, and the log's thread may write a line in between.
    assert b"err <0>hi" in text
    lines = [line for line in text.decode().replace("err <0>hi", "").splitlines() if line not in ("", "at import")]
    assert all(re.match(r"<[2-7]>", line) for line in lines), lines
    assert any(line.startswith("<6>Listening at: unix:") for line in lines)
    assert "<3>Error handling request GET /fail (id i)" in lines
    assert "<3>ValueError: failed as it was told" in lines
    assert "<5>errors <0>hi" in lines
    assert lines[-1] == "<6>Drained"


def can_connect(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(str(path)) == 0


# ---- what is printed ----


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_capture_output(launch, tmp_path, workers):
    """--capture-output: into the error log, line by line, also into the new one; the access log's standard output is what
    it was."""
    log, path = tmp_path / "error.log", tmp_path / "s"
    options = ("--capture-output", "--error-logfile", str(log), "--access-logfile", "-", *workers)
    server = launch("logging_app:app", *options, bind=[f"unix:{path}"], ready=False)
    eventually(lambda: log.exists() and "Listening at" in log.read_text(), "it serves", within=LONG)
    with Connection(str(path)) as c:
        c.request("GET", "/say?what=one")
    eventually(lambda: {"out one", "err one", "errors one"} <= set(log.read_text().splitlines()), "all of it")
    assert {"printed at import", "at import"} <= set(log.read_text().splitlines())
    log.rename(f"{log}.1")
    server.signal(signal.SIGUSR1)
    eventually(lambda: log.exists() and log.read_text().count("opened anew") == (3 if workers else 1), "it is opened anew")
    with Connection(str(path)) as c:
        c.request("GET", "/say?what=two")
    eventually(lambda: {"out two", "err two", "errors two"} <= set(log.read_text().splitlines()), "all of it")
    server.stop()
    assert re.findall(r'"GET (\S+) ', server.stdout_text) == ["/say?what=one", "/say?what=two"]
    assert server.final_log == ""


def test_capture_output_without_a_file(launch):
    """As with gunicorn it does nothing where the error log is standard error."""
    server = launch("logging_app:app", "--capture-output")
    server.get("/say?what=one")
    server.stop()
    assert server.stdout_text == "printed at import\nout one\n"
    assert "err one" in server.final_log and "out one" not in server.final_log


# ---- Python's logging ----

INI = """\
[loggers]
keys=root,shop
[handlers]
keys=file
[formatters]
keys=short
[logger_root]
handlers=
[logger_shop]
qualname=shop
level=INFO
propagate=0
handlers=file
[handler_file]
class=FileHandler
args=(r"%(here)s/shop.log",)
formatter=short
[formatter_short]
format=%%(name)s: %%(message)s
"""


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_log_config(launch, tmp_path, workers):
    """--log-config FILE is applied before the application is loaded; its path is relative to where the command was given,
    and %(here)s is its directory."""
    (tmp_path / "logging.ini").write_text(INI.replace("%%", "%"))
    (tmp_path / "elsewhere").mkdir()
    server = launch(
        "logging_app:app", "--pythonpath", str(APPS), "--chdir", "elsewhere", "--log-config", "logging.ini", *workers,
        cwd=tmp_path,
    )  # fmt: skip
    server.get("/log?what=hello")
    eventually(lambda: "shop: said hello" in (tmp_path / "shop.log").read_text().splitlines(), "it is logged")
    imports = 2 if workers else 1
    eventually(
        lambda: (tmp_path / "shop.log").read_text().splitlines().count("shop: at import") == imports,
        "each worker logs its import",
        within=LONG,
    )


def test_log_config_json(launch, tmp_path):
    path, log = tmp_path / "logging.json", tmp_path / "shop.log"
    handler = {"class": "logging.FileHandler", "filename": str(log)}
    path.write_text(
        json.dumps({"handlers": {"file": handler}, "loggers": {"shop": {"handlers": ["file"], "propagate": False}}})
    )
    (tmp_path / "logging.ini").write_text("nonsense")
    server = launch(  # JSON comes before the other one
        "logging_app:app", "--log-config-json", str(path), "--log-config", str(tmp_path / "logging.ini")
    )
    server.get("/log?what=hello")
    assert log.read_text() == "at import\nsaid hello\n"


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("--log-config", "nonsense", r"--log-config \S+: \w*Error: "),
        ("--log-config", INI.replace("FileHandler", "NoHandler").replace("%%", "%"), r"--log-config \S+: \w*Error: "),
        ("--log-config-json", "{", r"--log-config-json \S+: JSONDecodeError: "),
        ("--log-config-json", "[]", r"--log-config-json \S+: TypeError: it is a list, and takes a dictionary"),
        (
            "--log-config-json",
            '{"handlers": {"h": {"class": "no.such.Handler"}}}',
            r"ValueError: Unable to configure handler 'h'\n(.*\n)*.*no",
        ),
    ],
)
@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_log_config_that_is_none(tmp_path, option, text, said, workers):
    """The start fails with exit code 2, and says which option and why."""
    path = tmp_path / "logging.conf"
    path.write_text(text)
    done = run("--bind", "127.0.0.1:0", option, str(path), *workers, "basic")
    assert done.returncode == 2, done.stderr
    assert re.search(said, done.stderr), done.stderr


# ---- statsd ----


def test_statsd(launch, udp):
    """gunicorn's names: counts, durations, statuses, records of the error log, workers."""
    daemon, address = udp
    server = launch(
        "basic", "--statsd-host", address, "--statsd-prefix", "shop", "--dogstatsd-tags", "env:test,a:b"
    )
    for _ in range(3):
        server.get("/hello")
    server.get("/raise")
    with server.connect() as c:
        c.send(b"GET / HTTP/1.1\r\n\r\n")
        assert c.read_response().status == 400
    eventually(lambda: daemon.count("shop.gunicorn.requests") == 5, "five requests")
    assert daemon.count("shop.gunicorn.request.status.200") == 3
    assert daemon.count("shop.gunicorn.request.status.500") == 1
    assert daemon.count("shop.gunicorn.request.status.400") == 1
    assert daemon.count("shop.gunicorn.log.exception") == 1
    assert daemon.count("shop.gunicorn.log.warning") == 1
    assert daemon.values()["shop.gunicorn.workers"] == ["1|g|#env:test,a:b"]
    durations = daemon.values()["shop.gunicorn.request.duration"]
    assert len(durations) == 4 and all(re.fullmatch(r"\d+\.\d{3}\|ms\|#env:test,a:b", d) for d in durations)
    assert all(re.fullmatch(r"\d+\|c\|@1\.0\|#env:test,a:b", v) for v in daemon.values()["shop.gunicorn.requests"])


def test_statsd_of_workers(launch, tmp_path):
    """Over a unix socket; the arbiter says how many workers there are."""
    daemon = at_path(tmp_path / "statsd")
    server = launch("basic", "--workers", "2", "--statsd-host", f"unix://{tmp_path}/statsd")
    for _ in range(20):
        server.get("/hello")
    eventually(lambda: daemon.count("gunicorn.requests") == 20, "twenty requests")
    eventually(lambda: daemon.values()["gunicorn.workers"][-1] == "2|g", "two workers")
    server.signal(signal.SIGTTIN)
    eventually(lambda: daemon.values()["gunicorn.workers"][-1] == "3|g", "three workers", within=LONG)
    server.stop()
    assert daemon.values()["gunicorn.workers"][-1] == "0|g"
    daemon.socket.close()


def test_statsd_that_is_not_there(launch, tmp_path):
    """No request waits for it, and what is lost is counted."""
    server = launch("basic", "--statsd-host", f"unix://{tmp_path}/statsd", admin=True)
    for _ in range(5):
        server.get("/hello")
    server.admin.wait("fermata_statsd_dropped_total", 5)
    server.wait_log(r"--statsd-host: No such file or directory; metrics are lost until it can be reached")


# ---- one pipe of several processes ----


@pytest.mark.parametrize("form", [(), ("--access-log-json",)])
def test_long_lines_of_workers(tmp_path, form):
    """They are not torn: a line of the access log that a pipe would not keep together is cut, and what an application
    writes becomes several lines."""
    read, write = os.pipe()
    path = tmp_path / "s"
    options = ["--workers", "2", "--log-buffer", "8388608", "--access-logfile", "-", *form]
    process = subprocess.Popen(
        [str(fermata()), *options, "--bind", f"unix:{path}", "logging_app:app"],
        cwd=APPS,
        env=environment({"FERMATA_TEST_PROBE": str(tmp_path / "probe")}),
        stdin=subprocess.DEVNULL,
        stdout=write,
        stderr=write,
    )
    os.close(write)
    try:
        eventually(lambda: path.exists() and can_connect(path), "it serves", within=LONG)
        clients = [Connection(str(path), timeout=LONG) for _ in range(8)]
        for i in range(25):
            for n, c in enumerate(clients):
                fields = [("Referer", "r" * 7000), ("User-Agent", '"' * 1500), ("X-Request-ID", f"id-{n}-{i}")]
                c.send(build("GET", f"/errors?what={'w' * 6000}", fields))
            for c in clients:
                assert c.read_response().status == 200
        for c in clients:
            c.close()
        process.send_signal(signal.SIGTERM)
        text = b""
        while block := os.read(read, 65536):
            text += block
        assert process.wait(LONG) == 0
    finally:
        os.close(read)
        if process.poll() is None:
            process.kill()
            process.wait()
    rows = [row for row in text.decode().splitlines() if "GET /errors" in row]
    assert len(rows) == 200 and all(len(row) < 4096 for row in rows)
    if form:
        ids = [json.loads(row)["request_id"] for row in rows]
        assert sorted(ids) == sorted(f"id-{n}-{i}" for n in range(8) for i in range(25))
    else:
        line = r'- - - \[\S+ \S+\] "GET /errors\?what=w+\.\.\." 200 8 "r+\.\.\." "(\\x22)+\.\.\." [+-]'
        assert all(re.fullmatch(line, row) for row in rows), rows[0]
    raw = [row for row in text.decode().splitlines() if row.startswith("errors w")]
    assert len(raw) == 200 and all(len(row) == 4095 for row in raw)
