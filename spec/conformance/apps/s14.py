"""S14: request bodies."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future
from typing import Any

import stage


def _digest(data: bytes) -> str:
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


def reads(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Says what the body was.  Records whether the suite had sent all of it."""
    key = stage.key_of(environ)
    stage.record(key, "called", [name for name, _ in stage.events(key)])
    return stage.text(start_response, _digest(environ["wsgi.input"].read()))


def reads_beyond(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """Reads in every way, and then on beyond the end."""
    body = environ["wsgi.input"]
    found = [body.read(4), body.readline(), body.read(10), body.readlines(), list(body)]
    found += [body.read(), body.read(1), body.read(100_000), body.readline(), body.readlines(), list(body)]
    return stage.text(start_response, repr(found))


def reads_in_steps(environ: stage.Environ, start_response: stage.StartResponse) -> Any:
    """Reads a part in the call, in each step, and in the one that begins with a failure the rest."""
    key = stage.key_of(environ)
    body = environ["wsgi.input"]
    part = int(stage.arguments(environ)["part"])
    parts = [body.read(part)]

    def items() -> stage.Items:
        parts.append(body.read(part))
        stage.record(key, "parking")
        yield stage.future(key)
        parts.append(body.read(part))
        done: Future[Any] = Future()
        done.set_result(None)
        yield done
        parts.append(body.read(part))
        failed: Future[Any] = Future()
        failed.set_exception(ValueError("failed on purpose"))
        try:
            yield failed
        except ValueError:
            parts.append(body.read())
        start_response("200 OK", stage.TEXT)
        yield _digest(b"".join(parts)).encode()

    return items()


def resident() -> int:
    """The memory of this process that holds no files, in bytes; 0 where that cannot be told."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return (int(fields["RssAnon"].split()[0]) + int(fields["RssShmem"].split()[0])) * 1024
    except OSError:
        return 0


def waits(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Waits before it reads."""
    key = stage.key_of(environ)
    stage.record(key, "parking")
    yield stage.future(key)
    start_response("200 OK", stage.TEXT)
    count = 0
    while data := environ["wsgi.input"].read(65536):
        count += len(data)
    yield str(count).encode()
