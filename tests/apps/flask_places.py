"""A view that waits, and a stream that does, with Flask."""

from __future__ import annotations

from concurrent.futures import Future

from flask import Flask, Response
from wsgi_plus import wait
from wsgi_plus.flask import suspending, suspends

flask = Flask(__name__)
suspending(flask)
waiting: list[Future] = []


def later() -> Future:
    future: Future = Future()
    waiting.append(future)
    return future


def ask():
    return (yield from wait(later()))


@flask.get("/view")
@suspends
def view():
    yield from ask()
    return "seen"


@flask.get("/stream")
def stream():
    def items():
        yield later()
        yield b"seen"

    return Response(items())


@flask.get("/go")
def go():
    while waiting:
        waiting.pop().set_result(None)
    return "gone"


application = flask
