"""examples/from-uwsgi: the site answers by after/ with Fermata as it does by before/ with uWSGI."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.browser import Browser
from harness.limits import LONG, ROOT, eventually, timeout
from harness.server import Server, environment, run, virtualenv
from harness.sites import Site
from harness.told import exec_start, here, unit

pytestmark = [timeout(120)]

HERE = ROOT / "examples" / "from-uwsgi"
README = (HERE / "README.md").read_text()
SERVICE = (HERE / "after" / "shop.service").read_text()
UWSGI = "/usr/bin/uwsgi"
SECRET = {"SECRET_KEY": "for tests only"}  # of /etc/shop.env

Launch = Callable[..., Server]


@functools.cache
def has_uwsgi() -> bool:
    """Is there one, with the version of Python that the tests' environment has?"""
    if not shutil.which(UWSGI):
        return False
    ran = subprocess.run([UWSGI, "--plugin", "python3", "--python-version"], capture_output=True, text=True, check=False)
    return f"{sys.version_info[0]}.{sys.version_info[1]}" in ran.stdout


SIDES = [pytest.param("before", marks=pytest.mark.skipif(not has_uwsgi(), reason="no uWSGI with this Python")), "after"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    made = tmp_path / "srv"
    shutil.copytree(HERE, made)
    tmp_path.chmod(0o755)
    return made


def ini() -> dict[str, str]:
    pairs = [line.partition("=") for line in (HERE / "before/shop.ini").read_text().splitlines() if "=" in line]
    return {name.strip(): value.strip() for name, _, value in pairs}


@contextmanager
def uwsgi(site: Path) -> Iterator[None]:
    """By the unit's command and the ini file, which are told where the site is and what is in the tests' environment."""
    text = (HERE / "before/shop.ini").read_text()
    for old, new in [("/run/shop", str(site)), ("/var/log/shop", str(site)), ("127.0.0.1:9191", "127.0.0.1:0")]:
        assert old in text
        text = text.replace(old, new)
    text = re.sub(r"^home = .*$", f"pythonpath = {next(Path(virtualenv()).glob('lib/python*/site-packages'))}", text, flags=re.M)
    (site / "shop.ini").write_text(text.replace("/srv/shop", str(site)))
    words = here(shlex.split(unit((HERE / "before/shop.service").read_text())["ExecStart"]), {"/srv/shop": str(site)})
    assert words[0] == UWSGI
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment(SECRET), start_new_session=True)
    try:
        eventually((site / "uwsgi").is_socket, "it listens", within=LONG)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # a worker of it with threads may not end otherwise
        process.wait(LONG)


def fermata(launch: Launch, site: Path, text: str = SERVICE) -> Server:
    """By the unit."""
    assert unit(text)["EnvironmentFile"] == "/etc/shop.env"
    places = {"/run/shop": str(site), "/var/log/shop": str(site), "/srv/shop": str(site), "127.0.0.1:8001": "127.0.0.1:0"}
    name, _, value = unit(text)["Environment"].partition("=")
    words = exec_start(text, places)
    log = words.index("--error-logfile")
    del words[log : log + 2]  # where the tests look for it
    return launch(None, *words, bind=None, cwd=site, env={name: value, **SECRET})


@pytest.fixture(params=SIDES)
def nginx(request, launch, site) -> Iterator[Site]:
    """The site behind nginx, with uWSGI and with Fermata."""
    text = (HERE / request.param / "nginx.conf").read_text()
    for old in ("/run/shop", "/srv/shop"):
        assert old in text
        text = text.replace(old, str(site))
    text = text.replace("include uwsgi_params", "include /etc/nginx/uwsgi_params")
    (site / "nginx").mkdir()
    with Site(site / "nginx", text) as nginx:
        if request.param == "before":
            with uwsgi(site):
                yield nginx
        else:
            server = fermata(launch, site)
            yield nginx
            server.stop()


def test_pages(nginx):
    """A form with its token, a cookie, a redirect, a file."""
    with Browser(nginx, host="shop.example.org") as b:
        assert "<h1>Basket</h1>" in b.get("/").text
        b.post("/add", {"thing": "<cheese>"})
        assert re.findall("<li>(.*?)</li>", b.page.text) == ["&lt;cheese&gt;"]
        assert b.open("POST", "/add").status == 403
        assert b.get("/none").status == 404
    assert "font-family" in nginx.get("/static/style.css", {"Host": "shop.example.org"})


def test_what_the_site_learns(nginx):
    """The client's address and the name that it has asked for, whatever it says of its address."""
    said = {"Host": "shop.example.org", "X-Forwarded-For": "192.0.2.1"}
    assert json.loads(nginx.get("/where", said)) == {"client": "127.0.0.1", "url": "http://shop.example.org/"}


def test_what_a_client_says_of_its_scheme(nginx, request):
    """uWSGI believes it, Fermata believes nginx."""
    said = {"Host": "shop.example.org", "X-Forwarded-Proto": "https"}
    scheme = "https" if "before" in request.node.name else "http"
    assert json.loads(nginx.get("/where", said))["url"] == f"{scheme}://shop.example.org/"


def test_a_request_that_takes_too_long(launch, site):
    """Where harakiri killed the worker, its client gets 504, and the others do not notice."""
    server = fermata(launch, site, SERVICE.replace("--request-timeout 30", "--request-timeout 1"))
    with server.connect(timeout=LONG) as slow:
        slow.send_request("GET", "/slow?seconds=3", host="localhost")
        assert "<h1>Basket</h1>" in server.get("/", host="localhost", timeout=LONG).text
        assert slow.read_response().status == 504


def test_reload(launch, site):
    """touch-reload was this."""
    assert unit(SERVICE)["ExecReload"] == "/bin/kill -HUP $MAINPID"
    server = fermata(launch, site)
    assert "<h1>Basket</h1>" in server.get("/", host="localhost", timeout=LONG).text
    urls = site / "shop/urls.py"
    urls.write_text(urls.read_text().replace("<h1>Basket</h1>", "<h1>Your basket</h1>"))
    server.signal(1)
    eventually(
        lambda: "Your basket" in server.get("/", host="localhost", timeout=LONG).text, "the new version", within=LONG
    )


def test_the_command_says_what_the_ini_file_said() -> None:
    """The same numbers."""
    words, was = shlex.split(unit(SERVICE)["ExecStart"]), ini()
    now = {word: words[i + 1] for i, word in enumerate(words) if word.startswith("--")}
    for theirs, ours in [
        ("processes", "--workers"),
        ("threads", "--threads"),
        ("harakiri", "--request-timeout"),
        ("reload-mercy", "--graceful-timeout"),
        ("limit-post", "--limit-request-body"),
        ("chdir", "--chdir"),
        ("home", "--venv"),
    ]:
        assert now[ours] == was[theirs], theirs
    assert words[-1] == was["module"]
    assert unit(SERVICE)["Environment"] == was["env"]


@pytest.mark.parametrize("text", ["README", "page"])
def test_each_setting_has_a_row(text) -> None:
    """Of the ini file: in README.md, and in the manual's page."""
    text = README if text == "README" else (ROOT / "spec/manual/from-uwsgi.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z0-9-]+)[ `]", row)}
    assert ini().keys() - named == set()


def test_options_are_there() -> None:
    """Of the unit's command."""
    options = set(re.findall(r"--[a-z][\w-]+", run("--help").stdout))
    assert set(re.findall(r"--[a-z][\w-]+", SERVICE)) <= options


def test_command_of_the_readme(launch):
    (line,) = re.findall(r"^    (build/fermata .*)$", README, re.M)
    (exported,) = re.findall(r"^    export (.*)$", README, re.M)
    variables = dict(pair.split("=") for pair in exported.split())
    server = launch(None, *here(shlex.split(line), {})[1:], bind=["127.0.0.1:0"], cwd=ROOT, env=variables)
    answer = server.get("/where", host="localhost", timeout=LONG)
    assert json.loads(answer.text) == {"client": "127.0.0.1", "url": "http://localhost/"}
