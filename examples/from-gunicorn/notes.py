"""Notes, kept in SQLite: a Flask site that knows nothing of the server that it runs on.  README.md says how it moved."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

from flask import Flask, jsonify, redirect, render_template_string, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.middleware.proxy_fix import ProxyFix

app = Flask(__name__)
app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]

PAGE = """<!DOCTYPE html>
<title>Notes</title>
<link rel="stylesheet" href="/static/style.css">
<h1>Notes</h1>
<form method="post" action="{{ url_for('add') }}"><input name="text" required> <button>Add</button></form>
<ul>{% for text in notes %}<li>{{ text }}</li>{% endfor %}</ul>
"""


def database() -> closing[sqlite3.Connection]:
    """A connection of this request's own, to the file that NOTES names."""
    connection = sqlite3.connect(os.environ.get("NOTES", "notes.sqlite"), timeout=30, isolation_level=None)
    connection.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    return closing(connection)


@app.get("/")
def index() -> str:
    with database() as db:
        notes = [text for (text,) in db.execute("SELECT text FROM notes ORDER BY id DESC LIMIT 100")]
    return render_template_string(PAGE, notes=notes)


@app.post("/")
def add() -> ResponseReturnValue:
    with database() as db:
        db.execute("INSERT INTO notes (text) VALUES (?)", (request.form["text"],))
    return redirect(url_for("index", _external=True), 303)


@app.get("/where")
def where() -> ResponseReturnValue:
    """What the site learns of its client through the proxy."""
    return jsonify(client=request.remote_addr, scheme=request.scheme, url=url_for("index", _external=True))
