"""A Flask application, unchanged: a guest book with a form, a session and a template.

    $(scripts/python) -m venv /tmp/flask && /tmp/flask/bin/pip install flask
    build/fermata --venv /tmp/flask --chdir examples flask_app:app
    open http://127.0.0.1:8000/ in a browser, or
    curl -L -c /tmp/jar -b /tmp/jar -d name=Ada -d text=Hello http://127.0.0.1:8000/sign

What is signed lives in memory. Set SECRET_KEY so that sessions outlive the server.
"""

from __future__ import annotations

import os
import secrets
from collections import deque
from typing import NamedTuple

from flask import Flask, flash, redirect, render_template_string, request, session, url_for
from werkzeug.wrappers import Response

app = Flask(__name__)
app.config.update(
    SECRET_KEY=os.environ.get("SECRET_KEY") or secrets.token_hex(),
    SESSION_COOKIE_SAMESITE="Lax",
    MAX_CONTENT_LENGTH=64 * 1024,
)

PAGE = """<!DOCTYPE html>
<title>Guest book</title>
<h1>Guest book</h1>
{% for message in get_flashed_messages() %}<p><em>{{ message }}</em>{% endfor %}
<form method="post" action="{{ url_for('sign') }}">
  <input name="name" placeholder="Your name" value="{{ session.get('name', '') }}" required>
  <input name="text" placeholder="Your words" required>
  <button>Sign</button>
</form>
{% for entry in entries %}<p><b>{{ entry.name }}</b>: {{ entry.text }}{% else %}<p>Nobody yet.{% endfor %}
"""


class Entry(NamedTuple):
    name: str
    text: str


entries: deque[Entry] = deque(maxlen=100)


@app.get("/")
def index() -> str:
    return render_template_string(PAGE, entries=entries.copy())


@app.post("/sign")
def sign() -> Response:
    name, text = request.form.get("name", "").strip(), request.form.get("text", "").strip()
    if name and text:
        entries.appendleft(Entry(name, text))
        session["name"] = name
        session["signed"] = session.get("signed", 0) + 1
        flash(f"Thank you, {name}: {session['signed']} so far.")
    else:
        flash("A name and some words, please.")
    return redirect(url_for("index"), 303)
