"""The wheel for other machines, with its libraries in itself: `make portable-tests`, which makes it from scripts/static-deps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest
from harness.limits import LONG, ROOT

DIST = ROOT / "build/portable/dist"
TOOLS = ROOT / "build/release-venv/bin"


def run(*command: object, **env: str) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, env=os.environ | env, capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel() -> Path:
    [file] = DIST.glob("fermata_server-*.whl")
    return file


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def module(unpacked: Path) -> Path:
    [file] = unpacked.glob("fermata_server/_server*.so")
    return file


def test_tag(wheel: Path) -> None:
    """Built on Debian 12 it runs where glibc is 2.34 or newer: nothing later is asked for."""
    said = run(TOOLS / "auditwheel", "show", wheel)
    tags = [(int(major), int(minor)) for major, minor in re.findall(r'"manylinux_(\d+)_(\d+)_\w+"', said)]
    assert tags and min(tags) <= (2, 34), said


def test_libraries(unpacked: Path) -> None:
    """glibc's alone; the others are inside."""
    needed = set(re.findall(r"NEEDED.*\[([\w.-]+)\]", run("readelf", "-dW", module(unpacked))))
    assert needed <= {"libc.so.6", "libpthread.so.0"}


def test_one_symbol_is_exported(unpacked: Path) -> None:
    """Another copy of libevent in the process neither takes these calls nor gets them."""
    lines = [line.split() for line in run("readelf", "-W", "--dyn-syms", module(unpacked)).splitlines()]
    exported = {line[7] for line in lines if len(line) == 8 and line[4] in ("GLOBAL", "WEAK") and line[6] != "UND"}
    assert exported == {"PyInit__server"}


def test_licences_and_materials(unpacked: Path) -> None:
    """The texts of both libraries, which METADATA names, and what they are."""
    [info] = unpacked.glob("*.dist-info")
    named = re.findall(r"^License-File: (.*)$", (info / "METADATA").read_text(), re.M)
    texts = {Path(name).stem: (info / "licenses" / name).read_text() for name in named}
    assert set(texts) == {"LICENSE", "libevent", "http-parser"}
    assert "Niels Provos" in texts["libevent"] and "Joyent" in texts["http-parser"]
    found = json.loads((info / "sboms/fermata-server.cdx.json").read_text())
    versions = dict(line.split() for line in (ROOT / "build/deps/versions").read_text().splitlines())
    assert {part["name"]: part["version"] for part in found["components"]} == versions


def test_files(unpacked: Path) -> None:
    """The package, and nothing that a build has left."""
    package = {path.name for path in (unpacked / "fermata_server").rglob("*") if path.is_file()}
    sources = {path.name for path in (ROOT / "py/extension/fermata_server").iterdir() if path.suffix in (".py", ".pyi", ".typed")}
    assert package == {*sources, "py.typed", module(unpacked).name}
    assert {path.name.partition("-")[0] for path in unpacked.iterdir()} == {"fermata_server"}


def test_what_pypi_will_show() -> None:
    run(TOOLS / "twine", "check", "--strict", *sorted(DIST.iterdir()))


def test_it_serves() -> None:
    """As each wheel of a release is tried."""
    said = run(ROOT / "build/portable/venv/bin/python", ROOT / "scripts/dev/try-installed", PYTHONPATH=str(ROOT / "py"))
    assert said.count("it serves") == 3
