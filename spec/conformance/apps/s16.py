"""S16: how the application can find out."""

from __future__ import annotations

import re
from concurrent.futures import Future

import stage


def version(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """The version, with its types."""
    found = environ.get("wsgi_plus.version")
    said = [type(found).__name__, [[type(part).__name__, part] for part in found] if isinstance(found, tuple) else None]
    stage.record(stage.key_of(environ), "version", said)
    start_response("200 OK", stage.TEXT)
    return [str(found).encode()]


def other_keys(environ: stage.Environ, start_response: stage.StartResponse) -> list[bytes]:
    """The other keys that look as if they came with WSGI+, or have a future as their value."""
    about = re.compile(r"plus|suspend|resume|future|park|context|pool", re.I)
    own = {key for key in environ if key.startswith("wsgi_plus.") or re.match(r"\w+\.", key) and about.search(key)}
    own |= {key for key, value in environ.items() if isinstance(value, (Future, type)) and key != "wsgi.file_wrapper"}
    stage.record(stage.key_of(environ), "keys", sorted(own - {"wsgi_plus.version"}))
    start_response("200 OK", stage.TEXT)
    return [b"looked"]


def does_not_look(environ: stage.Environ, start_response: stage.StartResponse) -> stage.Items:
    """Yields futures all the same, though it has taken the key away."""
    key = stage.key_of(environ)
    environ.pop("wsgi_plus.version", None)
    stage.record(key, "parking")
    fut = stage.future(key)
    yield fut
    stage.record(key, "waited", fut.done())
    start_response("200 OK", stage.TEXT)
    yield b"fine"
