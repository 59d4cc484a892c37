"""scripts/fresh and scripts/fresh-install where they cannot do their work: they say so.  Where it can, .ci/run runs the former."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from harness.limits import LONG, ROOT

SCRIPTS = ["fresh", "fresh-install"]
each = pytest.mark.parametrize("script", SCRIPTS)


def fresh(folder: Path, script: str, *arguments: str, **programs: str) -> subprocess.CompletedProcess[str]:
    """Runs it with shell scripts in the place of some programs."""
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    env = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    command = [str(ROOT / "scripts" / script), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=LONG, check=False)


@each
@pytest.mark.parametrize("arguments", [["squeeze"], ["--slow"], ["trixie", "--keep", "x"]])
def test_wrong_usage(tmp_path: Path, script: str, arguments: list[str]) -> None:
    done = fresh(tmp_path, script, *arguments, id="echo 1000")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"scripts/{script} [--")


@each
def test_help(tmp_path: Path, script: str) -> None:
    done = fresh(tmp_path, script, "--help", id="echo 1000")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"scripts/{script} [--")
    assert done.stdout.endswith("2 on wrong usage.\n")


@each
def test_only_root(tmp_path: Path, script: str) -> None:
    done = fresh(tmp_path, script, "trixie", id="echo 1000")
    assert done.returncode == 1
    assert "only root" in done.stderr


@each
def test_no_right_to_mount(tmp_path: Path, script: str) -> None:
    said = "unshare: unshare failed: Operation not permitted"
    done = fresh(tmp_path, script, id="echo 0", unshare=f"echo '{said}' >&2; exit 1")
    assert done.returncode == 1
    assert said in done.stderr and "nothing can be mounted here" in done.stderr
