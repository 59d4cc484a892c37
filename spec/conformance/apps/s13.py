"""S13: clients that read slowly."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import stage

_asked: Counter[str] = Counter()
_others = ThreadPoolExecutor(1, thread_name_prefix="conformance-others")


def asked(key: str) -> int:
    """How many blocks the application has been asked for."""
    return _asked[key]


def _block(number: int, size: int) -> bytes:
    return (b"%07d\n" % number) * (size // 8)


def digest(n: int, size: int) -> list[Any]:
    """The length of so many blocks, and their SHA-256."""
    found = hashlib.sha256()
    for number in range(n):
        found.update(_block(number, size))
    return [n * size, found.hexdigest()]


def _between(kind: str) -> Iterator[Future[Any]]:
    if kind == "done":
        fut: Future[Any] = Future()
        fut.set_result(None)
        yield fut
    elif kind == "pending":
        yield _others.submit(int)


def blocks(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """``n`` blocks of ``size`` bytes; a future ``between`` them if that says which."""
    told = stage.arguments(environ)
    key = told["key"]
    start_response("200 OK", stage.TEXT)
    try:
        for number in range(int(told["n"])):
            _asked[key] += 1
            yield _block(number, int(told["size"]))
            yield from _between(told.get("between", ""))
    finally:
        stage.record(key, "closed")


def writes(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """The same with write."""
    told = stage.arguments(environ)
    write = start_response("200 OK", stage.TEXT)
    for number in range(int(told["n"])):
        write(_block(number, int(told["size"])))
    return []
