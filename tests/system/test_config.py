"""Configuration files: Python, TOML, what is shown and checked of them, and what is wrong in them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import tomllib
from harness.limits import APPS, LONG, PROMPT, ROOT, eventually, fermata, timeout
from harness.process import Process
from harness.server import environment, run


def about(server):
    return json.loads(server.get("/").text)


@pytest.fixture
def config(tmp_path):
    """config(text): its path, relative to nothing."""

    def write(text: str, name: str = "conf.py") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def shown(*arguments: str, **more) -> dict[str, tuple[object, str]]:
    """Each setting of --print-config with the source that it names."""
    done = run("--print-config", *arguments, **more)
    assert done.returncode == 0, done.stderr
    values, found = tomllib.loads(done.stdout), {}
    for line in done.stdout.splitlines():
        if match := re.match(r"(?:# )?(\w+) = .*# (.*)$", line):
            found[match[1]] = (values.get(match[1]), match[2])
    return found


# ---- files ----


def test_python_file_serves(launch, config):
    path = config("import os\nthreads = 3\nraw_env = ['FROM_FILE=' + os.environ['FROM_OUTSIDE']]\nwsgi_app = 'about'\n")
    server = launch(None, "-c", path, env={"FROM_OUTSIDE": "yes"})
    facts = about(server)
    assert facts["environ"]["FROM_FILE"] == "yes"
    assert re.search(r"\b3 threads\b", server.log())
    assert not [name for name in facts["environ"] if name.startswith(("FERMATA_READER", "FERMATA_SETTINGS"))]


def test_toml_file_serves(launch, config):
    path = config('threads = 3\nwsgi-app = "about"\nenv = { FROM_FILE = "yes" }\n[log]\nx = 1\n', "fermata.toml")
    server = launch(None, "-c", path)
    assert about(server)["environ"]["FROM_FILE"] == "yes"
    assert re.search(r"\b3 threads\b", server.log())
    assert re.search(r"WARNING.*fermata\.toml:4: there is no setting log\b", server.log())


def test_pyproject(config):
    path = config('[tool.other]\nworkers = 9\n[tool.fermata]\nworkers = 2\nbind = ["127.0.0.1:1"]\n', "pyproject.toml")
    found = shown("-c", path, "about")
    assert found["workers"] == (2, f"{path}:4")
    assert found["bind"] == (["127.0.0.1:1"], f"{path}:5")


def test_pyproject_without_the_table(config):
    path = config("[tool.other]\nworkers = 9\n", "pyproject.toml")
    done = run("-c", path, "about")
    assert done.returncode == 2
    assert "[tool.fermata]" in done.stderr


def test_module_file(tmp_path):
    (tmp_path / "settings_of_mine.py").write_text("threads = 5\n")
    found = shown("-c", "python:settings_of_mine", "about", cwd=tmp_path)
    assert found["threads"] == (5, "python:settings_of_mine:1")


def test_file_of_any_name(config):
    """As gunicorn has it: what is no TOML is Python."""
    assert shown("-c", config("threads = 5\n", "conf"), "about")["threads"][0] == 5


def test_file_imports_its_neighbours(tmp_path):
    """The directory in which the command is given is on sys.path."""
    (tmp_path / "neighbour.py").write_text("COUNT = 6\n")
    (tmp_path / "conf.py").write_text("from neighbour import COUNT\nthreads = COUNT\n")
    assert shown("-c", "conf.py", "about", cwd=tmp_path)["threads"] == (6, "conf.py:2")


def test_no_file_is_read_that_was_not_named(tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text("threads = 7\n")
    assert shown("about", cwd=tmp_path)["threads"] == (8, "default")
    (tmp_path / "application.py").write_text("def app(environ, start_response):\n    pass\n")
    done = run("--check-config", "application", cwd=tmp_path)
    assert re.search(r"INFO\] There is a gunicorn\.conf\.py here, which is not read", done.stderr)


# ---- what wins ----


def test_precedence(config):
    """Defaults, the environment, the file, the variable, the command line."""
    path = config("threads = 2\nworkers = 2\nkeepalive = 2\nbacklog = 2\nbind = ['127.0.0.1:2', '127.0.0.1:3']\n")
    env = {
        "PORT": "1",
        "WEB_CONCURRENCY": "9",
        "SCRIPT_NAME": "/below",
        "FORWARDED_ALLOW_IPS": "10.0.0.1",
        "GUNICORN_CMD_ARGS": "--keep-alive 3 --backlog 3",
    }
    found = shown("-c", path, "--backlog", "4", "about", env=env)
    assert found["threads"] == (2, f"{path}:1")
    assert found["workers"] == (2, f"{path}:2")
    assert found["keepalive"] == (3, "$GUNICORN_CMD_ARGS")
    assert found["backlog"] == (4, "command line")
    assert found["bind"] == (["127.0.0.1:2", "127.0.0.1:3"], f"{path}:5")
    assert found["root_path"] == ("/below", "$SCRIPT_NAME")
    assert found["forwarded_allow_ips"] == ("10.0.0.1", "$FORWARDED_ALLOW_IPS")
    assert found["graceful_timeout"] == (30, "default")
    found = shown("about", env=env)
    assert found["bind"] == (["0.0.0.0:1"], "$PORT")
    assert found["workers"] == (9, "$WEB_CONCURRENCY")


def test_what_is_printed_can_be_read(config):
    """--print-config is a file that says the same."""
    options = ["--umask", "027", "--access-logformat", '%(h)s "x"', "--allow-half-close", "-e", "A=b c", "about"]
    first = shown(*options)
    text = run("--print-config", *options).stdout
    again = shown("-c", config(text, "printed.toml"))
    assert {name: value for name, (value, _) in again.items()} == {name: value for name, (value, _) in first.items()}


def test_workers_auto():
    number = shown("--workers", "auto", "about")["workers"][0]
    assert 1 <= number <= len(os.sched_getaffinity(0))


# ---- what is wrong ----

WRONG = {
    "workers = 'many'\n": r"conf\.py:1: workers = many: it takes a whole number",
    "\n\nthreads = [1]\n": r"conf\.py:3: threads = a list: it takes a whole number",
    "if True:\n    bind = 'nowhere'\n": r"conf\.py:2: bind = nowhere: it takes HOST:PORT",
    "timeout = (\n": r"conf\.py:1: SyntaxError",
    "x = 1\nworkers = nothing\n": r"conf\.py:2: NameError: name 'nothing' is not defined",
    "def f():\n    return 1 / 0\n\n\nworkers = f()\n": r"conf\.py:2: ZeroDivisionError",
    "import no_such_module\n": r"conf\.py:1: ModuleNotFoundError",
    "raise SystemExit(7)\n": r"conf\.py:1: it ended with SystemExit\(7\)",
    "import os\nos._exit(0)\n": r"conf\.py: what reads it has ended",
    "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n": r"conf\.py: what reads it has ended",
    "bind = 'unix:/tmp/a\\0b'\n": r"bind has a zero character in it",
    "certfile = 'c.pem'\n": r"conf\.py:1: certfile: Fermata speaks no TLS",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_file(config, text):
    """Exit code 2, with the file, the line, the option and what it takes, or a traceback of the file alone."""
    done = run("-c", config(text), "about")
    assert done.returncode == 2, done.stderr
    assert re.search(WRONG[text], done.stderr), done.stderr
    assert "settings.py" not in done.stderr
    if re.search(r"Error|SystemExit", WRONG[text]):
        assert "Traceback" in done.stderr or "SyntaxError" in WRONG[text]


WRONG_TOML = {
    "workers = \n": r"fermata\.toml: .*line 1",
    'workers = "many"\n': r"fermata\.toml:1: workers = many: it takes a whole number",
    "\nlog-level = 3\n": r"fermata\.toml:2: log-level = 3: it takes debug",
}


@pytest.mark.parametrize("text", WRONG_TOML)
def test_wrong_toml_file(config, text):
    done = run("-c", config(text, "fermata.toml"), "about")
    assert done.returncode == 2
    assert re.search(WRONG_TOML[text], done.stderr), done.stderr


def test_toml_file_takes_a_parser(config, tmp_path):
    """Python 3.10 has none: the message says which Python has."""
    for name in ("tomllib", "tomli"):
        (tmp_path / f"{name}.py").write_text("raise ModuleNotFoundError\n")
    done = run("--pythonpath", str(tmp_path), "-c", config("workers = 2\n", "fermata.toml"), "about")
    assert done.returncode == 2
    assert "takes Python 3.11, or the package tomli" in done.stderr


def test_file_that_is_not_there():
    done = run("-c", "/nonexistent/conf.py", "about")
    assert done.returncode == 2
    assert "/nonexistent/conf.py: No such file or directory" in done.stderr


def test_name_that_there_is_not(config):
    """A warning with the nearest name; names that the file uses itself are its own."""
    path = config("cores = 4\nworkres = 2\nthreads = cores\n\n\ndef post_forks(server, worker):\n    pass\n")
    done = run("--check-config", "-c", path, "about")
    assert done.returncode == 0
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert len(warnings) == 2
    assert f"{path}:2: there is no setting workres, but there is workers" in warnings[0]
    assert f"{path}:6: there is no setting post_forks, but there is post_fork" in warnings[1]


def test_option_that_there_is_not():
    done = run("--thread", "4", "about")
    assert done.returncode == 2
    assert "there is no option --thread, but there is --threads" in done.stderr


def test_reader_that_hangs_is_told_to_end(config, tmp_path):
    """A signal ends the start, and the process that executes the file with it."""
    path = config(
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()) + '\\n')\ntime.sleep(600)\n"
    )
    started = subprocess.Popen(
        [str(fermata()), "-c", path, "about"], cwd=APPS, env=environment(), stderr=subprocess.PIPE
    )
    pid_file = tmp_path / "pid"
    eventually(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), "the file is executed", within=LONG)
    reader = int(pid_file.read_text())
    started.send_signal(signal.SIGTERM)
    assert started.wait(PROMPT) == 0
    eventually(lambda: not Path(f"/proc/{reader}").exists(), "the reader is gone")
    started.stderr.close()


# ---- checking ----


def test_check_config_loads_the_application(config):
    done = run("--check-config", "-c", config("workers = 2\n"), "about")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("app", ["no_such_module", "about:nothing"])
def test_check_config_of_an_application_that_does_not_load(config, app):
    done = run("--check-config", "-c", config("workers = 2\n"), app)
    assert done.returncode == 3
    assert app.partition(":")[0] in done.stderr


def test_logging_dictionary(config):
    """gunicorn's logconfig_dict is what Python's logging is set up with."""
    good = "logconfig_dict = {'version': 1, 'loggers': {'x': {'level': 'DEBUG'}}, 'disable_existing_loggers': False}\n"
    assert run("--check-config", "-c", config(good), "about").returncode == 0
    done = run("--check-config", "-c", config(good.replace("'DEBUG'", "'NO SUCH'")), "about")
    assert done.returncode == 2
    assert "NO SUCH" in done.stderr
    assert run("-c", config("logconfig_dict = 'x'\n"), "about").returncode == 2


def test_check_config_of_a_wrong_file(config):
    assert run("--check-config", "-c", config("workers = 'x'\n"), "about").returncode == 2


def test_check_config_does_not_touch_logs_nor_listen(config, tmp_path):
    """A check on a machine that serves does not disturb what serves."""
    path = config(f"errorlog = {str(tmp_path / 'e.log')!r}\nbind = 'unix:{tmp_path / 's'}'\n")
    assert run("--check-config", "-c", path, "about").returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["conf.py"]


def test_check_config_does_not_wait_for_threads(config, tmp_path):
    (tmp_path / "starts_threads.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n\n\ndef app(environ, start_response):\n    pass\n"
    )
    began = time.monotonic()
    assert run("--check-config", "starts_threads:app", cwd=tmp_path).returncode == 0
    assert time.monotonic() - began < 300


# ---- with workers ----


def workers_of(server) -> list[dict]:
    return json.loads(server.admin.get("/workers").text)["workers"]


def wait_ready(server, number: int, generation: int = 1) -> None:
    def settled():
        found = workers_of(server)
        return len(found) == number and all(w["state"] == "ready" and w["generation"] == generation for w in found)

    eventually(settled, f"{number} workers of generation {generation} are ready", within=LONG)


def test_workers_get_what_was_read_once(launch, config, tmp_path):
    """The file is executed once, and its process is another one than the arbiter's and the workers'."""
    runs = tmp_path / "runs"
    path = config(
        f"import os\nopen({str(runs)!r}, 'a').write(f'{{os.getpid()}}\\n')\nworkers = 2\nthreads = 3\nraw_env = ['A=1']\n"
    )
    server = launch("about", "-c", path, admin=True)
    wait_ready(server, 2)
    facts = about(server)
    assert facts["environ"]["A"] == "1"
    assert not [name for name in facts["environ"] if name in ("FERMATA_READER", "FERMATA_SETTINGS", "FERMATA_HANDED")]
    pids = runs.read_text().split()
    assert len(pids) == 1
    assert int(pids[0]) not in {server.pid, *(w["pid"] for w in workers_of(server))}


@timeout(120)
def test_variables_of_a_file_are_not_the_arbiters(launch, config):
    """So that one that is not in the file any more is not in the next generation's environment either."""
    server = launch("about", "-c", config("workers = 1\nraw_env = ['FROM_FILE=1']\n"), admin=True)
    wait_ready(server, 1)
    assert about(server)["environ"]["FROM_FILE"] == "1"
    assert b"FROM_FILE" not in Path(f"/proc/{server.pid}/environ").read_bytes()


# ---- reload ----


@pytest.fixture
def site(launch, config, tmp_path):
    """site(text): workers that a file configures; .write(text) changes it, .broken breaks the next import."""

    def start(text: str):
        broken = tmp_path / "broken"
        path = config(text)
        server = launch(
            "workers:app", "-c", path, "--graceful-timeout", "10", admin=True, env={"WORKERS_BREAK": str(broken)}
        )
        server.broken, server.config = broken, path
        server.write = lambda new: Path(path).write_text(new)
        eventually(lambda: workers_of(server), "there are workers", within=LONG)
        wait_ready(server, len(workers_of(server)))
        return server

    return start


def hup(server) -> None:
    os.kill(server.pid, signal.SIGHUP)


def threads_of(pid: int) -> int:
    """Of the pool that runs the application, with the one more that is the leader."""
    return len([name for name in Process(pid).threads().values() if re.fullmatch(r"fermata-\d+", name)])


@timeout(120)
def test_reload_reads_the_file_again(site):
    server = site("workers = 2\nthreads = 2\n")
    assert {threads_of(w["pid"]) for w in workers_of(server)} == {3}
    server.write("workers = 3\nthreads = 4\n")
    hup(server)
    wait_ready(server, 3, generation=2)
    assert {threads_of(w["pid"]) for w in workers_of(server)} == {5}


@timeout(120)
def test_reload_of_a_broken_file_changes_nothing(site):
    """The message has what a start would have said."""
    server = site("workers = 2\n")
    before = workers_of(server)
    for text, why in (
        ("workers = 'many'\n", r"conf\.py:1: workers = many: it takes a whole number"),
        ("import no_such_module\n", r"conf\.py:1: ModuleNotFoundError"),
        ("import os\nos._exit(3)\n", r"what reads the file has ended"),
    ):
        server.write(text)
        hup(server)
        server.wait_log(rf"Reload failed: .*{why}")
    assert [w["pid"] for w in workers_of(server)] == [w["pid"] for w in before]
    assert server.get("/hello").status == 200
    server.write("workers = 1\n")
    hup(server)
    wait_ready(server, 1, generation=2)


@timeout(120)
def test_reload_of_a_file_that_hangs_is_replaced_by_the_next(site, tmp_path):
    server = site("workers = 1\n")
    pid = tmp_path / "pid"
    server.write(f"import os, time\nopen({str(pid)!r}, 'w').write(f'{{os.getpid()}}\\n')\ntime.sleep(600)\n")
    hup(server)
    eventually(lambda: pid.exists() and pid.read_text().endswith("\n"), "the file is executed", within=LONG)
    assert server.get("/hello").status == 200
    server.write("workers = 2\n")
    hup(server)
    wait_ready(server, 2, generation=2)
    eventually(lambda: not Path(f"/proc/{int(pid.read_text())}").exists(), "the reader that hung is gone")


@timeout(120)
def test_end_while_a_file_hangs(site, tmp_path):
    """The reader ends with the arbiter."""
    server = site("workers = 1\n")
    pid = tmp_path / "pid"
    server.write(f"import os, time\nopen({str(pid)!r}, 'w').write(f'{{os.getpid()}}\\n')\ntime.sleep(600)\n")
    hup(server)
    eventually(lambda: pid.exists() and pid.read_text().endswith("\n"), "the file is executed", within=LONG)
    server.stop()
    eventually(lambda: not Path(f"/proc/{int(pid.read_text())}").exists(), "the reader is gone")


@timeout(120)
def test_reload_that_fails_later_goes_back_to_what_was(site):
    """Where the application does not load, a worker that has to be started again is as those that go on."""
    server = site("workers = 2\nthreads = 2\n")
    server.write("workers = 3\nthreads = 4\n")
    server.broken.write_text("raise")
    hup(server)
    server.wait_log(r"Reload failed: worker \d")
    server.broken.unlink()
    first, second = (w["pid"] for w in workers_of(server))
    os.kill(first, signal.SIGKILL)

    def replaced():
        found = {w["pid"] for w in workers_of(server) if w["state"] == "ready"}
        return found if len(found) == 2 and first not in found else None

    found = eventually(replaced, "the worker is replaced", within=LONG)
    assert second in found
    assert {threads_of(pid) for pid in found} == {3}


@timeout(120)
def test_paths_of_a_file_are_the_commands(site, tmp_path):
    """Those that are relative are so to where the command was given, at a reload as at the start."""
    text = f"workers = 1\nerrorlog = '-'\nchdir = {str(APPS)!r}\nlogconfig_json = 'workers.py'\n"
    server = site("workers = 1\n")
    server.write(text)
    hup(server)
    server.wait_log("Reload failed: worker")  # it is read, and is no JSON
    server.write(text.replace("workers.py", "no_such.json"))
    hup(server)
    server.wait_log(r"Reload failed: .*logconfig_json = no_such\.json: it takes a file that can be read")


@timeout(120)
def test_reload_says_what_takes_a_restart(site):
    server = site("workers = 1\n")
    server.write("workers = 1\nbacklog = 5\n")
    hup(server)
    wait_ready(server, 1, generation=2)
    assert re.search(r"WARNING.*--backlog is another one now, which takes a restart", server.log())


# ---- the manual ----

PAGE = (ROOT / "spec/manual/configuration.md").read_text()


def test_examples_of_the_manual(tmp_path):
    """Both files that the page shows are read, and say the same."""
    found = []
    for language, name in (("python", "conf.py"), ("toml", "fermata.toml")):
        match = re.search(rf"```{language}\n(.*?)```", PAGE, re.S)
        (tmp_path / name).write_text(match[1])
        found.append({key: value for key, (value, _) in shown("-c", name, cwd=tmp_path).items()})
    assert found[0]["bind"] == ["0.0.0.0:8000"]
    assert found[0]["raw_env"] == ["DJANGO_SETTINGS_MODULE=shop.settings"]
    assert {k: v for k, v in found[0].items() if k != "threads"} == {
        k: v for k, v in found[1].items() if k != "threads"
    }


def test_messages_of_the_manual(tmp_path):
    """What the page shows of mistakes is what is said of them."""
    (tmp_path / "gunicorn.conf.py").write_text("\n\nworkers = 'many'\ngracefull_timeout = 30\n")
    said = run("-c", "gunicorn.conf.py", "about", cwd=tmp_path).stderr.splitlines()[0]
    assert f"```text\n{said}\n```" in PAGE
    (tmp_path / "gunicorn.conf.py").write_text("\n\n\ngracefull_timeout = 30\nchdir = " + repr(str(APPS)) + "\n")
    said = run("--check-config", "-c", "gunicorn.conf.py", "about", cwd=tmp_path).stderr.splitlines()[0]
    assert f"```text\n{said[said.index('[WARNING]') :]}\n```" in PAGE


def test_pages_have_the_options_that_there_are():
    """scripts/docs would change nothing."""
    table = run("--help=settings").stdout
    assert f"<!-- settings -->\n\n{table}\n<!-- end -->" in PAGE
    assert run("--help").stdout in (ROOT / "spec/manual/options.md").read_text()


def test_man_page():
    """It has each option, and no line of it is a request by accident."""
    page = run("--help=man").stdout
    names = re.findall(r"^ +(?:-\w, )?--([\w-]+)", run("--help").stdout, re.M)
    assert len(names) > 40
    for name in names:
        assert "\\-\\-" + name.replace("-", "\\-") in page
    assert {line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))} <= {
        ".TH",
        ".SH",
        ".TP",
        ".B",
        ".br",
    }
