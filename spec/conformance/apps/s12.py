"""S12: deadlines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import stage


class _Closed:
    """What a call returns too late."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __iter__(self) -> Iterator[Any]:
        stage.record(self.key, "iterated")
        return iter([b"late"])

    def close(self) -> None:
        stage.record(self.key, "close")


def late_call(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """The call itself takes longer than there is time."""
    key = stage.key_of(environ)
    start_response("200 OK", stage.TEXT)
    stage.record(key, "at the gate")
    stage.gate(key)
    return _Closed(key)


def late_write(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Writes when there is no time left; a block follows."""
    key = stage.key_of(environ)
    write = start_response("200 OK", stage.TEXT)
    stage.record(key, "at the gate")
    stage.gate(key)
    try:
        write(b"late")
        stage.record(key, "written")
    except Exception as error:
        stage.record(key, "refused", repr(error))
    try:
        yield b"late"
        stage.record(key, "went on")
    finally:
        stage.record(key, "close")


def stuck_on_purpose(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """What a report of a step beyond its deadline has to name."""
    key = stage.key_of(environ)
    stage.record(key, "at the gate")
    stage.gate(key)
    return stage.text(start_response, "late")


def late_failure(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """The step that a failure is thrown into takes longer than there is time."""
    key = stage.key_of(environ)
    fut: Future[Any] = Future()
    fut.set_exception(ValueError("failed on purpose"))
    try:
        try:
            yield fut
        except ValueError:
            stage.record(key, "at the gate")
            stage.gate(key)
        start_response("200 OK", stage.TEXT)
        yield b"late"
        stage.record(key, "went on")
    finally:
        stage.record(key, "close")


def large_block(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Larger than what the kernel takes for a client that does not read."""
    start_response("200 OK", stage.TEXT)
    try:
        yield bytes(32 << 20)
    finally:
        stage.record(stage.key_of(environ), "closed")


def upload(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Takes a moment if it is asked to: long enough for a server to look at its clock."""
    time.sleep(float(stage.arguments(environ).get("pause", 0)))
    return stage.text(start_response, f"{len(environ['wsgi.input'].read())} bytes")
