"""What a process that has been forked starts afresh: threads do not come along, and locks may be held by them."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

__all__ = ["forget_in_child"]


def forget_in_child(method: Callable[[], Any]) -> None:
    """Calls a bound method in every process forked from now on, before anything else runs there.

    Its object is not kept alive by this.  What the method finds was copied while other threads were at work on it: it
    may replace that, but must not wait for it.
    """
    assert isinstance(method, MethodType)
    number = next(_numbers)
    gone = partial(_methods.pop, number)  # is called with the reference, which is pop's default
    _methods[number] = (weakref.ref(method.__self__, gone), method.__func__)


# What is registered with the interpreter stays there for good, so that is one function for all that come and go.
_numbers = itertools.count()
_methods: dict[int, tuple[weakref.ref[Any], Callable[[Any], Any]]] = {}


def _forget() -> None:
    for found, method in list(_methods.values()):
        still = found()
        if still is not None:
            method(still)


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_forget)
