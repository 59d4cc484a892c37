"""Behind a real nginx, as most sites are, with the configuration that spec/manual/behind-a-proxy.md shows: responses arrive
whole, over TCP and unix sockets, however its buffers and ours happen to meet; and what that page says of nginx is so."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from harness.limits import timeout
from harness.proxies import Closing, Nginx

pytestmark = [timeout(120)]


@pytest.fixture(params=["tcp", "unix"])
def nginx(request, launch, tmp_path_factory) -> Iterator[Nginx]:
    directory = tmp_path_factory.mktemp("nginx")
    directory.chmod(0o755)
    if request.param == "unix":
        launch("blocks", bind=[f"unix:{directory}/app"])
        nginx = Nginx(directory, f"unix:{directory}/app")
    else:
        server = launch("blocks")
        nginx = Nginx(directory, f"127.0.0.1:{server.port}")
    yield nginx
    nginx.stop()


def expected(size: int, count: int) -> str:
    digest = hashlib.sha256()
    for i in range(count):
        digest.update(bytes([i % 251]) * size)
    return digest.hexdigest()


@pytest.mark.parametrize("how", ["chunked", "length", "list", "file"])
@pytest.mark.parametrize("size", [292_345, 401_977, 219_257, 328_889, 131_072, 8_192])
def test_large_responses(nginx, size, how):
    """nginx takes what its buffers hold, and the rest when its client has taken that: sends end anywhere."""
    connection = nginx.connect()
    for slow in (False, True):
        connection.request("GET", f"/{how}?size={size}&count=20")
        response = connection.getresponse()
        digest = hashlib.sha256()
        while block := response.read(65_536):
            digest.update(block)
            if slow:
                time.sleep(0.001)
        assert digest.hexdigest() == expected(size, 20), nginx.log()
    connection.close()
    assert "invalid" not in nginx.log()


def test_uploads(nginx):
    connection = nginx.connect()
    body = bytes(range(256)) * 40_000
    for more in ({}, {"encode_chunked": True, "headers": {"Transfer-Encoding": "chunked"}}):
        blocks = (body[i : i + 100_000] for i in range(0, len(body), 100_000)) if more else body
        connection.request("POST", "/digest", blocks, **more)
        assert connection.getresponse().read().decode() == hashlib.sha256(body).hexdigest()
    connection.close()


@pytest.fixture
def behind(tmp_path) -> Iterator[Callable[[str], Nginx]]:
    """behind(upstream): an nginx of this test alone."""
    with ExitStack() as stack:

        def start(upstream: str) -> Nginx:
            nginx = Nginx(tmp_path, upstream)
            stack.callback(nginx.stop)
            return nginx

        yield start


def test_connections_are_kept_and_headers_are_set(behind, launch):
    """One connection serves all, and what the page passes on arrives; what a client says under these names does not."""
    server = launch("basic", "--keep-alive", "75", admin=True)
    connection = behind(f"127.0.0.1:{server.port}").connect()
    for _ in range(10):
        connection.request("GET", "/seen", headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"})
        environ = json.loads(connection.getresponse().read())
        assert environ["HTTP_X_FORWARDED_PROTO"] == environ["wsgi.url_scheme"] == "http"
        assert environ["HTTP_X_FORWARDED_FOR"] == environ["REMOTE_ADDR"] == environ["HTTP_HOST"] == "127.0.0.1"
    connection.close()
    assert server.admin.metrics().value("fermata_connections_total") == 1


def test_client_that_leaves(behind, launch):
    """nginx passes it on: the parked request ends at once."""
    server = launch("suspend", "--keep-alive", "75", admin=True)
    connection = behind(f"127.0.0.1:{server.port}").connect()
    connection.request("GET", "/park?key=leaver")
    server.wait_events("leaver", "parking")
    connection.close()
    server.wait_events("leaver", "exit")


@pytest.mark.parametrize("method, status", [("GET", 200), ("POST", 502)])
def test_request_that_meets_a_closing_connection(behind, method, status):
    """Why --keep-alive has to be longer than keepalive_timeout: nginx repeats a GET, but not a POST."""
    with ExitStack() as stack:
        upstream = stack.enter_context(closing(Closing()))
        nginx = behind(f"127.0.0.1:{upstream.port}")
        stack.callback(nginx.stop)  # before the upstream, whose connections it keeps
        connection = nginx.connect()
        statuses = []
        for each in ("GET", method):
            connection.request(each, "/")
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()
        assert statuses == [200, status]
        assert upstream.asked[:2] == [(0, "GET"), (0, method)]
        assert upstream.asked[2:] == ([(1, "GET")] if method == "GET" else [])


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_unix_socket_for_another_user(launch, tmp_path_factory):
    """A proxy runs as a user of its own, and may connect, unless the mode of the socket says otherwise."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "nginx").mkdir()
        shutil.chown(directory / "nginx", "nobody")
        for mode, status in ((None, 200), ("700", 502)):
            server = launch("blocks", *(("--socket-mode", mode) if mode else ()), bind=[f"unix:{directory}/app"])
            nginx = Nginx(directory / "nginx", f"unix:{directory}/app", user="nobody")
            connection = nginx.connect()
            connection.request("GET", "/list?size=1000&count=1")
            assert connection.getresponse().status == status
            nginx.stop()
            server.stop()
