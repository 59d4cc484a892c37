"""wsgi_plus.gunicorn: gunicorn runs WSGI+ applications by the specification, and its settings are heeded.

What the specification asks for is looked at by the conformance suite, with this worker as with the others.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest
from harness.client import Connection, Truncated
from harness.limits import LONG, ROOT, eventually
from harness.server import environment

PATHS = [str(path) for path in (ROOT / "tests" / "wsgi_plus" / "apps", ROOT / "tests" / "apps", ROOT / "py")]
GUNICORN = [sys.executable, "-m", "gunicorn", "--worker-class", "wsgi_plus.gunicorn.Worker", "--no-control-socket"]
ENV = {"PYTHONPATH": os.pathsep.join(PATHS)}


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


@pytest.fixture
def gunicorn(launch):
    """gunicorn(*options): one with this worker, for this test alone."""

    def start(*options, app="gunicorned:app", env=None, **more):
        return launch(app, *options, program=GUNICORN, env={**ENV, **(env or {})}, **more)

    return start


@pytest.fixture
def server(serve):
    """One thread: a request that holds it stops all others."""
    return serve("gunicorned:app", "--threads", "1", "--access-logfile", "-", program=GUNICORN, env=ENV)


def seen(server, target="/environment", **headers):
    return json.loads(server.get(target, [(name.replace("_", "-"), value) for name, value in headers.items()]).text)


# Requests that park


def test_many_park_on_one_thread(server, key):
    with ExitStack() as stack:
        clients = [stack.enter_context(server.begin(f"/parks?key={key}", timeout=LONG)) for _ in range(100)]
        server.wait_events(key, *["parking"] * 100)
        assert seen(server)["wsgi_plus.version"] == [1, 0]
        server.call("probe.complete", key)
        assert {c.read_response().text for c in clients} == {"went on"}


@pytest.mark.parametrize("path", ["parks", "within"])
def test_nothing_is_left_of_a_client_that_leaves(server, key, path):
    """While it is parked: it is closed at once, though the future is never done, and the thread is free."""
    for _ in range(20):
        with server.begin(f"/{path}?key={key}"):
            pass
    server.wait_events(key, *["closed"] * len([name for name, _ in server.events(key) if name == "parking"]))
    with server.begin(f"/{path}?key={key}-more"):
        server.wait_events(f"{key}-more", "parking")
    server.wait_events(f"{key}-more", "closed")
    assert server.get("/environment").status == 200


def test_a_failed_future(server, key):
    start = server.log_size()
    with server.begin(f"/parks?key={key}") as c:
        server.wait_events(key, "parking")
        server.call("probe.fail", key)
        assert c.read_response().status == 500
    server.wait_events(key, "closed")
    server.wait_log(r"\[ERROR\] Error handling request GET /parks", start=start)
    assert "failed on purpose" in server.log(start)


def test_a_failure_within_a_body(server, key):
    with server.begin(f"/within?key={key}") as c:
        server.wait_events(key, "parking")
        server.call("probe.fail", key)
        with pytest.raises(Truncated):
            c.read_response()
    server.wait_events(key, "closed")


# Its settings


def test_environ(server):
    found = seen(server)
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("127.0.0.1", str(server.port))
    assert found["SERVER_SOFTWARE"].startswith("gunicorn/") and found["RAW_URI"] == "/environment"
    assert (found["wsgi.multithread"], found["wsgi.multiprocess"], found["wsgi.url_scheme"]) == (False, False, "http")


def test_the_scheme_of_a_proxy(server, gunicorn):
    """As gunicorn's own workers take it: from those that are trusted, and if it does not contradict itself."""
    assert seen(server, X_Forwarded_Proto="https")["wsgi.url_scheme"] == "https"
    assert seen(server, X_Forwarded_Proto="http")["wsgi.url_scheme"] == "http"
    both = [("X-Forwarded-Proto", "http"), ("X-Forwarded-Ssl", "on")]
    assert server.get("/environment", both).status == 400
    other = gunicorn("--forwarded-allow-ips", "192.0.2.0/24")
    assert seen(other, X_Forwarded_Proto="https")["wsgi.url_scheme"] == "http"
    assert other.get("/environment", both).status == 200


def test_script_name(gunicorn):
    server = gunicorn(env={"SCRIPT_NAME": "/below"})
    found = seen(server, "/below/environment")
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/below", "/environment")
    assert server.get("/environment").status == 500


@pytest.mark.parametrize(
    ("method", "target", "said"),
    [
        ("GET", "/printed?a=b", r'"GET /printed\?a=b HTTP/1.1" 200 7 "-" "-"'),
        ("HEAD", "/printed", r'"HEAD /printed HTTP/1.1" 200 0 "-" "-"'),
        ("GET", "/fails", r'"GET /fails HTTP/1.1" 500 0 "-" "-"'),
    ],
)
def test_access_log(server, method, target, said):
    start = server.log_size()
    server.request(method, target)
    eventually(lambda: re.search(rf"^127.0.0.1 - - \[.*\] {said}$", server.stdout(), re.MULTILINE), "a line of it")
    if "printed" in target:
        server.wait_log("^to wsgi.errors$", start=start)


def test_who_leaves_is_in_the_access_log(server, key):
    with server.begin(f"/parks?key={key}"):
        server.wait_events(key, "parking")
    server.wait_events(key, "closed")
    eventually(lambda: f'"GET /parks?key={key} HTTP/1.1" 499 0 ' in server.stdout(), "a line of it")


def test_hooks(gunicorn):
    config = str(ROOT / "tests" / "wsgi_plus" / "apps" / "gunicorn_hooks.py")
    server = gunicorn("--config", config)
    assert server.get("/printed", [("X-Hooked", "yes")]).status == 200
    assert server.get("/refused-by-hook").status == 500
    assert server.get("/broken-hook").text == "fine"
    said = ["before GET /printed (1, 1) yes", "after GET /printed 200 OK 7", "after GET /refused-by-hook 500 "]
    eventually(lambda: all(line in server.stdout() for line in said), "what the hooks say")
    server.wait_log("Exception in post_request hook")
    server.wait_log("LookupError: not today")


def test_max_requests(gunicorn, key):
    """The worker that has had so many ends, and what it has still in progress goes on: another one takes the rest."""
    server = gunicorn("--max-requests", "3")
    with server.begin(f"/within?key={key}") as c:
        server.wait_events(key, "parking")
        pids = {seen(server)["pid"] for _ in range(2)}
        assert len(pids) == 1
        eventually(lambda: "Autorestarting" in server.log(), "it says so")
        server.call("probe.complete", key)
        assert c.read_response().body == b"firstsecond"
    server.wait_log(r"Booting worker with pid: (\d+)(?s:.*)Booting worker", within=LONG)
    assert seen(server)["pid"] not in pids


def test_so_many_connections(gunicorn):
    """--worker-connections: others wait until one ends."""
    server = gunicorn("--worker-connections", "2")
    with server.connect() as one, server.connect() as two:
        assert one.request("GET", "/printed").status == two.request("GET", "/printed").status == 200
        with server.begin("/printed") as three:
            assert not three.readable(0.3)
            one.close()
            assert three.read_response().status == 200


def test_a_unix_socket(gunicorn, tmp_path):
    server = gunicorn(bind=(f"unix:{tmp_path}/socket",))
    with Connection(f"{tmp_path}/socket") as c:
        found = json.loads(c.request("GET", "/environment", [("X-Forwarded-Proto", "https")]).text)
    assert (found["REMOTE_ADDR"], found["SERVER_NAME"], found["wsgi.url_scheme"]) == ("", "localhost", "https")
    server.stop()
    assert not (tmp_path / "socket").exists()


def test_a_unix_socket_of_a_client_with_a_name(gunicorn, tmp_path):
    """As a proxy's may have, which binds it: it is no address."""
    gunicorn(bind=(f"unix:{tmp_path}/socket",))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{tmp_path}/client")
        sock.settimeout(LONG)
        sock.connect(f"{tmp_path}/socket")
        sock.sendall(b"GET /environment HTTP/1.1\r\nHost: here\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n")
        with sock.makefile("rb") as answer:
            found = json.loads(answer.read().partition(b"\r\n\r\n")[2])
    assert (found["REMOTE_ADDR"], found["REMOTE_PORT"], found["wsgi.url_scheme"]) == ("", "", "https")


def test_several_workers(gunicorn):
    server = gunicorn("--workers", "2", "--threads", "2")
    eventually(lambda: server.log().count("Booting worker") == 2, "two workers", within=LONG)
    found = [seen(server) for _ in range(10)]
    assert {(item["wsgi.multithread"], item["wsgi.multiprocess"]) for item in found} == {(True, True)}


@pytest.mark.parametrize("name", ["REQUEST_TIMEOUT=0.3", "SEND_TIMEOUT=0.3"])
def test_a_deadline(gunicorn, key, name):
    """What gunicorn has no option for is in the environment."""
    server = gunicorn("--env", f"WSGI_PLUS_{name}")
    with server.begin(f"/parks?key={key}", timeout=LONG) as c:
        server.wait_events(key, "parking")
        if name.startswith("SEND"):
            server.call("probe.complete", key)
        assert c.read_response().status == (504 if name.startswith("REQUEST") else 200)


def test_what_is_parked(server, key):
    start = server.log_size()
    with server.begin(f"/parks?key={key}"):
        server.wait_events(key, "parking")
        server.signal(signal.SIGUSR1)
        server.wait_log(r"1 requests are parked\nGET /parks: Future at 0x", start=start)


# How it ends


def test_a_drain(gunicorn, key):
    """What is in progress goes on: a worker of gunicorn that ends may take as long as the graceful timeout."""
    server = gunicorn("--graceful-timeout", "30")
    with server.begin(f"/parks?key={key}", timeout=LONG) as c:
        server.wait_events(key, "parking")
        server.signal(signal.SIGTERM)
        server.wait_log("Draining")
        server.call("probe.complete", key)
        answer = c.read_response()
    assert (answer.text, answer.header("Connection")) == ("went on", "close")
    assert server.wait_exit() == 0


def test_the_graceful_timeout(gunicorn, key, tmp_path):
    """Before gunicorn kills the worker the client has its 503, and the application has been closed."""
    journal = tmp_path / "events"
    server = gunicorn("--graceful-timeout", "2", env={"FERMATA_TEST_EVENTS": str(journal)})
    with server.begin(f"/parks?key={key}", timeout=LONG) as c:
        server.wait_events(key, "parking")
        server.signal(signal.SIGTERM)
        assert c.read_response().status == 503
    assert server.wait_exit() == 0
    assert "closed" in journal.read_text()


def test_quit(gunicorn, key):
    server = gunicorn()
    with server.begin(f"/parks?key={key}", timeout=LONG):
        server.wait_events(key, "parking")
        server.signal(signal.SIGQUIT)
        assert server.wait_exit() == 0


# What it does not take


def refusal(*options, env=None):
    command = [*GUNICORN, "--bind", "127.0.0.1:0", *options, "gunicorned:app"]
    env = environment({**ENV, **(env or {})})
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=LONG)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--certfile", __file__], "takes no certfile: let a server in front do that"),
        (["--proxy-protocol", "auto"], "takes no proxy_protocol: let a server in front do that"),
        (["--env", "WSGI_PLUS_REQUEST_TIMEOUT=soon"], "WSGI_PLUS_REQUEST_TIMEOUT is no number from 0 to 1000000000.0: 'soon'"),
        (["--env", "WSGI_PLUS_REQUEST_TIMEOUT=nan"], "WSGI_PLUS_REQUEST_TIMEOUT is no number from 0 to 1000000000.0: 'nan'"),
        (["--env", "WSGI_PLUS_SEND_TIMEOUT=-1"], "WSGI_PLUS_SEND_TIMEOUT is no number from 0 to 1000000000.0: '-1'"),
        (["--env", "WSGI_PLUS_LIMIT_REQUEST_BODY=-1"], "WSGI_PLUS_LIMIT_REQUEST_BODY is no number from 0 to "),
        (["--env", "WSGI_PLUS_ALLOW_HALF_CLOSE=2"], "WSGI_PLUS_ALLOW_HALF_CLOSE is no number from 0 to 1: '2'"),
    ],
)
def test_it_does_not_start(options, said):
    ended = refusal(*options)
    assert ended.returncode == 1 and said in ended.stderr


def test_what_is_not_heeded(gunicorn):
    server = gunicorn("--limit-request-fields", "50")
    server.wait_log("The worker of wsgi_plus does not heed limit_request_fields")
    assert "limit_request_line" not in server.log()


def test_nothing_is_said_of_what_nobody_has_set(server):
    assert "does not heed" not in server.log()


def test_a_request_that_is_none(server):
    start = server.log_size()
    with server.connect() as c:
        c.send(b"GET\r\n\r\n")
        assert c.read_response().status == 400
    server.wait_log(r"\[WARNING\] Invalid request from ip=127.0.0.1: 400", start=start)


def test_gunicorn_is_imported_by_that_module_only():
    code = "import sys, wsgi_plus.simple_server, wsgi_plus.testing; print('gunicorn' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment(ENV), capture_output=True, text=True, timeout=LONG
    )
    assert ended.stdout == "False\n"


def test_the_loop_is_the_heartbeat(gunicorn):
    """A step that takes longer than --timeout ends no worker, as long as the interpreter's lock is let go."""
    server = gunicorn("--timeout", "1", "--threads", "1")
    assert server.get("/sleeps", timeout=LONG).text == "slept"
    assert "WORKER TIMEOUT" not in server.log()
