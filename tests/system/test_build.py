"""How a Python is found and embedded: scripts/python-facts, scripts/pythons and the Makefile."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from harness.limits import LONG, ROOT

PRETEND = """
import sysconfig
sysconfig.get_config_vars().update({changes!r})
"""


def pretend(folder: Path, **changes: object) -> Path:
    """The Python of these tests, with another configuration."""
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "sitecustomize.py").write_text(PRETEND.format(changes=changes))
    python = folder / "bin" / "python3"
    python.parent.mkdir()
    base = getattr(sys, "_base_executable", sys.executable)
    python.write_text(f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(folder / 'lib'))} exec {shlex.quote(base)} \"$@\"\n")
    python.chmod(0o755)
    return python


def run(*command: object, **env: str) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | env
    return subprocess.run(
        words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LONG, check=False
    )


def embeds(python: Path) -> bool:
    return run("bash", "-c", '. scripts/lib.sh; python_embeds "$1"', "-", python).returncode == 0


@pytest.mark.parametrize("free_threaded", [0, 1])
def test_either_kind_is_taken(tmp_path: Path, free_threaded: int) -> None:
    python = pretend(tmp_path, Py_GIL_DISABLED=free_threaded)
    assert embeds(python)
    done = run("scripts/python-facts", python)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_free_threaded_python_that_is_not_there(tmp_path: Path) -> None:
    """scripts/free-threaded --find makes none, and says so; so does the target of its tests."""
    done = run("scripts/free-threaded", "--find", XDG_CACHE_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "no free-threaded Python" in done.stderr
    done = run("make", "-s", "free-threaded", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "not run: no free-threaded Python" in done.stdout
    assert not list(tmp_path.iterdir())


def test_headers_are_those_of_the_python(tmp_path: Path) -> None:
    """Those of Debian's debug builds are symbolic links to the others: what they include has to come from beside the
    links, which gcc does not look for in a directory that is given with -isystem."""
    release, debug = tmp_path / "usr" / "python3.x", tmp_path / "usr" / "python3.xd"
    for folder, kind in ((release, "release"), (debug, "debug")):
        folder.mkdir(parents=True)
        (folder / "pyconfig.h").write_text(f'#define KIND "{kind}"\n')
    (release / "Python.h").write_text('#include "pyconfig.h"\n')
    (debug / "Python.h").symlink_to("../python3.x/Python.h")
    python = pretend(tmp_path / "python", INCLUDEPY=str(debug))
    (tmp_path / "python" / "lib" / "sitecustomize.py").open("a").write(
        f"get, include = sysconfig.get_path, {str(debug)!r}\n"
        "sysconfig.get_path = lambda name: include if 'include' in name else get(name)\n"
    )
    facts = run("scripts/python-facts", python).stdout
    flags = next(line for line in facts.splitlines() if line.startswith("PY_CFLAGS")).partition(":=")[2]
    source = tmp_path / "main.c"
    source.write_text('#include "fermata/py/python.h"\nconst char *kind = KIND;\n')
    done = run("gcc", "-E", "-P", "-Iinclude", *shlex.split(flags), source)
    assert '"debug"' in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(("gil", "found"), [(0, True), (1, False)])
def test_other_pythons(tmp_path: Path, gil: int, found: bool) -> None:
    """scripts/pythons names one of each version that can be embedded, and none that the build uses."""
    python = pretend(tmp_path / "versions" / "mine", Py_GIL_DISABLED=gil)
    (tmp_path / "versions" / "mine" / "lib" / "sitecustomize.py").open("a").write(
        "import os, sys\nsys.version_info = (3, 15, 0, 'final', 0)\nsys._base_executable = os.environ['MINE']\n"
    )
    done = run("scripts/pythons", PYENV_ROOT=str(tmp_path), MINE=str(python))
    assert done.returncode == 0, done.stderr
    assert (str(python) in done.stdout.splitlines()) == found


# What musl has not, or has otherwise, and what glibc 2.28 has not: an extension module that calls it is built all the same, and
# cannot be loaded, or crashes.
LACKING = r"\b(strerror_r|sem_clockwait|pthread_cond_clockwait|pthread_mutex_clocklock|close_range|closefrom|strlcpy|arc4random\w*)\("


def test_calls_that_older_systems_lack() -> None:
    """None of them, wherever wheels are to run."""
    found = [
        f"{path.relative_to(ROOT)}: {call[1]}"
        for path in sorted((ROOT / "src").rglob("*.c"))
        for call in re.finditer(LACKING, re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S))
    ]
    assert found == []
