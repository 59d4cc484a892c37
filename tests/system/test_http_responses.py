"""HTTP/1.1 and 1.0: the framing of responses and their headers."""

from __future__ import annotations

import email.utils
import re
import time
from urllib.parse import urlencode

import pytest
from harness.client import NoResponse, Truncated, build
from harness.limits import LONG


@pytest.fixture
def server(serve):
    return serve("basic")


def respond(**asked: str) -> str:
    return "/respond?" + urlencode(asked, encoding="latin-1")


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
