"""Says as whom it runs, and what of its starter's it finds."""

import json
import os
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from threading import Timer

from routes import Routes, arguments, text

app = Routes()


def status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))


@app.route
def who(environ, start_response):
    return text(
        start_response,
        json.dumps(
            {
                "pid": os.getpid(),
                "users": os.getresuid(),
                "groups": os.getresgid(),
                "all": sorted(os.getgroups()),
                "capabilities": [status(name) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")],
                "no_new_privileges": status("NoNewPrivs"),
                "umask": status("Umask"),
            }
        ),
    )


@app.route
def variables(environ, start_response):
    """Those that a service manager sets, here and in a child."""
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = [n for n in (*os.environ, *json.loads(child.stdout)) if n.startswith(("LISTEN_", "NOTIFY_", "WATCHDOG_"))]
    return text(start_response, json.dumps(names))


@app.route
def park(environ, start_response):
    future = Future()
    Timer(float(arguments(environ)["seconds"]), future.set_result, (None,)).start()
    yield future
    yield from text(start_response, str(os.getpid()))


@app.route
def fork(environ, start_response):
    """A child that ends as a program does, with its atexit handlers."""
    pid = os.fork()
    if pid == 0:
        sys.exit(0)
    os.waitpid(pid, 0)
    return text(start_response, "ended")
