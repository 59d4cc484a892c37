"""Prints, and logs through Python's logging: for the tests of where that goes."""

from __future__ import annotations

import logging
import sys

import probe
from routes import Routes, arguments, text

app = Routes()
logger = logging.getLogger("shop")

logger.warning("at import")
print("printed at import")


@app.route
def log(environ, start_response):
    logger.warning("said %s", arguments(environ).get("what", "nothing"))
    return text(start_response, "logged\n")


@app.route
def say(environ, start_response):
    what = arguments(environ)["what"]
    print(f"out {what}")
    print(f"err {what}", file=sys.stderr)
    environ["wsgi.errors"].write(f"errors {what}\n")
    return text(start_response, "printed\n")


@app.route
def errors(environ, start_response):
    environ["wsgi.errors"].write(f"errors {arguments(environ)['what']}\n")
    return text(start_response, "written\n")


@app.route
def fail(environ, start_response):
    probe.record("calls", environ["PATH_INFO"])
    raise ValueError("failed as it was told")
