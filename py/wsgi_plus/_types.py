"""The types of PEP 3333's two sides, as far as WSGI+ cares for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Union

__all__ = ["Application", "Environ", "Item", "StartResponse"]

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
"""``start_response(status, headers, exc_info=None)``, which gives ``write``."""

Item = Union[bytes, "Future[Any]"]
"""What the iterable of an application gives, one at a time."""

Application = Callable[[Environ, Callable[..., Any]], Iterable[Any]]
"""A WSGI or WSGI+ application: not more exact than what frameworks declare theirs to be."""
