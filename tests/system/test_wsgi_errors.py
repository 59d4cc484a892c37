"""WSGI (PEP 3333): errors of the application, and wsgi.errors."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from harness.client import build
from harness.limits import PROMPT, eventually


@pytest.fixture
def server(serve):
    return serve("pep3333:app", "--threads", "4")


# wsgi.errors


def test_errors_go_to_the_log_line_by_line(server):
    """wsgi.errors goes to the error log, whole lines at a time, as UTF-8."""
    start = server.log_size()
    assert server.get("/errors").status == 200
    for line in ("one line", "half a line", "several ", "at once", "ünïcode \U0001f3bc", "printed", "without an end"):
        server.wait_log(re.escape(line), start=start)


def test_errors_from_other_threads(server):
    """Any thread may write, also when the request is over."""
    start = server.log_size()
    assert server.get("/errors-elsewhere").status == 200
    server.wait_log("from a thread", start=start)
    server.wait_log("from afterwards", start=start)


def test_errors_of_requests_do_not_mix_within_lines(server):
    """A line that one request has begun and not ended does not swallow another request's line."""
    start = server.log_size()
    assert server.get("/errors-half").status == 200
    assert server.get("/errors-half?end").status == 200
    server.wait_log(r"unfinished", start=start)
    assert "unfinished unfinished" not in server.log(start)


# Errors


@pytest.mark.parametrize(
    "kind",
    [
        "exception",
        "unicode",
        "base",
        "stop-iteration",
        "unprintable",
        "system-exit",
        "keyboard-interrupt",
        "generator-exit",
    ],
)
def test_error_in_the_call(server, kind):
    """Whatever an application raises: plain 500 without details, traceback in the log with method and path, and it goes on."""
    start = server.log_size()
    with server.connect() as c:
        c.send(build("POST", f"/error?kind={kind}", body=b"x"))
        answer = c.read_response()
    assert answer.status == 500
    assert b"purpose" not in answer.body and b"Traceback" not in answer.body and b"pep3333" not in answer.body
    server.wait_log(r"\[ERROR\] Error handling request POST /error", start=start)
    server.wait_log(r"Traceback \(most recent call last\):[\s\S]*pep3333\.py", start=start)
    assert server.get("/hello").text == "hello"


def test_error_is_logged_with_its_text(server):
    """The log has the exception's text, beyond ASCII too, and its cause."""
    start = server.log_size()
    server.get("/error?kind=unicode")
    server.wait_log("RuntimeError: ünïcode \U0001f3bc", start=start)
    server.get("/chained")
    server.wait_log(r"KeyError: 'the cause'[\s\S]*direct cause[\s\S]*RuntimeError: the effect", start=start)


def test_recursion_error(server):
    """An application that recurses without end gets RecursionError, as everywhere."""
    start = server.log_size()
    assert server.get("/deep").status == 500
    server.wait_log("RecursionError", start=start)


@pytest.mark.parametrize("kind", ["exception", "system-exit", "keyboard-interrupt", "base"])
def test_error_in_the_body(server, kind):
    """An error in the first step is a 500; after a block the connection is aborted (or it is a 500 still)."""
    assert server.get(f"/error-in-body?kind={kind}").status == 500
    with server.connect() as c:
        c.send(build("GET", f"/error-in-body?kind={kind}&after"))
        c.read_failed()
    assert server.get("/hello").text == "hello"


def test_error_keeps_the_connection_usable(server):
    """After a 500 the connection either goes on rightly or has said that it closes."""
    with server.connect() as c:
        c.send(build("POST", "/error?kind=exception", body=b"x" * 100_000) + build("GET", "/hello"))
        answer = c.read_response()
        assert answer.status == 500
        if answer.keeps_alive:
            assert c.read_response().text == "hello"
        else:
            c.ended()


def test_log_cannot_be_forged_by_a_path(server):
    """Control characters of a path do not begin a line in the log."""
    start = server.log_size()
    server.get("/error/%0a[2026-01-01%2000:00:00%20+0000]%20[1]%20[INFO]%20forged?kind=exception")
    server.get(f"/error/{quote(chr(27))}[31m?kind=exception")
    eventually(lambda: server.log(start).count("Error handling request") >= 2, "it is logged", within=PROMPT)
    assert not re.search(r"^\[2026-01-01 .*forged", server.log(start), re.MULTILINE)
    assert "\x1b" not in server.log(start)
