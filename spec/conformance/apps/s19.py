"""S19: responses without a body."""

from __future__ import annotations

import stage


def effects(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Records that it comes from one step to the next, with blocks and futures between; 200, or another ``status``."""
    told = stage.arguments(environ)
    key = told["key"]
    write = start_response(told.get("status", "200 OK"), [("X-Effects", "yes")])
    try:
        if "write" in told:
            write(b"written ")
        yield b"first "
        stage.record(key, "after a block")
        stage.record(key, "parking")
        fut = stage.future(key)
        yield fut
        stage.record(key, "after a future", fut.done())
        yield b"second "
        for _ in range(int(told.get("more", "0"))):
            yield bytes(65536)
        stage.record(key, "end")
    finally:
        stage.record(key, "close")
