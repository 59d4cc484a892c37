"""Notes of each request that it has begun, under the id that it was sent with, in the file $COUNTED: so what is lost or
done twice shows, whichever process it was in.  It is apps/workers.py otherwise."""

import ctypes
import os
import signal
import threading
import time
import zlib
from concurrent.futures import Future
from threading import Timer

from routes import arguments, text
from workers import app

COUNTED = os.environ["COUNTED"]


def note(environ):
    """The id, noted; by a descriptor of the moment, as the application may have lost all of its own."""
    name = environ["PATH_INFO"].rpartition("/")[2]
    fd = os.open(COUNTED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{name} {os.getpid()}\n".encode())  # in one piece: no other process writes into it
    os.close(fd)
    return name


def after(seconds):
    future = Future()
    timer = Timer(seconds, future.set_result, (None,))
    timer.daemon = True
    timer.start()
    return future


@app.route
def now(environ, start_response):
    return text(start_response, f"{note(environ)} {os.getpid()}")


@app.route
def parked(environ, start_response):
    name = note(environ)
    yield after(float(arguments(environ)["seconds"]))
    yield from text(start_response, f"{name} {os.getpid()}")


@app.route
def held(environ, start_response):
    """Parked until a file is there no more."""
    name = note(environ)
    while os.path.exists(arguments(environ)["until"]):
        yield after(0.02)
    yield from text(start_response, f"{name} {os.getpid()}")


@app.route
def uploaded(environ, start_response):
    name = note(environ)
    body = environ["wsgi.input"].read()
    return text(start_response, f"{name} {os.getpid()} {len(body)} {zlib.crc32(body)}")


@app.route
def events(environ, start_response):
    """Server-sent events, each of which names the request, the process and its place."""
    name = note(environ)
    asked = arguments(environ)
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    for i in range(int(asked["count"])):
        yield f"data: {name} {os.getpid()} {i}\n\n".encode()
        yield after(float(asked["seconds"]))


# ---- what applications do to the process that they are in ----


def fork():
    if os.fork() == 0:
        time.sleep(0.2)
        os._exit(0)


def orphan():
    """A grandchild that goes on for a while, and whose parent ends at once."""
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            time.sleep(2)
        os._exit(0)
    os.waitpid(child, 0)


def return_():
    """A child that comes back into the server."""
    return os.fork()


def close():
    os.closerange(3, 4096)


def directory():
    os.chdir("/")


def umask():
    os.umask(0o777)


def mask():
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))


def threads():
    for _ in range(20):
        threading.Thread(target=time.sleep, args=(0.5,), daemon=True).start()


def environment():
    os.environ.clear()


def gil():
    """Holds it for two seconds."""
    ctypes.PyDLL(None).sleep(2)


def memory():
    """All that there is."""
    hoard = []
    while True:
        hoard.append(b"x" * (16 << 20))


ALL = (fork, orphan, return_, close, directory, umask, mask, threads, environment, gil, memory)
MISCHIEF = {f.__name__.strip("_"): f for f in ALL}


@app.route
def mischief(environ, start_response):
    MISCHIEF[arguments(environ)["what"]]()
    return text(start_response, str(os.getpid()))
