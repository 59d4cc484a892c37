"""The extension module: the command in a Python that runs already, and `run`, for scripts.

These tests run in the environment that it is installed in: `make wheel-tests`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.client import Connection
from harness.limits import APPS, EXTENSION, LONG, PROMPT, ROOT, eventually, fermata
from harness.process import Process
from harness.server import environment, run
from harness.workers import Load, wait_ready

pytestmark = pytest.mark.skipif(not EXTENSION, reason="of the extension module: make wheel-tests")

MODULE = [sys.executable, "-m", "fermata_server"]


def about(server):
    return json.loads(server.get("/").text)


# ---- the file ----


def readelf(*options: str) -> str:
    spec = importlib.util.find_spec("fermata_server._server")
    assert spec and spec.origin
    return subprocess.run(["readelf", "-W", *options, spec.origin], check=True, capture_output=True, text=True).stdout


def test_one_symbol_is_exported():
    """Nothing of ours can be taken for another module's, nor the other way."""
    lines = [line.split() for line in readelf("--dyn-syms").splitlines()]
    exported = {line[7] for line in lines if len(line) == 8 and line[4] in ("GLOBAL", "WEAK") and line[6] != "UND"}
    assert exported == {"PyInit__server"}


def test_little_is_a_threads_own():
    """What a module has of thread-local variables comes out of a small reserve, which it shares with others; and they are
    reached without a call."""
    [tls] = [line.split() for line in readelf("-l").splitlines() if line.split()[:1] == ["TLS"]]
    assert int(tls[5], 16) <= 96
    assert "__tls_get_addr" not in readelf("--dyn-syms")


# ---- another version of it ----


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["", "preload"])
def test_another_version_takes_over(launch, options):
    """SIGUSR2 executes Python anew in the arbiter's place, with the module that is installed by then; nothing is lost."""
    server = launch("workers:app", "--workers", "2", *options, admin=True)
    before = wait_ready(server, 2)
    with Load(server) as load:
        for number in (1, 2):
            server.signal(signal.SIGUSR2)
            taken = "the workers are replaced"
            eventually(lambda n=number: server.log_now().count(taken) >= n, "it has taken over", within=LONG)
            before = wait_ready(server, 2, before)
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert sum(load.outcomes.values()) > 50


# ---- the command ----


def test_as_a_module(launch):
    """python -m fermata_server is the same as the command."""
    server = launch("about", program=MODULE)
    facts = about(server)
    assert facts["argv"][0].endswith("/fermata_server/__main__.py")
    assert facts["prefix"] == sys.prefix
    assert server.process.threads()[server.pid] == "fermata"


@pytest.mark.parametrize("program", [[str(fermata())], MODULE], ids=["command", "-m"])
def test_path(launch, tmp_path, program):
    """The application's path begins with the directory that the server is in, and has neither the folder of the command
    nor, with -m, the one where that was given."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "local.py").write_text("from about import application\n")
    options = ("--pythonpath", str(APPS), "--chdir", "site")
    path = about(launch("local", *options, cwd=tmp_path, program=program))["path"]
    assert path[:2] == [str(APPS), str(tmp_path / "site")]
    assert str(tmp_path) not in path
    assert str(fermata().parent) not in path


def test_path_is_left_alone_where_python_has_put_nothing_there(launch):
    """With -P, or -I, there is no folder of the script to be taken out again."""
    plain = about(launch("about", program=[sys.executable, str(fermata())]))["path"]
    assert about(launch("about", program=[sys.executable, "-I", str(fermata())]))["path"] == plain
    if sys.version_info >= (3, 11):
        assert about(launch("about", program=[sys.executable, "-P", str(fermata())]))["path"] == plain


@pytest.mark.parametrize("own", [sys.prefix, os.path.join(sys.prefix, "lib", "..")])
def test_own_environment(launch, own):
    """--venv may name the environment that it runs in."""
    assert about(launch("about", "--venv", own))["prefix"] == sys.prefix


def test_another_environment(tmp_path):
    """It cannot take another one: exit code 2, and the message says where it is installed."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    for name in ("env", "nothing"):
        done = run("--bind", "127.0.0.1:0", "--venv", str(tmp_path / name), "about")
        assert done.returncode == 2
        said = f"--venv {tmp_path / name}: this fermata belongs to the Python in {sys.prefix}; install fermata-server in"
        assert said in done.stderr


def test_an_active_environment_does_not_matter(launch, tmp_path):
    """VIRTUAL_ENV is that of the shell, which may be another one."""
    server = launch("about", env={"VIRTUAL_ENV": str(tmp_path / "nothing")})
    assert about(server)["prefix"] == sys.prefix


def test_environment_that_python_has_read(launch):
    """Python has started: what it reads then comes too late, and that is said."""
    server = launch("about", "--env", "PYTHONDEVMODE=1", "--env", "PLAIN=1")
    server.wait_log(r"--env PYTHONDEVMODE: Python has read its environment when it started; set it before the command$")
    assert "--env PLAIN" not in server.log()
    facts = about(server)["environ"]
    assert (facts["PYTHONDEVMODE"], facts["PLAIN"]) == ("1", "1")


def test_environment_that_is_no_text(launch):
    """Bytes come through as they do in any Python."""
    server = launch("about", env={"ODD": "\udcff=\udcfe"})
    assert about(server)["environ"]["ODD"] == "\udcff=\udcfe"


def test_loader_has_no_file(launch, tmp_path):
    """coverage, which looks into the file of each code object, is told that there is none."""
    (tmp_path / "shows.py").write_text(
        "import sys\n\ndef application(environ, start_response):\n    start_response('200 OK', [])\n"
        "    return [sys.modules['_fermata_loader'].load.__code__.co_filename.encode()]\n"
    )
    assert launch("shows", cwd=tmp_path).get("/").text == "<fermata/loader.py>"


def test_missing_module_without_an_environment(tmp_path):
    """What to do where no virtual environment runs is another thing than for the binary, which can take one."""
    from fermata_server import _host

    package = Path(_host.__file__).parents[1]
    base = getattr(sys, "_base_executable", sys.executable)
    done = subprocess.run(
        [base, "-m", "fermata_server", "--bind", "127.0.0.1:0", "loading.broken_import"],
        cwd=APPS, env=environment({"PYTHONPATH": str(package)}), capture_output=True, text=True, timeout=LONG, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert re.search(r"see the traceback above; \S+ is what runs, and no virtual environment's\n$", done.stderr)


# ---- workers ----


def children(server) -> list[int]:
    text = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    return [int(pid) for pid in text.split()]


@pytest.mark.parametrize("program", [[str(fermata())], MODULE], ids=["command", "-m"])
def test_workers(launch, tmp_path, program):
    """They are executed by this Python with its flags, and not from the directory of the project."""
    (tmp_path / "types.py").write_text("raise ImportError('the project\\'s own types')\n")
    (tmp_path / "local.py").write_text("from about import application\n")
    flags = ["-X", "dev", "-W", "ignore"]
    server = launch(
        "local", "--workers", "2", "--pythonpath", str(APPS), cwd=tmp_path, admin=True,
        program=[sys.executable, *flags, *program] if program[0] != sys.executable else [program[0], "-P", *program[1:]],
    )  # fmt: skip
    eventually(lambda: json.loads(server.admin.get("/workers").text)["workers"][-1]["state"] == "ready", "ready", within=LONG)
    programs = {os.readlink(f"/proc/{pid}/exe") for pid in (server.pid, *children(server))}
    assert len(children(server)) == 2 and len(programs) == 1
    facts = about(server)
    assert facts["executable"] == sys.executable
    if program[0] != sys.executable:
        assert facts["flags"]["dev_mode"] and "ignore" in facts["flags"]["warnoptions"]
    assert facts["path"][:2] == [str(APPS), str(tmp_path)]
    assert facts["path"].count(str(tmp_path)) == 1
    assert "FERMATA_HANDED" not in facts["environ"] and facts["environ"]["FERMATA_WORKER"] in "01"
    assert len(server.process.threads()) == 2  # of the arbiter: its own, and the log's


# ---- run ----

DOCUMENTS = ["spec/manual/install.md", "py/extension/fermata_server/README.md"]

HELLO = """
    import os, signal, sys, threading
    import fermata_server

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["PATH_INFO"].encode()]
"""


class Script:
    """A script that calls run."""

    def __init__(self, folder: Path, text: str, **env: str) -> None:
        self.file, self.out = folder / "script.py", folder / "out"
        self.file.write_text(textwrap.dedent(HELLO) + textwrap.dedent(text))
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, self.file], cwd=folder, env=environment(env), stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def said(self) -> str:
        return self.out.read_text()

    def wait(self, text: str) -> str:
        try:
            eventually(lambda: text in self.said(), f"it says {text!r}", within=LONG)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.said()}") from None
        return self.said()

    def port(self) -> int:
        found = eventually(lambda: re.search(r"Listening at: http://127.0.0.1:(\d+)", self.said()), "it listens", within=LONG)
        return int(found[1])

    def get(self, target: str) -> str:
        with Connection(("127.0.0.1", self.port()), timeout=PROMPT) as c:
            return c.request("GET", target).text

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(LONG)


@pytest.fixture
def script(tmp_path) -> Iterator[type]:
    scripts: list[Script] = []

    def start(text: str, **env: str) -> Script:
        scripts.append(Script(tmp_path, text, **env))
        return scripts[-1]

    yield start
    for one in scripts:
        one.process.kill()
        one.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_run(script, number):
    """It serves, drains, and returns to the script, whose process is as it was before: its handlers, its threads, and no
    deadline for its end."""
    one = script(
        """
        signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which these tests may have been started without
        before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGUSR1)]
        path, argv, variables = list(sys.path), list(sys.argv), dict(os.environ)
        code = fermata_server.run(app, bind="127.0.0.1:0", threads=2)
        after = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGUSR1)]
        assert after == before and (sys.path, sys.argv, dict(os.environ)) == (path, argv, variables)
        assert signal.set_wakeup_fd(-1) == -1
        os.kill(os.getpid(), signal.SIGUSR1)
        print("returned", code, sorted(open(f"/proc/self/task/{t}/comm").read().strip() for t in os.listdir("/proc/self/task")))
        sys.stdout.flush()
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        threading.Event().wait()
        """
    )
    assert one.get("/path") == "/path"
    pid = one.process.pid
    assert Process(pid).threads()[pid] == "python"  # it is the script's
    one.process.send_signal(number)
    text = one.wait("interrupted")
    assert "handled" in text and "returned 0" in text, text
    assert "guard" not in text.partition("returned 0")[2]
    assert one.end() == -signal.SIGTERM  # which does what it does by default


def test_run_by_name(script, tmp_path):
    """An application may be named as on the command line; its module is found by the script's path."""
    (tmp_path / "shop.py").write_text(
        "def create(name):\n    def app(environ, start_response):\n        start_response('200 OK', [])\n"
        "        return [name.encode()]\n    return app\n"
    )
    one = script("sys.exit(fermata_server.run('shop:create(\"named\")', bind=['127.0.0.1:0']))")
    assert one.get("/") == "named"
    assert one.end() == 0


def test_options_of_run(script, tmp_path):
    """Each kind of them: flags, numbers, octal ones, lists, paths, several addresses; and none of those is None."""
    one = script(
        f"""
        import pathlib
        sys.exit(fermata_server.run(
            app, bind=["127.0.0.1:0", "unix:{tmp_path}/s"], socket_mode=0o640, umask="022", keep_alive=1.5, threads=3,
            access_log_json=True, access_logfile=pathlib.Path("{tmp_path}/access"), allow_half_close=False, root_path=None,
            forwarded_allow_ips=["127.0.0.1", "10.0.0.0/8"], limit_request_field_size=4096, admin_bind="127.0.0.1:0",
        ))
        """
    )
    assert one.get("/x") == "/x"
    one.wait("Admin at")
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o640
    assert sum(name.startswith("fermata-") and name[8:].isdigit() for name in Process(one.process.pid).threads().values()) == 4
    assert one.end() == 0
    assert json.loads((tmp_path / "access").read_text())["status"] == 200


def test_no_workers_in_a_script(script):
    """What $WEB_CONCURRENCY says is for the command."""
    one = script("sys.exit(fermata_server.run(app, bind='127.0.0.1:0'))", WEB_CONCURRENCY="2")
    assert one.get("/x") == "/x"
    assert one.end() == 0


REFUSED = """
    def refused(*arguments, **options):
        try:
            print("code", fermata_server.run(*arguments, **options), flush=True)
        except Exception as error:
            print(f"{type(error).__name__}: {error}", flush=True)
"""


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("refused(app, workers=2)", r"TypeError: run\(\) has no option 'workers'; that is for the command, fermata --workers"),
        ("refused(app, chdir='/')", r"TypeError: run\(\) has no option 'chdir'; that is for os\.chdir"),
        ("refused(app, colour='red')", r"TypeError: run\(\) has no option 'colour'$"),
        ("refused(5)", r"TypeError: application is int, which cannot be called"),
        ("refused(app, threads=0)", r"--threads 0: it takes a whole number.*\n.*\ncode 2"),
        ("refused(app, bind=b'x')", r"--bind"),
        ("refused(app, bind='127.0.0.1:1', root_path='x')", r"--root-path x: it takes a path.*\n.*\ncode 2"),
        ("refused(app, bind='unix:/no/such/folder/s')", r"\[CRITICAL\] .*/no/such/folder/s[\s\S]*code 1"),
        (
            "t = threading.Thread(target=refused, args=(app,)); t.start(); t.join()",
            r"RuntimeError: fermata_server runs in the main thread, which gets the signals, and this is another one",
        ),
        (
            "refused(app, threads=0); refused(app, threads=1)",
            r"code 2\nRuntimeError: fermata_server runs once in a process, and has run in this one",
        ),
    ],
    ids=lambda value: value[:40],
)
def test_what_run_refuses(script, call, said):
    """A sentence says why; wrong options are told as the command tells them."""
    one = script(textwrap.dedent(REFUSED) + call + "\n")
    assert one.process.wait(LONG) == 0, one.said()
    assert re.search(said, one.said(), re.M), one.said()


def test_subinterpreters(script):
    """They have no signals, and Python's main thread is not theirs."""
    one = script(
        """
        text = '''
        try:
            import fermata_server._server
            fermata_server._server.run(["fermata", "about"])
        except (ImportError, RuntimeError) as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        '''
        import textwrap
        try:
            import _interpreters
        except ImportError:
            import _xxsubinterpreters as _interpreters
        _interpreters.run_string(_interpreters.create(), textwrap.dedent(text))
        """
    )
    assert one.process.wait(LONG) == 0, one.said()
    assert re.search("ImportError: .*subinterpreters|RuntimeError: .* runs in the main interpreter", one.said()), one.said()


def test_second_call_while_it_serves(script):
    """Also from another thread, and the application that is served stays the one."""
    one = script(
        """
        def calls(environ, start_response):
            start_response("200 OK", [])
            try:
                fermata_server.run(app)
            except RuntimeError as error:
                return [str(error).encode()]

        sys.exit(fermata_server.run(calls, bind="127.0.0.1:0"))
        """
    )
    assert one.get("/") == "fermata_server runs in the main thread, which gets the signals, and this is another one"
    assert one.end() == 0


@pytest.mark.parametrize("document", DOCUMENTS)
def test_example(tmp_path, document):
    """What the documents show serves, as it stands there but for the port."""
    [text] = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.S)
    (tmp_path / "script.py").write_text(text.replace("127.0.0.1:8000", "127.0.0.1:0"))
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, env=environment(), stdout=out, stderr=out)
    try:
        said = re.compile(r"Listening at: http://127\.0\.0\.1:(\d+)")
        found = eventually(lambda: said.search((tmp_path / "out").read_text()), "it listens", within=LONG)
        with Connection(("127.0.0.1", int(found[1])), timeout=PROMPT) as c:
            assert c.request("GET", "/").text == "Hello\n"
    finally:
        process.terminate()
        code = process.wait(LONG)
    assert code == 0
