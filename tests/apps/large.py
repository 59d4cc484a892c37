"""Gigabytes in both directions, with checksums."""

from __future__ import annotations

import hashlib
import tempfile

from routes import Routes, arguments, text

app = Routes()
BLOCK = bytes(range(256)) * 4096


@app.route
def upload(environ, start_response):
    """Size and checksum of the body."""
    digest, size = hashlib.sha256(), 0
    f = environ["wsgi.input"]
    while block := f.read(1 << 20):
        digest.update(block)
        size += len(block)
    return text(start_response, f"{size} {digest.hexdigest()}")


@app.route
def download(environ, start_response):
    """mb megabytes by a generator; with length: declared; else chunked."""
    asked = arguments(environ)
    mb = int(asked["mb"])
    headers = [("Content-Type", "application/octet-stream")]
    if "length" in asked:
        headers.append(("Content-Length", str(mb << 20)))
    start_response("200 OK", headers)
    return (BLOCK for _ in range(mb))


@app.route
def file(environ, start_response):
    """mb megabytes of a sparse file, with BLOCK at its beginning and end, by file_wrapper."""
    mb = int(arguments(environ)["mb"])
    f = tempfile.TemporaryFile()
    f.write(BLOCK)
    f.seek((mb - 1) << 20)
    f.write(BLOCK)
    f.seek(0)
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(mb << 20))])
    return environ["wsgi.file_wrapper"](f, 1 << 20)


@app.route
def hello(environ, start_response):
    return text(start_response, "hello")
