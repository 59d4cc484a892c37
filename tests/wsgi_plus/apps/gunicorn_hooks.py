"""A configuration file of gunicorn, for tests/wsgi_plus/servers/test_gunicorn.py: hooks that print."""

import logging


def pre_request(worker, req):
    print(f"before {req.method} {req.uri} {req.version} {dict(req.headers).get('X-HOOKED')}", flush=True)
    if req.path == "/refused-by-hook":
        raise LookupError("not today")


def post_request(worker, req, environ, resp):
    print(f"after {environ['REQUEST_METHOD']} {req.path} {resp.status} {resp.sent}", flush=True)
    if req.path == "/broken-hook":
        raise LookupError("a hook is broken")


logging.getLogger("wsgi_plus").setLevel(logging.WARNING)
