"""Where things are.  Commands run in the checkout's directory, so that they can be shown and repeated as they are."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path("scripts/bench")
APPS = HERE / "apps"
BUILD = Path("build/bench")
VENV = ROOT / BUILD / "venv"
REQUIREMENTS = ROOT / HERE / "requirements.txt"
BIN = BUILD / "venv/bin"
DATA = BUILD / "data"
RESULTS = BUILD / "results.json"
