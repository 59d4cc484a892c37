"""Django's locals of a request that changes threads: language, time zone, URLconf, script prefix, caches (S9.3).

They are ``asgiref.local.Local`` objects.  What is in them follows the request's context in asgiref 3.8 to 3.11, the
thread in older ones, and in newer ones both: on another thread of the same context it is not there.  So it is taken
away after each step and put back before the next, which is right whatever it follows, and leaves nothing on a thread.

Database connections are not among them: they stay with their thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.cache import caches
from django.urls import base as urls
from django.utils import timezone
from django.utils.translation import trans_real

__all__ = ["Locals", "put", "taken"]

Locals = list[tuple[Any, str, Any]]
"""What is in which attributes of which locals, on one thread at one time."""

VALUES = [(trans_real, "_active"), (timezone, "_active"), (urls, "_urlconfs"), (urls, "_prefixes")]  # in .value of each

_NOTHING = object()


def taken() -> Locals:
    """What there is in this thread."""
    return [(local, name, getattr(local, name, _NOTHING)) for local, name in _attributes()]


def put(values: Locals) -> None:
    """Has this thread find what ``taken`` found in another, or at another time, and nothing else."""
    for local, name, value in values:
        if getattr(local, name, _NOTHING) is value:
            continue
        if value is _NOTHING:
            delattr(local, name)
        else:
            setattr(local, name, value)


def _attributes() -> Iterator[tuple[Any, str]]:
    for module, name in VALUES:
        yield getattr(module, name), "value"
    for alias in caches:  # request_finished closes those of its thread: they have to be there
        yield caches._connections, alias  # type: ignore[attr-defined]
