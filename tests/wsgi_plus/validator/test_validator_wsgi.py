"""wsgi_plus.validator: the call, environ, its streams, start_response and write (PEP 3333, S1.8, S6, S14, S16)."""

from __future__ import annotations

import io
import socket
import sys
import threading
from functools import partial

import pytest
from byhand import BOUND, done
from validator_parts import (
    APP,
    PLAIN,
    SERVER,
    SOON,
    Old,
    Server,
    Wrong,
    app_that,
    copying,
    each,
    hello,
    replaces,
    run,
    serve,
    start,
    untouched,
)
from wsgi_plus import WSGIPlusError

pytestmark = pytest.mark.filterwarnings("error")


# Servers that are wrong


class WrongCall(Server):
    def call(self, app):
        return app(environ=self.environ, start_response=self.start_response)


class ThreeArguments(Server):
    def call(self, app):
        return app(self.environ, self.start_response, None)


class WrongEnviron(Server):
    """The environ as it is changed by ``change``."""

    def __init__(self, environ, change=None):
        super().__init__(environ)
        self.environ = change(environ) or environ


def with_environ(change):
    return partial(WrongEnviron, change=change)


def without(name):
    return with_environ(lambda environ: environ.pop(name) and None)


def setting(name, value):
    return with_environ(lambda environ: environ.update({name: value}))


class Subclass(dict):
    pass


class Stream:
    """A wsgi.input that gives what it was told."""

    closed = False

    def __init__(self, gives):
        self.read = self.readline = self.readlines = lambda *_: gives

    def __iter__(self):
        return iter(())


class Closing(Server):
    """Closes wsgi.input after the first step."""

    def iterate(self, iterator):
        self.within(next, iterator)
        self.environ["test.raw"].close()
        super().iterate(iterator)


class AcceptsExcInfo(Server):
    def start_response(self, status, headers, exc_info=None):
        self.status = status
        return self.blocks.append


class NoWrite(Server):
    def start_response(self, status, headers, exc_info=None):
        self.status = status


class Between(Server):
    """Calls the start_response that the application was given, while no step runs."""

    def iterate(self, iterator):
        self.within(next, iterator)
        self.environ["test.kept"]("200 OK", PLAIN)


class Afterwards(Server):
    def run(self, app):
        super().run(app)
        self.environ["test.kept"]("200 OK", PLAIN, (ValueError, ValueError(), None))


# Applications that are


def using(stream, method, *args):
    """Calls a method of a stream, and answers."""

    def step(environ, start_response):
        getattr(environ[f"wsgi.{stream}"], method)(*args)

    return app_that(step, start(), b"x")


def using_later(stream, method):
    """The same after the first block."""

    def step(environ, start_response):
        getattr(environ[f"wsgi.{stream}"], method)()

    return app_that(start(), b"x", step)


def writing(data):
    """Passes this to write()."""

    def step(environ, start_response):
        start_response("200 OK", PLAIN)(data)

    return step


def answering(status="200 OK", headers=PLAIN, *args, **kwargs):
    """Calls start_response like this."""
    return app_that(start(status, headers, *args, **kwargs), b"x")


def with_header(*header):
    return answering("200 OK", [*PLAIN, header])


def sized(length, *blocks):
    """Content-Length and what follows."""
    return app_that(start("200 OK", [*PLAIN, ("Content-Length", length)]), *blocks)


def in_thread(call):
    """A step that makes the call in another thread, whose error is lost."""

    def step(environ, start_response):
        def run():
            try:
                call(environ, start_response)
            except WSGIPlusError:
                pass

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(BOUND)

    return step


def after_failure(environ, start_response):
    """Handles a failure, after the response has begun, as if it had not."""
    start_response("200 OK", PLAIN)
    yield b"begun"
    try:
        raise ValueError("on purpose")
    except ValueError:
        start_response("500 Internal Server Error", PLAIN, sys.exc_info())
    yield b"ended"


def raw_input_closed(server):
    raw = io.BytesIO(b"body")
    return serve(using_later("input", "read"), server=server, **{"wsgi.input": raw, "test.raw": raw})


def socket_input():
    one, two = socket.socketpair()
    with one, two, one.makefile("rb") as stream:
        return serve(hello, **{"wsgi.input": stream})


def returning(value):
    def application(environ, start_response):
        start_response("200 OK", PLAIN)
        return value

    return application


def ending_with(value):
    def ends(environ, start_response):
        start_response("200 OK", PLAIN)
        yield b"block"
        return value

    return ends


def drops_start_response(app):
    def wrapped(environ, start_response):
        return app(environ, lambda status, headers, exc_info=None: lambda data: None)

    return wrapped


def keeping(environ, start_response):
    """Keeps start_response for the server, which calls it at a wrong time."""
    environ["test.kept"] = start_response
    start_response("200 OK", PLAIN)
    return [b"x"]


def removes_version(app):
    def wrapped(environ, start_response):
        return app({name: value for name, value in environ.items() if name != "wsgi_plus.version"}, start_response)

    return wrapped


def claims_version(app):
    def wrapped(environ, start_response):
        return app({**environ, "wsgi_plus.version": (1, 0)}, start_response)

    return wrapped


ENVIRON = (
    # name, a wrong value, a right one
    ("X", 5, "5"),
    ("X", b"5", "5"),
    ("PATH_INFO", "/\u20ac", "/\xe2\x82\xac"),
    ("HTTP_X", "\u20ac", "\xe2"),
    ("REQUEST_METHOD", "", "BREW"),
    ("SERVER_NAME", "", "x"),
    ("SERVER_PORT", "", "80"),
    ("SCRIPT_NAME", "/", ""),
    ("SCRIPT_NAME", "app", "/app"),
    ("PATH_INFO", "app", ""),
    ("CONTENT_LENGTH", "-1", "1"),
    ("CONTENT_LENGTH", "x", ""),
    ("wsgi.version", [1, 0], (1, 0)),
    ("wsgi.url_scheme", "ftp", "https"),
    ("wsgi.input", None, io.BytesIO()),
    ("wsgi.errors", None, io.StringIO()),
)
REQUIRED = (
    *("REQUEST_METHOD", "SERVER_NAME", "SERVER_PORT", "wsgi.version", "wsgi.url_scheme", "wsgi.input", "wsgi.errors"),
    *("wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once"),
)
STATUSES = (b"200 OK", 200, "200", "2000 OK", "20 OK", "OK", "099 Low", "200 OK\r\nX: y", "")
HEADERS = (
    *(
        ["X", "y"],
        ("X",),
        ("X", "y", "z"),
        (b"X", "y"),
        ("X", b"y"),
        ("X", 5),
        ("X", "\u20ac"),
        ("X:", "y"),
        ("X-", "y"),
    ),
    *(("X Y", "y"), ("", "y"), ("X", "y\r\nZ: z"), ("X", "y\0"), ("Status", "200"), ("Connection", "close")),
    *(("transfer-encoding", "chunked"), ("Content-Length", "many")),
)
PEP = "PEP 3333"


def pathless(environ):
    del environ["SCRIPT_NAME"], environ["PATH_INFO"]


def bytes_input(gives):
    return {"wsgi.input": Stream(gives)}


ROWS = [
    Wrong("arguments", PEP, SERVER, run(hello, server=WrongCall), run(hello)),
    Wrong("arguments", PEP, SERVER, run(hello, server=ThreeArguments), run(hello)),
    # environ
    Wrong("environ", PEP, SERVER, run(hello, server=with_environ(Subclass)), run(hello)),
    Wrong("environ", PEP, SERVER, run(hello, server=with_environ(pathless)), run(hello, server=without("SCRIPT_NAME"))),
    Wrong("environ", PEP, SERVER, run(hello, server=setting(b"X", "5")), run(hello, server=setting("X", "5"))),
    Wrong("environ", PEP, SERVER, run(hello, HTTP_CONTENT_TYPE="x"), run(hello, CONTENT_TYPE="x")),
    Wrong("environ", PEP, SERVER, run(hello, HTTP_CONTENT_LENGTH="0"), run(hello, CONTENT_LENGTH="0")),
    *[Wrong("environ", PEP, SERVER, run(hello, server=without(name)), run(hello)) for name in REQUIRED],
    *[
        Wrong("environ", PEP, SERVER, run(hello, server=setting(name, wrong)), run(hello, server=setting(name, right)))
        for name, wrong, right in ENVIRON
    ],
    Wrong("version", "S16.1", SERVER, run(hello, **{"wsgi_plus.version": [1, 0]}), run(hello)),
    Wrong("version", "S16.1", SERVER, run(hello, **{"wsgi_plus.version": "1.0"}), run(hello)),
    Wrong(
        "version-changed", "S16.2", "the middleware removes_version", run(hello, removes_version), run(hello, copying),
    ),
    Wrong(
        "version-changed", "S16.2", "the middleware claims_version",
        run(hello, claims_version, server=without("wsgi_plus.version")), run(hello, claims_version),
    ),
    Wrong("keys", "S16.3", SERVER, run(hello, **{"wsgi_plus.suspend": 1}), run(hello, **{"server.suspend": 1})),
    # What is returned
    Wrong("returned", PEP, APP, run(returning(None)), run(returning([]))),
    Wrong("returned", PEP, APP, run(returning("text")), run(returning([b"text"]))),
    Wrong("returned", PEP, APP, run(returning(b"bytes")), run(returning([b"bytes"]))),
    Wrong("returned", PEP, APP, run(returning(5)), run(returning(Old()))),
    # The streams
    Wrong("input-waits", "S14.1", SERVER, socket_input, run(hello)),
    Wrong("input-closed", "S14.3", SERVER, lambda: raw_input_closed(Closing), lambda: raw_input_closed(Server)),
    *[
        Wrong(
            "input-type", PEP, SERVER,
            run(using("input", method), **bytes_input(wrong)), run(using("input", method), **bytes_input(right)),
        )
        for method, wrong, right in (
            ("read", "x", b"x"), ("readline", None, b""), ("readlines", (b"x",), [b"x"]), ("readlines", ["x"], []),
        )
    ],
    Wrong("input-misuse", PEP, APP, run(using("input", "read", 1, 2)), run(using("input", "read", 1))),
    Wrong("input-misuse", PEP, APP, run(using("input", "readline", 1, 2)), run(using("input", "readline", 1))),
    Wrong("input-misuse", PEP, APP, run(using("input", "readlines", 1, 2)), run(using("input", "readlines", 1))),
    Wrong("input-misuse", PEP, APP, run(using("input", "close")), run(using("input", "read"))),
    Wrong("errors-misuse", PEP, APP, run(using("errors", "write", b"x")), run(using("errors", "write", "x"))),
    Wrong("errors-misuse", PEP, APP, run(using("errors", "writelines", [5])), run(using("errors", "writelines", "x"))),
    Wrong("errors-misuse", PEP, APP, run(using("errors", "close")), run(using("errors", "flush"))),
    # start_response
    Wrong(
        "start-arguments", PEP, APP,
        run(app_that(lambda environ, start: start(status="200 OK", headers=PLAIN), b"x")), run(answering()),
    ),
    Wrong("start-arguments", PEP, APP, run(answering(exc_info=None)), run(answering("200 OK", PLAIN, None))),
    Wrong("start-arguments", PEP, APP, run(answering("200 OK", PLAIN, None, None)), run(answering())),
    *[Wrong("status", PEP, APP, run(answering(status)), run(answering("404 Not Found"))) for status in STATUSES],
    Wrong("headers", PEP, APP, run(answering("200 OK", tuple(PLAIN))), run(answering())),
    *[
        Wrong("headers", PEP, APP, run(answering("200 OK", [*PLAIN, wrong])), run(with_header("X-Y", "\xe4 z")))
        for wrong in HEADERS
    ],
    Wrong("exc-info", PEP, APP, run(answering("200 OK", PLAIN, ValueError())), run(replaces)),
    Wrong("exc-info", PEP, APP, run(answering("200 OK", PLAIN, (1, 2))), run(replaces)),
    Wrong("start-twice", "S6.4", APP, run(app_that(start(), start(), b"x")), run(replaces)),
    Wrong("start-twice", "S6.4", APP, run(app_that(start(), done(), start(), b"x")), run(replaces)),
    Wrong(
        "exc-info-accepted", "S6.4", SERVER,
        run(after_failure, server=AcceptsExcInfo), run(replaces, server=AcceptsExcInfo),
    ),
    Wrong("start-thread", "S6.6", APP, run(app_that(in_thread(start()), start(), b"x")), run(SOON)),
    Wrong("start-outside", "S6.6", APP, run(keeping, server=Between), run(keeping)),
    Wrong("start-over", "S6.6", APP, run(keeping, server=Afterwards), run(keeping)),
    Wrong("start-missing", "S6.1", APP, run(app_that(b"x", start())), run(app_that(b"", start(), b"x"))),
    Wrong("start-missing", "S6.1", APP, run(app_that(done(), b"x", start())), run(app_that(done(), start(), b"x"))),
    Wrong(
        "start-missing", "S6.1", "the middleware drops_start_response",
        run(hello, drops_start_response), run(hello, untouched),
    ),
    Wrong("value", "PEP 380", APP, run(ending_with([b"x"])), run(ending_with(None))),
    Wrong("start-never", "S6.5", APP, run(app_that(done(), b"")), run(app_that(done(), start()))),
    # write
    Wrong("write-missing", PEP, SERVER, run(hello, server=NoWrite), run(hello)),
    Wrong("write-future", "S1.8", APP, run(app_that(writing(done()))), run(app_that(writing(b"x"), done()))),
    Wrong("write-type", PEP, APP, run(app_that(writing("text"))), run(app_that(writing(b"text")))),
    Wrong("start-thread", "S6.6", APP, run(app_that(in_thread(writing(b"x")), start())), run(app_that(writing(b"x")))),
    # Content-Length
    Wrong("length", PEP, APP, run(sized("2", b"1")), run(sized("2", b"12"))),
    Wrong("length", PEP, APP, run(sized("2", b"1", b"23")), run(sized("2", b"1", b"2"))),
    Wrong("length", PEP, APP, run(sized("0", b"1")), run(sized("0", done()))),
]  # fmt: skip


@each(ROWS)
def test_breach(row):
    row.check()
