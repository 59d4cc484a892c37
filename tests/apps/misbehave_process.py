"""Applications that do something to the process: threads, surroundings, signals, the interpreter."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import locale
import os
import re
import signal
import sys
import tempfile
import threading
import time

import probe
from routes import TEXT, Routes, arguments, text

app = Routes()


# What others notice, or the process


@app.route
def burn(environ, start_response):
    """Holds the GIL in C, for as long as the backtracking takes."""
    key, n = arguments(environ)["key"], int(arguments(environ)["n"])
    probe.record(key, "burning")
    re.match(r"(a|aa)+$", "a" * n + "b")
    return text(start_response, "burnt")


@app.route
def spin(environ, start_response):
    """Never returns; gives up the GIL as Python does."""
    probe.record(arguments(environ)["key"], "spinning")
    while not stop_spinning.is_set():
        pass
    return text(start_response, "spun")


stop_spinning = threading.Event()


@app.route
def endless(environ, start_response):
    """Empty blocks without end: nothing is ever sent."""
    key = arguments(environ)["key"]
    probe.record(key, "endless")
    start_response("200 OK", TEXT)
    try:
        while True:
            yield b""
    finally:
        probe.record(key, "finally")


@app.route
def exits_in_a_thread(environ, start_response):
    """SystemExit and KeyboardInterrupt in threads of its own are Python's business."""
    for error in (SystemExit(3), KeyboardInterrupt()):
        thread = threading.Thread(target=throw, args=(error,))
        thread.start()
        thread.join()
    return text(start_response, "fine")


def throw(error):
    raise error


ENDINGS = {
    "exit": lambda: os._exit(3),
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(1),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "alarm": lambda: (signal.alarm(1), time.sleep(30)),
}


@app.route
def ends_the_process(environ, start_response):
    ENDINGS[arguments(environ)["how"]]()


# The process's surroundings


@app.route
def surroundings(environ, start_response):
    """Current directory, umask, environment, time zone, standard streams: none of it is the server's."""
    os.chdir("/")
    os.umask(0o777)
    os.environ.clear()
    os.environ.update(TZ="Asia/Kolkata", TMPDIR="/nonexistent", LC_ALL="tlh")
    time.tzset()
    sys.stdout.close()
    sys.stderr.close()
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None
    os.chdir("/proc")
    return text(start_response, "changed")


@app.route
def takes_locale(environ, start_response):
    """A locale with a decimal comma and names of its own for days and months."""
    locale.setlocale(locale.LC_ALL, arguments(environ)["name"])
    return text(start_response, f"{locale.format_string('%.1f', 1.5)}")


@app.route
def error_now(environ, start_response):
    raise LookupError("an error to be logged")


# Signals


@app.route
def sets_signals(environ, start_response):
    """Not on the main thread: Python refuses."""
    said = []
    for call in (lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN), lambda: signal.set_wakeup_fd(1)):
        try:
            call()
            said.append("no error")
        except ValueError as error:
            said.append(type(error).__name__)
    return text(start_response, " ".join(said))


@app.route
def signals_itself(environ, start_response):
    """In the middle of a request."""
    name = arguments(environ)["name"]
    if name == "interrupt_main":
        import _thread

        _thread.interrupt_main()
    else:
        os.kill(os.getpid(), getattr(signal, name))
    time.sleep(0.1)
    return text(start_response, "signalled")


@app.route
def masks_signals(environ, start_response):
    signal.pthread_sigmask(signal.SIG_SETMASK, range(1, signal.NSIG))
    return text(start_response, "masked")


@app.route
def sets_alarm(environ, start_response):
    """Whose handler was set at import: it runs on the main thread."""
    key = arguments(environ)["key"]
    probe.record("alarms", "armed", key)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    return text(start_response, "armed")


@app.route
def large(environ, start_response):
    """More than a socket takes: in blocks, or as a file."""
    start_response("200 OK", TEXT)
    if arguments(environ)["kind"] == "blocks":
        return (b"x" * 65536 for _ in range(1000))
    f = tempfile.TemporaryFile()
    f.truncate(100 << 20)
    return environ["wsgi.file_wrapper"](f)


# The interpreter


@app.route
def interpreter(environ, start_response):
    """Settings of the interpreter that an application has no business with."""
    sys.setswitchinterval(1e-6)
    gc.disable()
    gc.freeze()
    gc.set_threshold(1)
    sys.settrace(lambda *args: None)
    threading.settrace(lambda *args: None)
    threading.setprofile(lambda *args: None)
    sys.setprofile(lambda *args: None)
    sys.excepthook = threading.excepthook = sys.unraisablehook = throw
    if not os.environ.get("FERMATA_SANITIZED"):  # both have a signal stack of their own for each thread
        faulthandler.enable()
    sys.modules.pop("traceback", None)
    return text(start_response, "set")


@app.route
def restores(environ, start_response):
    sys.setswitchinterval(0.005)
    gc.unfreeze()
    gc.enable()
    gc.set_threshold(700, 10, 10)
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    threading.setprofile(None)
    sys.setprofile(None)
    sys.excepthook, sys.unraisablehook = sys.__excepthook__, sys.__unraisablehook__
    threading.excepthook = threading.__excepthook__
    if faulthandler.is_enabled():
        faulthandler.disable()
    return text(start_response, "restored")


def _interpreters():
    try:
        import _interpreters as module  # 3.13
    except ImportError:
        import _xxsubinterpreters as module
    return module


def _in_subinterpreter(n):
    module = _interpreters()
    for _ in range(n):
        other = module.create()
        try:
            module.run_string(other, "import json\nfound = json.loads('[1]')\nassert found == [1]")
        finally:
            module.destroy(other)


@app.route
def subinterpreters(environ, start_response):
    """In the request's thread, and in one of its own."""
    _in_subinterpreter(2)
    thread = threading.Thread(target=_in_subinterpreter, args=(2,))
    thread.start()
    thread.join()
    return text(start_response, "ran")


@app.route
def calls_back(environ, start_response):
    """C code that has given up the GIL calls back into Python: qsort through ctypes."""
    libc = ctypes.CDLL(None)
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    values = (ctypes.c_int * 100)(*range(100, 0, -1))

    def compare(a, b):
        time.sleep(0)
        return a[0] - b[0]

    libc.qsort(values, len(values), ctypes.sizeof(ctypes.c_int), kind(compare))
    return text(start_response, str(list(values) == sorted(values)))
