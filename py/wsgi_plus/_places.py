"""Where a request waits: the innermost frame of its generators that is the application's own.

A suspended generator says where it stands, and what it delegates to with ``yield from``.  Behind wrappers, and behind
``for x in inner: yield x`` of a library, the next one is looked for among the objects that the last one holds, which
is a guess: a wrapper may hold two.  Only for the thread that has the request: in others its generators may run.
"""

from __future__ import annotations

import gc
from collections import deque
from concurrent.futures import Future
from types import CodeType, FrameType, FunctionType, GeneratorType, ModuleType
from typing import Any, NamedTuple

from ._types import is_dict

__all__ = ["INNER", "Place", "place_of"]

INNER = "__wsgi_plus_inner__"
"""What the class of a wrapper may have: the name of the attribute that is the iterator it delegates to."""

LIBRARIES = frozenset({"contextlib", "django", "flask", "opentelemetry", "rest_framework", "werkzeug", "wsgi_plus"})
"""Packages whose frames are not shown, if there is another one: who asks knows that a framework is around him."""

DEEPEST = 100  # generators within each other: each middleware of Django is two
WIDEST = 64  # objects that are looked at for the next one
LARGEST = 16  # entries of a dictionary: what a wrapper keeps in its attributes is not more

_CLOSED = (ModuleType, type, FunctionType, CodeType, FrameType, Future, str, bytes, int, float)


class Place(NamedTuple):
    """A line of code in which something waits."""

    file: str
    line: int
    function: str
    guessed: bool


def place_of(iterator: object) -> Place | None:
    """Where it stands, which must be suspended or not have begun; None if no generator is found in it."""
    found: list[tuple[Any, bool]] = []  # generators
    at: Any = iterator
    guessed = False
    for _ in range(DEEPEST):
        within: Any = None
        if _is_suspended(at):
            found.append((at, guessed))
            within = at.gi_yieldfrom
            if within is None and not _is_of_library(at):
                break
        if within is None:
            within = _named(at)
        if within is None:
            within, guessed = _guess(at, [each for each, _ in found]), True
        if within is None:
            break
        at = within
    own = [each for each in found if not _is_of_library(each[0])]
    if not found:
        return None
    generator, guessed = (own or found)[-1]
    line: int = generator.gi_frame.f_lineno
    return Place(generator.gi_code.co_filename, line, generator.__qualname__, guessed)


def _is_suspended(at: Any) -> bool:
    """A generator's frame is there from its making to its end."""
    return issubclass(type(at), GeneratorType) and not at.gi_running and hasattr(at.gi_frame, "f_lineno")


def _is_of_library(generator: Any) -> bool:
    name: object = generator.gi_frame.f_globals.get("__name__")
    return isinstance(name, str) and name.partition(".")[0] in LIBRARIES


def _named(at: object) -> Any:
    """What the wrapper names as its own.  No object is asked that might answer for another, as proxies do."""
    name: object = next((vars(kind)[INNER] for kind in type(at).__mro__ if INNER in vars(kind)), None)
    try:
        return object.__getattribute__(at, name) if isinstance(name, str) else None
    except Exception:  # a property's: it is the application's, and this is only asked for a place
        return None


def _guess(at: object, known: list[Any]) -> Any:
    """What is within the innermost, of what it holds; or else what one around it has put aside while it waits."""
    for holder in [at, *reversed(known)]:
        inner = _hunt(holder, known)
        if inner is not None:
            return inner
    return None


def _is_large(held: object) -> bool:
    return is_dict(held) and len(held) > LARGEST


def _hunt(start: object, known: list[Any]) -> Any:
    """The nearest suspended generator that ``start`` holds, or what a wrapper among the objects names as its own."""
    seen = {id(start), *map(id, known)}
    ahead = deque([start])
    looked = 0
    while ahead and looked < WIDEST:
        held: Any
        for held in gc.get_referents(ahead.popleft()):
            if id(held) in seen or issubclass(type(held), _CLOSED) or _is_large(held):
                continue
            looked += 1
            seen.add(id(held))
            inner = held if _is_suspended(held) else _named(held)
            if inner is not None and not any(inner is each for each in known):
                return inner
            ahead.append(held)
    return None
