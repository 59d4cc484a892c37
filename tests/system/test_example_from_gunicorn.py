"""examples/from-gunicorn: started by each file of before/ with gunicorn and of after/ with Fermata, the site answers alike."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.limits import LONG, ROOT, eventually, fermata, timeout
from harness.proxies import free_port
from harness.server import Server, run
from harness.sites import Site
from harness.told import docker_command, dockerfile, here, procfile, unit

pytestmark = [timeout(120)]

HERE = ROOT / "examples" / "from-gunicorn"
README = (HERE / "README.md").read_text()
BOTH = pytest.mark.parametrize("side", ["before", "after"])

Launch = Callable[..., Server]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The site's files, in a directory of this test."""
    made = tmp_path / "srv"
    shutil.copytree(HERE, made)
    tmp_path.chmod(0o755)
    return made


def start(launch: Launch, words: list[str], site: Path, **env: str) -> Server:
    """gunicorn is the one of the tests' environment; neither leaves anything beside the site."""
    program = {"gunicorn": str(Path(sys.prefix) / "bin/gunicorn"), "fermata": str(fermata())}[Path(words[0]).name]
    env = {"NOTES": str(site / "notes.sqlite"), "HOME": str(site), "XDG_RUNTIME_DIR": str(site), **env}
    if words[0] == "fermata" and "--venv" not in words:
        env["VIRTUAL_ENV"] = sys.prefix  # as a platform that reads a Procfile has it
    return launch(None, *words[1:], program=[program], bind=None, cwd=site, env=env)


def add(server: Server, text: str, **more: str) -> tuple[int, str | None]:
    body = urllib.parse.urlencode({"text": text}).encode()
    headers = [("Content-Type", "application/x-www-form-urlencoded"), *more.items()]
    answer = server.request("POST", "/", headers, body, timeout=LONG)
    return answer.status, answer.header("Location")


def page(text: str) -> list[str]:
    """The notes of a page."""
    assert "<h1>Notes</h1>" in text
    return re.findall("<li>(.*?)</li>", text)


@BOTH
def test_procfile(launch, site, side):
    """A platform gives the port and says how many workers there are to be."""
    words = procfile((HERE / side / "Procfile").read_text())
    server = start(launch, words, site, PORT=str(free_port()))
    for number in range(8):
        assert add(server, f"note {number} <b>")[0] == 303
    assert page(server.get("/", timeout=LONG).text) == [f"note {n} &lt;b&gt;" for n in reversed(range(8))]
    eventually(lambda: '"POST / HTTP/1.1" 303' in server.stdout(), "the access log is on standard output", within=LONG)


def places(site: Path) -> dict[str, str]:
    return {"/run/notes": str(site), "/var/log/notes": str(site), "/srv/notes": str(site)}


@BOTH
def test_unit_and_nginx(launch, site, side):
    """The unit's command, behind nginx as it stands beside it: the same pages, files and facts of the client."""
    settings = unit((HERE / side / "notes.service").read_text())
    words = shlex.split(settings["ExecStart"])
    if side == "before":
        conf = (HERE / side / "gunicorn.conf.py").read_text()
        for old, new in [("/run/notes", str(site)), ("/var/log/notes", str(site))]:
            assert old in conf
            conf = conf.replace(old, new)
        (site / "gunicorn.conf.py").write_text(conf)
    else:
        words = here(words, {"/run/notes": str(site), "/var/log/notes": str(site), "127.0.0.1:8001": "127.0.0.1:0"})
    server = start(launch, words, site)
    text = (HERE / side / "nginx.conf").read_text()
    for old in ("/run/notes", "/srv/notes"):
        text = text.replace(old, str(site))
    (site / "nginx").mkdir()
    with Site(site / "nginx", text) as nginx:
        headers = {"Host": "notes.example.org", "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
        found = json.loads(nginx.get("/where", headers))
        assert found == {"client": "127.0.0.1", "scheme": "http", "url": "http://notes.example.org/"}
        assert "font-family" in nginx.get("/static/style.css")
        connection = nginx.connection()
        connection.request("POST", "/", "text=hello", {"Content-Type": "application/x-www-form-urlencoded"})
        answer = connection.getresponse()
        assert (answer.status, answer.read() != b"") == (303, True)
        connection.close()
        assert page(nginx.get("/")) == ["hello"]
    eventually(lambda: "/where" in (site / "access.log").read_text(), "the access log is a file", within=LONG)
    server.stop()
    assert not (site / "http").exists()


def test_the_configuration_file_as_it_is(launch, site):
    """README.md's second way: Fermata reads gunicorn.conf.py, and calls its hook."""
    (line,) = re.findall(r"^    ExecStart=(.*)$", README, re.M)
    conf = (HERE / "before/gunicorn.conf.py").read_text()
    (site / "gunicorn.conf.py").write_text(conf.replace("/run/notes", str(site)).replace("/var/log/notes", str(site)))
    words = shlex.split(line)
    assert run("--check-config", *here(words[1:], {}), cwd=site, env={"NOTES": ":memory:"}).returncode == 0
    server = start(launch, here(words, {}), site)
    assert add(server, "hello")[0] == 303
    assert page(server.get("/", timeout=LONG).text) == ["hello"]
    server.wait_log(r"worker \d+ is there", within=LONG)
    eventually(lambda: "POST /" in (site / "access.log").read_text(), "the access log is where the file says", within=LONG)


@BOTH
def test_https_is_believed(launch, site, side):
    """What nginx says when it ends TLS: the address of a redirect is https."""
    words = shlex.split(unit((HERE / side / "notes.service").read_text())["ExecStart"])
    if side == "before":
        words = ["gunicorn", "--bind", f"unix:{site}/http", "notes:app"]
    else:
        words = here(words, {"/run/notes": str(site), "/var/log/notes": str(site), "127.0.0.1:8001": "127.0.0.1:0"})
    server = start(launch, words, site)
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7", "Host": "notes.example.org"}
    answer = server.get("/where", list(said.items()), host=None, timeout=LONG)
    assert json.loads(answer.text) == {
        "client": "203.0.113.7", "scheme": "https", "url": "https://notes.example.org/"
    }


@BOTH
def test_reload(launch, site, side):
    """ExecReload: the new version serves, by new workers."""
    settings = unit((HERE / side / "notes.service").read_text())
    assert settings["ExecReload"] == "/bin/kill -s HUP $MAINPID"
    words = procfile((HERE / side / "Procfile").read_text())
    server = start(launch, words, site, PORT=str(free_port()))
    assert "<h1>Notes</h1>" in server.get("/", timeout=LONG).text
    text = (site / "notes.py").read_text()
    (site / "notes.py").write_text(text.replace("<h1>Notes</h1>", "<h1>All notes</h1>"))
    os.kill(server.pid, 1)
    eventually(lambda: "<h1>All notes</h1>" in server.get("/", timeout=LONG).text, "the new version", within=LONG)


@BOTH
def test_dockerfile(launch, tmp_path, side):
    """The files that it copies are there, and its command serves in a directory that has those alone, as its port says."""
    text = (HERE / side / "Dockerfile").read_text()
    root = tmp_path / "root"
    for name, rest in dockerfile(text):
        if name == "COPY" and not rest.startswith("--from="):
            source, to = rest.split()
            target = root / to.strip("/") / (Path(source).name if to.endswith("/") else "")
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (ROOT / source).is_dir() else shutil.copy)(ROOT / source, target)
    (workdir,) = [rest for name, rest in dockerfile(text) if name == "WORKDIR"]
    (exposed,) = [rest.split() for name, rest in dockerfile(text) if name == "EXPOSE"]
    words = docker_command(text)
    assert [port for port in exposed if f"0.0.0.0:{port}" in words] == exposed
    words = here(words, {f"0.0.0.0:{port}": "127.0.0.1:0" for port in exposed})
    server = start(launch, words, root / workdir.strip("/"))
    assert add(server, "in a container")[0] == 303
    assert page(server.get("/", timeout=LONG).text) == ["in a container"]


def test_images_have_what_the_binary_needs():
    """In its last stage, the libraries; in the first one, what scripts/install-deps installs to build, but for its tests."""
    text = (HERE / "after" / "Dockerfile").read_text()
    first, last = re.findall(r"--no-install-recommends\s*\\\n([^&\n]*)", text)
    build = run_script("build")
    assert set(first.split()) == build
    assert set(last.split()) >= {"python3", "libevent-core-2.1-7", "libhttp-parser2.9"}


def run_script(what: str) -> set[str]:
    """The packages that scripts/install-deps names for it with Debian's Python."""
    lines = re.findall(rf"{what}_packages\(\) \{{\n.*?<<'LIST'\n(.*?)LIST", (ROOT / "scripts/install-deps").read_text(), re.S)
    names = {line.split("|")[0] for line in lines[0].split()} - {"libcmocka-dev", "curl", "ca-certificates"}
    return names | {"python3-dev", "python3-venv"}


def test_readme_shows_the_files():
    """The difference of the Procfiles is theirs, and each setting of gunicorn.conf.py has a row."""
    for side, sign in (("before", "-"), ("after", "+")):
        assert sign + (HERE / side / "Procfile").read_text() in README
    for name in re.findall(r"^(?:def )?(\w+)(?: =|\()", (HERE / "before/gunicorn.conf.py").read_text(), re.M):
        assert re.search(rf"^\| .*`{name}\b", README, re.M), name


def test_commands_of_the_readme(launch, tmp_path):
    """Fermata's, from the checkout's directory."""
    (line,) = re.findall(r"^    (build/fermata .*)$", README, re.M)
    words = here(shlex.split(line), {})
    server = launch(None, *words[1:], bind=["127.0.0.1:0"], cwd=ROOT, env={"NOTES": str(tmp_path / "notes.sqlite")})
    assert add(server, "hello")[0] == 303
    assert page(server.get("/", timeout=LONG).text) == ["hello"]
    assert json.loads(server.get("/where").text)["client"] == "127.0.0.1"


def test_options_are_there():
    """Of all commands of after/."""
    options = set(re.findall(r"--[a-z][\w-]+", run("--help").stdout))
    for path in (HERE / "after").iterdir():
        for line in path.read_text().replace("\\\n", " ").splitlines():
            if line.startswith(("web:", "ExecStart=", "CMD")):
                assert set(re.findall(r"--[a-z][\w-]+", line)) <= options, path
