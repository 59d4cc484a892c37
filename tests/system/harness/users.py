"""A server that root starts and that becomes another user: which has to be able to read the Python that is embedded, and
the applications of the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from .limits import ROOT, fermata

# In a mount namespace of its own: one directory that others may not enter is empty but for what they need of it.
_OPEN = """
set -e
away=$(mktemp -d)
mount -t tmpfs tmpfs "$away"
mkdir "$away/kept"
mount --bind "$2" "$away/kept"
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir -p "$2"
mount --move "$away/kept" "$2"
umount "$away"
rmdir "$away"
shift 2
exec "$@"
"""


def _closed(path: Path) -> Path | None:
    """The first directory on the way that others may not enter."""
    for directory in [*reversed(path.parents), path]:
        if directory.is_dir() and not directory.stat().st_mode & 0o001:
            return directory
    return None


@cache
def starter() -> list[str]:
    """What to put before the command so that any user can read Python."""
    prefix = Path(sys.base_prefix).resolve()
    closed = _closed(prefix)
    if closed is None:
        return []
    return ["unshare", "--mount", "sh", "-c", _OPEN, "sh", str(closed), str(prefix)]


@cache
def why_not() -> str | None:
    """Why no other user can run the server here, if so."""
    if os.geteuid() != 0:
        return "only root can become another user"
    for path in (ROOT, fermata()):
        if closed := _closed(path):
            return f"other users may not enter {closed}"
    if starter():
        if shutil.which("unshare") is None:
            return "there is no unshare (Debian: util-linux)"
        if subprocess.run([*starter(), "true"], capture_output=True, check=False).returncode != 0:
            return f"other users may not read {sys.base_prefix}, and there are no mount namespaces"
    return None
