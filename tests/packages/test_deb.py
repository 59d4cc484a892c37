"""Debian's packages, as `make deb` has made them, in a directory of their own: `make deb-tests`.

scripts/fresh-install installs them in a Debian that has nothing else.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.limits import LONG, ROOT
from harness.server import Server, environment

DEBS = ROOT / "build/deb"
PYTHON = os.path.realpath("/usr/bin/python3")  # what fermata is built with there


def run(*command: object, **options: object) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def package(name: str) -> Path:
    [file] = [DEBS / line for line in (DEBS / "files").read_text().split() if line.startswith(f"{name}_")]
    return file


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    for name in ("fermata", "python3-wsgi-plus"):
        run("dpkg-deb", "-x", package(name), folder)
    return folder


def files(unpacked: Path) -> set[str]:
    return {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}


def test_files(unpacked: Path) -> None:
    """The command, its page, the units, and the Python code; nothing outside of /usr and /lib."""
    found = files(unpacked)
    code = {name for name in found if name.startswith("usr/lib/python3/dist-packages/wsgi_plus/")}
    wanted = {f"usr/lib/python3/dist-packages/{path.relative_to(ROOT / 'py')}" for path in (ROOT / "py/wsgi_plus").rglob("*.py")}
    assert wanted <= code
    others = {re.sub(r"^usr/(?=lib/systemd)", "", name) for name in found - code if "/doc/" not in name}
    [info] = {Path(name).parent.name for name in others if ".dist-info" in name}
    assert others == {
        "usr/bin/fermata",
        "usr/share/man/man1/fermata.1.gz",
        "lib/systemd/system/fermata@.service",
        "lib/systemd/system/fermata@.socket",
        f"usr/lib/python3/dist-packages/{info}/METADATA",
        f"usr/lib/python3/dist-packages/{info}/INSTALLER",
    }


def test_version(unpacked: Path) -> None:
    """That of the changelog, in the command, in what apt compares and in what importlib.metadata says."""
    version = re.search(r"^## ([0-9.]+)(.*)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert version
    assert run(unpacked / "usr/bin/fermata", "--version").startswith(f"fermata {version[1]} ")
    assert re.match(rf"{re.escape(version[1])}(~\d+\.\d+)?-1$", run("dpkg-deb", "-f", package("fermata"), "Version").strip())
    code = "from importlib.metadata import version; print(version('wsgi-plus'))"
    path = {**environment(), "PYTHONPATH": str(unpacked / "usr/lib/python3/dist-packages")}
    assert run(PYTHON, "-c", code, env=path).strip() == version[1]


def test_one_that_is_not_released_sorts_before_its_release() -> None:
    version = run("dpkg-deb", "-f", package("fermata"), "Version").strip()
    released = re.sub(r"~.*-", "-", version)
    run("dpkg", "--compare-versions", version, "le", released)
    run("dpkg", "--compare-versions", "0.1.0-1", "lt", version)


def test_depends_on_the_python_that_it_was_built_with() -> None:
    depends = run("dpkg-deb", "-f", package("fermata"), "Depends")
    assert {Path(PYTHON).name, f"lib{Path(PYTHON).name}"} <= {name.split()[0] for name in depends.split(",")}


def test_no_path_of_a_distribution(unpacked: Path) -> None:
    """The loader looks into Debian's folders by itself, and none of the machine that it was built on is named."""
    dynamic = run("readelf", "-dW", unpacked / "usr/bin/fermata")
    assert "NEEDED" in dynamic
    assert "RUNPATH" not in dynamic and "RPATH" not in dynamic
    assert "BIND_NOW" in dynamic


def test_page(unpacked: Path) -> None:
    """It is that of the table of options."""
    with gzip.open(unpacked / "usr/share/man/man1/fermata.1.gz", "rt") as page:
        text = page.read()
    assert text == run(unpacked / "usr/bin/fermata", "--help=man")


def test_it_serves(launch: Callable[..., Server], unpacked: Path) -> None:
    """An application of the distribution's Python, which can import the packaged wsgi_plus."""
    path = {"PYTHONPATH": str(unpacked / "usr/lib/python3/dist-packages")}
    server = launch("helpers_app:app", program=[str(unpacked / "usr/bin/fermata")], env=path)
    assert server.get("/nap?s=0.01").text == "rested"
