"""What a release is made with: scripts/dev/release, the pages of PyPI, the versions, the list of materials.  No server."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness.limits import LONG, ROOT, timeout
from harness.server import run as fermata

pytestmark = [timeout(120)]

CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
ABSOLUTE = ROOT / "scripts/dev/absolute-links"
BASE = "https://forge.example/owner/fermata/blob/v0.2.0"


def run(*command: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=LONG, check=False)


# ---- the version ----


def version() -> str:
    found = re.search(r"^## ([0-9.]+)", CHANGELOG, re.M)
    assert found
    return found[1]


def test_one_version_everywhere() -> None:
    """The changelog's: what the command says, and its page; what both distributions are called; what one wants of the other."""
    places = {
        "fermata --version": re.findall(r"^fermata ([0-9.]+) ", fermata("--version").stdout),
        "fermata(1)": re.findall(r'^\.TH FERMATA 1 "" "fermata ([0-9.]+)"', fermata("--help=man").stdout),
        "wsgi-plus": re.findall(r'^version = "([0-9.]+)"$', (ROOT / "py/pyproject.toml").read_text(), re.M),
        "fermata-server's wish": re.findall(r'"wsgi-plus>=([0-9.]+),', (ROOT / "pyproject.toml").read_text()),
        "the form for bugs": re.findall(r"placeholder: fermata ([0-9.]+) ", (ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text()),
    }
    assert places == {name: [version()] for name in places}


def test_no_module_has_one_of_its_own() -> None:
    """Who asks wants importlib.metadata, which cannot be wrong."""
    for path in [*(ROOT / "py/wsgi_plus").rglob("*.py"), *(ROOT / "py/extension").rglob("*.py")]:
        names = [n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        assert "__version__" not in names, path


# ---- scripts/dev/release ----

HEADING = "## 0.2.0 (2026-12-01)"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with what is looked at, which could be released."""
    here = tmp_path / "checkout"
    for name in ("scripts/dev/release", "scripts/lib.sh", "py/pyproject.toml", "pyproject.toml"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        text = re.sub(rf"(?<=[\"=]){re.escape(version())}(?=[\",])", "0.2.0", (ROOT / name).read_text())
        (here / name).write_text(text)
        (here / name).chmod(0o755)
    (here / "CHANGELOG.md").write_text(f"# Changes\n\n{HEADING}\n\n- It is new.\n  # 1 is here.\n\n## 0.1.0\n\n- Old.\n")
    git(here, "init", "--quiet", "--initial-branch", "main")
    commit(here)
    return here


def git(where: Path, *words: str) -> str:
    done = run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words, cwd=where)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commit(where: Path) -> None:
    git(where, "add", "--all")
    git(where, "commit", "--quiet", "--message", "x")


def release(where: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run("env", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.org", where / "scripts/dev/release", *words, cwd=where)


def test_release_of_what_can_be(checkout: Path) -> None:
    done = release(checkout)
    assert (done.returncode, done.stderr) == (0, "release: version 0.2.0 can be released\n")
    assert git(checkout, "tag") == ""


def test_release_tags(checkout: Path) -> None:
    """With the section of the changelog; and not twice."""
    assert release(checkout, "--tag").returncode == 0
    assert git(checkout, "tag", "--list", "--format=%(contents)", "v0.2.0").strip() == "- It is new.\n  # 1 is here."
    done = release(checkout, "--tag")
    assert (done.returncode, done.stderr) == (1, "release: there is a tag v0.2.0\n")


def change(where: Path, name: str, old: str, new: str) -> None:
    text = (where / name).read_text()
    assert old in text
    (where / name).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("CHANGELOG.md", HEADING, "## 0.2.0 (unreleased)", 'CHANGELOG.md begins with "## 0.2.0 (unreleased)"'),
        ("CHANGELOG.md", HEADING, "## 0.2.0", 'CHANGELOG.md begins with "## 0.2.0"'),
        ("CHANGELOG.md", HEADING, "## 0.3.0 (2026-12-01)", 'py/pyproject.toml has no version = "0.3.0"'),
        ("py/pyproject.toml", 'version = "0.2.0"', 'version = "0.2.1"', 'py/pyproject.toml has no version = "0.2.0"'),
        ("pyproject.toml", "wsgi-plus>=0.2.0", "wsgi-plus>=0.1.0", 'pyproject.toml has no "wsgi-plus>=0.2.0,'),
    ],
)
def test_release_of_a_version_that_is_not_ready(checkout: Path, name: str, old: str, new: str, said: str) -> None:
    change(checkout, name, old, new)
    commit(checkout)
    for words in ([], ["--tag"], ["--check", "v0.2.0"]):
        done = release(checkout, *words)
        assert done.returncode == 1
        assert said in done.stderr
    assert git(checkout, "tag") == ""


def test_release_of_an_untidy_checkout(checkout: Path) -> None:
    """Everything that is against it is said at once."""
    git(checkout, "switch", "--quiet", "--create", "side")
    (checkout / "left").touch()
    done = release(checkout, "--tag")
    assert done.returncode == 1
    assert done.stderr == "release: something is not committed: git status\nrelease: this is not the branch main\n"


def test_release_of_what_others_do_not_have(checkout: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(checkout), "forge")
    git(checkout, "remote", "add", "origin", str(tmp_path / "forge"))
    git(checkout, "fetch", "--quiet", "origin")
    git(checkout, "branch", "--quiet", "--set-upstream-to", "origin/main")
    assert release(checkout).returncode == 0
    (checkout / "new").touch()
    commit(checkout)
    done = release(checkout)
    assert (done.returncode, done.stderr) == (1, "release: main is not the one that others have: git pull, git push\n")


def test_release_checks_the_tag(checkout: Path) -> None:
    """In the workflow, which has no branch and may have no git."""
    assert release(checkout, "--check", "v0.2.0").returncode == 0
    done = release(checkout, "--check", "v0.2.1")
    assert (done.returncode, done.stderr) == (1, "release: the tag is v0.2.1, and this is version 0.2.0\n")


@pytest.mark.parametrize("words", [["--push"], ["--check"], ["--tag", "v0.2.0"]])
def test_release_wrong_usage(checkout: Path, words: list[str]) -> None:
    done = release(checkout, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("scripts/dev/release [--tag")


# ---- the pages that PyPI shows ----


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S))


def test_the_page_of_fermata_server_stands_alone() -> None:
    """It is in the source distribution, where nothing can rewrite it."""
    assert [link for link in links((ROOT / "py/extension/fermata_server/README.md").read_text()) if ":" not in link] == []


def test_the_page_of_wsgi_plus_gets_addresses(tmp_path: Path) -> None:
    """Of what it names in the checkout; the rest is as it was."""
    page = ROOT / "py/README.md"
    done = run(sys.executable, ABSOLUTE, BASE, page, tmp_path / "page.md")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "page.md").read_text()
    relative = [link for link in links(page.read_text()) if ":" not in link and not link.startswith("#")]
    assert relative and [link for link in links(text) if ":" not in link and not link.startswith("#")] == []
    assert f"]({BASE}/spec/wsgi-plus.md)" in text
    assert re.sub(r"\]\([^)]*\)", "", text) == re.sub(r"\]\([^)]*\)", "", page.read_text())


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    """And what is code is no link."""
    (tmp_path / "page.md").write_text("`a[0](x)` and [a page](nowhere.md)\n")
    done = run(sys.executable, ABSOLUTE, BASE, tmp_path / "page.md")
    assert done.returncode == 1
    assert "nowhere.md leads nowhere" in done.stderr
    assert (tmp_path / "page.md").read_text() == "`a[0](x)` and [a page](nowhere.md)\n"


# ---- what a wheel has inside ----


def test_materials() -> None:
    """CycloneDX, with the licences of both libraries, and the same each time."""
    versions = "libevent 2.1.12-stable-8+deb12u1\nhttp-parser 2.9.4-5\n"
    code = f"import sys, json; sys.path.insert(0, 'scripts'); import hatch_build as h; print(json.dumps(h.materials('1.2.3', {versions!r})))"
    said = [run(sys.executable, "-c", code).stdout for _ in range(2)]
    assert said[0] == said[1]
    found = json.loads(said[0])
    assert (found["bomFormat"], found["metadata"]["component"]["version"]) == ("CycloneDX", "1.2.3")
    parts = {part["name"]: (part["version"], part["licenses"][0]["license"]["id"]) for part in found["components"]}
    assert parts == {"libevent": ("2.1.12-stable-8+deb12u1", "BSD-3-Clause"), "http-parser": ("2.9.4-5", "MIT")}
    assert found["dependencies"][0]["dependsOn"] == [part["bom-ref"] for part in found["components"]]


@pytest.mark.parametrize("words", [[], ["--from", "x"], ["--fetch"], ["a", "b"], ["--help"]])
def test_static_deps_wrong_usage(words: list[str]) -> None:
    done = run(ROOT / "scripts/static-deps", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("scripts/static-deps DIR\n")
