"""The command: the logs, where they go and what is in them."""

from __future__ import annotations

import os
import re
import signal

from harness.client import Connection
from harness.limits import APPS, LONG, eventually


def test_log_level_error_hides_the_start_line(launch, tmp_path):
    """--log-level error: only errors are logged."""
    path = tmp_path / "s"
    server = launch("basic", "--log-level", "error", bind=[f"unix:{path}"], ready=False)
    eventually(lambda: path.exists(), "it listens")
    with Connection(str(path)) as c:
        assert c.request("GET", "/hello").status == 200
    assert server.log() == ""
    with Connection(str(path)) as c:
        assert c.request("GET", "/raise").status == 500
    server.wait_log(r"\[ERROR\] Error handling request GET /raise")


def test_log_level_debug_says_more(launch):
    """--log-level debug logs what info does not."""
    for level, said in (("debug", True), ("info", False)):
        server = launch("basic", "--log-level", level)
        with server.connect() as c:
            c.send(b"nonsense\r\n\r\n")
            assert c.read_response().status == 400
        if said:
            server.wait_log(r"\[DEBUG\]")
        server.stop()
        assert ("[DEBUG]" in server.final_log) == said


def test_error_logfile(launch, tmp_path):
    """--error-logfile FILE: everything that would be on stderr is appended there."""
    path, log = tmp_path / "s", tmp_path / "error.log"
    log.write_text("kept\n")
    server = launch("basic", "--error-logfile", str(log), bind=[f"unix:{path}"], ready=False)
    eventually(lambda: path.exists(), "it listens")
    with Connection(str(path)) as c:
        assert c.request("GET", "/raise").status == 500
    server.stop()
    text = log.read_text()
    assert text.startswith("kept\n")
    assert "Listening at" in text
    assert "Error handling request GET /raise" in text
    assert server.log() == ""


def test_relative_logfiles(launch, tmp_path):
    """They are where the command was given, whatever --chdir says, and wherever the application goes; also when they
    are opened anew."""
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "goes.py").write_text("import os\nfrom basic import application\nos.chdir('/')\n")
    logs = [tmp_path / "error.log", tmp_path / "access.log"]
    options = ("--error-logfile", "error.log", "--access-logfile", "access.log", "--chdir", "inside")
    path = tmp_path / "s"
    server = launch(
        "goes", "--pythonpath", str(APPS), *options, bind=[f"unix:{path}"], cwd=tmp_path, ready=False
    )
    eventually(lambda: logs[0].exists() and "Listening at" in logs[0].read_text(), "it serves", within=LONG)
    for _ in range(2):
        with Connection(str(path)) as c:
            assert c.request("GET", "/hello").status == 200
        eventually(lambda: all(log.exists() and log.read_text() for log in logs), "both are written")
        for log in logs:
            log.rename(f"{log}.1")
        server.signal(signal.SIGUSR1)
        eventually(lambda: all(log.exists() for log in logs), "they are opened anew")
    server.stop()
    assert not [name for name in os.listdir(tmp_path / "inside") if name.endswith(".log")]


def test_error_logfile_that_cannot_be_opened(launch):
    """A log file that cannot be opened ends the start with its name."""
    server = launch("basic", "--error-logfile", "/nonexistent/error.log", ready=False, expect=1)
    assert server.wait_exit() in (1, 2)
    server.expect = server.wait_exit()
    assert "/nonexistent/error.log" in server.log()


COMBINED = re.compile(
    r"(?P<host>\S+) - (?P<user>\S+) \[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    r'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<size>\d+|-) '
    r'"(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)" (?P<end>[X+-])'
)


def access_lines(text: str, number: int) -> list[re.Match[str]]:
    lines = text.splitlines()
    assert len(lines) == number, lines
    found = [COMBINED.fullmatch(line) for line in lines]
    assert all(found), lines
    return [line for line in found if line]


def test_access_log_on_stdout(launch):
    """--access-logfile -: one line in the combined format for each request, on stdout."""
    server = launch("basic", "--access-logfile", "-")
    headers = [("Referer", "http://from.example/"), ("User-Agent", 'a "quoted" agent')]
    with server.connect() as c:
        body = c.request("GET", "/hello?a=1", headers).body
        assert c.request("HEAD", "/hello").status == 200
        assert c.request("GET", "/raise").status == 500
    server.stop()
    first, second, third = access_lines(server.stdout_text, 3)
    assert first["host"] == "127.0.0.1"
    assert first["request"] == "GET /hello?a=1 HTTP/1.1"
    assert (first["status"], first["size"]) == ("200", str(len(body)))
    assert first["referer"] == "http://from.example/"
    assert first["agent"].replace("\\x22", '"').replace('\\"', '"') == 'a "quoted" agent'
    assert second["request"] == "HEAD /hello HTTP/1.1"
    assert second["size"] in ("0", "-")
    assert (second["referer"], second["agent"]) == ("-", "-")
    assert third["status"] == "500"


def test_access_log_does_not_wait(launch):
    """A line is written when its response has ended, though the connection stays open and nothing else happens."""
    server = launch("basic", "--access-logfile", "-", "--threads", "8", "--keep-alive", "60")
    held = [server.begin("/slow?s=0.3") for _ in range(6)]
    assert [c.read_response().status for c in held] == [200] * 6
    eventually(lambda: server.stdout().count("\n") == 6, "six lines in the access log")


def test_access_log_to_a_file(launch, tmp_path):
    """--access-logfile FILE is appended to."""
    log = tmp_path / "access.log"
    log.write_text("")
    server = launch("basic", "--access-logfile", str(log))
    server.get("/hello")
    server.stop()
    access_lines(log.read_text(), 1)


def test_access_log_cannot_be_forged(launch, tmp_path):
    """What a client sends cannot begin a line or leave a field of the access log."""
    log = tmp_path / "access.log"
    server = launch("basic", "--access-logfile", str(log))
    server.get("/hello", [("User-Agent", 'x" "y\\'), ("Referer", "\xff\xfe\x80")])
    server.get("/hello?%0d%0aforged")
    with server.connect() as c:
        c.send(b'GET /hello" 200 0 HTTP/1.1\r\nHost: a\r\n\r\n')
        c.drain()
    server.stop()
    for line in log.read_text(errors="replace").splitlines():
        assert COMBINED.fullmatch(line), line


def test_no_access_log_by_default(launch):
    """Without --access-logfile nothing is written for a request."""
    server = launch("basic")
    before = server.log_size()
    server.get("/hello")
    server.stop()
    assert server.stdout_text == ""
    assert "/hello" not in server.final_log[before:]
