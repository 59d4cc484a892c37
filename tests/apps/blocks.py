"""Responses of `count` blocks of `size` bytes, each of one value, in the ways in which a response can be framed."""

from __future__ import annotations

import hashlib
import tempfile

from routes import Routes, arguments, text

app = Routes()
HEADERS = [("Content-Type", "application/octet-stream")]


def made(environ):
    asked = arguments(environ)
    size = int(asked["size"])
    return size * int(asked["count"]), (bytes([i % 251]) * size for i in range(int(asked["count"])))


@app.route
def chunked(environ, start_response):
    _, blocks = made(environ)
    start_response("200 OK", HEADERS)
    return blocks


@app.route
def length(environ, start_response):
    total, blocks = made(environ)
    start_response("200 OK", [*HEADERS, ("Content-Length", str(total))])
    return blocks


@app.route
def list_(environ, start_response):
    _, blocks = made(environ)
    start_response("200 OK", HEADERS)
    return list(blocks)


@app.route
def file(environ, start_response):
    _, blocks = made(environ)
    f = tempfile.TemporaryFile()
    f.writelines(blocks)
    f.seek(0)
    start_response("200 OK", HEADERS)
    return environ["wsgi.file_wrapper"](f)


@app.route
def digest(environ, start_response):
    return text(start_response, hashlib.sha256(environ["wsgi.input"].read()).hexdigest())
