"""Behind a real nginx, as most sites are: responses arrive whole, over TCP and unix sockets, however its buffers and ours
happen to meet."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.limits import LONG, eventually, timeout

pytestmark = [timeout(120)]

CONF = """
daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    client_max_body_size 0;
    upstream app {{ server {upstream}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


class Nginx:
    def __init__(self, directory: Path, upstream: str, user: str | None = None) -> None:
        self.dir = directory
        # nginx cannot be asked which port it got, so one is chosen that was free a moment ago.
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        conf = CONF.format(dir=directory, upstream=upstream, port=self.port)
        (directory / "nginx.conf").write_text(conf)
        program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
        assert program, "there is no nginx: scripts/install-deps check"
        self.process = subprocess.Popen(
            [program, "-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", str(directory / "error.log")],
            stdin=subprocess.DEVNULL,
            user=user,
        )
        eventually(self.listens, "nginx listens", within=LONG)

    def listens(self) -> bool:
        try:
            self.connect().close()
        except OSError:
            assert self.process.poll() is None, (self.dir / "error.log").read_text()
            return False
        return True

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG)
        connection.connect()
        return connection

    def log(self) -> str:
        return (self.dir / "error.log").read_text()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(LONG)


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
    connection.request("POST", "/digest", body)
    assert connection.getresponse().read().decode() == hashlib.sha256(body).hexdigest()
    connection.close()


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
