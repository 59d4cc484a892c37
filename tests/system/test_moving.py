"""spec/manual/from-*.md: commands, units and configurations run, options are there, and gunicorn's page has all of its settings."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import gunicorn.config
import pytest
from harness.limits import LONG, ROOT, timeout
from harness.proxies import free_port, shown
from harness.server import run
from harness.sites import Site
from harness.told import examples_of, here, unit

pytestmark = [timeout(120)]

MANUAL = ROOT / "spec/manual"
MOVES = sorted(MANUAL.glob("from-*.md"))
PAGES = [*MOVES, *(MANUAL / f"{name}.md" for name in ("behind-a-proxy", "in-a-container", "reloading"))]

# The applications that the pages name, in any way: each says what it sees.
APP = """
import json, os

def app(environ, start_response):
    seen = {name: environ.get(name) for name in ("wsgi.url_scheme", "REMOTE_ADDR", "HTTP_HOST", "SCRIPT_NAME", "PATH_INFO")}
    seen["settings"] = os.environ.get("DJANGO_SETTINGS_MODULE")
    body = json.dumps(seen).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]

application = app

def create_app():
    return app
"""


@pytest.fixture
def srv(tmp_path: Path) -> Path:
    """A directory with all of them: shop, shop.wsgi, app, wsgi; and files of nginx's."""
    tmp_path.chmod(0o755)
    made = tmp_path / "srv"
    (made / "shop/static").mkdir(parents=True)
    (made / "static").mkdir()
    for name in ("shop/__init__.py", "shop/wsgi.py", "app.py", "wsgi.py"):
        (made / name).write_text(APP)
    (made / "gunicorn.conf.py").write_text('bind = "127.0.0.1:0"\nworkers = 2\nthreads = 4\naccesslog = "-"\n')
    for name in ("static/site.css", "shop/static/site.css"):
        (made / name).write_text("body {}")
    return made


def placed(words: list[str], srv: Path) -> list[str]:
    """The words with directories of this test and free ports in them."""
    found = [word.replace("/run/app/", f"{srv}/").replace("/run/shop/", f"{srv}/") for word in words]
    found = [word.replace("/srv/app/current", str(srv)).replace("/var/log/shop", str(srv)) for word in found]
    found = [str(srv) if word in ("/srv/shop", "/srv/app") else word for word in found]
    found = [re.sub(r"^(127\.0\.0\.1|0\.0\.0\.0|\[::\]):80\d\d$", r"127.0.0.1:0", word) for word in found]
    return here(found, {})


COMMANDS = [(page, words) for page in PAGES for words in examples_of(page)]


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: getattr(value, "name", None) or shlex.join(value))
def test_commands(launch, srv, page, words):
    """Each command that a page shows starts a server that answers."""
    server = launch(None, *placed(words[1:], srv), bind=None, cwd=srv, env={"PORT": str(free_port())})
    assert json.loads(server.get("/x", timeout=LONG).text)["PATH_INFO"] == "/x"


def test_there_are_commands() -> None:
    assert {page.name for page, _ in COMMANDS} >= {
        "from-gunicorn.md", "from-uwsgi.md", "from-waitress.md", "behind-a-proxy.md", "reloading.md"
    }


def names_of(cell: str) -> set[str]:
    return set(re.findall(r"--[a-z][\w-]+", " ".join(re.findall(r"`([^`]+)`", cell))))


def rows(page: Path) -> list[list[str]]:
    """Of tables, without their heads; a bar within a cell is escaped."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize("page", MOVES, ids=lambda page: page.name)
def test_options_are_there(page) -> None:
    """Each option that is said to be ours is."""
    ours = names_of(f"`{run('--help').stdout}`")
    found = rows(page)
    assert len(found) > 20
    for row in found:
        said = set().union(*(names_of(cell) for cell in row[1:]))
        allowed = {"--verbose", "--log-file"}  # the application's, and another name of --error-logfile
        assert said - ours <= allowed, row
    in_text = names_of(re.sub(r"^\|.*$", "", page.read_text(), flags=re.M))
    theirs = {
        "from-gunicorn.md": {"--certfile"},
        "from-waitress.md": {"--listen", "--call"},
        "from-mod-wsgi.md": {"--port", "--processes", "--url-alias", "--document-root"},
    }
    assert in_text - ours - theirs.get(page.name, set()) == set()


@pytest.mark.parametrize("page", MOVES, ids=lambda page: page.name)
def test_what_is_there_is_not_said_to_be_missing(page) -> None:
    """Where the name of an option is the same, the second column does not say `none`."""
    ours = names_of(f"`{run('--help').stdout}`")
    for row in rows(page):
        if row[1] == "none":
            assert not names_of(row[0]) & ours, row


def test_every_setting_of_gunicorn() -> None:
    """Its page has a row for each, with the option's name."""
    page = MANUAL / "from-gunicorn.md"
    cells = [row[0] for row in rows(page)]
    for setting in gunicorn.config.KNOWN_SETTINGS:
        found = [cell for cell in cells if f"`{setting.name}`" in cell]
        assert found, setting.name
        for option in setting.cli or ():
            assert not option.startswith("--") or any(f"`{option}`" in cell for cell in cells) or option == "--paster", option


def test_gunicorn_has_no_other() -> None:
    """Nothing in the first column is made up."""
    known = {setting.name for setting in gunicorn.config.KNOWN_SETTINGS}
    options = {option for setting in gunicorn.config.KNOWN_SETTINGS for option in setting.cli or ()}
    for row in rows(MANUAL / "from-gunicorn.md"):
        for name in re.findall(r"`([^`]+)`", row[0]):
            assert name in known | options, name


def test_what_becomes_of_gunicorn_s_options() -> None:
    """One that the page says is not there is refused by its name; one that it says is taken is."""
    ours = names_of(f"`{run('--help').stdout}`")
    for row in rows(MANUAL / "from-gunicorn.md"):
        for option in names_of(row[0]) - ours:
            ran = run(option)  # without an application: what is taken is not enough
            assert ran.returncode == 2, option
            refused = f"there is no option {option}" in ran.stderr
            assert refused == (row[1] != "taken, and without effect" and option not in names_of(row[1])), (option, ran.stderr)


# Units and configurations


def test_unit_json_becomes_a_unit(launch, srv):
    """From NGINX Unit: the file is JSON, and the command has its numbers; behind nginx as the page shows it."""
    was = json.loads(shown("unit.json", {}))
    text = shown("unit.service", {})
    words = shlex.split(unit(text)["ExecStart"])[1:]
    now = {word: words[i + 1] for i, word in enumerate(words) if word.startswith("--")}
    app = was["applications"]["shop"]
    assert (now["--workers"], now["--threads"]) == (str(app["processes"]), str(app["threads"]))
    assert now["--request-timeout"] == str(app["limits"]["timeout"])
    assert now["--limit-request-body"] == str(was["settings"]["http"]["max_body_size"])
    assert (words[-1], now["--venv"]) == (app["module"], app["home"])
    assert unit(text)["WorkingDirectory"] == app["working_directory"]
    launch(None, *placed(words, srv), bind=None, cwd=srv)
    conf = shown("unit.nginx", {"/run/shop/http": f"{srv}/http", "root /srv/shop;": f"root {srv};"})
    with site(srv, conf) as nginx:
        seen = json.loads(nginx.get("/x", {"Host": "a.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}))
        assert seen["wsgi.url_scheme"] == "https"
        assert seen["settings"] == "shop.settings"
        assert nginx.get("/static/site.css") == "body {}"


def site(srv: Path, text: str) -> Site:
    (srv / "nginx").mkdir()
    return Site(srv / "nginx", text)


def test_uwsgi_becomes_http(launch, srv):
    """From uWSGI: the command behind nginx as the page shows it; the ini file has the same numbers."""
    was = dict(line.split(" = ") for line in shown("uwsgi.old", {}).splitlines() if " = " in line)
    (words,) = examples_of(MANUAL / "from-uwsgi.md")
    now = {word: words[i + 1] for i, word in enumerate(words) if word.startswith("--")}
    for theirs, ours in [("processes", "--workers"), ("threads", "--threads"), ("harakiri", "--request-timeout")]:
        assert now[ours] == was[theirs]
    assert (words[-1], now["--chdir"], now["--venv"]) == (was["module"], was["chdir"], was["home"])
    launch(None, *placed(words[1:], srv), bind=None, cwd=srv)
    with site(srv, shown("uwsgi.nginx", {"/run/shop/http": f"{srv}/http"})) as nginx:
        seen = json.loads(nginx.get("/x", {"Host": "a.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}))
        assert (seen["wsgi.url_scheme"], seen["REMOTE_ADDR"], seen["HTTP_HOST"]) == ("http", "127.0.0.1", "a.example")


def test_each_block_is_run() -> None:
    """Every block of these pages has a name, and a test that asks for it by that name."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.rglob("*.py"))
    for page in PAGES:
        text = page.read_text()
        fences = re.findall(r"^```\w+$", text, re.M)
        named = re.findall(r"^<!-- ([\w.]+) -->\n```\w+$", text, re.M)
        assert len(fences) == len(named), page
        for name in named:
            assert re.search(rf"""["']{re.escape(name)}["']""", tests), (page.name, name)


def test_old_nginx_of_uwsgi() -> None:
    """What is replaced is what uWSGI's documentation shows: parameters, and the protocol."""
    assert re.findall(r"^    (\w+)", shown("uwsgi.nginx.old", {}), re.M) == ["include", "uwsgi_pass", "uwsgi_read_timeout"]
