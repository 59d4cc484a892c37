"""What README.md and the manual show is true, and what pages name is there."""

from __future__ import annotations

import http.server
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.limits import ROOT
from harness.server import Server, run
from harness.told import examples_of

README = (ROOT / "README.md").read_text()
QUICKSTART = (ROOT / "spec/manual/quickstart.md").read_text()
OPTIONS = (ROOT / "spec/manual/options.md").read_text()
PAGES = [path for path in sorted(ROOT.glob("**/*.md")) if not {"build", ".git"} & set(path.relative_to(ROOT).parts)]


class SlowUpstream(http.server.BaseHTTPRequestHandler):
    asked = threading.Barrier(20)  # answers only when all of twenty requests are there at once

    def do_GET(self) -> None:
        if self.path == "/together":
            self.asked.wait(20)
        self.send_response(404 if self.path == "/missing" else 200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowUpstream)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_proxy_in_20_lines(launch: Callable[..., Server], tmp_path: Path, upstream: int) -> None:
    """The proxy works as printed, and twenty slow requests wait on two threads."""
    match = re.search(r"<!-- proxy.py -->\n```python\n(.*?)```", QUICKSTART, re.S)
    assert match
    code = match[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    (tmp_path / "proxy.py").write_text(code.replace("9000", str(upstream)))
    server = launch("proxy:app", "--threads", "2", cwd=tmp_path)
    assert server.get("/hello").body == b"/hello"
    assert server.get("/missing").status == 404
    held = [server.begin("/together") for _ in range(20)]
    assert [c.read_response().body for c in held] == [b"/together"] * 20
    for c in held:
        c.close()


def test_proxy_without_upstream(launch: Callable[..., Server], tmp_path: Path) -> None:
    """An upstream that cannot be reached is a 502."""
    match = re.search(r"<!-- proxy.py -->\n```python\n(.*?)```", QUICKSTART, re.S)
    assert match
    (tmp_path / "proxy.py").write_text(match[1].replace("9000", "1"))  # a port that no process listens on
    server = launch("proxy:app", "--threads", "2", cwd=tmp_path)
    assert server.get("/").status == 502


def test_options_are_those_of_the_binary() -> None:
    """The list of options is the output of --help (scripts/docs puts it there)."""
    match = re.search(r"<!-- options -->\n```text\n(.*?)```", OPTIONS, re.S)
    assert match
    assert run("--help", env={"PORT": ""}).stdout == match[1]


def test_a_view_that_waits(launch: Callable[..., Server], tmp_path: Path) -> None:
    """Each of fifty requests waits, and two threads serve them all the same."""
    match = re.search(r"<!-- hello.py -->\n```python\n(.*?)```", README, re.S)
    assert match
    (tmp_path / "hello.py").write_text(match[1])
    server = launch(
        "hello:app", "--threads", "2", "--venv", sys.prefix, cwd=tmp_path, env={"PYTHONPATH": str(ROOT / "py")}, admin=True
    )
    held = [server.begin("/") for _ in range(50)]
    server.admin.wait_in_flight("parked_future", 50)
    assert [c.read_response().body for c in held] == [b"one second later\n"] * 50
    for c in held:
        c.close()


def minute(text: str) -> str:
    (code,) = re.findall(r"<!-- minute.py -->\n```python\n(.*?)```", text, re.S)
    return str(code)


def test_the_first_minute(launch: Callable[..., Server], tmp_path: Path) -> None:
    """Six lines, the same in README and quickstart, served by the command that they show: fifty wait on two threads."""
    assert minute(README) == minute(QUICKSTART)
    assert len(minute(README).splitlines()) == 6
    (tmp_path / "hello.py").write_text(minute(README))
    (words,) = {tuple(words) for page in ("README.md", "spec/manual/quickstart.md") for words in examples_of(ROOT / page)}
    server = launch(None, *words[1:], cwd=tmp_path, env={"PYTHONPATH": str(ROOT / "py")}, admin=True)
    held = [server.begin("/") for _ in range(50)]
    server.admin.wait_in_flight("parked_future", 50)
    assert [c.read_response().body for c in held] == [b"one second later\n"] * 50
    for c in held:
        c.close()


def test_pip_comes_first() -> None:
    """The first command of README and of the quickstart installs what pyproject.toml calls so."""
    (name,) = re.findall(r'^name = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    for text in (README, QUICKSTART):
        commands = re.findall(r"^    (\S.*)$", text, re.M)
        first = next(command for command in commands if not command.startswith("python3 -m venv"))
        assert first.partition("#")[0].split() == ["pip", "install", name]


def test_commands_exist() -> None:
    """The files and make targets that it names are there."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z]+)`", README):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for name in re.findall(r"^    (scripts/\w+)", README, re.M):
        assert (ROOT / name).exists(), name


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """To a file of the checkout, and to a heading in it."""
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        to = (page.parent / name).resolve() if name else page
        assert to.exists(), link
        assert not anchor or anchor in anchors(to), link
