"""Found only where --chdir leads to."""

import os


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [os.getcwd().encode()]
