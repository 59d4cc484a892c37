"""How the release binary, or the extension module, is built: what makes it hard to abuse a defect in it."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from harness.limits import EXTENSION, SANITIZED, fermata

pytestmark = pytest.mark.skipif(SANITIZED or not shutil.which("readelf"), reason="of the release build, by readelf")


def built() -> Path:
    spec = importlib.util.find_spec("fermata_server._server") if EXTENSION else None
    return Path(spec.origin) if spec and spec.origin else fermata()


def readelf(*options: str) -> str:
    return subprocess.run(["readelf", "-W", *options, built()], check=True, capture_output=True, text=True).stdout


def test_position_independent():
    """It is loaded at a random address."""
    assert f"DYN ({'Shared object' if EXTENSION else 'Position-Independent Executable'} file)" in readelf("-h")


def test_no_path_of_a_distribution():
    """The linker looks into those by itself, and Debian's policy does not want them named."""
    named = [line for line in readelf("-d").splitlines() if "RUNPATH" in line or "RPATH" in line]
    assert not any("[/usr/lib" in line or ":/usr/lib" in line for line in named)


def test_relocations_are_read_only():
    """Full RELRO: all symbols are bound at the start, and the table of them is read-only from then on."""
    assert "GNU_RELRO" in readelf("-l")
    assert "BIND_NOW" in readelf("-d")


def test_no_executable_stack():
    (stack,) = [line for line in readelf("-l").splitlines() if "GNU_STACK" in line]
    assert " RW " in stack
    assert "E" not in stack.split()[-2]


def test_stack_protector_and_fortified_functions():
    """-fstack-protector-strong and -D_FORTIFY_SOURCE=3: their checks are called."""
    symbols = readelf("--dyn-syms")
    assert "__stack_chk_fail" in symbols
    assert "__memcpy_chk" in symbols  # of a size that is not known when it is compiled: level 3
    assert "__vsnprintf_chk" in symbols
