"""The last resort: whatever does not end, a process that was told to end does, and says what it left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from harness.limits import (
    LONG,
    PROMPT,
    ROOT,
    SANITIZED,
    SLOW,
    TSAN,
    eventually,
    timeout,
)
from harness.server import Server

pytestmark = [timeout(90)]

END = 2 + 2 * SLOW  # after the graceful timeout: two seconds, and some for the machine
FINAL = 10 + END  # the same for threads and atexit handlers

STUCK = """
import atexit, ctypes, os, signal, subprocess, sys, threading, time

def hold_the_gil():
    open("held", "w").close()
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)

def hold_when_answered():
    while not os.path.exists("answered"):
        time.sleep(0.01)
    hold_the_gil()

def application(environ, start_response):
    what = environ["PATH_INFO"][1:]
    if what == "gil":
        hold_the_gil()
    elif what == "thread":
        threading.Thread(target=hold_when_answered, daemon=True).start()
    elif what == "sleep":
        sys.stdout.write("printed before")
        open("held", "w").close()
        time.sleep(600)
    elif what == "child":
        sys.stdout.write("printed before")
        subprocess.Popen(["sleep", "77"])
        threading.Thread(target=time.sleep, args=(600,), name="the worker", daemon=False).start()
    elif what == "atexit":
        atexit.register(time.sleep, 600)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

def handle(number, frame):
    open("handling", "w").close()
    time.sleep(600)

if "HANDLER" in os.environ:
    signal.signal(signal.SIGALRM, handle)
"""


@pytest.fixture
def stuck(launch, tmp_path):
    (tmp_path / "stuck.py").write_text(STUCK)

    def start(*options: str, **more) -> Server:
        return launch(
            "stuck",
            "--threads",
            "2",
            "--graceful-timeout",
            "1",
            *options,
            cwd=tmp_path,
            **more,
        )

    return start


def end(server: Server, within: float) -> str:
    """SIGTERM; the error that it leaves with."""
    server.signal(signal.SIGTERM)
    server.expect = server.wait_exit(within)
    assert server.expect == 1
    found = re.findall(r"\[ERROR\] (.*exiting without them.*)", server.log())
    assert len(found) == 1, server.log()
    return found[0]


def test_step_that_sleeps(stuck, tmp_path):
    """Its thread is named, and what was printed is there."""
    server = stuck()
    with server.begin("/sleep"):
        eventually((tmp_path / "held").exists, "it sleeps")
        said = end(server, 1 + END)
    wanted = r"1 steps are still running and cannot be interrupted; exiting without them: threads \d+ fermata-\d$"
    assert re.match(wanted, said)
    server.stop()
    assert server.stdout_text == "printed before"


@pytest.mark.parametrize("what", ["gil", "thread"])
def test_gil_that_is_held_for_ever(stuck, tmp_path, what):
    """By a step, two seconds; by a thread of the application, which is waited for as any other, ten more."""
    server = stuck(admin=True)
    with server.begin(f"/{what}") as c:
        if what == "thread":  # or the step that has started it would be what does not end
            assert c.read_response().text == "ok"
            server.admin.wait_in_flight("running", 0)
            (tmp_path / "answered").touch()
        eventually((tmp_path / "held").exists, "it is held")
        said = end(server, 1 + (END if what == "gil" else FINAL))
    if what == "gil":
        assert "steps are still running" in said and re.search(r"threads \d+ fermata-\d", said)
    else:
        assert "threads or atexit handlers do not end" in said


def test_threads_and_children_are_named(stuck):
    """A thread by its number and its name in Python, a child by its number and command."""
    server = stuck()
    assert server.get("/child").text == "ok"
    said = end(server, FINAL)
    assert re.search(r"threads \d+ 'the worker'; children \d+ sleep$", said)
    pid = int(re.search(r"children (\d+)", said)[1])  # type: ignore[index]
    os.kill(pid, signal.SIGKILL)
    server.stop()
    assert server.stdout_text == "printed before"


def test_atexit_handler_that_sleeps(stuck):
    """No thread is to blame."""
    server = stuck()
    server.get("/atexit")
    assert end(server, FINAL) == "the application's threads or atexit handlers do not end; exiting without them"


@pytest.mark.parametrize("held", [False, True], ids=["sleeps", "waits for the GIL"])
def test_signal_handler_that_does_not_return(stuck, tmp_path, held):
    """A signal handler of the application that blocks, or waits for the GIL for ever, keeps the main thread: the server
    drains all the same, and goes."""
    server = stuck(env={"HANDLER": "1"}, admin=True)
    if held:
        c = server.begin("/gil")
        eventually((tmp_path / "held").exists, "it is held")
    server.signal(signal.SIGALRM)
    if not held:
        eventually((tmp_path / "handling").exists, "the handler runs")
        assert server.get("/").text == "ok"
    else:
        time.sleep(0.2)
    server.signal(signal.SIGTERM)
    eventually(lambda: server.log().count("Draining") == 1, "it drains")
    said = end(server, 1 + END)
    if held:
        assert "steps are still running" in said
        c.close()
    else:
        assert "the main thread does not come back from a signal handler" in said


@pytest.fixture(scope="module")
def held_accept(tmp_path_factory) -> Path:
    library = tmp_path_factory.mktemp("preload") / "held_accept.so"
    source = ROOT / "tests" / "system" / "preload" / "held_accept.c"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-w", "-o", library, source, "-ldl"],
        check=True,
    )
    return library


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime wants to be the first library")
@pytest.mark.parametrize("when", ["serving", "draining"])
def test_loop_stuck_in_a_system_call(stuck, tmp_path, held_accept, when):
    """The loop is not asked. Also where it got stuck while it drained."""
    held = tmp_path / "hold"
    server = stuck(env={"LD_PRELOAD": str(held_accept), "FERMATA_TEST_HELD": str(held)})
    assert server.get("/").text == "ok"
    held.touch()
    if when == "serving":
        c = server.connect()
        eventually(lambda: held.read_text() == "a", "accept hangs")
    said = end(server, 1 + END)
    assert re.match(
        r"the event loop does not answer; exiting without them: threads \d+ fermata-\d$",
        said,
    )
    if when == "serving":
        c.close()


SAYS = "print('loading', flush=True)\n"  # when nothing is left to be done before it hangs


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize(
    "code",
    {
        "sleep": ("import time", "time.sleep(600)"),
        "socket": ("import socket; a, b = socket.socketpair()", "a.recv(1)"),
        "lock": ("import threading; e = threading.Event()", "e.wait()"),
        **({} if TSAN else {"loop": ("", "while True: pass")}),
        "loop of an import": ("import asyncio", "asyncio.run(forever())"),
    }.items(),
    ids=lambda item: item[0],
)
def test_signal_while_loading(launch, tmp_path, code, number):
    """The import is interrupted, atexit handlers run, and the exit code is 0: nothing was asked of it that it has not
    done. No traceback."""
    prepares, waits = code[1]
    forever = f"async def forever():\n    {SAYS}    await asyncio.sleep(600)\n"
    (tmp_path / "slow.py").write_text(
        f"import atexit\natexit.register(print, 'at exit')\n{prepares}\n"
        f"{forever if 'forever' in waits else SAYS}{waits}\napplication = None\n"
    )
    bind = [f"unix:{tmp_path}/s"]
    server = launch("slow", bind=bind, cwd=tmp_path, ready=False)
    eventually(lambda: "loading" in server.stdout(), "it is being imported", within=LONG)
    time.sleep(0.1)
    server.signal(number)
    assert server.wait_exit(PROMPT) == 0
    assert f"{signal.Signals(number).name}: told to end while starting" in server.log()
    assert "Traceback" not in server.log()
    assert server.stdout() == "loading\nat exit\n"
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("handler", ["print", "signal.SIG_IGN", "signal.SIG_DFL"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_with_a_handler_of_the_import(launch, tmp_path, number, handler):
    """An import that has set both signals for itself, and goes on for long, is ended all the same."""
    (tmp_path / "slow.py").write_text(
        f"import signal, time\nsignal.signal(signal.SIGTERM, {handler})\nsignal.signal(signal.SIGINT, {handler})\n"
        "open('set', 'w').close()\ntime.sleep(600)\n"
    )
    server = launch("slow", cwd=tmp_path, ready=False)
    eventually((tmp_path / "set").exists, "it is being imported", within=LONG)
    time.sleep(0.3)
    server.signal(number)
    assert server.wait_exit(PROMPT) == 0
    assert f"{number.name}: told to end while starting" in server.log()


CATCHES = (
    "import time\nwhile True:\n    try:\n        while True:\n            " + SAYS + "            time.sleep(600)\n"
    "    except BaseException:\n        pass"
)
TWICE = (
    "import ctypes; mutex = ctypes.create_string_buffer(64); lock = ctypes.{}(None).pthread_mutex_lock\n"
    "lock(mutex)\n" + SAYS + "lock(mutex)"
)


@pytest.mark.parametrize(
    "code",
    {
        "catches": CATCHES,
        **({} if TSAN else {"c": TWICE.format("CDLL"), "gil": TWICE.format("PyDLL")}),
        "masked": "import signal, time; signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())\n"
        f"{SAYS}time.sleep(600)",
    }.items(),
    ids=lambda item: item[0],
)
def test_import_that_cannot_be_interrupted(launch, tmp_path, code):
    """One that catches everything, hangs in C, with the GIL or without, or has blocked signals: two seconds."""
    (tmp_path / "slow.py").write_text(code[1] + "\n")
    server = launch("slow", bind=[f"unix:{tmp_path}/s"], cwd=tmp_path, ready=False)
    eventually(lambda: "loading" in server.stdout(), "it is being imported", within=LONG)
    time.sleep(0.1)
    server.signal(signal.SIGTERM)
    assert server.wait_exit(PROMPT) == 0
    said = "the application is still being loaded, and that cannot be interrupted; exiting without them"
    assert said in server.log()
    assert not (tmp_path / "s").exists()


def test_second_interrupt_while_loading(launch, tmp_path):
    """The second SIGINT ends it at once."""
    (tmp_path / "slow.py").write_text(CATCHES + "\n")
    server = launch("slow", cwd=tmp_path, ready=False, expect=1)
    eventually(lambda: "loading" in server.stdout(), "it is being imported", within=LONG)
    server.signal(signal.SIGINT)
    server.wait_log("told to end")
    server.signal(signal.SIGINT)
    assert server.wait_exit(1 * SLOW) == 1
