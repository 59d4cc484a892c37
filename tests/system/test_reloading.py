"""What spec/manual/reloading.md says: by each of its ways a new version comes, under load, and nothing is lost."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from harness.client import Connection
from harness.limits import LONG, ROOT, eventually, timeout
from harness.proxies import shown
from harness.server import environment
from harness.sites import Site
from harness.told import examples_of, exec_start, here

pytestmark = [timeout(180)]

PAGE = ROOT / "spec/manual/reloading.md"

APP = """
import os
from pathlib import Path

version = Path(__file__).with_name("version").read_text().strip()
if version == "broken":
    raise RuntimeError("this version does not load")

def app(environ, start_response):
    body = f"{version} {len(environ['wsgi.input'].read())} {os.getpid()}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def release(directory: Path, version: str) -> Path:
    made = directory / f"release-{version}"
    made.mkdir()
    (made / "app.py").write_text(APP)
    (made / "version").write_text(version)
    return made


class Load:
    """GETs and POSTs without end, on connections that are kept and new ones; connect() makes one."""

    def __init__(self, connect, threads: int = 4) -> None:
        self.outcomes: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self._connect, self._over = connect, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(threads)]

    def _run(self, number: int) -> None:
        while not self._over.is_set():
            try:
                connection = self._connect()
                try:
                    for _ in range(20 if number % 2 else 1):
                        connection.request(*(("POST", "/", b"x" * 1000) if number < 2 else ("GET", "/")))
                        answer = connection.getresponse()
                        self.outcomes[str(answer.status)] += 1
                        self.versions[answer.read().decode().split()[0]] += 1
                        if answer.will_close:
                            break
                finally:
                    connection.close()
            except (http.client.HTTPException, OSError) as error:
                self.outcomes[type(error).__name__] += 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def get(path: Path | str) -> str:
    with Connection(str(path)) as c:
        return c.request("GET", "/").text


@pytest.fixture
def site(launch, tmp_path):
    """The command of the page, for a link to a release; its `current` is the link."""
    (command,) = [words for words in examples_of(PAGE) if "--workers" in words]
    current = tmp_path / "current"
    current.symlink_to(release(tmp_path, "42"))
    places = {"/run/app": str(tmp_path), "127.0.0.1:8001": "127.0.0.1:0", "/srv/app/current": str(current)}
    server = launch(None, *here(command[1:], places), bind=None, cwd=tmp_path)
    server.current = current
    eventually(lambda: server.admin_address() is not None, "the admin port listens", within=LONG)
    eventually(lambda: ready(server) == 4, "all four are ready", within=LONG)
    return server


def ready(server) -> int:
    workers = json.loads(server.admin.get("/workers").text)["workers"]
    return sum(w["state"] == "ready" for w in workers)


def link(current: Path, to: Path) -> None:
    """As the page has it: the link is never missing."""
    following = current.with_name("next")
    following.symlink_to(to)
    os.replace(following, current)


def reload(server, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """By the script of the page."""
    (tmp_path / "reload.py").write_text(shown("reload.py", {}))
    host, port = server.admin_address()
    command = [sys.executable, tmp_path / "reload.py", str(server.pid), f"{host}:{port}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG, env=environment(), check=False)


class Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=LONG)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LONG)
        self.sock.connect(self._path)


def test_a_release_behind_a_link(site, tmp_path):
    """The link leads new workers to the new release; each request meanwhile is answered, by one version or the other."""
    assert get(tmp_path / "http").startswith("42 ")
    with Load(lambda: Unix(tmp_path / "http")) as load:
        link(site.current, release(tmp_path, "43"))
        done = reload(site, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert set(load.versions) <= {"42", "43"}
    assert get(tmp_path / "http").startswith("43 ")


def test_a_release_that_does_not_load(site, tmp_path):
    """The script says so, the old version serves, and the next one is taken."""
    with Load(lambda: Unix(tmp_path / "http")) as load:
        link(site.current, release(tmp_path, "broken"))
        done = reload(site, tmp_path)
    assert (done.returncode, done.stderr.strip()) == (1, "the reload has failed, and the old workers go on")
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert set(load.versions) == {"42"}
    assert "RuntimeError: this version does not load" in site.log()
    link(site.current, release(tmp_path, "44"))
    assert reload(site, tmp_path).returncode == 0
    assert get(tmp_path / "http").startswith("44 ")


def test_the_directory_where_it_was_started_stays(launch, tmp_path):
    """Why the link belongs into --chdir: without it workers are where the server was started, wherever the link leads now."""
    current = tmp_path / "current"
    current.symlink_to(release(tmp_path, "42"))
    server = launch("app:app", "--workers", "2", bind=[f"unix:{tmp_path}/http"], cwd=current, admin=True)
    eventually(lambda: ready(server) == 2, "both are ready", within=LONG)
    link(current, release(tmp_path, "43"))
    assert reload(server, tmp_path).returncode == 0
    assert get(tmp_path / "http").startswith("42 ")


def test_two_units_behind_nginx(launch, tmp_path):
    """Each is restarted while the other serves: no request is lost, POSTs neither."""
    tmp_path.chmod(0o755)
    current = tmp_path / "current"
    current.symlink_to(release(tmp_path, "42"))

    def start(instance: int):
        places = {"/run/app-%i": f"{tmp_path}/{instance}"}
        (tmp_path / str(instance)).mkdir(exist_ok=True)
        server = launch(None, *exec_start(shown("two.service", {}), places), bind=None, cwd=current)
        eventually(lambda: get(tmp_path / str(instance) / "http"), "it serves", within=LONG)
        return server

    servers = {n: start(n) for n in (1, 2)}
    text = shown("two.nginx", {f"/run/app-{n}/": f"{tmp_path}/{n}/" for n in servers})
    with Site(tmp_path, text) as nginx:
        with Load(nginx.connection) as load:
            eventually(lambda: load.versions["42"] > 50, "there is load", within=LONG)
            link(current, release(tmp_path, "43"))
            for n, server in servers.items():
                server.stop()
                servers[n] = start(n)
            eventually(lambda: load.versions["43"] > 50, "the new version serves", within=LONG)
        assert set(load.outcomes) == {"200"}, (load.outcomes, nginx.log())
        assert nginx.get("/").startswith("43 ")
