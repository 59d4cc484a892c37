"""S4: the value of the yield."""

from __future__ import annotations

import json
from concurrent.futures import Future

import stage


def values(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Answers with what each yield gave, and with what the futures say."""
    key = stage.key_of(environ)
    start_response("200 OK", stage.TEXT)
    done: Future[str] = Future()
    done.set_result("was done")
    pending = stage.future(key)
    stage.record(key, "parking")
    seen = [(yield pending), (yield done), (yield b""), (yield done), (yield b"[")]
    yield json.dumps([*seen, pending.result(timeout=0), done.result(timeout=0)]).encode()[1:]
