"""Applications behind wsgiref.validate, which raises at whatever is wrong on either side, warnings included."""

import warnings
from wsgiref.simple_server import demo_app
from wsgiref.validate import validator

import basic

warnings.simplefilter("error")


def well_behaved(environ, start_response):
    """Reads its input in all the ways, writes to the log, answers in blocks."""
    f = environ["wsgi.input"]
    got = f.read(3) + f.readline() + b"".join(f.readlines(1)) + b"".join(f)
    environ["wsgi.errors"].write("checked\n")
    environ["wsgi.errors"].flush()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter([b"got ", got])


def with_write(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])(b"written ")
    return [b"returned"]


def without_body(environ, start_response):
    start_response("204 No Content", [])
    return [b""]


APPLICATIONS = {"/demo": demo_app, "/well-behaved": well_behaved, "/write": with_write, "/empty": without_body}


def application(environ, start_response):
    return validator(APPLICATIONS.get(environ["PATH_INFO"], basic.application))(environ, start_response)
