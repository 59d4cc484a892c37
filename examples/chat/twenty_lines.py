"""The chat in twenty lines of plain WSGI+ and the standard library.

    build/fermata --threads 2 --chdir examples/chat twenty_lines:app

What it leaves out is in README.md.
"""

import json
import threading
from collections import defaultdict
from concurrent.futures import Future
from urllib.parse import parse_qs

messages, changed, lock = defaultdict(list), defaultdict(Future), threading.Lock()


def app(environ, start_response):
    room = environ["PATH_INFO"]
    if environ["REQUEST_METHOD"] == "POST":
        with lock:
            messages[room].append(environ["wsgi.input"].read().decode())
            future = changed.pop(room, Future())
        future.set_result(None)  # resumes all who wait for it
    after = int(parse_qs(environ["QUERY_STRING"]).get("after", "0")[0])
    with lock:
        future = changed[room] if len(messages[room]) <= after else None
    if future is not None:
        yield future  # the request is parked: no thread waits
    start_response("200 OK", [("Content-Type", "application/json")])
    yield json.dumps(messages[room][after:]).encode()
