"""Ids of requests: in environ, in the logs, in reports of stacks."""

from __future__ import annotations

import json
import re

import pytest
from harness.client import build
from harness.limits import APPS, ROOT, eventually
from harness.server import run

MADE = re.compile(r"[0-9a-f]{32}")


def seen(server, headers=()) -> dict[str, str]:
    return json.loads(server.get("/seen", list(headers)).body)


def test_made(serve):
    """Each request has one of its own, on one connection too; there is no field that the client has not sent."""
    server = serve("basic")
    ids = []
    with server.connect() as c:
        for _ in range(200):
            environ = json.loads(c.request("GET", "/seen").body)
            assert "HTTP_X_REQUEST_ID" not in environ
            ids.append(environ["fermata.request_id"])
    assert all(MADE.fullmatch(i) for i in ids)
    assert len(set(ids)) == 200


def test_taken(serve):
    environ = seen(serve("basic"), [("X-Request-ID", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6")])
    assert environ["fermata.request_id"] == environ["HTTP_X_REQUEST_ID"] == "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"


@pytest.mark.parametrize("sent", ['a "b"', "a b", "x" * 201, "", "\xe4", "a,b"])
def test_not_sane(serve, sent):
    """Another one is made; the application sees what was sent."""
    environ = seen(serve("basic"), [("X-Request-ID", sent)])
    assert MADE.fullmatch(environ["fermata.request_id"])
    assert environ["HTTP_X_REQUEST_ID"] == sent


def test_another_name(serve):
    server = serve("basic", "--request-id-header", "X-Correlation-ID")
    assert seen(server, [("x-correlation-id", "abc"), ("X-Request-ID", "other")])["fermata.request_id"] == "abc"
    assert MADE.fullmatch(seen(server, [("X-Request-ID", "other")])["fermata.request_id"])


def test_off(serve):
    server = serve("basic", "--request-id-header", "off")
    assert "fermata.request_id" not in seen(server, [("X-Request-ID", "abc")])
    server.get("/raise")
    server.wait_log(r"Error handling request GET /raise$")


def test_wrong_name():
    done = run("--request-id-header", "no name", "basic")
    assert done.returncode == 2
    assert "--request-id-header no name: it takes the name of a header field, or off" in done.stderr


def test_logs(launch, tmp_path):
    """The access log, as text and as JSON, has the id that the application has; so have errors."""
    for json_lines in (False, True):
        path = tmp_path / f"access{json_lines}.log"
        form = ["--access-log-json"] if json_lines else ["--access-logformat", "%(request_id)s %(s)s"]
        server = launch("basic", "--access-logfile", str(path), "--body-timeout", "0.3", *form)
        environ = seen(server)
        server.get("/raise", [("X-Request-ID", "fail-1")])
        with server.connect() as c:  # refused when its head is whole
            c.send(build("POST", "/b", [("Content-Length", "2"), ("X-Request-ID", "slow-1")]))
            assert c.read_response().status == 408
        with server.connect() as c:  # and before
            c.send(b"GET / HTTP/1.1\r\nX-Request-ID: bad-1\r\n\r\n")
            assert c.read_response().status == 400
        rows = eventually(lambda: path.read_text().count("\n") == 4 and path.read_text().splitlines(), "four lines")
        if json_lines:
            found = [(row["request_id"], row["status"]) for row in map(json.loads, rows)]
        else:
            found = [(None if row.split()[0] == "-" else row.split()[0], int(row.split()[1])) for row in rows]
        assert found == [(environ["fermata.request_id"], 200), ("fail-1", 500), ("slow-1", 408), (None, 400)]
        server.wait_log(r"Error handling request GET /raise \(id fail-1\)$")
        server.wait_log(r'refused with 408 .*"POST /b" \(id slow-1\)')


def test_stack_report(launch):
    server = launch("basic", "--request-timeout", "0.5")
    with server.connect() as gate:
        gate.send(build("GET", "/gate?key=g", [("X-Request-ID", "stuck-1")]))
        assert gate.read_response().status == 504
        server.wait_log(r"GET /gate \(id stuck-1\): the request has ended after")
        server.wait_stack(r"GET /gate \(id stuck-1\): this is where its step is:\n[\s\S]*basic\.py")
        server.call("probe.open_gate", "g")



def test_example_of_the_manual(launch, tmp_path):
    """logs.md: libraries that look for HTTP_X_REQUEST_ID get the server's id."""
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "spec/manual/logs.md").read_text(), re.S)
    (tmp_path / "identified.py").write_text(f"import basic\n\n\n{example}\n\napp = with_id(basic.app)\n")
    environ = seen(launch("identified", "--pythonpath", f"{tmp_path},{APPS}", cwd=tmp_path))
    assert MADE.fullmatch(environ["HTTP_X_REQUEST_ID"])
    assert environ["HTTP_X_REQUEST_ID"] == environ["fermata.request_id"]
