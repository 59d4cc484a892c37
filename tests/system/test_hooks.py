"""Hooks of a configuration file: which process calls them, when, with what, and what becomes of one that fails."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
from harness.limits import LONG, eventually, timeout

pytestmark = [timeout(120)]

# Each writes a line: its name, the process, and what a hook may ask for.
NOTES = """
import json
import os


def note(name, *more):
    with open(os.environ["NOTES"], "a") as f:
        f.write(json.dumps([name, os.getpid(), *more]) + "\\n")

"""

ALL = (
    NOTES
    + """
def on_starting(server):
    note("on_starting", server.pid, server.cfg.threads)

def when_ready(server):
    server.log.info("ready with %d workers at %s", server.num_workers, server.address[0])
    note("when_ready")

def pre_fork(server, worker):
    note("pre_fork", worker.pid)

def post_fork(server, worker):
    server.log.info("Worker spawned (pid: %s)", worker.pid)
    note("post_fork", worker.pid, worker.age, server.pid, worker.ppid)

def post_worker_init(worker):
    note("post_worker_init", worker.pid)

def worker_int(worker):
    note("worker_int", worker.pid)

def worker_exit(server, worker):
    note("worker_exit", worker.pid)

def child_exit(server, worker):
    note("child_exit", worker.pid, worker.age)

def on_reload(server):
    note("on_reload")

def nworkers_changed(server, new_value, old_value):
    note("nworkers_changed", new_value, old_value)

def on_exit(server):
    note("on_exit")
"""
)


@pytest.fixture
def start(launch, tmp_path):
    """start(text, *options): a server whose hooks write to a file; .notes() are its lines."""

    def launched(text: str, *options: str, app: str = "workers:app", **more):
        path, notes = tmp_path / "conf.py", tmp_path / "notes"
        path.write_text(text)
        env = {"NOTES": str(notes), **more.pop("env", {})}
        server = launch(app, "-c", str(path), "--graceful-timeout", "10", *options, admin=True, env=env, **more)
        server.config = path
        server.notes = lambda *names: [
            note
            for note in map(json.loads, notes.read_text().splitlines() if notes.exists() else [])
            if not names or note[0] in names
        ]
        return server

    return launched


def workers_of(server) -> list[dict]:
    return json.loads(server.admin.get("/workers").text)["workers"]


def wait_ready(server, number: int) -> list[int]:
    def settled():
        found = workers_of(server)
        return len(found) == number and all(w["state"] == "ready" for w in found)

    eventually(settled, f"{number} workers are ready", within=LONG)
    return [w["pid"] for w in workers_of(server)]


def wait_notes(server, name: str, number: int) -> list[list]:
    eventually(lambda: len(server.notes(name)) >= number, f"{name} was called {number} times", within=LONG)
    return server.notes(name)


# ---- which process, and when ----


def test_another_file_meanwhile(start):
    """What the process of the file before was told is called to the end."""
    text = NOTES + "import time\ndef child_exit(server, worker):\n    time.sleep(1)\n    note('ended', worker.pid)\n"
    server = start(text, "--workers", "3")
    gone = wait_ready(server, 3)[:2]
    for pid in gone:
        os.kill(pid, signal.SIGKILL)
        server.wait_log(rf"pid {pid}\) was ended by signal 9", within=LONG)
    server.config.write_text(text + "# another one\n")
    server.signal(signal.SIGHUP)
    server.wait_log("all workers are of the new generation", within=LONG)
    eventually(lambda: {note[2] for note in server.notes("ended")} >= {*gone}, "both are told of", within=LONG)
    assert "BrokenPipeError" not in server.log()


def test_a_process_by_itself_calls_all(start):
    """In gunicorn's order, all in the one process that there is."""
    server = start(ALL, "--threads", "3")
    assert server.get("/hello").status == 200
    server.stop()
    notes = server.notes()
    assert [note[0] for note in notes] == [
        *("on_starting", "when_ready", "pre_fork", "post_fork", "post_worker_init"),
        *("worker_exit", "child_exit", "on_exit"),
    ]
    assert {note[1] for note in notes} == {server.pid}
    assert server.notes("on_starting")[0][2:] == [server.pid, 3]
    assert server.notes("post_fork")[0][2:] == [server.pid, 0, server.pid, server.pid]
    assert re.search(rf"\[{server.pid}\] \[INFO\] Worker spawned \(pid: {server.pid}\)", server.final_log)
    assert "ready with 1 workers at 127.0.0.1:0" in server.final_log


def test_quit_is_worker_int(start):
    server = start(ALL)
    os.kill(server.pid, signal.SIGQUIT)
    server.wait_exit()
    assert [note[0] for note in server.notes("worker_int", "worker_exit", "on_exit")] == [
        "worker_int",
        "worker_exit",
        "on_exit",
    ]


def test_workers_and_a_hook_process(start):
    """Those of the arbiter's side are called by one process that is neither the arbiter nor a worker."""
    server = start(ALL, "--workers", "2")
    pids = wait_ready(server, 2)
    assert {note[1] for note in wait_notes(server, "post_worker_init", 2)} == set(pids)
    forked = server.notes("post_fork")
    assert sorted(note[3] for note in forked) == [0, 1]
    assert {note[4] for note in forked} == {note[5] for note in forked} == {server.pid}
    [starting] = server.notes("on_starting")
    assert starting[1] not in {server.pid, *pids}
    assert starting[2] == server.pid
    assert server.notes()[0][0] == "on_starting"  # before any worker is started
    assert len(wait_notes(server, "pre_fork", 2)) == 2
    os.kill(server.pid, signal.SIGTTIN)
    assert wait_notes(server, "nworkers_changed", 1)[0][2:] == [3, 2]
    pids = wait_ready(server, 3)
    os.kill(pids[0], signal.SIGKILL)
    assert wait_notes(server, "child_exit", 1)[0][2] == pids[0]
    wait_ready(server, 3)
    server.stop()
    assert {
        note[1] for note in server.notes("on_starting", "when_ready", "nworkers_changed", "child_exit", "on_exit")
    } == {starting[1]}
    assert server.notes()[-1][0] == "on_exit"
    assert len(server.notes("child_exit")) == 4
    assert len(server.notes("worker_exit")) == 3  # the one that was killed could not
    assert not Path(f"/proc/{starting[1]}").exists()


def test_reload_renews_the_hooks(start):
    """on_reload is the new file's, and so is what workers of the new generation call."""
    server = start(ALL, "--workers", "1")
    wait_ready(server, 1)
    server.config.write_text(ALL.replace('note("on_reload")', 'note("on_reload", "new")'))
    os.kill(server.pid, signal.SIGHUP)
    assert wait_notes(server, "on_reload", 1)[0][2:] == ["new"]
    assert len(wait_notes(server, "post_worker_init", 2)) == 2


def test_preloaded_workers(start):
    """Hooks of a worker's side are called where the worker is, not where the application was loaded."""
    server = start(ALL + "\npreload_app = True\nworkers = 2\n")
    pids = wait_ready(server, 2)
    notes = wait_notes(server, "post_worker_init", 2)
    assert {note[1] for note in notes} == {note[2] for note in server.notes("post_fork")} == set(pids)
    assert sorted(note[3] for note in server.notes("post_fork")) == [0, 1]
    server.stop()
    assert {note[1] for note in server.notes("worker_exit")} == set(pids)


def test_reload_with_another_number_of_workers(start):
    """The number of the file counts, and its hook is told."""
    server = start(ALL + "\nworkers = 1\n")
    wait_ready(server, 1)
    server.config.write_text(ALL + "\nworkers = 2\n")
    os.kill(server.pid, signal.SIGHUP)
    assert wait_notes(server, "nworkers_changed", 1)[0][2:] == [2, 1]
    wait_ready(server, 2)


def test_no_hooks_no_process(start):
    """A file that defines none of the arbiter's side starts no process for them."""
    server = start(NOTES + "\ndef post_fork(server, worker):\n    note('post_fork')\n", "--workers", "1")
    [pid] = wait_ready(server, 1)
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    assert children == [str(pid)]


def test_hook_as_text(start, tmp_path):
    """As gunicorn has it: a hook may be named as module.function."""
    (tmp_path / "hooks_of_mine.py").write_text(NOTES + "\ndef forked(server, worker):\n    note('forked')\n")
    server = start("post_fork = 'hooks_of_mine.forked'\n", "--pythonpath", str(tmp_path))
    assert [note[0] for note in server.notes()] == ["forked"]
    server.stop()


# ---- what fails ----


@pytest.mark.parametrize("hook", ["post_fork(server, worker)", "post_worker_init(worker)"])
def test_hook_that_raises_at_the_start(start, hook):
    """The worker does not start, as with gunicorn: exit code 3 and a traceback."""
    with pytest.raises(AssertionError, match="ended with 3"):
        start(f"def {hook}:\n    raise ValueError('of ours')\n", expect=3)


def test_hook_that_raises_later_is_logged(start):
    server = start("def worker_exit(server, worker):\n    raise ValueError('of ours')\n")
    server.stop()
    assert re.search(r"ERROR\].* Exception in the hook worker_exit", server.final_log)
    assert "ValueError: of ours" in server.final_log


def test_hook_process_that_dies(start):
    """Another one is started when the next thing happens, and workers are not touched."""
    server = start(ALL, "--workers", "1")
    pids = wait_ready(server, 1)
    hook = wait_notes(server, "when_ready", 1)[0][1]
    os.kill(hook, signal.SIGKILL)
    server.wait_log("The hook process has ended")
    os.kill(server.pid, signal.SIGTTIN)
    [note] = wait_notes(server, "nworkers_changed", 1)
    assert note[1] != hook
    assert pids[0] in wait_ready(server, 2)


def test_hook_that_hangs_is_killed(start):
    """Its time is over after ten seconds; requests are served meanwhile."""
    server = start(
        ALL + "\ndef when_ready(server):\n    import time\n    note('hangs')\n    time.sleep(600)\n", "--workers", "1"
    )
    wait_ready(server, 1)
    assert server.get("/hello").status == 200
    hook = wait_notes(server, "hangs", 1)[0][1]
    server.wait_log(r"has been in a hook for ten seconds; it is killed", within=LONG)
    eventually(lambda: not Path(f"/proc/{hook}").exists(), "it is gone")
    os.kill(server.pid, signal.SIGTTIN)
    assert wait_notes(server, "nworkers_changed", 1)


# ---- around requests ----

AROUND = (
    NOTES
    + """
def pre_request(worker, req):
    if req.path == "/refused":
        raise ValueError("not this one")
    note("pre", req.method, req.path, req.query, dict(req.headers).get("X-MINE"), worker.nr)

def post_request(worker, req, environ, resp):
    note("post", req.path, environ["REQUEST_METHOD"], resp.status, resp.status_code, resp.sent)
"""
)

APP = """
import io
import time
from concurrent.futures import Future
from threading import Timer


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/raises":
        raise RuntimeError("of the application")
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/list":
        return [b"a", b"bc"]
    if path == "/file":
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    return parked() if path == "/parked" else blocks()


def blocks():
    yield b"a"
    yield b"b"


def parked():
    future = Future()
    Timer(0.05, future.set_result, ("woken",)).start()
    yield future
    yield future.result().encode()
"""


@pytest.fixture
def around(start, tmp_path):
    (tmp_path / "around.py").write_text(APP)
    return lambda text=AROUND: start(text, app="around:app", cwd=tmp_path)


def test_pre_and_post_request(around):
    """Whatever a response is made of; its framing is what it is without hooks."""
    server = around()
    response = server.get("/list?x=1", headers=[("X-Mine", "yes")])
    assert (response.body, response.header("Content-Length")) == (b"abc", "3")
    assert server.get("/blocks").body == b"ab"
    assert server.get("/parked").body == b"woken"
    assert server.get("/file").body == APP.encode()
    pre, post = server.notes("pre"), server.notes("post")
    assert pre[0][2:] == ["GET", "/list", "x=1", "yes", 1]
    assert [note[3] for note in pre] == ["/list", "/blocks", "/parked", "/file"]
    assert post[0][2:] == ["/list", "GET", "200 OK", 200, 3]
    assert sorted(note[2] for note in post) == ["/blocks", "/file", "/list", "/parked"]


def test_request_that_a_hook_refuses(around):
    """What pre_request raises is the request's failure."""
    server = around()
    assert server.get("/refused").status == 500
    assert server.get("/blocks").status == 200
    assert server.wait_log("not this one")


def test_post_request_of_a_failure(around):
    server = around()
    assert server.get("/raises").status == 500
    assert [note[2] for note in server.notes("post")] == ["/raises"]


@pytest.mark.parametrize("arguments", ["worker, req", "worker, req, environ", "worker, req, environ, resp"])
def test_post_request_of_each_arity(around, arguments):
    server = around(NOTES + f"\ndef post_request({arguments}):\n    note('post', req.path)\n")
    assert server.get("/list").status == 200
    assert [note[2] for note in server.notes()] == ["/list"]


def test_post_request_that_raises(around):
    """The response is not touched."""
    server = around("def post_request(worker, req):\n    raise ValueError('of ours')\n")
    assert server.get("/list").body == b"abc"
    server.wait_log("Exception in the hook post_request")
