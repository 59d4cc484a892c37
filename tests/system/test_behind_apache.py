"""Behind a real Apache: what spec/manual/behind-a-proxy.md says of it besides test_behind_others.py, and the site that
spec/manual/from-mod-wsgi.md moves."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness.limits import timeout
from harness.proxies import Apache, shown
from harness.told import exec_start

pytestmark = [timeout(120)]

SHOP = """
def application(environ, start_response):
    names = ("wsgi.url_scheme", "HTTP_HOST", "REMOTE_ADDR", "PATH_INFO")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [" ".join(environ[name] for name in names).encode()]
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that Apache, which is another user, may look into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def behind(directory) -> Iterator[Callable[..., Apache]]:
    """behind(): an Apache in front of the unix socket directory/app, or with the site that text configures."""
    with ExitStack() as stack:

        def start(text: str | None = None) -> Apache:
            apache = Apache(directory, f"unix:{directory}/app|http://app/", text)
            stack.callback(apache.stop)
            return apache

        yield start


def get(apache: Apache, target: str, host: str = "app.example.org") -> tuple[int, bytes]:
    connection = apache.connect()
    connection.request("GET", target, headers={"Host": host})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def test_a_server_that_comes_back(behind, launch, directory):
    """retry=0: the first request after a failure is tried again."""
    apache = behind()
    assert get(apache, "/hello")[0] == 503
    launch("basic", bind=[f"unix:{directory}/app"])
    assert get(apache, "/hello") == (200, b"Hello, world\n")


def test_a_parked_client_that_leaves(behind, launch, directory):
    """Apache does not tell: the request goes on until it answers, or its deadline comes."""
    server = launch("suspend", "--request-timeout", "1", bind=[f"unix:{directory}/app"], admin=True)
    connection = behind().connect()
    connection.request("GET", "/park?key=leaver")
    server.wait_events("leaver", "parking")
    connection.close()
    server.wait_events("leaver", "exit")
    assert server.admin.metrics().value("fermata_request_timeouts_total", state="parked_future") == 1


def test_a_site_that_was_mod_wsgi(behind, launch, directory):
    """Files are Apache's, all else the application's, started by the unit that the page shows."""
    (directory / "shop").mkdir()
    (directory / "shop/wsgi.py").write_text(SHOP)
    was, unit = shown("mod_wsgi.old", {}), shown("mod_wsgi.service", {})
    words = exec_start(unit, {"/run/shop": str(directory)})
    for theirs, ours in [("processes", "--workers"), ("threads", "--threads"), ("request-timeout", "--request-timeout")]:
        assert f" {theirs}={words[words.index(ours) + 1]} " in was.replace("\n", " ")
    launch(None, *words, bind=None, cwd=directory)
    (directory / "static").mkdir()
    (directory / "static/site.css").write_text("body {}")
    text = shown("mod_wsgi.apache", {"/run/shop/http|": f"{directory}/http|"})
    apache = behind(text.replace("/srv/shop/static", f"{directory}/static"))
    assert get(apache, "/static/site.css") == (200, b"body {}")
    assert get(apache, "/a", "shop.example.org") == (200, b"http shop.example.org 127.0.0.1 /a")
