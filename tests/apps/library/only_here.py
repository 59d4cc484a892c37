"""Found only where --pythonpath leads to."""


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [__file__.encode()]
