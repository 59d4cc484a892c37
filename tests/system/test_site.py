"""The manual's site, as far as that takes no time: its navigation, and the scripts that `make site` makes it with."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from harness.limits import LONG, ROOT

SITE = ROOT / "scripts/site"
CONFIG = (SITE / "mkdocs.yml").read_text()


def load(name: str) -> ModuleType:
    loader = SourceFileLoader(f"site_{name.partition('.')[0]}", str(SITE / name))
    module = importlib.util.module_from_spec(spec) if (spec := importlib.util.spec_from_loader(loader.name, loader)) else None
    assert module
    loader.exec_module(module)
    return module


HOOKS = load("hooks.py")


def pages() -> set[str]:
    found = [ROOT / "CHANGELOG.md", ROOT / "py/README.md", *ROOT.glob("spec/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return {str(path.relative_to(ROOT)) for path in found}


def test_every_page_is_in_the_navigation() -> None:
    """Once, but for those that are read beside the code; and what is there is a page."""
    named = re.findall(r"^ *- (?:[^:\n]+: )?(\S+\.md)$", CONFIG, re.M)
    assert len(named) == len(set(named))
    assert set(named) <= pages()
    assert {name for name in pages() - set(named) if not name.startswith("spec/internals/")} == set()


def test_warnings_count() -> None:
    """mkdocs counts what --strict is about only where it is not told to be quiet."""
    (command,) = re.findall(r"-m mkdocs build (.*)", (SITE / "build").read_text())
    assert "--strict" in command and "--quiet" not in command
    assert set(re.findall(r"^ +(?:omitted_files|not_found|anchors|absolute_links|unrecognized_links): (\w+)", CONFIG, re.M)) == {"warn"}


def test_nothing_is_asked_of_other_hosts() -> None:
    assert "  font: false" in CONFIG
    assert not re.search(r"https?:", CONFIG)


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("spec/manual/options.md", "options.md"),
        ("spec/manual/benchmarks/sse.svg", "benchmarks/sse.svg"),
        ("spec/wsgi-plus.md", "wsgi-plus.md"),
        ("py/README.md", "package/README.md"),
        ("examples/chat/README.md", "examples/chat/README.md"),
    ],
)
def test_addresses(path: str, address: str) -> None:
    assert HOOKS.address(path) == address


def test_no_two_pages_have_the_same_address() -> None:
    """Nor would one be in the folder that another has made of its name."""

    def folder(name: str) -> str:
        return re.sub(r"(^|/)(README|index)$", "", HOOKS.address(name)[: -len(".md")])

    found = [folder(name) for name in pages()]
    assert len(found) == len(set(found))


class Files:
    def __init__(self, *names: str) -> None:
        self.names = names

    def get_file_from_path(self, path: str) -> object:
        return path if path in self.names else None


@pytest.mark.parametrize(
    ("link", "alone", "beside"),
    [
        ("[options](options.md#signals)", "[options](options.md#signals)", None),
        ("[it](../../examples/chat/)", "[it](../../examples/chat/README.md)", None),
        ("[the `code`](../../src/main.c#x)", "the `code`", "[the `code`](https://forge.example/src/main.c#x)"),
        ("![a](../../src)", "a", "![a](https://forge.example/src)"),
        ("`a[0](../../src)`", "`a[0](../../src)`", None),
        ("```\n[x](../../src)\n```", "```\n[x](../../src)\n```", None),
        ("[no](nowhere.md)", "[no](nowhere.md)", None),  # mkdocs says so
    ],
)
def test_links(monkeypatch: pytest.MonkeyPatch, link: str, alone: str, beside: str | None) -> None:
    """To what is no page they lead to where the checkout can be read, or are text."""
    page = SimpleNamespace(file=SimpleNamespace(src_uri="spec/manual/workers.md"))
    files = Files("spec/manual/options.md", "examples/chat/README.md")
    monkeypatch.delenv("SITE_REPOSITORY", raising=False)
    assert HOOKS.on_page_markdown(link, page, None, files) == alone
    monkeypatch.setenv("SITE_REPOSITORY", "https://forge.example/")
    assert HOOKS.on_page_markdown(link, page, None, files) == (alone if beside is None else beside)


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/index.html").write_text('<h2 id="there">x</h2><a href="../">home</a>')
    (tmp_path / "index.html").write_text(
        '<a href="other/#there">1</a><a href="other/#gone">2</a><a href="lost/">3</a><a href="https://a.example/">4</a>'
        '<script src="https://b.example/x.js"></script><img src="x.png"><a href="#nothing">5</a>'
    )
    done = subprocess.run([sys.executable, SITE / "links", tmp_path], capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "index.html: other/#gone is no place in it",
        "index.html: lost/ leads nowhere",
        "index.html: script from another host: https://b.example/x.js",
        "index.html: x.png leads nowhere",
        "index.html: #nothing is no place in it",
    ]


def test_a_folder_without_pages(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SITE / "links", tmp_path], capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 1
    assert "index.html" in done.stderr
