"""scripts/fresh where it cannot do its work: it says so.  Where it can, .ci/run runs it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from harness.limits import LONG, ROOT


def fresh(folder: Path, *arguments: str, **programs: str) -> subprocess.CompletedProcess[str]:
    """Runs it with shell scripts in the place of some programs."""
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    env = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    command = [str(ROOT / "scripts" / "fresh"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=LONG, check=False)


@pytest.mark.parametrize("arguments", [["squeeze"], ["--slow"], ["trixie", "--quick", "x"]])
def test_wrong_usage(tmp_path: Path, arguments: list[str]) -> None:
    done = fresh(tmp_path, *arguments, id="echo 1000")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("scripts/fresh [--quick]")


def test_help(tmp_path: Path) -> None:
    done = fresh(tmp_path, "--help", id="echo 1000")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("scripts/fresh [--quick]")
    assert done.stdout.endswith("2 on wrong usage.\n")


def test_only_root(tmp_path: Path) -> None:
    done = fresh(tmp_path, "trixie", id="echo 1000")
    assert done.returncode == 1
    assert "only root" in done.stderr


def test_no_right_to_mount(tmp_path: Path) -> None:
    said = "unshare: unshare failed: Operation not permitted"
    done = fresh(tmp_path, id="echo 0", unshare=f"echo '{said}' >&2; exit 1")
    assert done.returncode == 1
    assert said in done.stderr and "nothing can be mounted here" in done.stderr
