"""Behind a real haproxy with the configuration that spec/manual/behind-a-proxy.md shows."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from harness.limits import LONG, eventually, timeout
from harness.proxies import Closing, Haproxy

pytestmark = [timeout(120)]


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Callable[..., Haproxy]]:
    """behind(upstream, admin): a haproxy of this test alone, by their ports."""
    with ExitStack() as stack:

        def start(upstream: int, admin: int | None = None) -> Haproxy:
            haproxy = Haproxy(tmp_path, upstream, admin)
            stack.callback(haproxy.stop)
            return haproxy

        yield start


def test_headers(behind, launch):
    """What the page passes on arrives; what a client says under that name does not."""
    server = launch("basic", "--keep-alive", "75", admin=True)
    connection = behind(server.port, server.admin_address()[1]).connect()
    for _ in range(3):
        connection.request("GET", "/seen", headers={"X-Forwarded-Proto": "https"})
        environ = json.loads(connection.getresponse().read())
        assert environ["HTTP_X_FORWARDED_PROTO"] == "http"
        assert environ["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
    connection.close()


def test_the_end(behind, launch):
    """A server that drains gets no more requests, and its parked one is answered."""
    server = launch("suspend", "--keep-alive", "75", admin=True)
    haproxy = behind(server.port, server.admin_address()[1])
    assert haproxy.status("/hello") == 200
    connection = haproxy.connect()
    connection.request("GET", "/park?key=last")
    server.wait_events("last", "parking")
    server.signal(15)
    eventually(lambda: haproxy.status("/hello") == 503, "haproxy has been told by /readyz", within=LONG)
    server.call("probe.complete", "last", "late")
    assert connection.getresponse().read() == b"result late"
    connection.close()


def test_client_that_leaves(behind, launch):
    """haproxy passes it on: the parked request ends at once."""
    server = launch("suspend", "--keep-alive", "75", admin=True)
    connection = behind(server.port, server.admin_address()[1]).connect()
    connection.request("GET", "/park?key=leaver")
    server.wait_events("leaver", "parking")
    connection.close()
    server.wait_events("leaver", "exit")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_request_that_meets_a_closing_connection(behind, method):
    """haproxy repeats a GET; who sent a POST sees its connection end, and it has not been sent twice."""
    with ExitStack() as stack:
        upstream = stack.enter_context(closing(Closing()))
        haproxy = behind(upstream.port)
        stack.callback(haproxy.stop)  # before the upstream, whose connections it keeps
        connection = haproxy.connect()
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"ok"
        connection.request(method, "/")
        if method == "GET":
            assert connection.getresponse().read() == b"ok"
        else:
            with pytest.raises(http.client.RemoteDisconnected):
                connection.getresponse()
        connection.close()
        assert upstream.asked == [(0, "GET"), (0, method)] + ([(1, "GET")] if method == "GET" else [])
