"""--reload: files that change have the application loaded anew; what cannot be loaded is a page."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest
from harness.client import Connection, NoResponse, Truncated
from harness.limits import LONG, SANITIZED, eventually, fermata, never, timeout
from harness.process import Process
from harness.server import environment, run
from harness.workers import is_gone

pytestmark = [timeout(120)]

APP = """
import json, os, time
from helper import word
def app(environ, start_response):
    if environ["PATH_INFO"] == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        def events():
            while True:
                yield b"data: x\\n\\n"
                time.sleep(0.1)
        return events()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"word": word(), "pid": os.getpid(), "slot": os.environ["FERMATA_WORKER"]}).encode()]
"""


@pytest.fixture(params=["auto", "poll"])
def engine(request):
    return request.param


@pytest.fixture
def project(tmp_path):
    """A folder with an application: app.py, and helper.py with what it says."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    say(folder, "first")
    return folder


def say(folder: Path, word: str) -> None:
    (folder / "helper.py").write_text(f"def word():\n    return {word!r}\n")


@pytest.fixture
def develop(launch, project):
    def start(*options: str, **more):
        server = launch("app:app", "--reload", *options, cwd=project, **more)
        return server

    return start


def ask(server, target: str = "/"):
    """The answer, also where a connection was the old worker's."""
    try:
        return server.get(target, timeout=LONG)
    except (NoResponse, Truncated, OSError):
        return None


def wait_word(server, word: str) -> dict:
    def said():
        answer = ask(server)
        found = json.loads(answer.text) if answer and answer.status == 200 else {}
        return found if found.get("word") == word else None

    return eventually(said, f"it says {word}", within=LONG)


def wait_page(server, text: str):
    def shown():
        answer = ask(server)
        return answer if answer and answer.status == 500 and text in answer.text else None

    return eventually(shown, f"a page with {text!r}", within=LONG)


def replace(path: Path, text: str) -> None:
    """As editors do: a new file in the place of the old one."""
    new = path.with_name(f".{path.name}.swp")
    new.write_text(text)
    new.rename(path)


# ---- changes ----


def test_a_change(develop, project, engine):
    server = develop("--reload-engine", engine)
    before = wait_word(server, "first")
    assert before["pid"] != server.pid
    assert before["slot"] == "0"
    say(project, "second")
    after = wait_word(server, "second")
    assert after["pid"] != before["pid"]
    server.wait_log(re.escape(str(project / "helper.py")) + " has changed")
    eventually(lambda: is_gone(before["pid"]), "the old one has ended", within=LONG)


def test_rename_over(develop, project, engine):
    server = develop("--reload-engine", engine)
    wait_word(server, "first")
    for word in ("second", "third"):
        replace(project / "helper.py", f"def word(): return {word!r}")
        wait_word(server, word)


def test_no_answer_is_of_the_old_code(develop, project):
    """From the moment that the old worker has heard of a change, connections wait for the new code."""
    (project / "app.py").write_text("import time; time.sleep(0.7)\n" + APP)
    server = develop()
    wait_word(server, "first")
    for word in ("second", "third"):
        mark = server.log_size()
        say(project, word)
        server.wait_log("has changed", start=mark)
        server.wait_log("Drained", start=mark)
        assert json.loads(server.get("/", timeout=LONG).text)["word"] == word


def test_many_changes_at_once(develop, project):
    server = develop()
    wait_word(server, "first")
    for i in range(30):
        say(project, f"word {i}")
        time.sleep(0.01)
    wait_word(server, "word 29")
    assert server.log().count("has changed") < 15


def test_a_change_while_it_loads(develop, project):
    """The import that goes on is given up."""
    server = develop()
    wait_word(server, "first")
    (project / "helper.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(3600)")
    eventually(lambda: "begun" in server.stdout(), "it is importing", within=LONG)
    say(project, "second")
    wait_word(server, "second")


def test_a_change_while_it_loads_first(develop, project):
    (project / "helper.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(3600)")
    server = develop()
    eventually(lambda: "begun" in server.stdout(), "it is importing", within=LONG)
    say(project, "second")
    wait_word(server, "second")


def test_what_is_no_change(develop, project):
    """Logs, compiled code, editors' own files, a file that is opened and closed."""
    server = develop()
    before = wait_word(server, "first")
    for name in ("app.log", ".#helper.py", "helper.py~", "4913", "README.md"):
        (project / name).write_text("x")
    (project / "__pycache__").mkdir(exist_ok=True)
    (project / "__pycache__/helper.cpython-311.pyc").write_bytes(b"x")
    (project / "data").mkdir()
    with (project / "helper.py").open("a"):
        pass
    never(lambda: "has changed" in server.log_now(), "nothing is loaded", during=1.5)
    assert wait_word(server, "first")["pid"] == before["pid"]


def test_packages(develop, project, engine):
    """Of a package everything counts, also what is not imported yet, and what is new."""
    inner = project / "shop" / "views"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").write_text("")
    (inner / "later.py").write_text("")
    (project / "helper.py").write_text("import shop\ndef word(): return 'first'")
    server = develop("--reload-engine", engine)
    wait_word(server, "first")
    (inner / "later.py").write_text("text = 'later'")
    server.wait_log(r"later\.py has changed", within=LONG)
    (project / "helper.py").write_text("from fresh.inner import word")
    wait_page(server, "No module named &#x27;fresh&#x27;")
    (project / "fresh").mkdir()
    time.sleep(0.2)
    (project / "fresh/__init__.py").write_text("")
    wait_page(server, "No module named &#x27;fresh.inner&#x27;")
    (project / "fresh/inner.py").write_text("def word(): return 'fresh'")
    wait_word(server, "fresh")


def test_a_file_that_goes_and_comes_back(develop, project):
    server = develop()
    wait_word(server, "first")
    (project / "helper.py").rename(project / "away")
    wait_page(server, "No module named &#x27;helper&#x27;")
    (project / "away").rename(project / "helper.py")
    wait_word(server, "first")


def test_elsewhere(develop, project, tmp_path):
    """What is found by --pythonpath and below --chdir."""
    (tmp_path / "lib").mkdir()
    (project / "helper.py").rename(tmp_path / "lib/helper.py")
    server = develop("--chdir", str(project), "--pythonpath", str(tmp_path / "lib"))
    wait_word(server, "first")
    say(tmp_path / "lib", "second")
    wait_word(server, "second")


def test_extra_files(develop, project, engine):
    """Patterns, also for what does not exist yet; a directory stands for all that is below."""
    (project / "templates/deep").mkdir(parents=True)
    (project / "templates/deep/page.html").write_text("1")
    server = develop(
        *("--reload-engine", engine, "--reload-extra-file", "*.toml", "--reload-extra-file", "templates")
    )
    wait_word(server, "first")
    for name in ("settings.toml", "templates/deep/page.html", "templates/new.html"):
        (project / name).write_text(f"new {name}")
        server.wait_log(rf"{re.escape(name)} has changed", within=LONG)
        time.sleep(0.3)
    (project / "templates/more").mkdir()
    (project / "templates/more/last.html").write_text("last")
    server.wait_log(r"last\.html has changed", within=LONG)
    wait_word(server, "first")


def test_several_workers(develop, project):
    server = develop("--workers", "2", admin=True)
    wait_word(server, "first")
    say(project, "second")
    wait_word(server, "second")

    def settled():
        workers = json.loads(server.admin.get("/workers").text)["workers"]
        return len(workers) == 2 and all(w["state"] == "ready" for w in workers)

    eventually(settled, "two are ready", within=LONG)
    assert {wait_word(server, "second")["slot"] for _ in range(20)} <= {"0", "1"}


def test_with_preload(develop, project):
    server = develop("--preload", "--workers", "2")
    wait_word(server, "first")
    say(project, "second")
    wait_word(server, "second")
    (project / "helper.py").write_text("x = ")
    wait_page(server, "SyntaxError")
    say(project, "third")
    wait_word(server, "third")


# ---- what cannot be loaded ----


BROKEN = {
    "SyntaxError": "def word(:\n",
    "NameError": "undefined_name\n",
    "SystemExit": "raise SystemExit(3)\n",
    "cannot be called": None,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_page(develop, project, kind):
    """For every request, until a file changes; the log has it as well."""
    server = develop()
    wait_word(server, "first")
    if BROKEN[kind] is None:
        (project / "app.py").write_text("app = 1")
    else:
        (project / "helper.py").write_text(BROKEN[kind])
    page = wait_page(server, kind)
    assert page.header("Content-Type") == "text/html; charset=utf-8"
    assert page.header("Cache-Control") == "no-store"
    assert server.request("POST", "/any/path", [], b"body").status == 500
    assert kind in server.log()
    assert "cannot load 'app:app'" in server.log()
    if BROKEN[kind] is None:
        (project / "app.py").write_text(APP)
    else:
        say(project, "second")
    wait_word(server, "first" if BROKEN[kind] is None else "second")


def test_a_page_at_the_start(develop, project):
    (project / "helper.py").write_text("raise ValueError('<script>alert(1)</script> & more')")
    server = develop()
    page = wait_page(server, "ValueError")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page.text
    assert "<script>" not in page.text
    assert "default-src 'none'" in page.header("Content-Security-Policy")
    assert "helper.py" in page.text
    assert "loader.py" not in page.text
    say(project, "second")
    wait_word(server, "second")


def test_no_page_without_the_option(launch, project):
    (project / "helper.py").write_text("x = ")
    server = launch("app:app", cwd=project, ready=False, expect=3)
    assert server.wait_exit(LONG) == 3


def test_an_import_that_ends_the_process(develop, project):
    """There is no page, and no answer: connections wait until a file changes."""
    server = develop()
    wait_word(server, "first")
    (project / "helper.py").write_text("import os\nos._exit(7)")
    server.wait_log(r"has exited with 7", within=LONG)
    say(project, "second")
    wait_word(server, "second")


# ---- what is under way ----


def test_an_open_event_stream(develop, project):
    """The new code does not wait for it, and it is ended soon, so that its client comes to the new code."""
    server = develop("--graceful-timeout", "60")
    before = wait_word(server, "first")
    with server.begin("/events", timeout=LONG) as c:
        eventually(lambda: b"data" in c.sock.recv(4096), "an event")
        say(project, "second")
        assert wait_word(server, "second")["pid"] != before["pid"]

        def ended() -> bool:
            try:
                return not c.sock.recv(65536)
            except ConnectionResetError:
                return True

        eventually(ended, "the stream has ended", within=LONG, every=0)
    eventually(lambda: is_gone(before["pid"]), "the old one has ended", within=LONG)


def test_a_debugger(project, tmp_path):
    """What is typed reaches the worker: it is in the foreground of the terminal."""
    (project / "helper.py").write_text("def word():\n    return input('which word? ')\n")
    ours, theirs = os.openpty()
    server = None
    try:
        address = str(tmp_path / "socket")
        server = subprocess.Popen(
            [str(fermata()), "--reload", "--bind", f"unix:{address}", "app:app"],
            cwd=project,
            env=environment(),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
        )
        said = b""

        def read(wanted: bytes) -> bool:
            nonlocal said
            if select.select([ours], [], [], 0.1)[0]:
                said += os.read(ours, 4096)
            return wanted in said

        eventually(lambda: read(b"Listening at"), "it listens", within=LONG)
        with Connection(address, timeout=LONG) as c:
            c.send_request("GET", "/")
            eventually(lambda: read(b"which word? "), "it asks", within=LONG)
            os.write(ours, b"typed\n")
            assert json.loads(c.read_response().text)["word"] == "typed"
        os.write(ours, b"\x03")
        eventually(lambda: read(b"All workers have ended"), "it ends", within=LONG)
        assert server.wait(LONG) == 0
    finally:
        if server and server.poll() is None:
            server.kill()
            server.wait()
        os.close(ours)
        os.close(theirs)


def test_stop(develop, project):
    server = develop()
    pid = wait_word(server, "first")["pid"]
    server.signal(signal.SIGTERM)
    assert server.wait_exit(LONG) == 0
    assert is_gone(pid)


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime has a thread that wakes up")
def test_idle(develop, project):
    """inotify wakes it, and nothing else does."""
    server = develop()
    processes = [Process(server.pid), Process(wait_word(server, "first")["pid"])]

    def sleeps() -> bool:
        before = [p.switches() for p in processes]
        time.sleep(2)
        return [p.switches() for p in processes] == before

    eventually(sleeps, "nothing wakes up for two seconds", within=LONG, every=0)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--reload-engine", "fast"), "--reload-engine fast: it takes auto, inotify or poll"),
        (("--reload-extra-file", ""), "--reload-extra-file : it takes a value that is not empty"),
    ],
)
def test_wrong_options(words, named):
    done = run(*words, "about")
    assert done.returncode == 2
    assert named in done.stderr
