"""What a process that has been forked starts afresh: threads do not come along, and locks may be held by them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["forget_in_child"]


def forget_in_child(method: Callable[[], Any]) -> None:
    """Calls a bound method in every process forked from now on, before anything else runs there.

    Its object is not kept alive by this.  What the method finds was copied while other threads were at work on it: it
    may replace that, but must not wait for it.
    """
    found = weakref.WeakMethod(method)

    def forget() -> None:
        still = found()
        if still is not None:
            still()

    if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
        os.register_at_fork(after_in_child=forget)
