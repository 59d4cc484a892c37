"""py/ is a package that can be built, installed and used by itself, without a network; and its README.md is true."""

from __future__ import annotations

import email
import email.message
import http.server
import importlib
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from byhand import eventually, finish
from harness.limits import LONG, ROOT, SLOW, fermata
from harness.server import Server, environment
from wsgi_plus import WSGIPlusError
from wsgi_plus.testing import Client, Parked, Ready, Request

SOURCE = ROOT / "py"
MODULES = {path.relative_to(SOURCE).as_posix() for path in (SOURCE / "wsgi_plus").rglob("*.py")}
CHANGES = (ROOT / "CHANGELOG.md").read_text()
VERSION = re.findall(r"^## ([0-9.]+)", CHANGES, re.MULTILINE)[0]
README = (SOURCE / "README.md").read_text()
REQUIREMENTS = (ROOT / "tests" / "requirements.txt").read_text()

pytestmark = pytest.mark.timeout(400 * SLOW)


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Runs a command to its end, with nothing that could be fetched; what it said."""
    env = environment({"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **(env or {})})
    ended = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=4 * LONG
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def build(source: Path, target: Path, *options: str) -> None:
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", target, *options, source, cwd=target.parent)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a source distribution, and the wheel that was built of it: of a copy of the tree."""
    folder = tmp_path_factory.mktemp("package")
    left = shutil.ignore_patterns("__pycache__", "build", "dist", "*.egg-info")
    shutil.copytree(SOURCE, folder / "py", symlinks=True, ignore=left)
    shutil.copy(ROOT / "LICENSE", folder)
    build(folder / "py", folder / "dist")
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = (built / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    return email.message_from_bytes(contents(wheel)[f"wsgi_plus-{VERSION}.dist-info/METADATA"])


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment that has nothing but the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel, cwd=folder)
    return python


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    info = f"wsgi_plus-{VERSION}.dist-info"
    about = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "top_level.txt", "licenses/LICENSE")}
    found = contents(wheel)
    assert wheel.name == f"wsgi_plus-{VERSION}-py3-none-any.whl"
    assert set(found) == MODULES | {"wsgi_plus/py.typed"} | about
    assert found[f"{info}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert all(found[name] == (SOURCE / name).read_bytes() for name in MODULES)


def test_the_source_distribution_builds_the_same_wheel(built: Path, wheel: Path) -> None:
    (source,) = (built / "dist").glob("*.tar.gz")
    with tarfile.open(source) as archive:
        members = {member.name: member for member in archive.getmembers()}
    top = f"wsgi_plus-{VERSION}"
    for name in ("LICENSE", "README.md", "pyproject.toml", "wsgi_plus/py.typed", *MODULES):
        assert members[f"{top}/{name}"].isfile(), name  # and no link to what is not there
    assert not [name for name in members if "fermata" in name]
    build(built / "py", built / "direct", "--wheel")
    (direct,) = (built / "direct").glob("*.whl")
    assert contents(direct) == contents(wheel)


def test_metadata(metadata: email.message.Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("wsgi-plus", VERSION)
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == README.strip()


def test_nothing_is_required_but_by_extras(metadata: email.message.Message) -> None:
    assert metadata.get_all("Provides-Extra") == ["flask", "django", "gunicorn", "otel"]
    required = [
        re.fullmatch(r'([\w-]+)>=[0-9.]+; extra == "(\w+)"', line) for line in metadata.get_all("Requires-Dist") or []
    ]
    assert [found and found.groups() for found in required] == [
        ("flask", "flask"),
        ("django", "django"),
        ("gunicorn", "gunicorn"),
        ("opentelemetry-api", "otel"),
    ]


def test_installed_it_can_be_imported(python: Path) -> None:
    code = """if True:
        import importlib.metadata, pathlib, sys, wsgi_plus, wsgi_plus.simple_server, wsgi_plus.testing
        assert pathlib.Path(wsgi_plus.__file__).is_relative_to(sys.prefix), wsgi_plus.__file__
        assert pathlib.Path(wsgi_plus.__file__).with_name("py.typed").exists()
        for name, needed in {"flask": "flask", "django": "django", "gunicorn": "gunicorn", "otel": "opentelemetry"}.items():
            try:
                importlib.import_module(f"wsgi_plus.{name}")
            except ModuleNotFoundError as error:
                assert error.name.partition(".")[0] == needed, error
            else:
                raise AssertionError(name)
        print(importlib.metadata.version("wsgi-plus"), *sorted(wsgi_plus.__all__))
    """
    version, *names = run(python, "-I", "-W", "error", "-c", code, cwd=python.parent).split()
    assert version == VERSION
    assert {"wait", "gather", "AsyncBridge", "suspends"} <= set(names)


APP = """
from wsgi_plus import offload, wait

def app(environ, start_response):
    answer = yield from wait(offload(str.upper, environ["PATH_INFO"]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield answer.encode()
"""


def test_installed_it_serves(python: Path, tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(APP)
    server = Server("hello:app", program=[str(python), "-m", "wsgi_plus.simple_server"], cwd=tmp_path)
    try:
        assert server.wait_ready().get("/hello").text == "/HELLO"
    finally:
        server.stop()


def test_the_build_environment_has_the_setuptools_that_it_asks_for() -> None:
    """tests/requirements.txt has one from the range."""
    project = (SOURCE / "pyproject.toml").read_text()
    (least,) = re.findall(r'requires = \["setuptools>=([0-9]+)"\]', project)
    (pinned,) = re.findall(r"^setuptools==([0-9]+)\.", REQUIREMENTS, re.MULTILINE)
    assert int(pinned) >= int(least)


# README.md

BLOCKS = dict(re.findall(r"<!-- (\w+) -->\n```python\n(.*?)```", README, re.DOTALL))
HELPERS = {
    "wait",
    "settled",
    "gather",
    "first",
    "timeout",
    "sleep",
    "shield",
    "offload",
    "bridge",
    "opened",
    "deadline",
    "flight",
    "places",
    "retry",
    "group",
    "topic",
    "channel",
    "background",
    "upload",
}  # go on after "helpers"


class Upstream(http.server.BaseHTTPRequestHandler):
    """What the examples ask."""

    ANSWERS = {"/price/tea": b"3.5", "/price/milk": b"1", "/rates": b"1.25", "/orders/late": b"none", "/tea": b"hot"}
    released = threading.Event()  # what is slow is answered now

    def do_GET(self) -> None:
        if "slow" in self.path:
            self.released.wait(LONG)
        body = self.ANSWERS.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def do_PUT(self) -> None:
        self.put.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(201)
        self.end_headers()

    put: list[bytes] = []

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[int]:
    """The port of a server, some of whose answers wait for the end of the test."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        Upstream.released.set()
        server.shutdown()
        thread.join()
    Upstream.released.clear()


@pytest.fixture
def files(tmp_path: Path, upstream: int) -> Path:
    """A directory with the examples: hello.py, and readme_NAME.py."""
    for name, code in BLOCKS.items():
        code = (BLOCKS["helpers"] if name in HELPERS else "") + code.replace(":9000", f":{upstream}")
        (tmp_path / ("hello.py" if name == "hello" else f"readme_{name}.py")).write_text(code)
    return tmp_path


@pytest.fixture
def example(files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """example(name): the module of that name."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(files))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if name == "hello" or name.startswith("readme_"):
            del sys.modules[name]


def test_all_examples_are_tested() -> None:
    assert README.count("```python") == len(BLOCKS)
    used = re.findall(r"(?<!test_)readme_([a-z_]+)", Path(__file__).read_text())
    assert set(BLOCKS) - {"hello", "helpers"} <= set(used)


def test_readme_hello(example: Callable[[str], Any]) -> None:
    client = Client(example("hello").app)
    found, missing = client.fetch("/tea"), client.fetch("/none")
    assert (found.status, found.body) == ("200 OK", b"hot")
    assert (missing.status, missing.body) == ("502 Bad Gateway", b"no upstream\n")


@pytest.mark.parametrize("command", re.findall(r"^    (.* hello:app)$", README, re.MULTILINE))
def test_readme_commands(files: Path, command: str) -> None:
    program, *options, app = command.split()
    programs = {
        "python": ([sys.executable, *options], {"PYTHONPATH": str(SOURCE)}),
        "fermata": ([str(fermata()), *options, "--pythonpath", str(SOURCE)], {}),
        "gunicorn": ([sys.executable, "-m", "gunicorn", "--no-control-socket", *options], {"PYTHONPATH": str(SOURCE)}),
    }
    start, env = programs[program]
    server = Server(app, program=start, env=env, cwd=files)
    try:
        assert server.wait_ready().get("/tea").body == b"hot"
    finally:
        server.stop()


def test_readme_helpers(example: Callable[[str], Any]) -> None:
    assert finish(example("readme_wait").price("tea")) == 3.5
    settled = example("readme_settled").price_or_none
    assert (finish(settled("tea")), finish(settled("none"))) == (3.5, None)
    assert finish(example("readme_gather").prices("tea", "milk")) == {"tea": 3.5, "milk": 1.0}
    assert finish(example("readme_first").fastest("/slow", "/tea")) == b"hot"
    in_time = example("readme_timeout").price_in_time
    assert (finish(in_time("tea")), finish(in_time("slow"))) == (3.5, None)
    summed = example("readme_deadline").sums_in_time
    assert (finish(summed(["tea", "milk"], ["tea"])), finish(summed(["tea"], ["slow"]))) == ([4.5, 3.5], None)
    assert finish(example("readme_flight").price_asked_once("tea")) == 3.5
    assert finish(example("readme_places").price_with_others("tea")) == 3.5
    assert Client(example("readme_sleep").countdown).fetch("/").text == "3\n2\n1\ngo\n"
    assert finish(example("readme_retry").price_in_the_end("milk")) == 1.0
    assert finish(example("readme_group").basket("tea", "milk")) == 1.25 * 4.5
    rate = example("readme_shield").rate
    rate_left = rate()
    next(rate_left)
    rate_left.close()
    assert (finish(rate()), finish(rate())) == (1.25, 1.25)
    assert finish(example("readme_offload").orders("late")) == b"none"
    assert Client(example("readme_bridge").stream).fetch("/").text == "piece 0\npiece 1\npiece 2\n"
    assert Client(example("readme_opened").relay).fetch("/").text == "piece 0\npiece 1\npiece 2\n"


def test_readme_topic(example: Callable[[str], Any]) -> None:
    module = example("readme_topic")
    listener = Client(module.events).get("/")
    assert Client(module.tell_all).fetch("/", method="POST", body=b"news").text == "1 have got it\n"
    assert listener.resume().text == "data: news\n\n"
    module.news.close()
    assert listener.resume().over and not listener.broken_off


def test_readme_channel(example: Callable[[str], Any]) -> None:
    assert Client(example("readme_channel").report).fetch("/").text == "line 1\nline 2\nline 3\n"


def test_readme_background(example: Callable[[str], Any]) -> None:
    module = example("readme_background")
    assert Client(module.order).fetch("/?tea").text == "thank you\n"
    eventually(lambda: module.noted == [("tea", b"3.5")], "it is done after the response")


def test_readme_upload(example: Callable[[str], Any]) -> None:
    data = bytes(range(256)) * 1000
    assert Client(example("readme_upload").store).fetch("/", method="PUT", body=data).status_code == 201
    assert Upstream.put == [data]
    Upstream.put.clear()


def suspended(request: Request) -> bool:
    """Whether futures have come to the server: no code has waited for them in the thread."""
    return any(isinstance(step, (Parked, Ready)) for step in request.steps)


def test_readme_flask(example: Callable[[str], Any]) -> None:
    request = Client(example("readme_flask").app).fetch("/same/tea/tea")
    assert suspended(request)
    assert request.json() == {"same": True}


DJANGO = """
import django.conf, django.urls, readme_django_views
from wsgi_plus.testing import Client, Parked, Ready

django.conf.settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
urlpatterns = [django.urls.path("<name>", readme_django_views.page)]
from readme_django_wsgi import application

request = Client(application).fetch("/tea")
assert any(type(step) in (Parked, Ready) for step in request.steps)
assert request.body == b"hot"
"""


def test_readme_django(files: Path) -> None:
    (files / "check.py").write_text(DJANGO)
    run(sys.executable, "check.py", cwd=files, env={"PYTHONPATH": str(SOURCE)})


REST = """
import django.conf, django.urls
from wsgi_plus.testing import Client, Parked, Ready

django.conf.settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], REST_FRAMEWORK={
        "UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    },
)
import readme_django_rest
urlpatterns = [django.urls.path("<name>", readme_django_rest.page)]
from readme_django_wsgi import application

request = Client(application).fetch("/tea")
assert any(type(step) in (Parked, Ready) for step in request.steps)
assert request.json() == {"name": "tea", "length": 3}
"""


def test_readme_django_rest_framework(files: Path) -> None:
    (files / "rest.py").write_text(REST)
    run(sys.executable, "rest.py", cwd=files, env={"PYTHONPATH": str(SOURCE)})


DATABASE = """
import django, sys
from django.conf import settings

if __name__ == "__main__":
    settings.configure(
        ROOT_URLCONF="database", ALLOWED_HOSTS=["*"], DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "readme.sqlite3"}},
    )
    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from wsgi_plus.django import get_wsgi_application
    from wsgi_plus.testing import Client

    call_command("migrate", verbosity=0)
    User.objects.create_user("ada")
    assert Client(get_wsgi_application()).fetch("/").json() == {"count": 1, "newest": ["ada"]}
else:
    import django.urls, readme_django_database
    urlpatterns = [django.urls.path("", readme_django_database.dashboard)]
"""


def test_readme_django_database(files: Path) -> None:
    (files / "database.py").write_text(DATABASE)
    run(sys.executable, "database.py", cwd=files, env={"PYTHONPATH": str(SOURCE)})


@pytest.mark.parametrize(("name", "passed"), [("readme_testing.py", 3), ("readme_server.py", 1)])
def test_readme_testing(files: Path, name: str, passed: int) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", files, name]
    assert re.search(rf"^{passed} passed", run(*command, cwd=files, env={"PYTHONPATH": str(SOURCE)}), re.MULTILINE)


TESTS = """
import django
from django.conf import settings
from django.urls import path

def pytest_configure():
    settings.configure(ROOT_URLCONF="conftest", ALLOWED_HOSTS=["*"], DATABASES={})
    django.setup()
    import readme_django_views
    urlpatterns.append(path("<name>", readme_django_views.page))

urlpatterns = []
pytest_plugins = ["wsgi_plus.django.fixtures"]
"""

FIXTURE = """
def test_the_fixture(suspending_client):
    assert suspending_client.get("/tea").content == b"hot"
"""


def run_tests(files: Path, *names: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", files, *names]
    return run(*command, cwd=files, env={"PYTHONPATH": str(SOURCE)})


def test_readme_django_testing(files: Path) -> None:
    (files / "conftest.py").write_text(TESTS)
    (files / "fixture.py").write_text(FIXTURE)
    assert re.search(r"^3 passed", run_tests(files, "fixture.py", "readme_django_testing.py"), re.MULTILINE)


FLASK_TESTS = """
import pytest
from readme_flask import app as application

@pytest.fixture
def app():
    return application

pytest_plugins = ["wsgi_plus.flask.fixtures"]
"""


def test_readme_flask_testing(files: Path) -> None:
    (files / "conftest.py").write_text(FLASK_TESTS)
    assert re.search(r"^1 passed", run_tests(files, "readme_flask_testing.py"), re.MULTILINE)


def test_readme_validator(example: Callable[[str], Any]) -> None:
    with pytest.raises(WSGIPlusError, match=r"^S15\.1: .*shout"):
        Client(example("readme_validator").application, validate=False).fetch("/tea")


def test_readme_traces(example: Callable[[str], Any]) -> None:
    request = Client(example("readme_traces").application).fetch("/tea")
    assert suspended(request)
    assert request.body == b"hot"
    (version,) = re.findall(r"^opentelemetry-instrumentation-wsgi==(.*)$", REQUIREMENTS, re.MULTILINE)
    assert f"({version} does)" in README  # what tests/wsgi_plus/servers/test_context.py has looked at


def test_readme_blocking(example: Callable[[str], Any]) -> None:
    request = Client(example("readme_blocking").application).get("/tea")
    assert not suspended(request)
    assert request.body == b"hot"


def test_readme_links() -> None:
    for name in re.findall(r"\]\(([^)#]+)\)", README):
        assert (SOURCE / name).resolve().exists(), name
