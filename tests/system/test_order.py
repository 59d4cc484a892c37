"""The order of the tests is shuffled, by a seed that is said: tests/conftest.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness.limits import LONG, ROOT

TESTS = """
import os, pathlib, pytest

@pytest.fixture(scope="module", params=["x", "y"])
def each(request):
    return request.param

@pytest.mark.parametrize("n", range(12))
def test_one(n):
    with open("ran-" + os.environ.get("PYTEST_XDIST_WORKER", "here"), "a") as file:
        print(__name__, n, file=file)

@pytest.mark.parametrize("n", range(4))
def test_each(each, n):
    with open("each", "a") as file:
        print(__name__, each, file=file)

def test_fails():
    assert "fail" not in __name__
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    for name in ("test_a.py", "test_b.py", "test_c.py"):
        (tmp_path / name).write_text(TESTS)
    return tmp_path


def run(folder: Path, seed: int | None, *arguments: str) -> tuple[list[str], str]:
    """What ran in this order, and what pytest printed."""
    for old in [*folder.glob("ran-*"), *folder.glob("each")]:
        old.unlink()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "FERMATA_TEST_SEED"))}
    if seed is not None:
        env["FERMATA_TEST_SEED"] = str(seed)
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [line for file in sorted(folder.glob("ran-*")) for line in file.read_text().splitlines()], done.stdout


def test_each_run_has_another_order_and_its_seed_repeats_it(folder: Path) -> None:
    orders = []
    for _ in range(3):
        order, output = run(folder, None)
        seed = re.search(r"FERMATA_TEST_SEED=(\d+)", output)
        assert seed, output
        assert run(folder, int(seed[1]))[0] == order
        orders.append(order)
    assert len({tuple(order) for order in orders}) == 3
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])


def test_modules_and_what_shares_a_fixture_stay_together(folder: Path) -> None:
    order, _ = run(folder, 7)
    modules = [line.split()[0] for line in order]
    assert sum(a != b for a, b in zip(modules, modules[1:], strict=False)) == 2
    each = (folder / "each").read_text().splitlines()
    assert sum(a != b for a, b in zip(each, each[1:], strict=False)) == 5


def test_a_part_has_the_order_of_the_whole(folder: Path) -> None:
    whole, _ = run(folder, 5)
    part, _ = run(folder, 5, "test_c.py", "test_a.py")
    assert part == [line for line in whole if not line.startswith("test_b")]


def test_workers_agree_on_the_order(folder: Path) -> None:
    """xdist refuses to run what its workers have collected differently."""
    order, output = run(folder, None, "-n", "2", "--dist", "worksteal")
    assert len(order) == 36
    assert output.count("order of the tests") == 1
    assert " passed" in output


@pytest.mark.parametrize("more", [(), ("-n", "1")])
def test_a_failure_says_how_to_repeat_it(folder: Path, more: tuple[str, ...]) -> None:
    (folder / "test_fail.py").write_text(TESTS)
    _, output = run(folder, 11, *more, "test_fail.py")
    assert "1 failed" in output
    report = output[output.index("= FAILURES") :]
    said = r"order of the tests.*\nFERMATA_TEST_SEED=11; before it this process ran \d+ tests"
    assert re.search(said, report), output
