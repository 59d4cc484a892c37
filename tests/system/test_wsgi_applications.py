"""WSGI (PEP 3333): kinds of applications, and wsgiref's."""

from __future__ import annotations

import re

import pytest
from harness.client import chunked
from harness.limits import never


@pytest.fixture
def server(serve):
    return serve("pep3333:app", "--threads", "4")


# Other kinds of applications


@pytest.mark.parametrize(
    ("name", "body"), [("instance", "instance"), ("method", "instance"), ("ClassApplication", "class")]
)
def test_kinds_of_callables(launch, name, body):
    """Instances, bound methods and classes are applications."""
    assert launch(f"pep3333:{name}").get("/").text == body


# wsgiref


def test_wsgiref_demo_app(launch):
    """wsgiref's demo_app as it is."""
    server = launch("wsgiref.simple_server:demo_app")
    answer = server.get("/some/where?x=1")
    assert answer.status == 200
    assert answer.text.startswith("Hello world!")
    assert "PATH_INFO = '/some/where'" in answer.text


@pytest.mark.parametrize(
    "target", ["/demo", "/well-behaved", "/write", "/empty", "/hello", "/blocks?n=3", "/empty-blocks", "/nothing"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_wsgiref_validate_finds_nothing(serve, target, method):
    """wsgiref.validate around applications complains about nothing, for any method and body."""
    server = serve("checked")
    start = server.log_size()
    body = b"line one\nline two\nrest" if method == "POST" else None
    with server.connect() as c:
        answer = c.request(method, target, [("Content-Type", "text/plain")] if body else [], body)
        assert answer.status in (200, 204)
        if target == "/well-behaved" and method == "POST":
            assert answer.body == b"got " + body
        again = (
            c.request(method, target, [("Transfer-Encoding", "chunked")], chunked(body or b"", b"x")) if body else None
        )
        assert again is None or again.status in (200, 204)
    never(lambda: re.search(r"Assertion|Warning|Traceback|validate", server.log(start)), "it complains", during=0.1)
