"""Records every request that it gets, for the replay of recorded streams."""

import probe
from routes import text


def application(environ, start_response):
    body = environ["wsgi.input"].read()
    seen = {name: value for name, value in environ.items() if isinstance(value, str)}
    probe.record("requests", environ["REQUEST_METHOD"], [seen, body.decode("latin-1")])
    return text(start_response, f"{len(body)}\n")
