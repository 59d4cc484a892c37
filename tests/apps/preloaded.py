"""Says who has loaded it and who answers; its import does what the file $PRELOAD_IMPORT says."""

import atexit
import json
import os
import random
import signal
import socket
import ssl
import sys
import threading
import time
import uuid
from pathlib import Path

from routes import Routes, arguments, text

LOADED_IN = os.getpid()
born_as: list[str] = []
took: list[int] = []
kept: list[object] = []

sys.stderr.write(f"imported in {LOADED_IN}\n")  # one write: workers may load at once
os.register_at_fork(after_in_child=lambda: born_as.append(os.environ["FERMATA_WORKER"]))


def ballast():
    kept.append([{"number": i, "text": str(i)} for i in range(150_000)])


def thread():
    threading.Thread(target=time.sleep, args=(3600,), name="poller", daemon=True).start()


def joined_thread():
    for _ in range(20):
        t = threading.Thread(target=time.sleep, args=(0.001,))
        t.start()
        t.join()


def connection():
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    kept.extend((client, listener.accept()[0]))
    listener.close()


def closes_all():
    os.closerange(3, 1024)


def handlers():
    signal.signal(signal.SIGUSR2, lambda *_: took.append(os.getpid()))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


def forks():
    for _ in range(3):
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)


def at_exit():
    atexit.register(lambda: sys.stderr.write(f"put away in {os.getpid()}\n"))  # one write: workers end at once


def prints():
    sys.stdout.write("said once\n")  # and not flushed


def breaks():
    raise RuntimeError("this version is broken")


def exits():
    os._exit(7)


def hangs():
    handlers()
    while True:
        time.sleep(3600)


def kills():
    os.kill(os.getpid(), signal.SIGKILL)


how = Path(os.environ.get("PRELOAD_IMPORT", "/nonexistent"))
if how.exists():
    for action in how.read_text().split():
        globals()[action]()

app = Routes()


@app.route
def who(environ, start_response):
    answer = {
        "pid": os.getpid(),
        "loaded_in": LOADED_IN,
        "slot": os.environ.get("FERMATA_WORKER"),
        "born_as": born_as,
        "handed": os.environ.get("FERMATA_HANDED"),
        "multiprocess": environ["wsgi.multiprocess"],
        "took": took,
        "main": threading.main_thread().native_id,
    }
    return text(start_response, json.dumps(answer))


@app.route
def draw(environ, start_response):
    """What ought to be different in each process."""
    drawn = [os.getpid(), random.random(), ssl.RAND_bytes(8).hex(), str(uuid.uuid1()), str(uuid.uuid4())]
    return text(start_response, json.dumps(drawn))


@app.route
def hello(environ, start_response):
    return text(start_response, "hello")


@app.route
def slow(environ, start_response):
    time.sleep(float(arguments(environ)["seconds"]))
    return text(start_response, str(os.getpid()))
