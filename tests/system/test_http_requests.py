"""HTTP/1.1 and 1.0: methods, targets and bodies of requests."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from harness.client import build, chunked
from harness.limits import LONG


@pytest.fixture
def server(serve):
    return serve("basic")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "X-OWN!"])
def test_methods(server, method):
    """The method reaches the application as it is; an unknown token either reaches it or is refused with 501."""
    with server.connect() as c:
        answer = c.request(method, "/echo")
        if method == "X-OWN!":
            assert answer.status in (200, 501)
        if answer.status == 200:
            assert answer.header("X-Method") == method


def test_methods_are_case_sensitive(server):
    """`get` is not GET."""
    answer = server.request("get", "/echo")
    assert answer.status in (400, 501) or answer.header("X-Method") == "get"


def test_chunked_request_body(server):
    """The application sees a chunked body decoded; trailers and extensions are dropped."""
    body = b'3;name=value\r\nabc\r\n00002;x="q;\\""\r\nde\r\n0\r\nX-Trailer: seen?\r\nX-Other: 1\r\n\r\n'
    with server.connect() as c:
        answer = c.request("POST", "/echo", [("Transfer-Encoding", "Chunked"), ("Trailer", "X-Trailer")], body)
        assert answer.body == b"abcde"
        c.send(
            build("POST", "/seen", [("Transfer-Encoding", "chunked")], chunked(b"abc", trailers=[("X-Trailer", "t")]))
        )
        assert "HTTP_X_TRAILER" not in c.read_response().text


def test_chunked_hex_in_either_case(server):
    """Chunk sizes in upper and lower case."""
    body = b"A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n"
    with server.connect() as c:
        assert len(c.request("POST", "/echo", [("Transfer-Encoding", "chunked")], body).body) == 21


@pytest.mark.parametrize("size", [0, 1, 512 * 1024 - 1, 512 * 1024, 512 * 1024 + 1, 3_000_000])
@pytest.mark.parametrize("how", ["length", "chunked"])
def test_body_sizes(server, size, how):
    """Bodies around the limit from which they go to a file arrive whole."""
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    with server.connect(timeout=LONG) as c:
        if how == "length":
            answer = c.request("POST", "/echo", (), body)
        else:
            blocks = [body[i : i + 70_000] for i in range(0, size, 70_000)]
            answer = c.request("POST", "/echo", [("Transfer-Encoding", "chunked")], chunked(*blocks))
        assert answer.body == body
        assert c.request("GET", "/hello").status == 200


def test_expect_continue(server):
    """Expect: 100-continue is answered before the body comes, once."""
    with server.connect() as c:
        c.send(build("POST", "/echo", [("Expect", "100-continue"), ("Content-Length", "5")]))
        interim = c.read_head()
        assert interim.status == 100
        assert not c.readable(0.2)
        c.send(b"hello")
        answer = c.read_response()
        assert (answer.status, answer.body, answer.interim) == (200, b"hello", [])


def test_expect_continue_chunked(server):
    """The same for a chunked body, and in any case."""
    with server.connect() as c:
        c.send(build("POST", "/echo", [("Expect", "100-Continue"), ("Transfer-Encoding", "chunked")]))
        assert c.read_head().status == 100
        c.send(chunked(b"abc"))
        assert c.read_response().body == b"abc"


def test_expect_continue_when_the_body_is_there_already(server):
    """A client that does not wait is answered rightly, with or without the 100."""
    with server.connect() as c:
        answer = c.request("POST", "/echo", [("Expect", "100-continue")], b"hello")
        assert answer.body == b"hello"
        assert [i.status for i in answer.interim] in ([], [100])
        assert c.request("GET", "/hello").interim == []


def test_expect_continue_without_a_body(server):
    """No 100 where no body is to come."""
    with server.connect() as c:
        assert c.request("GET", "/hello", [("Expect", "100-continue")]).interim == []


def test_expect_in_1_0_is_ignored(server):
    """A 1.0 client never gets a 100."""
    with server.connect() as c:
        answer = c.request("POST", "/echo", [("Expect", "100-continue")], b"hello", version="1.0")
        assert (answer.body, answer.interim) == (b"hello", [])


def test_expect_something_else(server):
    """An unknown expectation: 417."""
    assert server.get("/hello", [("Expect", "the unexpected")]).status == 417


def test_expect_continue_refused_when_too_large(serve):
    """413 instead of the 100 where the announced length is too large; the application is not called."""
    server = serve("basic", "--limit-request-body", "1000")
    with server.connect() as c:
        c.send(build("POST", "/echo/announced", [("Expect", "100-continue"), ("Content-Length", "1001")]))
        answer = c.read_response()
        assert (answer.status, answer.interim) == (413, [])
        assert not answer.keeps_alive
    assert server.call("probe.count", "calls", "/echo/announced") == 0


def test_body_limit(serve):
    """--limit-request-body: what is exactly as large passes, by length and chunked; one more byte is 413."""
    server = serve("basic", "--limit-request-body", "1000")
    chunks = [("Transfer-Encoding", "chunked")]
    assert server.request("POST", "/echo", (), b"x" * 1000).status == 200
    assert server.request("POST", "/echo", chunks, chunked(b"x" * 500, b"x" * 500)).status == 200
    assert server.request("POST", "/echo", (), b"x" * 1001).status == 413
    assert server.request("POST", "/echo", chunks, chunked(b"x" * 500, b"x" * 501)).status == 413


def test_chunked_body_limit_is_noticed_early(serve):
    """A chunked body over the limit is refused when it passes the limit, not at its end."""
    server = serve("basic", "--limit-request-body", "1000")
    with server.connect() as c:
        c.send(build("POST", "/echo", [("Transfer-Encoding", "chunked")], b"3e9\r\n" + b"x" * 1001))
        assert c.read_response().status == 413


def test_absolute_form(server):
    """An absolute-form target: its path and query count, and its authority instead of Host (RFC 9112, 3.2.2)."""
    seen = server.get("http://real.example:81/seen/a%20b?c=d", [("Host", "other.example")]).text
    for pair in ('"PATH_INFO": "/seen/a b"', '"QUERY_STRING": "c=d"', '"HTTP_HOST": "real.example:81"'):
        assert pair in seen


def test_absolute_form_without_path(server):
    """http://host alone is the path /."""
    assert server.get("http://real.example").text == "no such path: /\n"


def test_asterisk_form(server):
    """OPTIONS * reaches the application."""
    assert server.request("OPTIONS", "*").text == "OPTIONS * *"


def test_asterisk_form_is_for_options_only(server):
    """GET * is refused."""
    assert server.get("*").status == 400


def test_upgrade_is_ignored(server):
    """A request that offers an upgrade is answered as if it did not."""
    with server.connect() as c:
        headers = [
            ("Connection", "Upgrade, HTTP2-Settings"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ]
        answer = c.request("GET", "/hello", headers)
        assert (answer.status, answer.interim, answer.body) == (200, [], b"Hello, world\n")
        c.send(
            build("POST", "/echo", [("Connection", "upgrade"), ("Upgrade", "websocket")], b"body")
            + build("GET", "/hello")
        )
        assert c.read_response().body == b"body"
        assert c.read_response().status == 200


def test_connect_is_refused(server):
    """CONNECT: 501, and what follows is no request."""
    with server.connect() as c:
        c.send(b"CONNECT test.example:443 HTTP/1.1\r\nHost: test.example:443\r\n\r\n" + build("GET", "/hello"))
        assert c.read_response().status == 501
        c.ended()


def test_latin_1_target_octets(server):
    """Octets beyond ASCII in a target are either refused or reach the application; the server stays whole."""
    with server.connect() as c:
        c.send(b"GET /seen/\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert c.read_response().status in (200, 400)


def test_quoting_of_the_path(server):
    """PATH_INFO is decoded once."""
    assert '"PATH_INFO": "/seen/%20/"' in server.get("/seen/" + quote("%20") + "/").text
