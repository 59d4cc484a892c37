"""Django's locals of a request that changes threads: language, time zone, URLconf, script prefix, caches (S9.4).

They are ``asgiref.local.Local`` objects.  Since asgiref 3.8 what is in them is in the request's context: it goes with
the request, and nothing of it stays on a thread.  But since 3.12 it is marked with the thread that has put it there,
and on another one it is not found, unless asgiref itself has moved it.  Database connections are no part of this: they
stay with their thread.
"""

from __future__ import annotations

import contextvars
import threading
from typing import Any

import asgiref.local
from django.core.exceptions import ImproperlyConfigured

__all__ = ["check", "moved"]

# What is marked, and what gives the same with the mark of this thread.
_Storage: Any = getattr(asgiref.local, "_Storage", ())
_rehome: Any = getattr(asgiref.local, "_rehome", None)


def moved() -> None:
    """Has this thread find what is in its context, which another thread has had before."""
    for variable, value in contextvars.copy_context().items():
        if isinstance(value, _Storage):
            variable.set(_rehome(value))


def check() -> None:
    """Raises ImproperlyConfigured where that does not do it: with an asgiref that is too old, or newer than this."""
    local = asgiref.local.Local()
    found: list[Any] = []

    def look() -> None:
        moved()
        found.append(getattr(local, "value", None))

    context = contextvars.Context()
    context.run(setattr, local, "value", "there")
    thread = threading.Thread(target=context.run, args=[look])
    thread.start()
    thread.join()
    if found != ["there"]:
        raise ImproperlyConfigured("this version of asgiref is not known to wsgi_plus.django, which needs 3.8 or later")
