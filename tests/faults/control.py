"""The test's end of inject.c: which call sites were reached, and orders that make one of them fail.

A control is a file that test and server both map.  It may be used for one server after another of the same binary, so
what one has reached can be made to fail while the next one starts.
"""

from __future__ import annotations

import errno
import mmap
import re
import struct
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.limits import fermata

# As in inject.c.
HEADER = struct.Struct("<IIq")
ORDER = struct.Struct("<Iiii")
SITE = struct.Struct("<Q40s4QQQ")
SITES, ORDERS = 4096, 4
SIZE = HEADER.size + ORDERS * ORDER.size + SITES * SITE.size
ENDLESS = -1

FAIL, SHORT, OVERFLOW, INSIDE, NOTHING = -1, -2, -3, -4, -5
_NAMES = {FAIL: "fails", SHORT: "short", OVERFLOW: "overflow", INSIDE: "allocation within", NOTHING: "nothing"}


def how_name(how: int) -> str:
    return _NAMES.get(how) or errno.errorcode.get(how, str(how))


@dataclass(frozen=True)
class Site:
    slot: int
    function: str
    frames: tuple[int, ...]
    calls: int
    allocations: int

    @property
    def label(self) -> str:
        """The function, and who called it: of the server's own callers the innermost that is no helper for memory."""
        places = [_place(frame) for frame in self.frames if frame]
        own = [p for p in places if not re.match(r"\S+ (err|buf)\.c", p)] or places
        return f"{self.function} < {' < '.join(own[:2])}"


@cache
def _place(frame: int) -> str:
    """function file:line of a return address."""
    command = ["addr2line", "-f", "-s", "-e", str(fermata()), hex(frame - 1)]
    name, place = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:2]
    return f"{name} {place.split(' ')[0]}"


class Control:
    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(bytes(SIZE))
        with path.open("r+b") as f:
            self._map = mmap.mmap(f.fileno(), SIZE)

    @property
    def env(self) -> dict[str, str]:
        return {"FERMATA_FAULTS": str(self.path)}

    def close(self) -> None:
        self._map.close()

    def live(self) -> int:
        """Blocks of memory that CPython holds; only differences mean something."""
        return HEADER.unpack_from(self._map, 0)[2]

    def sites(self) -> dict[int, Site]:
        found = {}
        for slot in range(SITES):
            at = HEADER.size + ORDERS * ORDER.size + slot * SITE.size
            if self._map[at : at + 8] == bytes(8):
                continue
            _, name, *frames, calls, allocations = SITE.unpack_from(self._map, at)
            found[slot] = Site(slot, name.rstrip(b"\0").decode(), tuple(frames), calls, allocations)
        return found

    def order(self, site: Site, how: int, times: int = 1, *, number: int = 0) -> None:
        """From now on: the next calls at this site."""
        at = HEADER.size + number * ORDER.size
        ORDER.pack_into(self._map, at, 0, 0, 0, 0)
        struct.pack_into("<iii", self._map, at + 4, how, times, 0)
        struct.pack_into("<I", self._map, at, site.slot + 1)

    def cancel(self, *, number: int = 0) -> int:
        """Nothing fails any more; how often it has."""
        at = HEADER.size + number * ORDER.size
        struct.pack_into("<I", self._map, at, 0)
        return ORDER.unpack_from(self._map, at)[3]

    def fired(self, *, number: int = 0) -> int:
        return ORDER.unpack_from(self._map, HEADER.size + number * ORDER.size)[3]
