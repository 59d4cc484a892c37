"""Responses of every framing, for the tests of HTTP."""

from __future__ import annotations

import json
import os
import time

import probe
from routes import TEXT, Routes, arguments, text

app = Routes()


@app.route
def hello(environ, start_response):
    probe.record("calls", environ["PATH_INFO"])
    return text(start_response, "Hello, world\n")


@app.route
def echo(environ, start_response):
    """The request's body, and what is known about it in headers."""
    body = environ["wsgi.input"].read()
    probe.record("calls", environ["PATH_INFO"], len(body))
    headers = [
        ("Content-Type", "application/octet-stream"),
        ("Content-Length", str(len(body))),
        ("X-Method", environ["REQUEST_METHOD"]),
        ("X-Content-Length", environ.get("CONTENT_LENGTH", "absent")),
        ("X-Transfer-Encoding", environ.get("HTTP_TRANSFER_ENCODING", "absent")),
    ]
    start_response("200 OK", headers)
    return [body]


@app.route
def seen(environ, start_response):
    """Everything in environ that is text, as JSON."""
    probe.record("calls", environ["PATH_INFO"])
    return text(start_response, json.dumps({k: v for k, v in environ.items() if isinstance(v, str)}))


@app.route
def ignore(environ, start_response):
    """Does not read its body."""
    probe.record("calls", environ["PATH_INFO"])
    return text(start_response, "ignored\n")


@app.route
def respond(environ, start_response):
    """Whatever the query string asks for: status, h=Name:value (repeatable by h1, h2...), b=block (b1, b2... for more)."""
    asked = arguments(environ)
    headers = [tuple(v.split(":", 1)) for k, v in asked.items() if k.startswith("h")]
    blocks = [v.encode("latin-1") for k, v in asked.items() if k.startswith("b")]
    start_response(asked.get("status", "200 OK"), headers)
    return iter(blocks) if "iter" in asked else blocks


@app.route
def declared(environ, start_response):
    """Content-Length says `length`, the body has `size` bytes in blocks of `step`."""
    asked = arguments(environ)
    length, size, step = (int(asked[name]) for name in ("length", "size", "step"))
    start_response("200 OK", [*TEXT, ("Content-Length", str(length))])
    try:
        for at in range(0, size, step):
            yield b"x" * min(step, size - at)
            probe.record(asked.get("key", "-"), "asked for the next block", at)
    finally:
        probe.record(asked.get("key", "-"), "closed")


@app.route
def blocks(environ, start_response):
    """`n` blocks without a length."""
    start_response("200 OK", TEXT)
    for i in range(int(arguments(environ)["n"])):
        yield b"block %d\n" % i


@app.route
def empty_blocks(environ, start_response):
    """Empty blocks around two others: they must not become chunks, for an empty chunk is the end."""
    start_response("200 OK", TEXT)
    return iter([b"", b"one ", b"", b"", b"two", b""])


@app.route
def nothing(environ, start_response):
    start_response("200 OK", TEXT)
    return []


@app.route
def raise_(environ, start_response):
    raise RuntimeError("raised on purpose")


@app.route
def slow(environ, start_response):
    """Sleeps in the thread."""
    asked = arguments(environ)
    probe.record("calls", environ["PATH_INFO"])
    time.sleep(float(asked["s"]))
    return text(start_response, asked.get("say", "slept\n"))


@app.route
def gate(environ, start_response):
    """Blocks its thread until the test opens the gate."""
    key = arguments(environ)["key"]
    probe.record(key, "entered")
    probe.wait_gate(key)
    return text(start_response, "opened\n")


@app.route
def held_end(environ, start_response):
    """`n` kilobytes in blocks of one, and then no end until the test opens the gate."""
    asked = arguments(environ)
    start_response("200 OK", [*TEXT, ("Content-Length", str(int(asked["n"]) * 1000))])
    for _ in range(int(asked["n"])):
        yield b"x" * 1000
    probe.record(asked["key"], "at its end")
    probe.wait_gate(asked["key"])
    probe.record(asked["key"], "over")


@app.route
def files(environ, start_response):
    """Opens so many files at once."""
    opened = [open(os.devnull) for _ in range(int(arguments(environ)["n"]))]
    for f in opened:
        f.close()
    return text(start_response, f"{len(opened)}\n")


_leaked = []


@app.route
def leak(environ, start_response):
    """Opens files until there are none."""
    try:
        while True:
            _leaked.append(open(os.devnull))
    except OSError:
        return text(start_response, f"{len(_leaked)}\n")


@app.route
def unleak(environ, start_response):
    while _leaked:
        _leaked.pop().close()
    return text(start_response, "ok\n")


@app.route
def big(environ, start_response):
    """`mb` megabytes, a megabyte a block, without a length."""
    asked = arguments(environ)
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    block = bytes(range(256)) * 4096
    for i in range(int(asked["mb"])):
        yield block
        probe.record(asked.get("key", "-"), "block", i)


def application(environ, start_response):
    if environ["PATH_INFO"] == "*":
        probe.record("calls", "*")
        return text(start_response, f"{environ['REQUEST_METHOD']} * {environ['REQUEST_URI']}")
    return app(environ, start_response)
