"""Behind a real Apache with the configuration that spec/manual/behind-a-proxy.md shows."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness.limits import LONG, eventually, timeout
from harness.proxies import free_port, replaced, shown
from harness.told import exec_start

pytestmark = [timeout(120)]

CONF = """
ServerRoot {dir}
Mutex file:{dir}
PidFile {dir}/apache.pid
ErrorLog {dir}/error.log
Listen 127.0.0.1:{port}
ServerName localhost
{modules}
{site}
"""
MODULES = Path("/usr/lib/apache2/modules")
SHOP = """
def application(environ, start_response):
    names = ("wsgi.url_scheme", "HTTP_HOST", "REMOTE_ADDR", "PATH_INFO")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [" ".join(environ[name] for name in names).encode()]
"""
LOADED = "mpm_event authz_core alias headers proxy proxy_http".split()


class Apache:
    """In front of a unix socket, as the page shows it, unless text has another site."""

    def __init__(self, directory: Path, upstream: Path, text: str | None = None) -> None:
        self.dir, self.port = directory, free_port()
        text = text or shown("apache", {"/run/app/http|": f"{upstream}|"})
        site = replaced(text, {"*:80": f"127.0.0.1:{self.port}"})
        modules = "\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in LOADED)
        conf = CONF.format(dir=directory, port=self.port, modules=modules, site=site)
        (directory / "apache.conf").write_text(conf)
        program = shutil.which("apache2", path="/usr/sbin:/usr/bin")
        assert program, "there is no Apache: scripts/install-deps check"
        self.process = subprocess.Popen(
            [program, "-D", "FOREGROUND", "-f", str(directory / "apache.conf")], stdin=subprocess.DEVNULL
        )
        eventually(self.listens, "Apache listens", within=LONG)

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

    def get(self, target: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        connection = self.connect()
        try:
            connection.request("GET", target, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(LONG)


@pytest.fixture
def behind(tmp_path) -> Iterator[Callable[[], Apache]]:
    """behind(): an Apache in front of the unix socket tmp_path/app."""
    with ExitStack() as stack:

        def start() -> Apache:
            apache = Apache(tmp_path, tmp_path / "app")
            stack.callback(apache.stop)
            return apache

        yield start


def test_what_the_application_learns(behind, launch, tmp_path):
    """Host and scheme are the client's; what it writes itself as X-Forwarded-Proto is replaced."""
    server = launch("basic", "--keep-alive", "75", bind=[f"unix:{tmp_path}/app"], admin=True)
    apache = behind()
    for _ in range(5):
        headers = {"Host": "shop.example.org", "X-Forwarded-Proto": "https"}
        status, body = apache.get("/seen", headers)
        environ = json.loads(body)
        assert (status, environ["HTTP_HOST"]) == (200, "shop.example.org")
        assert environ["HTTP_X_FORWARDED_PROTO"] == environ["wsgi.url_scheme"] == "http"
        assert environ["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
    assert server.admin.metrics().value("fermata_connections_total") < 5  # they are kept


@pytest.mark.parametrize("how", ["chunked", "length", "file"])
def test_large_responses(behind, launch, tmp_path, how):
    launch("blocks", bind=[f"unix:{tmp_path}/app"])
    digest = hashlib.sha256()
    for i in range(20):
        digest.update(bytes([i % 251]) * 292_345)
    status, body = behind().get(f"/{how}?size=292345&count=20")
    assert (status, hashlib.sha256(body).hexdigest()) == (200, digest.hexdigest())


def test_a_server_that_comes_back(behind, launch, tmp_path):
    """retry=0: the first request after a failure is tried again."""
    apache = behind()
    assert apache.get("/hello")[0] == 503
    launch("basic", bind=[f"unix:{tmp_path}/app"])
    assert apache.get("/hello") == (200, b"Hello, world\n")


def test_a_parked_client_that_leaves(behind, launch, tmp_path):
    """Apache does not tell: the request goes on until it answers, or its deadline comes."""
    server = launch("suspend", "--request-timeout", "1", bind=[f"unix:{tmp_path}/app"], admin=True)
    connection = behind().connect()
    connection.request("GET", "/park?key=leaver")
    server.wait_events("leaver", "parking")
    connection.close()
    server.wait_events("leaver", "exit")
    assert server.admin.metrics().value("fermata_request_timeouts_total", state="parked_future") == 1


def test_a_site_that_was_mod_wsgi(launch, tmp_path):
    """spec/manual/from-mod-wsgi.md: files are Apache's, all else the application's, started by the unit that it shows."""
    tmp_path.chmod(0o755)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/wsgi.py").write_text(SHOP)
    was, unit = shown("mod_wsgi.old", {}), shown("mod_wsgi.service", {})
    words = exec_start(unit, {"/run/shop": str(tmp_path)})
    for theirs, ours in [("processes", "--workers"), ("threads", "--threads"), ("request-timeout", "--request-timeout")]:
        assert f" {theirs}={words[words.index(ours) + 1]} " in was.replace("\n", " ")
    launch(None, *words, bind=None, cwd=tmp_path)
    (tmp_path / "static").mkdir()
    (tmp_path / "static/site.css").write_text("body {}")
    text = shown("mod_wsgi.apache", {"/run/shop/http|": f"{tmp_path}/http|"}).replace("/srv/shop/static", f"{tmp_path}/static")
    apache = Apache(tmp_path, tmp_path / "http", text)
    try:
        assert apache.get("/static/site.css") == (200, b"body {}")
        assert apache.get("/a", {"Host": "shop.example.org"}) == (200, b"http shop.example.org 127.0.0.1 /a")
    finally:
        apache.stop()
