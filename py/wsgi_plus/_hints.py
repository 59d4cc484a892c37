"""What to write instead (S1.4): for what is yielded and cannot be, and for what is waited for and is no future."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Callable, Generator
from concurrent.futures import Future
from typing import Any, NamedTuple

from ._types import is_collection

__all__ = ["hint", "mistaken", "never_marked", "wrong_future"]

class _Hint(NamedTuple):
    """For one kind of objects: what to do where one is yielded, and where one is passed to wait() and its like."""

    kind: Callable[[Any], bool]
    yielded: str
    waited_for: str


def _are(*kinds: type) -> Callable[[Any], bool]:
    return lambda item: isinstance(item, kinds)


_made_of_waits = _are(Generator, AsyncIterable)

_NOTHING_ELSE = "Nothing else can be sent or waited for."
_COME_FROM = "Futures come from offload(), AsyncBridge.run() and executors."

_HINTS = (
    _Hint(
        _are(Generator),
        "It is a generator, such as wait() and sleep() give: write `yield from` in place of `yield`.",
        "It is a generator, such as wait() and sleep() give: write `yield from` before it, and nothing around it.",
    ),
    _Hint(
        inspect.isawaitable,  # coroutines, and asyncio's futures and tasks
        "Give the coroutine to asyncio.run_coroutine_threadsafe, or to AsyncBridge.run, and yield what comes back.",
        "Give the coroutine to AsyncBridge.run, and wait for what comes back.",
    ),
    _Hint(
        _are(AsyncIterable),
        "Give it to AsyncBridge.iterate, and yield from what comes back.",
        "Give it to AsyncBridge.iterate, and yield from what comes back.",
    ),
    _Hint(
        _are(list, tuple, set, frozenset),
        "Yield the items one after the other.",
        "Several futures are waited for by gather(*futures), with the asterisk, or first(*futures).",
    ),
    _Hint(_are(str), "Encode text.", _COME_FROM),
    _Hint(_are(bytearray, memoryview), "Yield bytes() of it.", _COME_FROM),
    _Hint(callable, _NOTHING_ELSE, "Give it to offload(), with its arguments, and wait for what comes back."),
    _Hint(_are(object), _NOTHING_ELSE, _COME_FROM),
)


def hint(item: Any) -> str:
    """What to do instead of yielding this."""
    return next(found.yielded for found in _HINTS if found.kind(item))


def mistaken(item: Any) -> TypeError | None:
    """What to raise where an application has yielded this and means to wait.

    For glue that would make text of it, or send it on: whatever else is no block is the affair of others.
    """
    if isinstance(item, (bytes, str, Future)):
        return None
    several = is_collection(item) and any(isinstance(one, Future) for one in item)
    if several or _made_of_waits(item) or inspect.isawaitable(item):
        return TypeError(
            f"yielded {type(item).__name__}, neither a block nor a concurrent.futures.Future. {hint(item)}"
        )
    return None


def never_marked(name: str, returned: object = None) -> TypeError:
    """What to raise where a view is a generator, and a framework has taken it for something else.

    ``returned`` is what it has returned at its end, if it came to that.
    """
    lost = "" if returned is None else f" that returned a {type(returned).__name__}, which is lost"
    return TypeError(
        f"{name} is a generator{lost}. If it is a view that waits, mark it with @suspends: directly above its def, and "
        "below all other decorators, that of the route among them"
    )


def wrong_future(call: str, item: Any) -> TypeError:
    """What ``call`` is to raise if this is what it is to wait for."""
    advice = next(found.waited_for for found in _HINTS if found.kind(item))
    return TypeError(f"{call}() takes a concurrent.futures.Future, not a {type(item).__name__}. {advice}")
