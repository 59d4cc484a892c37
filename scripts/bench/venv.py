"""Virtual environments of the peers: that with the interpreter that Fermata embeds, unless another one is named.

Like scripts/venv, but package by package: what does not install is remembered as missing, with pip's last words.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from .paths import REQUIREMENTS, ROOT, VENV

STAMP = VENV / ".stamp"
TOOLS = ROOT / "build/venv/bin/python"  # `make venv`: has a pip for a Python that comes without one
KNOWS_FREE_THREADED = (24, 1)
LIST = "import importlib.metadata as m, json; print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"


def lines(text: str) -> list[list[str]]:
    """The requirements of each line that has any."""
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def named(*names: str) -> list[list[str]]:
    """Of requirements.txt only these, each by itself."""
    every = [word for line in lines(REQUIREMENTS.read_text()) for word in line]
    return [[word] for word in every if word.partition("==")[0] in names]


def fingerprint(python: str, text: str) -> str:
    which = [python, "-c", "import sys; print(sys.version, sys.base_prefix)"]
    said = subprocess.run(which, capture_output=True, text=True, check=True).stdout
    return hashlib.sha256(f"{said}{text}".encode()).hexdigest()


def pip(at: Path) -> list[str]:
    """Its own, or else that of another environment: not each source of Python has one (scripts/free-threaded)."""
    own, other = ([str(python), "-m", "pip"] for python in (at / "bin/python", TOOLS))
    if subprocess.run([*own, "--version"], capture_output=True, check=False).returncode == 0:
        return own
    said = subprocess.run([*other, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(int(n) for n in said.split()[1].split(".")[:2]) < KNOWS_FREE_THREADED:
        sys.exit(
            f"{TOOLS} has {said.strip()}, which would take wheels for a Python with the GIL for any: install 24.1 or newer"
        )
    return [*other, "--python", own[0]]


def install(at: Path, requirements: list[str]) -> str | None:
    """Why it failed, if it did."""
    command = [*pip(at), "install", "--quiet", "--disable-pip-version-check", "--no-input", *requirements]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return said[-1] if said else f"pip ended with {done.returncode}"


def create(at: Path, python: str) -> None:
    shutil.rmtree(at, ignore_errors=True)
    command = [python, "-m", "venv", str(at)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        subprocess.run([*command, "--clear", "--without-pip"], check=True)


def make(at: Path = VENV, python: str = sys.executable, wanted: list[list[str]] | None = None) -> None:
    """Makes it, unless it is there already, with all of requirements.txt or with what is wanted."""
    text = REQUIREMENTS.read_text() if wanted is None else json.dumps(wanted)
    stamp, reasons = fingerprint(python, text), dict[str, str]()
    if (at / ".stamp").exists() and (at / ".stamp").read_text() == stamp:
        return
    print(f"making {at.name} with {python}: a few minutes, once", file=sys.stderr)
    create(at, python)
    for requirements in wanted or lines(text):
        if reason := install(at, requirements):
            name = next(word for word in requirements if not word.startswith("-"))
            reasons[name.partition("==")[0]] = reason
            print(f"missing: {name}: {reason}", file=sys.stderr)
    (at / "missing.json").write_text(json.dumps(reasons, indent=2) + "\n")
    (at / ".stamp").write_text(stamp)


def installed(at: Path = VENV) -> dict[str, str]:
    """The version of every package that is there."""
    done = subprocess.run([str(at / "bin/python"), "-c", LIST], capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


def missing(at: Path = VENV) -> dict[str, str]:
    """Why each package that is not there is not."""
    there = at / "missing.json"
    reasons: dict[str, str] = json.loads(there.read_text()) if there.exists() else {}
    return reasons
