"""HTTP/1.1 and 1.0: connections, requests, the framing of responses, timeouts."""

from __future__ import annotations

import email.utils
import re
import signal
import time
from urllib.parse import quote, urlencode

import pytest
from harness.client import Malformed, NoResponse, Truncated, build, chunked
from harness.limits import LONG, PROMPT, eventually, never, timeout


@pytest.fixture
def server(serve):
    return serve("basic")


def respond(**asked: str) -> str:
    return "/respond?" + urlencode(asked, encoding="latin-1")


# Connections


def test_keep_alive_is_the_default_in_1_1(server):
    """Many requests on one connection, without a word about it."""
    with server.connect() as c:
        for _ in range(50):
            answer = c.request("GET", "/hello")
            assert (answer.version, answer.status, answer.reason, answer.body) == ("1.1", 200, "OK", b"Hello, world\n")
            assert answer.keeps_alive
            assert answer.header("Connection") is None


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close", "x, CLOSE ,y"])
def test_connection_close_from_the_client(server, value):
    """Connection: close, in whatever company: one response that says close, then the end."""
    with server.connect() as c:
        c.send(build("GET", "/hello", [("Connection", value)]) + build("GET", "/hello?second"))
        answer = c.read_response()
        assert answer.body == b"Hello, world\n"
        assert answer.header("Connection") == "close"
        assert c.ended() == "eof"


def test_connection_close_from_the_application(server):
    """The application's Connection: close is honoured."""
    with server.connect() as c:
        answer = c.request("GET", respond(h="Connection:close", b="bye"))
        assert answer.header("Connection") == "close"
        assert answer.body == b"bye"
        assert c.ended() == "eof"


def test_http_1_0_closes(server):
    """A 1.0 request without keep-alive: the response, then the end."""
    with server.connect() as c:
        answer = c.request("GET", "/hello", version="1.0")
        assert answer.status == 200
        assert answer.body == b"Hello, world\n"
        assert not answer.keeps_alive
        assert c.ended() == "eof"


def test_http_1_0_keep_alive(server):
    """A 1.0 request that asks for keep-alive gets it, and is told so, when the length is known."""
    with server.connect() as c:
        for _ in range(3):
            answer = c.request("GET", "/hello", [("Connection", "Keep-Alive")], version="1.0")
            assert answer.header("Connection").lower() == "keep-alive"
            assert answer.framing == "length"


def test_http_1_0_without_host(server):
    """Host may be absent in 1.0."""
    with server.connect() as c:
        assert c.request("GET", "/hello", version="1.0", host=None).status == 200


def test_http_1_0_unknown_length_is_ended_by_closing(server):
    """Several blocks without a length go to a 1.0 client unchunked, and the connection ends, keep-alive or not."""
    with server.connect() as c:
        answer = c.request("GET", "/blocks?n=3", [("Connection", "keep-alive")], version="1.0")
        assert answer.framing == "close"
        assert answer.body == b"block 0\nblock 1\nblock 2\n"
        assert not answer.keeps_alive


def test_pipelining_in_order(server):
    """Requests sent in one go are answered in their order, the slow ones too."""
    with server.connect(timeout=LONG) as c:
        c.send(b"".join(build("GET", f"/slow?s={0.3 if i in (0, 3) else 0}&say={i}") for i in range(10)))
        assert [c.read_response().body for i in range(10)] == [b"%d" % i for i in range(10)]


def test_pipelining_with_bodies(server):
    """The next request begins exactly where the body of the one before ends."""
    with server.connect() as c:
        c.send(
            build("POST", "/echo", body=b"first")
            + build("POST", "/echo", [("Transfer-Encoding", "chunked")], chunked(b"sec", b"ond"))
            + build("POST", "/ignore", body=b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            + build("GET", "/seen?last")
        )
        assert c.read_response().body == b"first"
        assert c.read_response().body == b"second"
        assert c.read_response().body == b"ignored\n"
        assert b'"QUERY_STRING": "last"' in c.read_response().body
        assert not c.readable(0.2)


def test_deep_pipelining(server):
    """Thousands of requests in flight in both directions on one connection neither block nor reorder."""
    number = 3000
    with server.connect(timeout=LONG) as c:
        c.sock.setblocking(False)
        todo = memoryview(b"".join(build("POST", "/echo", body=b"%d" % i) for i in range(number)))
        answers = 0
        deadline = time.monotonic() + LONG
        while answers < number:
            assert time.monotonic() < deadline, f"{answers} answers"
            try:
                todo = todo[c.sock.send(todo[:65536]) :] if todo else todo
            except BlockingIOError:
                pass
            if c.readable(0.01):
                c.sock.settimeout(PROMPT)
                answer = c.read_response()
                assert answer.body == b"%d" % answers
                answers += 1
                while c.received.count(b"\r\n\r\n") > 2:
                    assert c.read_response().body == b"%d" % answers
                    answers += 1
                c.sock.setblocking(False)


def test_byte_by_byte(server):
    """A request that arrives a byte at a time is the same request."""
    request = build("POST", "/echo", [("Transfer-Encoding", "chunked")], chunked(b"abc", b"defg"))
    with server.connect() as c:
        c.send_pieces((request[i : i + 1] for i in range(len(request))), pause=0.0005)
        assert c.read_response().body == b"abcdefg"
        assert c.request("GET", "/hello").status == 200


def test_one_empty_line_before_a_request(server):
    """One CRLF before the request line is skipped (RFC 9112, 2.2)."""
    with server.connect() as c:
        c.send(b"\r\n" + build("GET", "/hello"))
        assert c.read_response().status == 200
        c.send(b"\r\n" + build("GET", "/hello"))
        assert c.read_response().status == 200


def test_client_that_half_closes_after_its_request(server):
    """printf ... | nc -N: the response comes though the client has shut its side."""
    with server.connect() as c:
        c.send(build("GET", "/slow?s=0.3"))
        c.half_close()
        assert c.read_response().body == b"slept\n"
        assert c.ended() == "eof"


def test_client_that_half_closes_after_several_requests(server):
    """All requests that were sent before the half-close are answered."""
    with server.connect() as c:
        c.send(build("GET", "/hello") * 3)
        c.half_close()
        assert [c.read_response().status for _ in range(3)] == [200] * 3
        assert c.ended() == "eof"


def test_connection_that_ends_within_a_request(server):
    """A head or body that is cut off by the end of the connection is never given to the application."""
    before = server.call("probe.count", "calls", "/echo/cut")
    for cut in (b"POST /echo/c", b"POST /echo/cut HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"):
        with server.connect() as c:
            c.send(cut)
            c.half_close()
            data, _ = c.drain()
            assert data == b"" or data.startswith(b"HTTP/1.1 400 ")
    assert server.call("probe.count", "calls", "/echo/cut") == before


# Requests


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


# Responses: framing


def test_single_block_gets_its_length(server):
    """One block in all: the length is computed."""
    answer = server.get(respond(b="twelve bytes"))
    assert (answer.framing, answer.header("Content-Length"), answer.body) == ("length", "12", b"twelve bytes")


def test_single_block_of_a_generator(server):
    """One block in all, from an iterable without len()."""
    answer = server.get("/blocks?n=1")
    assert answer.body == b"block 0\n"
    assert answer.framing in ("length", "chunked")


def test_no_block_at_all(server):
    """An empty iterable: Content-Length: 0, and the connection goes on."""
    with server.connect() as c:
        for _ in range(2):
            answer = c.request("GET", "/nothing")
            assert (answer.framing, answer.header("Content-Length"), answer.body) == ("length", "0", b"")


def test_several_blocks_are_chunked(server):
    """Blocks without a length are chunked in 1.1, and the connection goes on."""
    with server.connect() as c:
        for _ in range(3):
            answer = c.request("GET", "/blocks?n=100")
            assert answer.framing == "chunked"
            assert answer.body == b"".join(b"block %d\n" % i for i in range(100))


def test_empty_blocks_do_not_end_a_chunked_body(server):
    """An empty block sends nothing."""
    with server.connect() as c:
        assert c.request("GET", "/empty-blocks").body == b"one two"
        assert c.request("GET", "/hello").status == 200


def test_declared_length_is_kept(server):
    """The application's Content-Length frames the response, however many blocks there are."""
    with server.connect() as c:
        for step in (1, 7, 100):
            answer = c.request("GET", f"/declared?length=100&size=100&step={step}")
            assert (answer.framing, len(answer.body)) == ("length", 100)


def test_body_longer_than_declared_is_cut(server):
    """What is beyond the Content-Length is cut and logged, and is never taken for the next response."""
    start = server.log_size()
    with server.connect() as c:
        c.send(build("GET", "/declared?length=10&size=100&step=7") + build("GET", "/hello"))
        assert c.read_response().body == b"x" * 10
        try:
            assert c.read_response().body == b"Hello, world\n"
        except NoResponse:
            pass  # to close is also a way
    server.wait_log(r"GET /declared.*", start=start)
    assert re.search(r"(?i)content-length", server.log(start))


def test_body_longer_than_declared_in_one_block(server):
    """The same when it is one block that is too long."""
    start = server.log_size()
    answer = server.get("/declared?length=10&size=100&step=100")
    assert answer.body == b"x" * 10
    server.wait_log(r"(?i)content-length", start=start)


def test_endless_body_beyond_the_declared_length_is_not_iterated(server):
    """Iteration ends soon after the declared length is reached; close() is called."""
    answer = server.get("/declared?length=10&size=1000000000&step=5&key=endless")
    assert len(answer.body) == 10
    server.wait_events("endless", "closed")
    assert len(server.events("endless")) < 100


def test_body_shorter_than_declared_is_aborted(server):
    """Too short: the connection is aborted, so that the client sees it, and it is logged."""
    start = server.log_size()
    with server.connect() as c:
        c.send(build("GET", "/declared?length=100&size=60&step=20") + build("GET", "/hello"))
        c.read_failed()
    server.wait_log(r"(?i)content-length", start=start)
    assert "/declared" in server.log(start)


def test_empty_body_with_a_declared_length_is_an_error(server):
    """Not a byte of a declared body: the client does not see a complete response."""
    with server.connect() as c:
        c.send(build("GET", "/declared?length=100&size=0&step=1"))
        try:
            assert c.read_response().status == 500
        except (Truncated, ConnectionResetError):
            pass


def test_error_within_a_1_0_response_is_visible(server):
    """A body that only the end of the connection ends must not look complete when it failed: reset, not FIN."""
    with server.connect() as c:
        c.send(build("GET", "/declared?length=100&size=60&step=20", version="1.0"))
        c.read_failed()


def test_head(server):
    """HEAD: the headers of GET, no body, and the connection goes on."""
    with server.connect() as c:
        get = c.request("GET", "/hello")
        for _ in range(3):
            head = c.request("HEAD", "/hello")
            assert (head.status, head.body, head.header("Content-Length")) == (200, b"", get.header("Content-Length"))
        assert c.request("GET", "/hello").body == b"Hello, world\n"


def test_head_of_chunked(server):
    """HEAD where GET would be chunked: no byte of a body, not even the last chunk."""
    with server.connect() as c:
        c.send(build("HEAD", "/blocks?n=5") + build("GET", "/hello"))
        head = c.read_response("HEAD")
        assert head.header("Content-Length") is None
        assert c.read_response().body == b"Hello, world\n"


def test_head_without_a_body_from_the_application(server):
    """An application that answers HEAD with a Content-Length and no body is right."""
    start = server.log_size()
    with server.connect() as c:
        head = c.request("HEAD", "/declared?length=100&size=0&step=1")
        assert (head.status, head.header("Content-Length")) == (200, "100")
        assert c.request("GET", "/hello").status == 200
    assert "ERROR" not in server.log(start)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("block", ["", "dropped"])
def test_statuses_without_a_body(server, status, block):
    """204 and 304 have no body and no chunked framing; what the application yields is dropped; the connection goes on."""
    with server.connect() as c:
        c.send(build("GET", respond(status=status, b=block)) + build("GET", "/hello"))
        answer = c.read_response()
        assert f"{answer.status} {answer.reason}" == status
        assert answer.header("Transfer-Encoding") is None
        if answer.status == 204:
            assert answer.header("Content-Length") is None
        else:
            assert answer.header("Content-Length") in (None, str(len(block)))
        assert c.read_response().body == b"Hello, world\n"


def test_304_keeps_the_content_length_of_the_application(server):
    """A 304 may say how long the body would be; it has none."""
    with server.connect() as c:
        c.send(build("GET", respond(status="304 Not Modified", h="Content-Length:5")) + build("GET", "/hello"))
        assert c.read_response().header("Content-Length") in (None, "5")
        assert c.read_response().status == 200


def test_transfer_encoding_from_the_application(server):
    """The application does not frame: its Transfer-Encoding is dropped, never sent beside ours."""
    answer = server.get(respond(h="Transfer-Encoding:chunked", b="one", b2="two"))
    assert answer.body == b"onetwo"
    assert answer.all("Transfer-Encoding") in ([], ["chunked"])


# Responses: headers


def test_date_and_server(server):
    """Date and Server are added."""
    answer = server.get("/hello")
    when = email.utils.parsedate_to_datetime(answer.header("Date"))
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", answer.header("Date"))
    assert abs(when.timestamp() - time.time()) < 5
    assert "fermata" in answer.header("Server").lower()


def test_date_goes_on(server):
    """Date is not that of the start."""
    with server.connect() as c:
        first = c.request("GET", "/hello").header("Date")
        time.sleep(2.1)
        assert c.request("GET", "/hello").header("Date") != first


def test_date_and_server_of_the_application(server):
    """Date and Server of the application are kept, not doubled."""
    answer = server.get(respond(h="Date:Thu, 01 Jan 1970 00:00:00 GMT", h2="SERVER:mine", b="x"))
    assert answer.header("Date") == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert answer.header("Server") == "mine"


def test_headers_arrive_as_they_are(server):
    """Order, case, repetition and latin-1 values of the application's headers."""
    answer = server.get(
        respond(h1="x-MiXed:one", h2="Set-Cookie:a=1", h3="Set-Cookie:b=2", h4="X-Latin:\xe4\xff", h5="X-Empty:", b="x")
    )
    mine = [pair for pair in answer.headers if pair[0] in ("x-MiXed", "Set-Cookie", "X-Latin", "X-Empty")]
    assert mine == [
        ("x-MiXed", "one"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("X-Latin", "\xe4\xff"),
        ("X-Empty", ""),
    ]


@pytest.mark.parametrize("status", ["200 All is well", "404 Nothing", "299 ", "503 It's (really) \xe4", "599 x"])
def test_status_line(server, status):
    """Status code and reason are the application's."""
    answer = server.get(respond(status=status, b="x"))
    assert f"{answer.status} {answer.reason}" == status


@pytest.mark.parametrize(
    "header",
    [
        "X-A:one\r\nX-Injected: two",
        "X-A:one\nX-Injected: two",
        "X-A:one\rX-Injected: two",
        "X-A:nul\0byte",
        "X-A:bell\x07",
        "X A:space in the name",
        "X-A\r\nX-Injected:two",
        "X-\xe4:name beyond ascii",
        ":empty name",
        "X(A):no token",
        " X-A:leading space",
        "X-A :space before the colon",
    ],
)
def test_bad_response_header_is_never_sent(server, header):
    """A header with CR, LF, NUL or a bad name is an application error: 500, logged, nothing of it on the wire."""
    start = server.log_size()
    with server.connect() as c:
        c.send(build("GET", respond(h=header, b="body")))
        answer = c.read_response()
        assert answer.status == 500
        assert answer.all("X-Injected") == []
        assert b"body" not in answer.body
    server.wait_log("Error handling request GET /respond", start=start)


@pytest.mark.parametrize(
    "status",
    [
        "200 OK\r\nX-Injected: yes",
        "200 OK\nX",
        "200 \0",
        "20 Short",
        "2000 Long",
        "abc OK",
        "099 Low",
        "",
        "-20 x",
        "100 Continue",
        "101 Switching",
    ],
)
def test_bad_status_is_never_sent(server, status):
    """A status that is no status is an application error; a 1xx is none that an application may choose."""
    start = server.log_size()
    answer = server.get(respond(status=status, b="body"))
    assert (answer.status, answer.interim, answer.all("X-Injected")) == (500, [], [])
    server.wait_log("Error handling request GET /respond", start=start)


@pytest.mark.parametrize(
    "name", ["Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Upgrade", "Transfer-Encoding"]
)
def test_hop_by_hop_headers_are_dropped_with_one_warning(launch, name):
    """Hop-by-hop headers from the application are dropped, and one warning for all requests says so."""
    server = launch("basic")
    for _ in range(3):
        answer = server.get(respond(h=f"{name}:something", b="x"))
        assert (answer.status, answer.body) == (200, b"x")
        assert "something" not in [value for _, value in answer.headers]
    server.wait_log(rf"(?i)\[WARNING\].*{name}")
    assert len(re.findall(rf"(?i)\[WARNING\].*{name}", server.log())) == 1


def test_large_block_that_is_cut(server):
    """A large block of which a part is sent stays alive until it is, though the application is not asked again."""
    with server.connect(receive_buffer=4096, timeout=LONG) as c:
        c.send(build("GET", "/declared?length=8000000&size=16000000&step=16000000"))
        time.sleep(0.5)  # the socket is full; what does not fit is the server's to keep
        assert c.read_response().body == b"x" * 8_000_000


@pytest.mark.parametrize("length", ["-1", "+5", "5 5", "five", "0x5", "", "5,5", "99999999999999999999999"])
def test_bad_content_length_from_the_application(server, length):
    """A Content-Length that is none is an application error."""
    assert server.get(respond(h=f"Content-Length:{length}", b="hello")).status == 500


def test_repeated_content_length_from_the_application(server):
    """Two Content-Lengths never leave."""
    answer = server.get(respond(h="Content-Length:5", h2="content-length:6", b="hello"))
    assert answer.status == 500


# Timeouts


def test_keep_alive_timeout(serve):
    """An idle connection is closed after --keep-alive seconds, not before, and without a response."""
    server = serve("basic", "--keep-alive", "1")
    with server.connect() as c:
        for _ in range(3):  # each request begins the time anew
            assert c.request("GET", "/hello").status == 200
            time.sleep(0.5)
        start = time.monotonic()
        assert c.ended() == "eof"
        assert time.monotonic() - start > 0.2


def test_keep_alive_timeout_after_blocking_requests(launch):
    """It counts from the response, whichever thread has sent it."""
    server = launch("basic", "--keep-alive", "10", "--threads", "8")
    held = [server.begin("/slow?s=0.3", timeout=LONG) for _ in range(6)]
    assert [c.read_response().status for c in held] == [200] * 6
    began = time.monotonic()
    for c in held:
        assert c.ended() == "eof"
    assert 5 < time.monotonic() - began < 10 + PROMPT


def test_new_connection_without_a_request(serve):
    """A connection on which nothing is ever sent is closed as well (by the time for heads or the one for idling)."""
    server = serve("basic", "--keep-alive", "1", "--header-timeout", "1")
    with server.connect() as c:
        data, _ = c.drain()
        assert data == b"" or data.startswith(b"HTTP/1.1 408 ")


def test_keep_alive_zero(serve):
    """--keep-alive 0: every response closes."""
    server = serve("basic", "--keep-alive", "0")
    with server.connect() as c:
        assert not c.request("GET", "/hello").keeps_alive
        assert c.ended() == "eof"


def test_header_timeout_counts_the_whole_head(serve):
    """A client that drips a head, a byte at a time, is cut off after --header-timeout in all: 408 or just the end."""
    server = serve("basic", "--header-timeout", "1", "--keep-alive", "30")
    head = build("GET", "/hello", [("X-Slow", "x" * 500)])
    with server.connect() as c:
        start = time.monotonic()
        for i in range(200):
            try:
                c.send(head[i : i + 1])
            except (BrokenPipeError, ConnectionResetError):
                break
            if c.readable(0.1):
                break
        else:
            pytest.fail("a head may take for ever")
        assert 0.5 < time.monotonic() - start < 1 + PROMPT
        try:
            data, _ = c.drain()
        except ConnectionResetError:
            data = b""
        assert data == b"" or data.startswith(b"HTTP/1.1 408 ")


def test_header_timeout_on_a_kept_connection(serve):
    """The time for the head begins with its first byte; on a used connection too."""
    server = serve("basic", "--header-timeout", "1", "--keep-alive", "30")
    with server.connect() as c:
        assert c.request("GET", "/hello").status == 200
        time.sleep(1.5)  # idle: longer than the header timeout
        assert c.request("GET", "/hello").status == 200
        c.send(b"GET /hello HT")
        data, _ = c.drain()
        assert data == b"" or data.startswith(b"HTTP/1.1 408 ")


def test_body_timeout(serve):
    """A body from which no byte comes for --body-timeout ends the request: 408, the application is not called."""
    server = serve("basic", "--body-timeout", "1")
    with server.connect() as c:
        c.send(build("POST", "/echo/stalled", [("Content-Length", "10")]) + b"12345")
        data, _ = c.drain()
        assert data == b"" or data.startswith(b"HTTP/1.1 408 ")
    assert server.call("probe.count", "calls", "/echo/stalled") == 0


def test_body_timeout_is_for_silence_only(serve):
    """A body that comes slowly but steadily may take longer than --body-timeout."""
    server = serve("basic", "--body-timeout", "1", "--limit-body-rate", "0")
    with server.connect() as c:
        c.send(build("POST", "/echo", [("Content-Length", "10")]))
        for _ in range(10):
            time.sleep(0.2)
            c.send(b"x")
        assert c.read_response().body == b"x" * 10


def test_body_that_trickles(serve):
    """More slowly than --limit-body-rate through all of a --body-timeout: 408."""
    server = serve("basic", "--body-timeout", "1", "--limit-body-rate", "100", admin=True)
    with server.connect(timeout=LONG) as c:
        c.send(build("POST", "/echo", [("Content-Length", "10000")]))
        for _ in range(100):
            if c.readable(0.1):
                break
            c.send(b"x")
        response = c.read_response()
        assert response.status == 408
        assert c.ended()
    assert server.admin.metrics().value("fermata_refused_requests_total", reason="body_rate") == 1


def test_body_that_comes_steadily(serve):
    server = serve("basic", "--body-timeout", "1", "--limit-body-rate", "100")
    with server.connect(timeout=LONG) as c:
        c.send(build("POST", "/echo", [("Content-Length", "2000")]))
        for _ in range(20):
            time.sleep(0.1)
            c.send(b"x" * 100)
        assert c.read_response().body == b"x" * 2000


def kernel_keeps(port: int, client: int) -> int:
    """Bytes in the send queue of the server's side of a connection."""
    with open("/proc/net/tcp") as table:
        rows = [row.split() for row in table.readlines()[1:]]
    ends, established = [f"0100007F:{port:04X}", f"0100007F:{client:04X}"], "01"
    (queues,) = [r[4] for r in rows if r[1:3] == ends and r[3] == established]
    return int(queues.split(":")[0], 16)


def test_a_client_that_does_not_read_costs_the_kernel_little(launch):
    """Not the megabytes that a send buffer grows to, of bytes that cannot be sent anyway."""
    server = launch("basic")
    with server.connect(timeout=LONG) as fast:  # its acknowledgements have let the server's buffers grow
        assert len(fast.request("GET", "/big?mb=20").body) == 20 << 20
    with server.connect(receive_buffer=4096, timeout=LONG) as c:
        c.send(build("GET", "/declared?length=100000000&size=100000000&step=1000000&key=unread"))
        port, client = server.port, c.sock.getsockname()[1]
        eventually(lambda: kernel_keeps(port, client) > 100_000, "it sends")
        never(lambda: kernel_keeps(port, client) > 700_000, "the kernel keeps more")


def test_send_timeout(launch):
    """A client that takes no byte for --send-timeout is cut off, and the application is closed."""
    server = launch("basic", "--send-timeout", "1", "--threads", "1")
    with server.connect(receive_buffer=4096, timeout=LONG) as c:
        c.send(build("GET", "/declared?length=100000000&size=100000000&step=1000000&key=stalled"))
        server.wait_events("stalled", "closed", within=LONG)
        c.read_cut()
    assert server.get("/hello").status == 200


def test_send_timeout_is_for_silence_only(launch):
    """A client that reads slowly but steadily may take longer than --send-timeout, also when it takes so little that the
    socket's buffer does not become writable again for long."""
    server = launch("basic", "--send-timeout", "1")
    size = 20_000_000
    with server.connect(receive_buffer=65536, timeout=LONG) as c:
        c.send(build("GET", f"/declared?length={size}&size={size}&step=1000000&key=slow"))
        c.read_head()
        got = 0
        began = time.monotonic()
        while time.monotonic() - began < 4:
            got += len(c.read(8192))
            time.sleep(0.02)
        assert c.read(size - got) == b"x" * (size - got)


@timeout(60)
def test_send_timeout_and_a_large_receive_buffer(launch):
    """A client's window opens in steps: with a large buffer, one that reads steadily acknowledges nothing for longer than
    --send-timeout, again and again."""
    server = launch("basic", "--send-timeout", "1.5", "--threads", "1", "--request-timeout", "60")
    size = 8_000_000
    with server.connect(receive_buffer=1 << 20, timeout=LONG) as c:
        c.send(build("GET", f"/declared?length={size}&size={size}&step=1000000&key=steps"))
        c.read_head()
        got = 0
        began = time.monotonic()
        while time.monotonic() - began < 12:
            got += len(c.read(4096))
            time.sleep(0.1)
        assert c.read(size - got) == b"x" * (size - got)


def test_timeouts_do_not_count_the_application(serve):
    """A request that runs longer than the header, body, keep-alive and send timeouts is left alone."""
    server = serve("basic", "--header-timeout", "1", "--body-timeout", "1", "--keep-alive", "1", "--send-timeout", "1")
    with server.connect(timeout=LONG) as c:
        assert c.request("POST", "/slow?s=2.5", (), b"body").status == 200
        assert c.request("GET", "/hello").status == 200


def test_timeouts_after_a_long_rest(serve):
    """Timeouts count from what happens on a connection, also when the server has slept for longer than they are."""
    server = serve("basic", "--header-timeout", "1", "--body-timeout", "1", "--keep-alive", "1", "--send-timeout", "1")
    for _ in range(3):
        time.sleep(2.2)
        with server.connect() as c:
            request = build("POST", "/echo", body=b"hello")
            c.send(request[:20])
            time.sleep(0.3)
            c.send(request[20:-3])
            time.sleep(0.3)
            c.send(request[-3:])
            assert c.read_response().body == b"hello"
            time.sleep(0.3)
            assert c.request("GET", "/hello").status == 200


# Limits of connections


def test_worker_connections(launch):
    """Beyond --worker-connections accepting pauses; it goes on when a connection ends."""
    server = launch("basic", "--worker-connections", "5", "--keep-alive", "60", "--header-timeout", "60")
    held = [server.connect() for _ in range(5)]
    try:
        assert all(c.request("GET", "/hello").status == 200 for c in held)
        with server.connect() as waiting:  # the kernel accepts it, the server does not
            waiting.send(build("GET", "/hello"))
            never(lambda: waiting.readable(0), "answered beyond --worker-connections")
            assert held[0].request("GET", "/hello").status == 200
            held.pop().close()
            assert waiting.read_response().status == 200
    finally:
        for c in held:
            c.close()


def test_descriptors_of_closed_connections_are_given_back(server):
    """Connections that end in whatever way leave no descriptor behind."""
    server.get("/hello")
    before = len(server.process.fds())
    for i in range(60):
        c = server.connect()
        if i % 6 == 0:
            c.send(b"GET /hel")
        elif i % 6 == 1:
            c.request("GET", "/hello")
        elif i % 6 == 2:
            c.send(build("GET", "/big?mb=3"))
        elif i % 6 == 3:
            c.send(build("POST", "/echo", [("Content-Length", "700000")]) + b"x" * 600_000)
        elif i % 6 == 4:
            c.send(b"nonsense\r\n\r\n")
        if i % 2:
            c.reset()
        else:
            c.close()
    eventually(lambda: len(server.process.fds()) <= before, f"at most {before} descriptors", within=LONG)


def test_nodelay(server):
    """Small blocks leave at once: no response waits for an acknowledgement (40 ms each, with Nagle)."""
    with server.connect() as c:
        c.request("GET", "/blocks?n=5")
        start = time.monotonic()
        for _ in range(50):
            c.request("GET", "/blocks?n=5")
        assert time.monotonic() - start < max(1.0, PROMPT / 3)


def test_latin_1_target_octets(server):
    """Octets beyond ASCII in a target are either refused or reach the application; the server stays whole."""
    with server.connect() as c:
        c.send(b"GET /seen/\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert c.read_response().status in (200, 400)


def test_lingering_close_lets_the_client_read_the_refusal(server):
    """A client that is still sending when it is refused can read the response: no reset destroys it."""
    with server.connect(timeout=LONG) as c:
        c.send(b"GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
        c.send_pieces([b"y" * 65536] * 20, pause=0.01)
        answer = c.read_response()
        assert answer.status == 400
        assert not answer.keeps_alive
        assert c.ended() == "eof"
        for _ in range(5):
            c.send(b"z" * 65536)
            time.sleep(0.02)


def test_quoting_of_the_path(server):
    """PATH_INFO is decoded once."""
    assert '"PATH_INFO": "/seen/%20/"' in server.get("/seen/" + quote("%20") + "/").text


def test_malformed_is_noticed_by_the_tests(server):
    """The tests' own client refuses what is no HTTP: an application's bytes taken for a head."""
    with server.connect() as c:
        c.send(build("GET", respond(b="no status line\r\n\r\n")))
        c.read_head()
        with pytest.raises(Malformed):
            c.read_head()


def test_many_connections_at_once(server):
    """Some hundred connections are served at once and in turn."""
    held = [server.connect() for _ in range(300)]
    try:
        for _ in range(2):
            for c in held:
                c.send(build("GET", "/hello"))
            assert [c.read_response().status for c in held] == [200] * 300
    finally:
        for c in held:
            c.close()


def test_backlog_takes_a_burst(launch):
    """While the server is stopped for a moment the kernel queues at least --backlog connections (as far as it may)."""
    server = launch("basic", "--backlog", "100")
    server.signal(signal.SIGSTOP)
    try:
        held = [server.connect() for _ in range(90)]
    finally:
        server.signal(signal.SIGCONT)
    try:
        for c in held:
            c.send(build("GET", "/hello"))
        assert [c.read_response().status for c in held] == [200] * 90
    finally:
        for c in held:
            c.close()


def test_tcp_only_options_on_a_unix_socket(launch, tmp_path):
    """Everything above holds on a unix socket: keep-alive, pipelining, chunked, abort."""
    server = launch("basic", bind=[f"unix:{tmp_path / 's'}"])
    with server.connect() as c:
        c.send(
            build("GET", "/hello") + build("GET", "/blocks?n=3") + build("GET", "/declared?length=100&size=60&step=20")
        )
        assert c.read_response().status == 200
        assert c.read_response().framing == "chunked"
        c.read_failed()
