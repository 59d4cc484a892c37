"""Starts other programs, as applications do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile

import routes

# At import: only possible on the main thread, where Python programs expect to be imported.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)

app = routes.Routes()


@app.route
def terminate(environ, start_response):
    """A child that is told to end."""
    child = subprocess.Popen(["sleep", "60"])
    child.terminate()
    try:
        code = child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        code = child.wait()
    return routes.text(start_response, str(code))


@app.route
def signals(environ, start_response):
    """What a child has of signals: blocked, ignored."""
    code = "print(*[l.split()[1] for l in open('/proc/self/status') if l[:6] in ('SigBlk', 'SigIgn')])"
    out = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, check=True, text=True).stdout
    return routes.text(start_response, json.dumps([int(word, 16) for word in out.split()]))


@app.route
def descriptors(environ, start_response):
    """What a child that is started without closing anything gets."""
    with tempfile.NamedTemporaryFile("r") as f:
        os.system(f"ls -l /proc/self/fd > {f.name}")
        return routes.text(start_response, f.read())


@app.route
def fork(environ, start_response):
    """A child by fork, which ends on its own."""
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    return routes.text(start_response, str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))


@app.route
def hello(environ, start_response):
    return routes.text(start_response, "hello")
