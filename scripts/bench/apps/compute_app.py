"""A step that computes: FERMATA_BENCH_WORK rounds, which scripts/bench/free-threaded has chosen to take a millisecond."""

import os
import sys

ROUNDS = int(os.environ.get("FERMATA_BENCH_WORK", "20000"))
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "5")]


def work(rounds):
    total = 0
    for i in range(rounds):
        total += i & 7
    return total


def compute(environ, start_response):
    """/gil: whether there is one."""
    if environ["PATH_INFO"] == "/gil":
        start_response("200 OK", HEADERS)
        return [b"on..\n" if getattr(sys, "_is_gil_enabled", lambda: True)() else b"off.\n"]
    work(ROUNDS)
    start_response("200 OK", HEADERS)
    return [b"done\n"]


def hello(environ, start_response):
    start_response("200 OK", HEADERS)
    return [b"hello"]
