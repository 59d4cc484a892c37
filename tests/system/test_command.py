"""The command: help, version, usage, and the process that it starts."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from harness.limits import PROMPT, fermata
from harness.server import run

OPTIONS = {
    "--bind": "HOST:PORT",
    "--workers": "WEB_CONCURRENCY",
    "--threads": "8",
    "--backlog": "2048",
    "--worker-connections": "10000",
    "--keep-alive": "5",
    "--header-timeout": "10",
    "--body-timeout": "30",
    "--send-timeout": "30",
    "--request-timeout": "",
    "--limit-queue": "0",
    "--queue-timeout": "0",
    "--drain-delay": "0",
    "--graceful-timeout": "30",
    "--socket-mode": "777",
    "--umask": "",
    "--user": "",
    "--group": "that of --user",
    "--initgroups": "",
    "--pid": "",
    "--name": "",
    "--allow-half-close": "",
    "--limit-body-rate": "500",
    "--limit-body-files": "1000",
    "--limit-body-disk": "8589934592",
    "--tcp-keepalive": "15",
    "--limit-request-line": "8190",
    "--limit-request-fields": "100",
    "--limit-request-field_size": "8190",
    "--limit-request-body": "",
    "--forwarded-allow-ips": "127.0.0.1,::1,unix",
    "--proxy-headers": "proto",
    "--forwarded-header": "x-forwarded",
    "--proxy-protocol": "off",
    "--proxy-allow-from": "the same",
    "--root-path": "SCRIPT_NAME",
    "--access-logformat": "combined",
    "--access-log-json": "",
    "--chdir": "",
    "--pythonpath": "",
    "--env": "",
    "--venv": "",
    "--log-level": "info",
    "--error-logfile": "-",
    "--access-logfile": "",
    "--log-buffer": "1048576",
    "--admin-bind": "HOST:PORT",
    "--version": "",
    "--help": "",
}


def about(server):
    return json.loads(server.get("/").text)


def test_help_names_every_option_with_its_default():
    """--help goes to stdout, exits with 0 and tells every option and its default."""
    done = run("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "MODULE" in done.stdout
    entries = re.split(r"^\s+(?=-)", done.stdout, flags=re.MULTILINE)
    for option, default in OPTIONS.items():
        mine = [entry for entry in entries if re.search(rf"(^|\s){option}\b", entry.partition("  ")[0])]
        assert len(mine) == 1, f"{option}: {mine}"
        assert default in mine[0], f"{option} does not say {default}: {mine[0]}"
    assert re.search(r"^\s+-b\b", done.stdout, re.MULTILINE)


def test_short_help_is_help():
    """-h is --help."""
    assert run("-h").stdout == run("--help").stdout


def test_version_names_server_and_python():
    """--version says which server and which Python."""
    done = run("--version")
    assert done.returncode == 0
    assert re.search(r"fermata\D*\d+\.\d+", done.stdout, re.IGNORECASE)
    assert re.search(r"Python 3\.1\d", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "MODULE"),
        (["--no-such-option", "about"], "--no-such-option"),
        (["-x", "about"], "-x"),
        (["about", "about"], "about"),
        (["--"], "MODULE"),
        (["--threads", "--", "about"], "--threads"),
        (["about", "--threads"], "--threads"),
        (["--threads", "0", "about"], "--threads"),
        (["--threads", "-1", "about"], "--threads"),
        (["--threads", "many", "about"], "--threads"),
        (["--threads", "8x", "about"], "--threads"),
        (["--threads", "", "about"], "--threads"),
        (["--threads", "99999999999999999999", "about"], "--threads"),
        (["--threads=", "about"], "--threads"),
        (["--backlog", "x", "about"], "--backlog"),
        (["--worker-connections", "0", "about"], "--worker-connections"),
        (["--keep-alive", "-1", "about"], "--keep-alive"),
        (["--keep-alive", "soon", "about"], "--keep-alive"),
        (["--header-timeout", "nan", "about"], "--header-timeout"),
        (["--body-timeout", "x", "about"], "--body-timeout"),
        (["--send-timeout", "x", "about"], "--send-timeout"),
        (["--tcp-keepalive", "40000", "about"], "--tcp-keepalive"),
        (["--tcp-user-timeout", "5000000", "about"], "--tcp-user-timeout"),
        (["--request-timeout", "1e99", "about"], "--request-timeout"),
        (["--graceful-timeout", "x", "about"], "--graceful-timeout"),
        (["--allow-half-close=maybe", "about"], "--allow-half-close"),
        (["--limit-request-line", "x", "about"], "--limit-request-line"),
        (["--limit-request-fields", "-5", "about"], "--limit-request-fields"),
        (["--limit-request-field_size", "x", "about"], "--limit-request-field_size"),
        (["--limit-request-body", "1 GiB or so", "about"], "--limit-request-body"),
        (["--log-level", "loud", "about"], "--log-level"),
        (["--user", "no such user", "about"], "--user"),
        (["--group", "-1", "about"], "--group"),
        (["--initgroups=yes", "about"], "--initgroups"),
        (["--pid", "", "about"], "--pid"),
        (["--name=", "about"], "--name"),
        (["--bind", "fd://x", "about"], "--bind"),
        (["--admin-bind", "fd://3", "about"], "--admin-bind"),
        (["--env", "NAME", "about"], "--env"),
        (["--env", "=value", "about"], "--env"),
        (["--chdir", "/nonexistent/folder", "about"], "--chdir"),
        (["--venv", "/nonexistent/folder", "about"], "--venv"),
        (["--bind", "127.0.0.1", "about"], "--bind"),
        (["--bind", "127.0.0.1:http?", "about"], "--bind"),
        (["--bind", "127.0.0.1:65536", "about"], "--bind"),
        (["--bind", "127.0.0.1:-1", "about"], "--bind"),
        (["--bind", "[::1:80", "about"], "--bind"),
        (["--bind", "unix:", "about"], "--bind"),
        (["--bind", "unix:/" + "x" * 200, "about"], "--bind"),
        (["-b", "", "about"], "-b"),
        (["--admin-bind", "localhost", "about"], "--admin-bind"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_usage_error(arguments, named):
    """What is wrong on the command line: exit code 2, and a message on stderr that names it; no traceback."""
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--threads", "--log-level", "--bind", "--env"])
def test_usage_error_says_what_the_option_takes(option):
    """A usage message says what the option takes, not only that it was wrong."""
    expected = {"--threads": r"number|integer|\d", "--log-level": "debug", "--bind": "unix:", "--env": "NAME=VALUE|="}
    done = run(option, "?", "about")
    assert done.returncode == 2
    assert re.search(expected[option], done.stderr.replace(option, "")), done.stderr


@pytest.mark.parametrize("value", ["localhost", "unix:@name", "unix:", "::1:80", "fd://3"])
def test_admin_bind_takes_no_abstract_name(value):
    """Any user could connect to one; and the message says what it takes."""
    done = run("--admin-bind", value, "about")
    assert done.returncode == 2
    assert "takes HOST:PORT, [IPv6]:PORT or unix:PATH" in done.stderr


def test_port_variable_is_checked():
    """A PORT that is no port is a usage error that names PORT."""
    done = run("about", env={"PORT": "eighty"})
    assert done.returncode == 2
    assert "PORT" in done.stderr


@pytest.mark.parametrize("form", [("--threads", "3"), ("--threads=3",)], ids=["separate", "equals"])
def test_option_value_forms(launch, form):
    """--option VALUE and --option=VALUE mean the same."""
    server = launch("about", *form)
    assert re.search(r"\b3 threads\b", server.log())


def with_files(limit: str) -> list[str]:
    return ["sh", "-c", f'ulimit {limit} && exec "$0" "$@"', str(fermata())]


def test_file_limit_is_raised(launch):
    """RLIMIT_NOFILE is raised to what --worker-connections needs."""
    server = launch("about", "--worker-connections", "1000", program=with_files("-Sn 128"))
    assert server.get("/").status == 200
    assert server.process.nofile() > 1000


def test_file_limit_that_cannot_be_raised_is_reported(launch):
    """Where the hard limit is in the way a warning says what is missing, and it serves nevertheless."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 200:
        pytest.fail("the tests themselves need more open files")
    server = launch("about", "--worker-connections", "1000", program=with_files("-n 128"))
    warning = server.wait_log(r"\[WARNING\].*").group(0)
    assert "128" in warning
    assert re.search(r"worker-connections|files|NOFILE", warning)
    assert server.get("/").status == 200


def test_python_version_is_the_one_that_it_says(launch):
    """The Python of the start line is the one that runs."""
    server = launch("about")
    said = re.search(r"Python (3\.\d+\.\d+)", server.log())
    assert said
    assert [int(n) for n in said[1].split(".")] == about(server)["version"]
    assert about(server)["version"][:2] == list(sys.version_info[:2]), (
        "make the tests' virtual environment with this Python"
    )


def test_current_directory_does_not_matter(tmp_path):
    """The binary does not depend on the current directory."""
    done = subprocess.run([str(Path(fermata())), "--version"], cwd=tmp_path, capture_output=True, timeout=PROMPT)
    assert done.returncode == 0
