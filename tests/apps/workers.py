"""Says which worker answers, ends it, and fails to load where the file $WORKERS_BREAK says how."""

import json
import os
import signal
import time
from concurrent.futures import Future
from pathlib import Path
from threading import Timer

from routes import Routes, arguments, text

how = Path(os.environ.get("WORKERS_BREAK", "/nonexistent"))
if how.exists():
    action = how.read_text().strip()
    if action == "raise":
        raise RuntimeError("this version is broken")
    if action == "exit":
        os._exit(7)
    if action == "hang":
        time.sleep(3600)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "syntax":
        compile("def", "broken.py", "exec")
    if action == "import":
        import no_such_module_as_this  # noqa: F401
    while action == "hold" and how.exists():
        time.sleep(0.01)

app = Routes()


@app.route
def who(environ, start_response):
    return text(
        start_response,
        json.dumps(
            {
                "pid": os.getpid(),
                "slot": os.environ.get("FERMATA_WORKER"),
                "handed": os.environ.get("FERMATA_HANDED"),
                "multiprocess": environ["wsgi.multiprocess"],
                "cwd": os.getcwd(),
            }
        ),
    )


@app.route
def hello(environ, start_response):
    return text(start_response, "hello")


@app.route
def die(environ, start_response):
    os.kill(os.getpid(), int(arguments(environ)["signal"]))
    return text(start_response, "not yet")


@app.route
def park(environ, start_response):
    """Says who it is when a future has completed, after that many seconds."""
    future = Future()
    Timer(float(arguments(environ)["seconds"]), future.set_result, (None,)).start()
    yield future
    yield from who(environ, start_response)


@app.route
def slow(environ, start_response):
    """Takes a thread, for so many seconds or until a file is there no more."""
    time.sleep(float(arguments(environ).get("seconds", 0)))
    while os.path.exists(arguments(environ).get("until", "")):
        time.sleep(0.02)
    return text(start_response, str(os.getpid()))
