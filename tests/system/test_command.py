"""The command: what it takes, what it says, where it listens, how it loads the application, how it refuses."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import venv
from datetime import datetime
from pathlib import Path

import pytest
from harness.client import Connection
from harness.limits import APPS, LONG, PROMPT, eventually, fermata
from harness.server import environment, run, virtualenv

OPTIONS = {
    "--bind": "HOST:PORT",
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
    "--allow-half-close": "",
    "--limit-body-rate": "500",
    "--limit-body-files": "1000",
    "--limit-body-disk": "8589934592",
    "--tcp-keepalive": "15",
    "--limit-request-line": "8190",
    "--limit-request-fields": "100",
    "--limit-request-field_size": "8190",
    "--limit-request-body": "",
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


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# Help, version, usage


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


@pytest.mark.parametrize("value", ["localhost", "unix:/tmp/s", "unix:@name", "unix:", "::1:80"])
def test_admin_bind_takes_no_path(value):
    """And the message does not say that it does."""
    done = run("--admin-bind", value, "about")
    assert done.returncode == 2
    said = done.stderr.replace(value, "")
    assert "HOST:PORT or [IPv6]:PORT" in said and "unix:" not in said


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


# Loading


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("loading.both", "application"),
        ("loading.both:app", "app"),
        ("loading.only_app", "app"),
        ("loading.package", "of the package"),
        ("loading.package:app", "of the package"),
        ("loading.shop:site.inner", "dotted"),
        ("loading.shop:site.inner.bound", "bound dotted"),
        ("loading.shop:create_app()", "default 0 None"),
        ('loading.shop:create_app("prod")', "prod 0 None"),
        ("loading.shop:create_app('prod', size=-3)", "prod -3 None"),
        (
            "loading.shop:create_app(size=2, options={'a': [1, 2.5, None, True]})",
            "default 2 {'a': [1, 2.5, None, True]}",
        ),
        ("loading.shop:Site('class as a factory')", "class as a factory"),
    ],
)
def test_module_and_callable(launch, target, answer):
    """MODULE[:CALLABLE]: default names, dotted names, and factory calls with literal arguments."""
    assert launch(target).get("/").text == answer


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("no_such_module", r"no_such_module"),
        ("loading.no_such_module", r"no_such_module"),
        ("loading.neither", r"application"),
        ("loading.modules", r"name the callable as loading\.modules\.app:CALLABLE"),
        (":application", r":application"),
        ("about:", r"about:"),
        ("about:create_app(", r"create_app\("),
        ("about:import os", r"import os"),
        ("loading.shop:create_app(__import__('os').getcwd())", r"create_app"),
        ("loading.both:nothing", r"nothing"),
        ("loading.shop:site.nothing", r"nothing"),
        ("loading.shop:number", r"call"),
        ("loading.shop:create_number()", r"call"),
        ("loading.shop:create_error()", r"Traceback[\s\S]*create_error[\s\S]*KeyError: .the factory's own error"),
        ("loading.shop:create_app(1, 2, 3)", r"TypeError"),
        ("loading.broken", r"Traceback[\s\S]*broken\.py[\s\S]*in fails[\s\S]*ZeroDivisionError"),
        ("loading.broken_import", r"Traceback[\s\S]*broken_import\.py[\s\S]*a_module_that_is_not_there"),
        ("loading.exits", r"SystemExit"),
        ("about.py", r"No module named 'about\.py'[\s\S]*: see the traceback above; a module is named without \.py: about$"),
        ("about.py:app", r"without \.py: about:app$"),
        ("loading/shop.py:create_app()", r"not of a module: loading\.shop:create_app\(\)$"),
        ("./about.py", r"not of a module: about$"),
        ("loading/shop", r"not of a module: loading\.shop$"),
        ("/srv/shop/about.py:app", r"not of a module: --chdir /srv/shop about:app$"),
        ("../about:app", r"not of a module: --chdir \.\. about:app$"),
        ("loading.broken_import", r"above; no virtual environment is in use: --venv DIR names one$"),
        ("loading.no_such_module", r": see the traceback above$"),
        ("loading.broken", r": see the traceback above$"),
    ],
)
def test_application_that_cannot_be_loaded(launch, target, said):
    """An application that cannot be loaded: exit code 3, and Python's own words about it."""
    server = launch(target, ready=False, expect=3)
    assert server.wait_exit() == 3
    assert re.search(said, server.log().rstrip()), server.log()


def test_a_module_that_the_virtual_environment_has_not(launch):
    """Then nobody is told to use one."""
    server = launch("loading.broken_import", "--venv", virtualenv(), ready=False, expect=3)
    assert server.wait_exit() == 3
    assert server.log().rstrip().endswith(": see the traceback above")


@pytest.mark.parametrize("how", ["threads", "pool", "daemon"])
def test_failed_load_does_not_wait_for_threads(launch, tmp_path, how):
    """A load that fails exits with 3, at once, also where its import had started a thread that nobody ends; what was
    printed is there, and atexit handlers run."""
    start = {
        "threads": "threading.Thread(target=threading.Event().wait).start()",
        "daemon": "threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "pool": "concurrent.futures.ThreadPoolExecutor(2).submit(threading.Event().wait)",
    }[how]
    (tmp_path / "started.py").write_text(
        f"import atexit, concurrent.futures, threading\n{start}\natexit.register(print, 'at exit')\n"
        "print('printed')\nraise LookupError('on purpose')\n"
    )
    path = tmp_path / "s"
    server = launch("started", bind=[f"unix:{path}"], cwd=tmp_path, ready=False, expect=3)
    assert server.wait_exit(within=PROMPT) == 3
    assert server.stdout() == "printed\nat exit\n"
    assert "LookupError: on purpose" in server.log()
    assert not path.exists()


GREEN = {
    "gevent": ("gevent/monkey.py", "def is_module_patched(name): return name == 'threading'"),
    "gevent, old": ("gevent/monkey.py", "def is_module_patched(name): return name == 'thread'"),
    "eventlet": ("eventlet/patcher.py", "def is_monkey_patched(name): return name == 'thread'"),
    "none": ("gevent/monkey.py", "def is_module_patched(name): return name in ('socket', 'ssl')"),
}


@pytest.mark.parametrize("fails", [False, True], ids=["loads", "fails"])
@pytest.mark.parametrize("library", GREEN)
def test_green_threads_are_refused(launch, tmp_path, library, fails):
    """A library that puts threads of its own in the place of Python's: one line that says what to do, exit code 3; not
    what becomes of the server's threads then, nor what the import may have failed of for that."""
    name, text = GREEN[library]
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(text)
    module = name.removesuffix(".py").replace("/", ".")
    (tmp_path / "green.py").write_text(f"import {module}\nfrom about import application\n{'1 / 0' if fails else ''}\n")
    refused = library != "none"
    how = {"ready": False, "expect": 3} if refused or fails else {}
    server = launch("green", "--pythonpath", str(APPS), cwd=tmp_path, **how)
    if refused or fails:
        assert server.wait_exit() == 3
    else:
        assert server.get("/").status == 200
    assert ("monkey-patching" in server.log()) == refused
    if refused:
        assert "Traceback" not in server.log()
        assert re.search(rf"take the monkey-patching of {library[:6]}\w* out of the application", server.log())


def test_syntax_error_in_the_application(launch, tmp_path):
    """A syntax error is shown with file and line: exit code 3."""
    (tmp_path / "slip.py").write_text("def application(environ, start_response)\n    return []\n")
    server = launch("slip", cwd=tmp_path, ready=False, expect=3)
    assert server.wait_exit() == 3
    assert re.search(r'slip\.py", line 1[\s\S]*SyntaxError', server.log())


def test_no_request_is_answered_by_an_application_that_cannot_be_loaded(launch, tmp_path):
    """While and after loading fails, no client gets a 200."""
    path = tmp_path / "s"
    server = launch("loading.broken", bind=[f"unix:{path}"], ready=False, expect=3)
    assert server.wait_exit() == 3
    assert not path.exists()


def test_current_directory_is_on_the_path(launch, tmp_path):
    """The current directory comes first on sys.path."""
    (tmp_path / "local.py").write_text("from about import application\n")
    facts = about(launch("local", "--pythonpath", str(APPS), cwd=tmp_path))
    assert str(tmp_path) in (facts["path"][0] or facts["cwd"], *facts["path"][:2])


def test_chdir(launch):
    """--chdir: modules are found there, and it is the current directory."""
    server = launch("moved", "--chdir", "elsewhere")
    assert server.get("/").text == str(APPS / "elsewhere")


def test_pythonpath(launch):
    """--pythonpath: a list of folders with commas, as gunicorn has it."""
    server = launch("only_here", "--pythonpath", f"elsewhere,{APPS / 'library'}")
    assert server.get("/").text.endswith("library/only_here.py")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (["about"], []),
        (["--threads", "2", "about"], []),
        (["about", "--"], []),
        (["about", "--", "--x", "-b", "y z"], ["--x", "-b", "y z"]),
        (["--", "about"], []),
        (["--", "about", "--threads", "0", "--"], ["--threads", "0", "--"]),
        (["about", "--threads", "2", "--", "about"], ["about"]),
    ],
    ids=" ".join,
)
def test_arguments_of_the_application(launch, command, arguments):
    """sys.argv is the application's: the command, and what follows --, which is none of the server's business."""
    at = command.index("--") if "--" in command else len(command)
    server = launch(None, *command[:at], "--bind", "127.0.0.1:0", *command[at:], bind=None)
    assert about(server)["argv"] == [str(fermata()), *arguments]


def test_env(launch):
    """--env NAME=VALUE, repeatable, is in os.environ before the application is loaded; values may have = in them."""
    facts = about(launch("about", "--env", "FIRST=1", "--env", "SECOND=a=b", "--env", "EMPTY="))
    assert [facts["environ"].get(name) for name in ("FIRST", "SECOND", "EMPTY")] == ["1", "a=b", ""]


@pytest.mark.parametrize("how", ["option", "variable"])
def test_virtual_environment(launch, tmp_path, how):
    """--venv DIR and VIRTUAL_ENV: its packages and its prefix, as its own python has them."""
    folder = tmp_path / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next(folder.glob("lib/python3.*/site-packages"))
    (packages / "only_in_venv.py").write_text("from about import application\n")
    if how == "option":
        server = launch("only_in_venv", "--venv", str(folder))
    else:
        server = launch("only_in_venv", env={"VIRTUAL_ENV": str(folder)})
    facts = about(server)
    own = subprocess.run(
        [folder / "bin" / "python", "-c", "import sys, json; print(json.dumps([sys.prefix, sys.path]))"],
        env=environment(),
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    prefix, path = json.loads(own.stdout)
    assert facts["prefix"] == prefix
    assert [p for p in facts["path"] if str(packages) in p] == [p for p in path if str(packages) in p]
    assert facts["base_prefix"] != facts["prefix"]


def test_relative_virtual_environment(launch, tmp_path):
    """A relative --venv, and VIRTUAL_ENV, are relative to where the command was given, not to --chdir."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "local.py").write_text("from about import application\n")
    options = ("--pythonpath", str(APPS), "--chdir", "site")
    assert about(launch("local", *options, "--venv", "env", cwd=tmp_path))["prefix"] == str(tmp_path / "env")
    assert about(launch("local", *options, env={"VIRTUAL_ENV": "./env"}, cwd=tmp_path))["prefix"].endswith("/env")


def change_home(folder: Path, line: str) -> None:
    config = folder / "pyvenv.cfg"
    config.write_text(re.sub("(?m)^home = .*$", line, config.read_text()))


@pytest.mark.parametrize("how", ["option", "variable"])
def test_virtual_environment_of_another_build(launch, tmp_path, how):
    """One that was made with another Python of the same minor version has modules that do not fit: exit code 2, and the
    message says with which Python it was made, and how to make it anew."""
    other = tmp_path / "other" / "bin"
    other.mkdir(parents=True)
    (other / "python{}.{}".format(*sys.version_info)).write_text("#!/bin/sh\n")
    folder = tmp_path / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    change_home(folder, f"home = {other}")
    more = {"env": {"VIRTUAL_ENV": str(folder)}} if how == "variable" else {}
    options = ("--venv", str(folder)) if how == "option" else ()
    server = launch("about", *options, ready=False, expect=2, **more)
    assert server.wait_exit() == 2
    assert str(other) in server.log()
    command = re.search(r"make it anew with: (\S+ -m venv --clear \S+)", server.log())
    assert command, server.log()
    subprocess.run([*command[1].split(), "--without-pip"], check=True, env=environment(), timeout=LONG)
    assert about(launch("about", *options, **more))["prefix"] == str(folder)


def test_virtual_environment_whose_home_is_a_link(launch, tmp_path):
    """Its home may be another name of the directory, or have links to the same Python: it fits."""
    folder = tmp_path / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    home = Path(re.search("(?m)^home = (.*)$", (folder / "pyvenv.cfg").read_text())[1])  # type: ignore[index]
    (tmp_path / "bin").symlink_to(home)
    change_home(folder, f"  HOME=\t{tmp_path / 'bin'}  ".rstrip())
    assert launch("about", "--venv", str(folder)).get("/").status == 200


@pytest.mark.parametrize("text", [None, "version = 3.11\n", "home =\n", "homes = /usr/bin\n"])
def test_virtual_environment_without_a_home(launch, tmp_path, text):
    """What has no pyvenv.cfg that names its home is none: exit code 2."""
    folder = tmp_path / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    (folder / "pyvenv.cfg").unlink()
    if text is not None:
        (folder / "pyvenv.cfg").write_text(text)
    server = launch("about", "--venv", str(folder), ready=False, expect=2)
    assert server.wait_exit() == 2
    assert f"--venv {folder}" in server.log() and "pyvenv.cfg" in server.log()


def test_option_venv_wins_over_the_variable(launch, tmp_path):
    """--venv is what counts when VIRTUAL_ENV says something else."""
    for name in ("one", "two"):
        venv.create(tmp_path / name, with_pip=False, symlinks=True)
    facts = about(launch("about", "--venv", str(tmp_path / "one"), env={"VIRTUAL_ENV": str(tmp_path / "two")}))
    assert facts["prefix"] == str(tmp_path / "one")


def test_sys_executable_is_a_python(launch):
    """sys.executable starts a Python of the same version: applications start subprocesses with it."""
    facts = about(launch("about"))
    done = subprocess.run(
        [facts["executable"], "-c", "import sys; print(*sys.version_info[:2])"],
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
        timeout=PROMPT * 2,
    )
    assert done.stdout.split() == [str(n) for n in facts["version"][:2]]


def test_utf8_in_the_c_locale(launch):
    """With LC_ALL=C text is UTF-8, as python itself has it (PEP 538, PEP 540)."""
    facts = about(launch("about", env={"LC_ALL": "C", "LANG": "C"}))
    assert {name.lower().replace("-", "") for name in facts["encoding"]} == {"utf8"}


# Listening


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


# Limits of the process


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


# Logs


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
