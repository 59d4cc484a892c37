"""Steps of different requests that run at the same time, so that requests have to change threads.

Four requests meet in pairs, each with each other.  To meet is to be in a step on two threads at once.  If every request
stayed on the thread that it began on, these would have to be four, and the server has fewer: some do change.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

import probe
from routes import Environ, arguments

_lock = threading.Lock()
_barriers: defaultdict[str, threading.Barrier] = defaultdict(lambda: threading.Barrier(2))


def meetings(environ: Environ, met: Callable[[str], None]) -> Generator[Future[Any], None, None]:
    """The steps of a request that takes part in ``rounds``: calls ``met`` with the name of each when two are there.

    The test completes the future of that name when both have recorded under it that they are parking.
    """
    for name in arguments(environ)["rounds"].split(","):
        probe.record(name, "parking")
        yield probe.future(name)
        with _lock:
            barrier = _barriers[name]
        barrier.wait(probe.LIMIT)
        probe.record(name, "met", threading.get_ident())
        met(name)
