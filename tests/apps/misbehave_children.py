"""Applications that fork, and start processes."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future

import probe
from misbehave_process import throw
from routes import TEXT, Routes, arguments, text

app = Routes()


# Children


def live():
    """What a child does that lives on: until a test ends it, or has forgotten it."""
    time.sleep(120)
    os._exit(0)


def reap(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _child_writes_file(name, data):
    with open(os.path.join(os.environ["MISBEHAVE_DIR"], name), "w") as f:
        f.write(data)


@app.route
def forks(environ, start_response):
    """how: what the child does.  The parent answers with how it ended."""
    how = arguments(environ)["how"]
    pid = os.fork()
    if pid == 0:
        if how == "returns":
            return text(start_response, "THE CHILD")
        if how == "returns-without-start":
            return [b"THE CHILD"]
        if how == "generator":
            return _child_generator()
        if how == "sys-exit":
            sys.exit(7)
        if how == "sys-exit-text":
            sys.exit("no number")
        if how == "raises":
            raise LookupError("raised in the child")
        if how == "starts":
            try:
                start_response("200 OK", TEXT)(b"THE CHILD")
            except RuntimeError as error:
                _child_writes_file("said", str(error))
            os._exit(8)
    return text(start_response, str(reap(pid)))


def fork_and_tell(key):
    """Both come back from here; the parent when it knows how the child has ended."""
    pid = os.fork()
    if pid:
        probe.record(key, "child", reap(pid))


class ForkingFuture(Future):
    """Forks in one of the methods that the server calls."""

    def __init__(self, key, where):
        super().__init__()
        self.key, self.where = key, where

    def _in(self, where):
        if where == self.where:
            fork_and_tell(self.key)

    def done(self):
        self._in("done")
        return super().done()

    def add_done_callback(self, fn):
        super().add_done_callback(fn)
        self._in("add_done_callback")

    def exception(self, timeout=None):
        self._in("exception")
        return super().exception(timeout)


class ForkingBody:
    """Forks in one of the places of an iterable."""

    def __init__(self, key, where, future=None):
        self.key, self.where, self.future = key, where, future

    def _in(self, where):
        if where == self.where:
            fork_and_tell(self.key)

    def __iter__(self):
        self._in("iter")
        return self

    def __next__(self):
        if self.future is None:
            self._in("next")
            raise StopIteration
        future, self.future = self.future, None
        return future

    def __getattr__(self, name):
        if name not in ("close", "throw"):
            raise AttributeError(name)
        self._in(f"look up {name}")
        return getattr(self, f"_{name}")

    def _throw(self, error):
        self._in("throw")
        return b"thrown"

    def _close(self):
        self._in("close")

    def __del__(self):
        self._in("del")


class ForkingError(Exception):
    """Forks when it is logged."""

    def __str__(self):
        fork_and_tell(self.args[0])
        return "shown"


class ForkingFile(io.BytesIO):
    def __init__(self, key, where):
        super().__init__(b"file")
        self.key, self.where = key, where

    def _in(self, where):
        if where == self.where:
            fork_and_tell(self.key)

    def fileno(self):
        self._in("fileno")
        raise OSError

    def tell(self):
        self._in("tell")
        return super().tell()

    def read(self, size=-1):
        self._in("read")
        return super().read(size)

    def close(self):
        self._in("close of the file")
        super().close()


def _failed(future=None):
    future = future or Future()
    future.set_exception(LookupError("a failure"))
    return future


FORKS = {
    **dict.fromkeys(("done", "exception"), lambda key, where: ForkingBody(key, "", _failed(ForkingFuture(key, where)))),
    "add_done_callback": lambda key, where: ForkingBody(key, "", complete_soon(ForkingFuture(key, where))),
    **dict.fromkeys(("iter", "next", "look up close", "close", "del"), ForkingBody),
    **dict.fromkeys(("look up throw", "throw"), lambda key, where: ForkingBody(key, where, _failed())),
    **dict.fromkeys(("read", "close of the file"), ForkingFile),
}


def complete_soon(future):
    threading.Timer(0.05, future.set_result, [None]).start()
    return future


@app.route
def forks_in(environ, start_response):
    """A child that comes to life in whatever the server calls, and goes on where the server has called it."""
    key, where = arguments(environ)["key"], arguments(environ)["where"]
    if where == "message":
        raise ForkingError(key)
    if where == "message of a failed close":
        start_response("200 OK", TEXT)
        body = ForkingBody(key, "")
        body._close = lambda: throw(ForkingError(key))
        return body
    start_response("200 OK", TEXT)
    made = FORKS[where](key, where)
    return environ["wsgi.file_wrapper"](made) if isinstance(made, ForkingFile) else made


def _child_generator():
    yield b"THE "
    yield b"CHILD"


@app.route
def forks_and_stays(environ, start_response):
    """A child that lives on for as long as the test wants, with what it has inherited."""
    pid = os.fork()
    if pid == 0:
        live()
    children.append(pid)
    return text(start_response, str(pid))


children: list[int] = []


def get_children():
    return children


@app.route
def terminates_a_child(environ, start_response):
    """SIGTERM ends a child as it ends any process, whatever the server has set for itself."""
    pid = os.fork()
    if pid == 0:
        live()
    os.kill(pid, getattr(signal, arguments(environ)["signal"]))
    return text(start_response, str(reap(pid)))


def _sleeps():
    time.sleep(60)


def _squares(x):
    return x * x


@app.route
def multiprocessing_(environ, start_response):
    """A process that is terminated, and a pool, by fork."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_sleeps)
    process.start()
    process.terminate()
    process.join(20)
    said: list = [process.exitcode]
    if process.exitcode is None:
        process.kill()
        process.join()
    with context.Pool(2) as pool:
        said.append(pool.map(_squares, range(4)))
    pool.join()
    return text(start_response, json.dumps(said))


@app.route
def popen(environ, start_response):
    done = subprocess.run([sys.executable, "-S", "-c", "print(6 * 7)"], capture_output=True, text=True, check=True)
    return text(start_response, done.stdout.strip())
