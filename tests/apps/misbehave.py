"""Applications that do what applications must not do, or had better not: spec/manual/misbehaviour.md has a row for each.

/fault?kind=...: what is wrong with one request alone.  The other routes do something to the process that all requests
share.  What has to be done while the application is imported is named by the variable MISBEHAVE.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import os
import signal
import sys
import threading
import time
from concurrent.futures import Future

import misbehave_bodies
import misbehave_children
import misbehave_descriptors
import misbehave_heads
import misbehave_process
import probe
from misbehave_children import children, fork_and_tell, live, reap
from misbehave_process import throw
from routes import TEXT, Routes, arguments, text

app = Routes()

for part in (misbehave_bodies, misbehave_heads, misbehave_children, misbehave_descriptors, misbehave_process):
    app.include(part.app)


@app.route
def hello(environ, start_response):
    return text(start_response, "hello")


@app.route
def park(environ, start_response):
    """The bystander: waits for probe.future(key) and answers with its result."""
    key = arguments(environ)["key"]
    probe.record(key, "parking")
    yield probe.future(key)
    start_response("200 OK", TEXT)
    yield f"result {probe.future(key).result()}".encode()


# At import


def import_signals():
    """Handlers of its own for what is the server's, and for what is not."""
    signal.signal(signal.SIGTERM, lambda *_: probe.record("alarms", "terminated"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, lambda *_: probe.record("alarms", "child"))
    signal.signal(signal.SIGALRM, _on_alarm)


def _on_alarm(*_):
    probe.record("alarms", "alarm", threading.current_thread() is threading.main_thread())


def import_forking_handler():
    signal.signal(signal.SIGALRM, lambda *_: fork_and_tell("alarms"))


def import_forking_atexit():
    """The child comes back to the end of Python, and goes on with that."""

    def forks():
        pid = os.fork()
        if pid:
            print("child", reap(pid), flush=True)

    atexit.register(forks)


def import_raising_handler():
    signal.signal(signal.SIGALRM, lambda *_: throw(SystemExit(9)))


def import_mask():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))


def import_threads():
    """A thread that never ends and is no daemon."""
    threading.Thread(target=time.sleep, args=(1000,), name="never-ends").start()


def import_atexit_hangs():
    """And nothing that a signal could do."""
    import_mask()
    atexit.register(time.sleep, 1000)


def import_atexit_raises():
    atexit.register(print, "registered first", flush=True)
    atexit.register(throw, SystemExit(5))
    atexit.register(throw, LookupError("raised at exit"))
    atexit.register(sys.stdout.write, "registered last\n")


def import_fork():
    """A helper process that is forked while the application is imported, and stays."""
    pid = os.fork()
    if pid == 0:
        live()
    children.append(pid)


def import_fork_and_return():
    """The child goes on as if it were the server; the parent too."""
    if os.fork() == 0:
        probe.__dict__["_answer"] = None


def import_patched_future():
    """As a library that has a better idea of what a future is."""

    class Patched(Future):
        pass

    class Foreign:
        def done(self):
            return True

    concurrent.futures.Future = Patched  # type: ignore[misc]
    globals()["Patched"], globals()["Foreign"] = Patched, Foreign


@app.route
def patched(environ, start_response):
    """A future of the class that has taken the place of concurrent.futures.Future, or that is none at all."""
    future = concurrent.futures.Future() if "own" in arguments(environ) else globals()["Foreign"]()
    if isinstance(future, Future):
        threading.Timer(0.02, future.set_result, [b"patched"]).start()
    yield future
    start_response("200 OK", TEXT)
    yield future.result()


if "MISBEHAVE" in os.environ:
    globals()["import_" + os.environ["MISBEHAVE"]]()
