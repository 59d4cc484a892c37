"""The virtual environment of the peers, with the interpreter that Fermata embeds.

Like scripts/venv, but line by line: a peer that does not install is remembered as missing, with pip's last words.
"""

import hashlib
import json
import shutil
import subprocess
import sys

from .paths import REQUIREMENTS, VENV

STAMP = VENV / ".stamp"
MISSING = VENV / "missing.json"
LIST = "import importlib.metadata as m, json; print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"


def lines(text: str) -> list[list[str]]:
    """The requirements of each line that has any."""
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def fingerprint() -> str:
    return hashlib.sha256(f"{sys.version} {sys.base_prefix}\n{REQUIREMENTS.read_text()}".encode()).hexdigest()


def install(requirements: list[str]) -> str | None:
    """Why it failed, if it did."""
    pip = [str(VENV / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run([*pip, *requirements], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return said[-1] if said else f"pip ended with {done.returncode}"


def make() -> None:
    """Makes it, unless it is there already."""
    if STAMP.exists() and STAMP.read_text() == fingerprint():
        return
    print(f"making {VENV.name} with Python {sys.version.split()[0]}: a few minutes, once", file=sys.stderr)
    shutil.rmtree(VENV, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    missing: dict[str, str] = {}
    for requirements in lines(REQUIREMENTS.read_text()):
        if reason := install(requirements):
            missing[requirements[0].partition("==")[0]] = reason
            print(f"missing: {requirements[0]}: {reason}", file=sys.stderr)
    MISSING.write_text(json.dumps(missing, indent=2) + "\n")
    STAMP.write_text(fingerprint())


def installed() -> dict[str, str]:
    """The version of every package that is there."""
    done = subprocess.run([str(VENV / "bin/python"), "-c", LIST], capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


def missing() -> dict[str, str]:
    """Why each package that is not there is not."""
    reasons: dict[str, str] = json.loads(MISSING.read_text()) if MISSING.exists() else {}
    return reasons
