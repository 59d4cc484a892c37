"""The types of PEP 3333's two sides, as far as WSGI+ cares for them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = [
    "Application",
    "Environ",
    "Item",
    "StartResponse",
    "is_collection",
    "is_dict",
    "is_future",
    "is_generator",
    "is_list",
    "is_tuple",
]

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
"""``start_response(status, headers, exc_info=None)``, which gives ``write``."""

Item = Union[bytes, "Future[Any]"]
"""What the iterable of an application gives, one at a time."""

Application = Callable[[Environ, Callable[..., Any]], Iterable[Any]]
"""A WSGI or WSGI+ application: not more exact than what frameworks declare theirs to be."""


def is_future(item: object) -> TypeIs[Future[Any]]:
    """As isinstance(item, Future); the others likewise.

    To pyright isinstance leaves unknown what is within, and is unnecessary where the declared type says so already:
    but not every caller checks types.
    """
    return isinstance(item, Future)


def is_generator(item: object) -> TypeIs[Generator[Any, Any, Any]]:
    return isinstance(item, Generator)


def is_list(item: object) -> TypeIs[list[Any]]:
    return isinstance(item, list)


def is_tuple(item: object) -> TypeIs[tuple[Any, ...]]:
    return isinstance(item, tuple)


def is_dict(item: object) -> TypeIs[dict[Any, Any]]:
    return isinstance(item, dict)


def is_collection(item: object) -> TypeIs[list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any]]:
    return isinstance(item, (list, tuple, set, frozenset))
