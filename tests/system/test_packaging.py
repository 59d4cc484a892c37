"""What pip gets: the source distribution, the hook that has make build the module, names and versions.  No server."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from harness.limits import LONG, ROOT, timeout

pytestmark = [timeout(120)]

PROJECT = ROOT / "pyproject.toml"


def sdist(source: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [file] = folder.glob("*.tar.gz")
    return file


def tracked(*paths: str) -> set[str]:
    said = subprocess.run(["git", "ls-files", "--", *paths], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(said.splitlines())


def members(file: Path) -> set[str]:
    with tarfile.open(file) as tar:
        return {name.partition("/")[2] for name in tar.getnames()}


WANTED = (
    "CHANGELOG.md", "LICENSE", "Makefile", "pyproject.toml", "include", "src", "py/fermata", "py/extension/fermata_server", "scripts/embed",
    "scripts/hatch_build.py", "scripts/lib.sh", "scripts/page", "scripts/python", "scripts/python-facts", "scripts/train",
)  # fmt: skip


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="what is committed is known to git")
def test_source_distribution(tmp_path):
    """What a build needs and nothing else: neither what a build has left nor what is beside the sources."""
    file = sdist(ROOT, tmp_path)
    assert members(file) - {"PKG-INFO", ".gitignore"} == tracked(*WANTED)


def test_source_distribution_is_reproducible(tmp_path):
    """Two of the same sources, made in different folders, have the same bytes."""
    digests = set()
    for name in ("one", "two"):
        copy = tmp_path / name
        for path in WANTED:
            target = copy / path
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (ROOT / path).is_dir() else shutil.copy)(ROOT / path, target)
        os.utime(copy / "Makefile", (1, len(digests)))
        digests.add(hashlib.sha256(sdist(copy, tmp_path / f"dist-{name}").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_version_and_names():
    """The version is the changelog's, as that of wsgi-plus is; the distribution has the name that is ours."""
    version = re.search(r"^## ([0-9.]+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert version and f'version = "{version[1]}"' in (ROOT / "py/pyproject.toml").read_text()
    text = PROJECT.read_text()
    assert re.search(r'^name = "fermata-server"$', text, re.M)
    [bound] = re.findall(r'^dependencies = \["wsgi-plus>=([0-9.]+),<[0-9.]+"\]$', text, re.M)
    assert bound == version[1]


def test_hatchling_is_pinned_once():
    """What a build in isolation takes is what the tests take."""
    [pinned] = re.findall(r'"(hatchling==[0-9.]+)"', PROJECT.read_text())
    assert pinned in (ROOT / "tests/requirements.txt").read_text().splitlines()


def test_nothing_says_to_install_the_other_project():
    """PyPI has another project called fermata, which whoever installs that name gets."""
    told = re.compile(r"pip[^\n]*\b(install|download|wheel)\b[^\n]*[ '\"]fermata(?![-_\w./])")
    for name in sorted(tracked()):
        if name == "tests/system/test_packaging.py" or not name.endswith((".md", ".py", ".sh", ".toml", ".yml", ".txt")):
            continue
        found = told.search((ROOT / name).read_text(errors="replace"))
        assert not found, f"{name}: {found}"


# ---- the hook, where it cannot build ----


def hook(call: str, **env: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); import hatch_build; {call}"
    env = {"PATH": os.environ["PATH"], **env}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=LONG, check=False)


def tool(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_headers_that_are_missing(tmp_path):
    """What they are in, for three distributions, instead of the compiler's words."""
    tool(tmp_path, "gcc", "echo '<stdin>:1:10: fatal error: no such file' >&2; exit 1")
    done = hook("hatch_build.check()", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert done.stdout + done.stderr == (
        "\n"
        "fermata: the compiler does not find event2/event.h and http_parser.h\n"
        "fermata: Debian: apt-get install libevent-dev libhttp-parser-dev\n"
        "fermata: Fedora: dnf install libevent-devel http-parser-devel\n"
        "fermata: Alpine: apk add libevent-dev http-parser-dev\n"
        "\n"
    )


def test_one_header_that_is_missing(tmp_path):
    tool(tmp_path, "mycc", 'case $(cat) in *http_parser*) exit 1;; esac')
    done = hook("hatch_build.check()", CC=f"{tmp_path}/mycc -pipe")
    assert "does not find http_parser.h\nfermata: Debian: apt-get install libhttp-parser-dev\n" in done.stderr


def test_tools_that_are_missing(tmp_path):
    done = hook("hatch_build.check()", PATH=str(tmp_path))
    assert done.returncode == 1
    assert "fermata: make and gcc are missing, which it is built with\nfermata: Debian: apt-get install build-essential\n" in done.stderr
    done = hook("hatch_build.check()", CC="/no/such/cc -m64")
    assert "fermata: /no/such/cc is missing, which it is built with\n" in done.stderr


def test_headers_of_python_that_are_missing(tmp_path):
    change = f"import sysconfig; sysconfig.get_path = lambda name: {str(tmp_path)!r}"
    done = hook(f"{change}; hatch_build.check()")
    assert done.returncode == 1
    assert f"fermata: {tmp_path}/Python.h is missing, of {sys.executable}\nfermata: Debian: apt-get install python3-dev\n" in done.stderr


@pytest.mark.parametrize("where", ["make", "environment"])
def test_what_make_is_told(tmp_path, where):
    """Not that it runs below another make, nor in CI, where warnings are errors; the compiler and its flags, if they are set."""
    tool(tmp_path, "make", f'env >{tmp_path}/env; echo "$@" >{tmp_path}/arguments')
    flags = {"CC": "clang", "CFLAGS": "-Og", "LDFLAGS": "-Wl,-s"} if where == "environment" else {}
    below = {"CI": "true", "MAKEFLAGS": "n", "MAKELEVEL": "1", "MFLAGS": "-n", "FLAVOR": "asan", "V": "1"}
    call = f"from pathlib import Path; hatch_build.make(Path({str(ROOT)!r}), Path('/out'))"
    done = hook(call, **flags, **below, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    seen = dict(line.partition("=")[::2] for line in (tmp_path / "env").read_text().splitlines())
    assert not below.keys() & seen.keys()
    assert {name: seen.get(name) for name in flags} == flags
    assert seen["CFLAGS"] == flags.get("CFLAGS", "")
    assert "FLAVOR=module O=/out" in (tmp_path / "arguments").read_text()


def test_libraries_that_are_part_of_it(tmp_path):
    """What scripts/static-deps has made is handed to make, and the system's headers are not looked for."""
    tool(tmp_path, "make", f'echo "$@" >{tmp_path}/arguments')
    tool(tmp_path, "gcc", "exit 1")
    call = f"from pathlib import Path; hatch_build.check(); hatch_build.make(Path({str(ROOT)!r}), Path('/out'))"
    done = hook(call, FERMATA_DEPS="/made/deps", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert " DEPS=/made/deps all" in (tmp_path / "arguments").read_text()


def test_what_is_released_is_trained(tmp_path):
    """FERMATA_PGO=1 asks make for that; $PGO, which is make's own, does not."""
    tool(tmp_path, "make", f'echo "PGO=${{PGO:-}} $@" >{tmp_path}/arguments')
    call = f"from pathlib import Path; hatch_build.make(Path({str(ROOT)!r}), Path('/out'))"
    for env, wanted in (({"FERMATA_PGO": "1"}, True), ({"PGO": "1"}, False)):
        assert hook(call, **env, PATH=f"{tmp_path}:{os.environ['PATH']}").returncode == 0
        words = (tmp_path / "arguments").read_text().split()
        assert (words[0], "PGO=1" in words[1:]) == ("PGO=", wanted)


def test_make_that_fails(tmp_path):
    """Its own words are above, and pip shows the end."""
    tool(tmp_path, "make", "echo 'x.c:1: error' >&2; exit 2")
    call = f"from pathlib import Path; hatch_build.make(Path({str(ROOT)!r}), Path('/out'))"
    done = hook(call, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert done.stderr == "x.c:1: error\n\nfermata: make has failed; what it said stands above\n\n"


# ---- run, for who writes a script ----

USER = """
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fermata_server

def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    return []

def right() -> int:
    fermata_server.run("shop:app")
    fermata_server.run(app, bind=["127.0.0.1:8000", "unix:/run/s"], umask=0o22, access_logfile=Path("log"), root_path=None)
    return fermata_server.run(app, bind="127.0.0.1:8000", threads=8, keep_alive=1.5, access_log_json=True)

def wrong() -> None:
    fermata_server.run(app, threads="8")  # type: ignore[arg-type]
    fermata_server.run(app, bind=8000)  # type: ignore[arg-type]
    fermata_server.run(app, workers=2)  # type: ignore[call-arg]
    fermata_server.run(app, colour="red")  # type: ignore[call-arg]
    fermata_server.run(5)  # type: ignore[arg-type]
    text: str = fermata_server.run(app)  # type: ignore[assignment]
"""


def test_types(tmp_path):
    """The package is right within, and mypy finds what a user does wrong, and nothing else: an `ignore` too many is an error."""
    (tmp_path / "user.py").write_text(USER)
    files = [*sorted((ROOT / "py/extension/fermata_server").glob("*.py")), tmp_path / "user.py"]
    options = ["--strict", "--config-file=", f"--cache-dir={ROOT / 'build/mypy/cache-server'}"]
    env = os.environ | {"MYPYPATH": str(ROOT / "py/extension")}
    command = [sys.executable, "-m", "mypy", *options, "--explicit-package-bases", *files]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LONG * 2, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_options_are_those_of_the_command():
    """scripts/run-options, which makes them from --help, would change nothing."""
    done = subprocess.run([sys.executable, ROOT / "scripts/run-options", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
