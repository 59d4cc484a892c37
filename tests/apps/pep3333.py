"""Applications for the tests of PEP 3333: each route is a small application of its own."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pep3333_files
import pep3333_input
import pep3333_responses
import probe
from routes import TEXT, Routes, arguments, text

app = Routes()

for part in (pep3333_input, pep3333_files, pep3333_responses):
    app.include(part.app)


@app.route
def environ(environ, start_response):
    """Every key with the type and repr of its value."""
    facts = {key: [type(value).__name__, repr(value)] for key, value in environ.items()}
    facts["(type)"] = [type(environ).__name__, ""]
    return text(start_response, json.dumps(facts))


@app.route
def change_environ(environ, start_response):
    """Uses environ as its own: an application may."""
    environ["mine"] = "changed"
    environ["SCRIPT_NAME"] = "changed"
    del environ["PATH_INFO"]
    return text(start_response, "changed")


@app.route
def same_environ(environ, start_response):
    """Keeps every environ, to see whether they are different ones."""
    kept.append(environ)
    return text(start_response, f"{len(kept)} {len({id(e) for e in kept})} {'mine' in environ}")


kept: list = []


# Errors

ERRORS = {
    "exception": lambda: RuntimeError("raised on purpose"),
    "unicode": lambda: RuntimeError("ünïcode \U0001f3bc"),
    "system-exit": lambda: SystemExit(5),
    "keyboard-interrupt": lambda: KeyboardInterrupt(),
    "generator-exit": lambda: GeneratorExit(),
    "base": lambda: BaseException("a base exception"),
    "stop-iteration": lambda: StopIteration("in the call"),
}


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no str")

    __repr__ = __str__


@app.route
def error(environ, start_response):
    """Raises in the call."""
    kind = arguments(environ)["kind"]
    raise Unprintable if kind == "unprintable" else ERRORS[kind]()


@app.route
def error_in_body(environ, start_response):
    """Raises in the first step, or after a block."""
    asked = arguments(environ)
    start_response("200 OK", TEXT)
    if "after" in asked:
        yield b"sent before"
    raise ERRORS[asked["kind"]]()


@app.route
def chained(environ, start_response):
    try:
        raise KeyError("the cause")
    except KeyError as cause:
        raise RuntimeError("the effect") from cause


@app.route
def deep(environ, start_response):
    """Recurses until Python says stop."""

    def down():
        return down()

    return down()


@app.route
def hello(environ, start_response):
    return text(start_response, "hello")


@app.route
def slow_close(environ, start_response):
    """Blocks in a step until a gate opens, then has a close to run."""
    asked = arguments(environ)
    start_response("200 OK", TEXT)

    def steps():
        yield b"first"
        probe.record(asked["key"], "blocking")
        probe.wait_gate(asked["key"])
        probe.record(asked["key"], "step ended")
        yield b"second"

    return Recording(steps(), asked["key"])


class Recording:
    def __init__(self, inner, key):
        self.inner, self.key = inner, key

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.inner)

    def close(self):
        probe.record(self.key, "closed")
        self.inner.close()


@app.route
def sleep(environ, start_response):
    time.sleep(float(arguments(environ)["s"]))
    return text(start_response, "slept")


class InstanceApplication:
    def __call__(self, environ, start_response):
        return text(start_response, "instance")


class ClassApplication:
    """The class is the application, its instances are the response."""

    def __init__(self, environ, start_response):
        self.start_response = start_response

    def __iter__(self):
        self.start_response("200 OK", TEXT)
        yield b"class"


instance = InstanceApplication()
method = InstanceApplication().__call__
here = Path(__file__)
