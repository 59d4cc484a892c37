"""scripts/train, which a build for a release shows its server: each kind of answer is right, so what is learnt is work that is done."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader

from harness.limits import LONG, ROOT, fermata

LOADER = SourceFileLoader("fermata_train", str(ROOT / "scripts/train"))
SPEC = spec_from_loader(LOADER.name, LOADER)
TRAIN = module_from_spec(SPEC)
LOADER.exec_module(TRAIN)


def test_it_serves_all_of_it() -> None:
    done = subprocess.run([ROOT / "scripts/train", fermata()], capture_output=True, text=True, timeout=LONG * 2, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_server_that_fails_is_no_teacher(tmp_path) -> None:
    """The build fails with what it has said."""
    (tmp_path / "fermata").write_text("#!/bin/sh\necho 'no such option' >&2\nexit 2\n")
    (tmp_path / "fermata").chmod(0o755)
    done = subprocess.run([ROOT / "scripts/train", tmp_path / "fermata"], capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 1
    assert "does not serve\nno such option" in done.stderr


def test_it_is_mixed() -> None:
    """Every path of the application is asked for, and hello by no more than a third of the kinds."""
    asked = [re.match(rb"\w+ (\S+)", sent)[1].decode() for sent, _, _ in TRAIN.KINDS]
    assert set(asked) == set(TRAIN.APPS)
    plain = [sent for sent, _, kept in TRAIN.KINDS if kept and sent.startswith(b"GET /hello")]
    assert len(plain) <= len(TRAIN.KINDS) / 3


def test_wrong_usage() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts/train"], capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("usage: ")
