"""Strictness: what http-parser would let pass and RFC 9112 does not.  Each case is refused with its status before the
application sees anything: exactly one response, then the end of the connection, and nothing behind the error is ever
taken for a request, however the bytes arrive."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable

import pytest
from harness.client import build, chunked
from harness.limits import PROMPT, SLOW, eventually

SMUGGLED = "/hello/smuggled"

H = b"Host: a\r\n"
GET = b"GET /hello HTTP/1.1\r\n" + H
POST = b"POST /echo/refused HTTP/1.1\r\n" + H
TE = POST + b"Transfer-Encoding: chunked\r\n"
BODY = TE + b"\r\n"

# name: (bytes, status)
CASES: dict[str, tuple[bytes, int]] = {
    # Framing
    "length-and-chunked": (TE + b"Content-Length: 5\r\n\r\n0\r\n\r\n", 400),
    "chunked-and-length": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "length-twice-different": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    "length-twice-same": (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    "length-list": (POST + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    "length-plus": (POST + b"Content-Length: +5\r\n\r\nhello", 400),
    "length-minus": (POST + b"Content-Length: -5\r\n\r\nhello", 400),
    "length-hex": (POST + b"Content-Length: 0x5\r\n\r\nhello", 400),
    "length-empty": (POST + b"Content-Length:\r\n\r\nhello", 400),
    "length-space-within": (POST + b"Content-Length: 1 0\r\n\r\nhello", 400),
    "length-letters": (POST + b"Content-Length: 5a\r\n\r\nhello", 400),
    "length-underscore": (POST + b"Content-Length: 1_0\r\n\r\nhello", 400),
    "length-unicode-digit": (POST + b"Content-Length: \xb2\r\n\r\nhello", 400),
    "length-overflow-64": (POST + b"Content-Length: 18446744073709551621\r\n\r\nhello", 0),
    "length-overflow-far": (POST + b"Content-Length: " + b"9" * 100 + b"\r\n\r\nhello", 0),
    "coding-twice-in-list": (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "coding-twice": (TE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "coding-chunked-not-last": (POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    "coding-identity-after": (TE + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
    "coding-unknown-before": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "coding-unknown": (POST + b"Transfer-Encoding: gzip\r\n\r\nhello", 0),
    "coding-identity": (POST + b"Transfer-Encoding: identity\r\n\r\nhello", 0),
    "coding-xchunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 0),
    "coding-empty": (POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n", 400),
    "coding-quoted": (POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', 400),
    "coding-parameter": (POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 0),
    "coding-vertical-tab": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "coding-nul": (POST + b"Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n", 400),
    "coding-in-1.0": (b"POST /echo HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "coding-in-1.0-with-length": (
        b"POST /echo HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
    ),
    # Lines
    "bare-lf-everywhere": (b"GET /hello HTTP/1.1\nHost: a\n\n", 400),
    "bare-lf-request-line": (b"GET /hello HTTP/1.1\nHost: a\r\n\r\n", 400),
    "bare-lf-field": (GET + b"X: 1\nY: 2\r\n\r\n", 400),
    "bare-lf-end-of-head": (GET + b"X: 1\r\n\n", 400),
    "bare-cr-in-value": (GET + b"X: 1\rY: 2\r\n\r\n", 400),
    "bare-cr-in-request-line": (b"GET /hello\r HTTP/1.1\r\n" + H + b"\r\n", 400),
    "bare-cr-end": (GET + b"X: 1\r\r\n\r\n", 400),
    "cr-cr-lf": (GET + b"\r\r\n", 400),
    "obs-fold-space": (GET + b"X: 1\r\n 2\r\n\r\n", 400),
    "obs-fold-tab": (GET + b"X: 1\r\n\t2\r\n\r\n", 400),
    "space-line-first": (b"GET /hello HTTP/1.1\r\n X: 1\r\n" + H + b"\r\n", 400),
    "nine-empty-lines": (b"\r\n" * 9 + b"GET /hello HTTP/1.1\r\n" + H + b"\r\n", 400),
    "bare-lf-before": (b"\nGET /hello HTTP/1.1\r\n" + H + b"\r\n", 400),
    "space-before": (b" GET /hello HTTP/1.1\r\n" + H + b"\r\n", 400),
    # Field names and values
    "space-before-colon": (GET + b"X : 1\r\n\r\n", 400),
    "tab-before-colon": (GET + b"X\t: 1\r\n\r\n", 400),
    "space-before-colon-of-length": (POST + b"Content-Length : 5\r\n\r\nhello", 400),
    "space-before-colon-of-coding": (POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "empty-name": (GET + b": 1\r\n\r\n", 400),
    "no-colon": (GET + b"nonsense\r\n\r\n", 400),
    "space-in-name": (GET + b"X Y: 1\r\n\r\n", 400),
    "parenthesis-in-name": (GET + b"X(1): 1\r\n\r\n", 400),
    "slash-in-name": (GET + b"X/Y: 1\r\n\r\n", 400),
    "at-in-name": (GET + b"X@Y: 1\r\n\r\n", 400),
    "control-in-name": (GET + b"X\x01Y: 1\r\n\r\n", 400),
    "nul-in-name": (GET + b"X\0Y: 1\r\n\r\n", 400),
    "octet-in-name": (GET + b"X\xe4: 1\r\n\r\n", 400),
    "nul-in-value": (GET + b"X: 1\0002\r\n\r\n", 400),
    "control-in-value": (GET + b"X: 1\x012\r\n\r\n", 400),
    "delete-in-value": (GET + b"X: 1\x7f\r\n\r\n", 400),
    "escape-in-value": (GET + b"X: \x1b[0m\r\n\r\n", 400),
    # Host
    "host-missing": (b"GET /hello HTTP/1.1\r\n\r\n", 400),
    "host-twice": (GET + b"Host: b\r\n\r\n", 400),
    "host-twice-same": (GET + b"host: a\r\n\r\n", 400),
    "host-twice-in-1.0": (b"GET /hello HTTP/1.0\r\n" + H + H + b"\r\n", 400),
    "host-list": (b"GET /hello HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    "host-space": (b"GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "host-path": (b"GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "host-user": (b"GET /hello HTTP/1.1\r\nHost: user@a\r\n\r\n", 400),
    "host-port-letters": (b"GET /hello HTTP/1.1\r\nHost: a:http\r\n\r\n", 400),
    "host-bracket": (b"GET /hello HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
    "host-bad-in-absolute-form": (b"GET http://b/hello HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "host-missing-in-absolute-form": (b"GET http://b/hello HTTP/1.1\r\n\r\n", 400),
    # Request line
    "method-empty": (b" /hello HTTP/1.1\r\n" + H + b"\r\n", 400),
    "method-no-token": (b"GE(T /hello HTTP/1.1\r\n" + H + b"\r\n", 400),
    "method-control": (b"GE\x01T /hello HTTP/1.1\r\n" + H + b"\r\n", 400),
    "method-octet": (b"G\xc9T /hello HTTP/1.1\r\n" + H + b"\r\n", 400),
    "target-missing": (b"GET HTTP/1.1\r\n" + H + b"\r\n", 400),
    "target-empty": (b"GET  HTTP/1.1\r\n" + H + b"\r\n", 400),
    "target-space": (b"GET /hello there HTTP/1.1\r\n" + H + b"\r\n", 400),
    "target-tab": (b"GET\t/hello HTTP/1.1\r\n" + H + b"\r\n", 400),
    "target-two-spaces": (b"GET  /hello HTTP/1.1\r\n" + H + b"\r\n", 400),
    "target-control": (b"GET /hel\x01lo HTTP/1.1\r\n" + H + b"\r\n", 400),
    "target-nul": (b"GET /hel\0lo HTTP/1.1\r\n" + H + b"\r\n", 400),
    "target-delete": (b"GET /hel\x7flo HTTP/1.1\r\n" + H + b"\r\n", 400),
    "target-fragment": (b"GET /hello#x HTTP/1.1\r\n" + H + b"\r\n", 400),
    "target-relative": (b"GET hello HTTP/1.1\r\n" + H + b"\r\n", 400),
    "target-authority": (b"GET a:80 HTTP/1.1\r\n" + H + b"\r\n", 400),
    "target-asterisk": (b"GET * HTTP/1.1\r\n" + H + b"\r\n", 400),
    "target-scheme": (b"GET javascript:alert(1) HTTP/1.1\r\n" + H + b"\r\n", 400),
    "target-absolute-without-host": (b"GET http:///hello HTTP/1.1\r\n" + H + b"\r\n", 400),
    "target-absolute-user": (b"GET http://u@a/hello HTTP/1.1\r\n" + H + b"\r\n", 400),
    "connect": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
    # Versions
    "version-2.0": (b"GET /hello HTTP/2.0\r\n" + H + b"\r\n", 505),
    "version-0.9": (b"GET /hello HTTP/0.9\r\n" + H + b"\r\n", 505),
    "version-absent": (b"GET /hello\r\n\r\n", 400),
    "version-letter": (b"GET /hello HTTP/1.x\r\n" + H + b"\r\n", 400),
    "version-other-protocol": (b"GET /hello FTP/1.1\r\n" + H + b"\r\n", 400),
    "version-lower-case": (b"GET /hello http/1.1\r\n" + H + b"\r\n", 400),
    "version-long": (b"GET /hello HTTP/1.10\r\n" + H + b"\r\n", 400),
    "version-zero": (b"GET /hello HTTP/01.1\r\n" + H + b"\r\n", 400),
    "version-space": (b"GET /hello HTTP/1.1 \r\n" + H + b"\r\n", 400),
    "http2-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0),
    "tls-hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), 400),
    # Chunks
    "chunk-plus": (BODY + b"+5\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-minus": (BODY + b"-5\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-0x": (BODY + b"0x5\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-space-before": (BODY + b" 5\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-space-after": (BODY + b"5 \r\nhello\r\n0\r\n\r\n", 400),
    "chunk-tab": (BODY + b"5\t\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-empty-size": (BODY + b"\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-letters": (BODY + b"5g\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-underscore": (BODY + b"0_5\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-overflow": (BODY + b"10000000000000005\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-overflow-sign": (BODY + b"8000000000000005\r\nhello\r\n0\r\n\r\n", 0),
    "chunk-zeros-many": (BODY + b"0" * 5000 + b"5\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-bare-lf-size": (BODY + b"5\nhello\r\n0\r\n\r\n", 400),
    "chunk-bare-lf-data": (BODY + b"5\r\nhello\n0\r\n\r\n", 400),
    "chunk-bare-cr-size": (BODY + b"5\rhello\r\n0\r\n\r\n", 400),
    "chunk-longer-than-it-says": (BODY + b"5\r\nhello!\r\n0\r\n\r\n", 400),
    "chunk-shorter-than-it-says": (BODY + b"6\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-extension-lf": (BODY + b"5;a\nb\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-extension-cr": (BODY + b"5;a\rb\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-extension-nul": (BODY + b"5;a\0b\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-extension-long": (BODY + b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n", 400),
    "chunk-extensions-many": (BODY + b"1;aaaaaaaaaaaaaaaa\r\nx\r\n" * 20_000 + b"0\r\n\r\n", 400),
    # Trailers
    "trailer-bare-lf": (BODY + b"0\r\nX: 1\n\r\n", 400),
    "trailer-space-before-colon": (BODY + b"0\r\nX : 1\r\n\r\n", 400),
    "trailer-no-colon": (BODY + b"0\r\nnonsense\r\n\r\n", 400),
    "trailer-fold": (BODY + b"0\r\nX: 1\r\n 2\r\n\r\n", 400),
    "trailer-nul": (BODY + b"0\r\nX: \0\r\n\r\n", 400),
    "trailer-long": (BODY + b"0\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 400),
    "trailers-many": (BODY + b"0\r\n" + b"X: 1\r\n" * 20_000 + b"\r\n", 400),
    # Sizes
    "line-long": (b"GET /" + b"x" * 8200 + b" HTTP/1.1\r\n" + H + b"\r\n", 414),
    "line-endless": (b"GET /" + b"x" * 200_000, 414),
    "fields-many": (GET + b"".join(b"X-%d: 1\r\n" % i for i in range(100)) + b"\r\n", 431),
    "field-long": (GET + b"X: " + b"x" * 8200 + b"\r\n\r\n", 431),
    "field-endless": (GET + b"X: " + b"x" * 200_000, 431),
    "field-name-endless": (GET + b"x" * 200_000, 431),
    "method-endless": (b"G" * 200_000, 0),
    "length-too-large": (POST + b"Content-Length: 1073741825\r\n\r\n", 413),
    "chunk-too-large": (BODY + b"40000001\r\nhello", 413),
    # Expectations
    "expectation": (GET + b"Expect: miracles\r\n\r\n", 417),
    "expectation-list": (GET + b"Expect: 100-continue, miracles\r\n\r\n", 417),
}

# An error behind which a request hides: refused in one of several ways, and the hidden one never runs.
ANY = (400, 413, 414, 501, 505)


@pytest.fixture
def server(serve):
    return serve("basic", "--log-level", "debug", admin=True)


def pieces(data: bytes, how: str) -> Iterable[bytes]:
    if how == "whole":
        return [data]
    if how == "bytes":
        return (data[i : i + 1] for i in range(len(data)))
    return re.findall(rb"(?s).*?\r\n|.+?$", data)


def refused(server, data: bytes, status: int, how: str) -> None:
    """Sends it, and looks for exactly one response, the end, and nothing in the application."""
    before = server.call("probe.events", "calls")
    start = server.log_size()
    with server.connect() as c:
        c.send_pieces(pieces(data, how), pause=0 if how == "bytes" else 0.001)
        answer = c.read_response()
        if status:
            assert answer.status == status, answer
        else:
            assert answer.status in ANY, answer
        assert answer.header("Connection") == "close"
        assert answer.header("Content-Length") is not None
        assert answer.header("Date")
        assert c.ended() == "eof"
    assert server.call("probe.events", "calls") == before
    if status != 0:
        server.wait_log(rf"\[DEBUG\].*{answer.status}|\[DEBUG\].*[Rr]efus", start=start)


@pytest.mark.parametrize("how", ["whole", "lines", "bytes"])
@pytest.mark.parametrize("name", CASES)
def test_refused(server, name, how):
    """One response with the right status, then the end; a whole request behind it is never answered; a debug line."""
    data, status = CASES[name]
    if how != "whole" and len(data) > 10_000:
        data_pieces = "whole"  # a byte in a packet would take for ever, and says no more
    else:
        data_pieces = how
    hidden = build("GET", SMUGGLED) if not name.endswith("endless") else b""
    refused(server, data + hidden, status, data_pieces)


HEADS = {
    name: re.sub(rb"^(\r\n)*(GET|POST) ", b"HEAD ", data)
    for name, (data, _) in CASES.items()
    if re.match(rb"(\r\n)*(GET|POST) ", data) and "empty-lines" not in name
}


@pytest.mark.parametrize("how", ["whole", "lines"])
@pytest.mark.parametrize("name", HEADS)
def test_refused_head(server, name, how):
    """The answer to HEAD has no body (RFC 9110, 9.3.2), however early the request is refused."""
    with server.connect() as c:
        c.send_pieces(pieces(HEADS[name], how if len(HEADS[name]) < 10_000 else "whole"), pause=0.001)
        sent, end = c.drain()
        head, _, body = sent.partition(b"\r\n\r\n")
        assert re.match(rb"HTTP/1.1 [45]\d\d ", head), sent
        assert (body, end) == (b"", "eof")


@pytest.mark.parametrize("what", ["head", "body"])
def test_head_that_comes_too_late(serve, what):
    server = serve("basic", "--header-timeout", "0.5", "--body-timeout", "0.5")
    with server.connect() as c:
        c.send(b"HEAD /hello HTTP/1.1\r\nHost: a\r\n" + (b"Content-Length: 5\r\n\r\n" if what == "body" else b""))
        sent, end = c.drain()
        assert sent.startswith(b"HTTP/1.1 408 ") and sent.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("name", [name for name, (data, _) in CASES.items() if len(data) < 1000])
def test_refused_behind_a_good_request(server, name):
    """A good request before it on the connection is answered first, in order."""
    data, status = CASES[name]
    with server.connect() as c:
        c.send(build("POST", "/echo", body=b"good") + data)
        assert c.read_response().body == b"good"
        answer = c.read_response()
        assert answer.status in ((status,) if status else ANY)
        assert c.ended() == "eof"


SMUGGLING = {
    "cl.te": TE + b"Content-Length: 4\r\n\r\n5c\r\n" + build("POST", SMUGGLED) + b"\r\n0\r\n\r\n",
    "te.cl": POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + build("GET", SMUGGLED),
    "te-tab": POST + b"Transfer-Encoding:\tchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + build("GET", SMUGGLED),
    "te-space-colon": POST + b"Transfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n" + build("GET", SMUGGLED),
    "te-x": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + build("GET", SMUGGLED),
    "te-fold": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + build("GET", SMUGGLED),
    "te-cr": POST + b"X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + build("GET", SMUGGLED),
    "te-lf": POST + b"X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + build("GET", SMUGGLED),
    "te-1.0": b"POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n"
    + build("GET", SMUGGLED),
    "cl.cl": POST + b"Content-Length: 0\r\nContent-Length: 50\r\n\r\n" + build("GET", SMUGGLED),
    "cl-list": POST + b"Content-Length: 0, 50\r\n\r\n" + build("GET", SMUGGLED),
    "cl-plus": POST + b"Content-Length: +0\r\n\r\n" + build("GET", SMUGGLED),
    "cl-overflow": POST + b"Content-Length: 18446744073709551616\r\n\r\n" + build("GET", SMUGGLED),
    "cl-nul": POST + b"Content-Length: 0\0\r\n\r\n" + build("GET", SMUGGLED),
    "chunk-lf": BODY + b"2\nxx4\r\n0\r\n\r\n\r\n" + build("GET", SMUGGLED),
    "chunk-ext-lf": BODY + b"2;\nxx\r\n0\r\n\r\n" + build("GET", SMUGGLED),
    "chunk-size-wrap": BODY + b"10000000000000000\r\n\r\n" + build("GET", SMUGGLED),
    "chunk-data-end": BODY + b"2\r\nxxAA0\r\n\r\n" + build("GET", SMUGGLED),
    "trailer-framing": BODY + b"0\r\nbad trailer\r\n\r\n" + build("GET", SMUGGLED),
    "host-absent": b"GET /hello HTTP/1.1\r\n\r\n" + build("GET", SMUGGLED),
    "version": b"GET /hello HTTP/3.0\r\nHost: a\r\n\r\n" + build("GET", SMUGGLED),
    "simple-request": b"GET /hello\r\n" + build("GET", SMUGGLED),
    "connect": b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n" + build("GET", SMUGGLED),
}


@pytest.mark.parametrize("how", ["whole", "lines", "bytes"])
@pytest.mark.parametrize("name", SMUGGLING)
def test_smuggling(server, name, how):
    """The second request of the pair never reaches the application: neither as its own nor because of its length."""
    refused(server, SMUGGLING[name], 0, how)


def test_body_is_never_a_request(server):
    """A request in the body of a request is a body, read by the application or not."""
    before = server.call("probe.count", "calls", SMUGGLED)
    hidden = build("GET", SMUGGLED)
    in_chunks = [("Transfer-Encoding", "chunked")]
    for target, status in (("/echo", 200), ("/ignore", 200), ("/raise", 500)):
        with server.connect() as c:
            c.send(build("POST", target, body=hidden) + build("POST", target, in_chunks, chunked(hidden)))
            answer = c.read_response()
            assert answer.status == status
            if answer.keeps_alive:
                assert c.read_response().status == status
                assert not c.readable(0.1)
            else:
                assert c.ended() == "eof"
    assert server.call("probe.count", "calls", SMUGGLED) == before


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        (b"Content_Length: 5\r\n", True),
        (b"Transfer_Encoding: chunked\r\n", True),
        (b"X_Forwarded_For: 1.2.3.4\r\n", True),
        (b"_: x\r\n", True),
    ],
)
def test_names_with_an_underscore_are_dropped(server, fields, accepted):
    """A name with an underscore would shadow the one with a dash in environ: it is dropped, and frames nothing."""
    with server.connect() as c:
        c.send(b"GET /seen HTTP/1.1\r\n" + H + b"X-Forwarded-For: true\r\n" + fields + b"\r\n")
        answer = c.read_response()
        assert answer.status == 200
        assert '"HTTP_X_FORWARDED_FOR": "true"' in answer.text
        assert "1.2.3.4" not in answer.text
        assert "HTTP__" not in answer.text
        assert '"CONTENT_LENGTH": "5"' not in answer.text
        assert c.request("GET", "/hello").status == 200


ACCEPTED = {
    "tab-and-spaces-around-value": GET + b"X:\t  1 \t\r\n\r\n",
    "no-space-after-colon": GET + b"X:1\r\n\r\n",
    "empty-value": GET + b"X:\r\n\r\n",
    "obs-text": GET + b"X: \x80\xff\r\n\r\n",
    "tab-in-value": GET + b"X: a\tb\r\n\r\n",
    "all-token-characters": GET + b"!#$%&'*+-.^`|~09azAZ: 1\r\n\r\n",
    "host-port": b"GET /hello HTTP/1.1\r\nHost: a:80\r\n\r\n",
    "host-ipv6": b"GET /hello HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "host-empty": b"GET /hello HTTP/1.1\r\nHost:\r\n\r\n",
    "host-underscore": b"GET /hello HTTP/1.1\r\nHost: a_b.example\r\n\r\n",
    "question-mark-only": b"GET /hello? HTTP/1.1\r\n" + H + b"\r\n",
    "two-slashes": b"GET /hello//x HTTP/1.1\r\n" + H + b"\r\n",
    "length-zeros": POST.replace(b"/refused", b"") + b"Content-Length: 0005\r\n\r\nhello",
    "chunk-zeros": TE.replace(b"/refused", b"") + b"\r\n0005\r\nhello\r\n000\r\n\r\n",
    "chunk-extension": TE.replace(b"/refused", b"") + b'\r\n5;a=b;c;d="e"\r\nhello\r\n0;last\r\n\r\n',
    "field-just-fits": GET + b"X: " + b"x" * 8187 + b"\r\n\r\n",
    "fields-just-fit": GET + b"".join(b"X-%d: 1\r\n" % i for i in range(99)) + b"\r\n",
    "line-just-fits": b"GET /hello/" + b"x" * (8190 - 20) + b" HTTP/1.1\r\n" + H + b"\r\n",
}


@pytest.mark.parametrize("how", ["whole", "lines", "bytes"])
@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(server, name, how):
    """Strict is not hostile: what the grammar allows passes, at the very limits too."""
    with server.connect() as c:
        c.send_pieces(pieces(ACCEPTED[name], how), pause=0)
        assert c.read_response().status == 200
        assert c.request("GET", "/hello").status == 200


@pytest.mark.parametrize(
    ("option", "head", "status"),
    [
        ("--limit-request-line", lambda n: b"GET /hello/" + b"x" * (n - 20) + b" HTTP/1.1\r\n" + H + b"\r\n", 414),
        ("--limit-request-field_size", lambda n: GET + b"X: " + b"x" * (n - 3) + b"\r\n\r\n", 431),
        ("--limit-request-fields", lambda n: GET + b"X: 1\r\n" * (n - 1) + b"\r\n", 431),
    ],
)
def test_limits_of_heads(launch, option, head, status):
    """The limits are as large as they say: so much passes, one more is refused."""
    server = launch("basic", option, "64")
    with server.connect() as c:
        c.send(head(64))
        assert c.read_response().status == 200
        c.send(head(65))
        assert c.read_response().status == status
        assert c.ended() == "eof"


def test_refusals_are_counted_by_reason(server):
    """Each refusal is counted under a reason."""
    before = server.admin.metrics().total("fermata_refused_requests_total")
    for name in ("host-missing", "chunk-plus", "line-long"):
        refused(server, *CASES[name], "whole")
    after = server.admin.metrics()
    assert after.total("fermata_refused_requests_total") == before + 3
    assert len(after.labels("fermata_refused_requests_total", "reason")) >= 3


def test_refusal_says_nothing_about_the_inside(server):
    """A refusal is short, plain, and does not send back what was sent."""
    with server.connect() as c:
        c.send(b"GET /<script>alert(1)</script> HTTP/1.1\r\nHost: a b\r\n\r\n")
        answer = c.read_response()
        assert answer.status == 400
        assert b"script" not in answer.body
        assert len(answer.body) < 500
        assert answer.header("Content-Type") is None or answer.header("Content-Type").startswith("text/plain")


def test_refused_client_that_does_not_stop_sending(server):
    """After a refusal what still comes is read and thrown away for a bounded time only."""
    with server.connect(timeout=PROMPT + 10) as c:
        c.send(b"nonsense\r\n\r\n")
        assert c.read_response().status == 400
        deadline = time.monotonic() + 10 + 5 * SLOW
        while time.monotonic() < deadline:
            try:
                c.send(b"GET /hello/smuggled HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(0.05)
        else:
            pytest.fail("the connection never ends")
    assert server.call("probe.count", "calls", SMUGGLED) == 0


def test_refused_client_that_does_nothing(server):
    """After a refusal a client that neither sends nor closes is not waited for for ever."""
    with contextlib.ExitStack() as held:
        for _ in range(10):
            c = held.enter_context(server.connect())
            c.send(b"nonsense\r\n\r\n")
            assert c.read_response().status == 400
            assert c.ended() == "eof"  # the server's FIN
        eventually(
            lambda: server.admin.metrics().value("fermata_connections") == 0, "none is open", within=10 + PROMPT
        )


def test_no_request_after_an_error_in_a_body(server):
    """An error in the middle of a body whose head was accepted is a refusal too; the application is not called."""
    refused(server, BODY + b"5\r\nhello\r\nzz\r\n" + build("GET", SMUGGLED), 400, "whole")
