"""WSGI (PEP 3333): environ."""

from __future__ import annotations

import json
import re

import pytest
from harness.client import build, chunked


@pytest.fixture
def server(serve):
    return serve("pep3333:app", "--threads", "4")


def environ(server, target="/environ", headers=(), body=None, method="POST", **how):
    return json.loads(server.request(method, target, headers, body, **how).text)


def test_environ_is_complete(server):
    """Everything that PEP 3333 requires is there, with its type; environ is a real dict."""
    facts = environ(server, "/environ/a%20b?x=1&y=%20", [("Content-Type", "text/x-test")], b"12345")
    peer = server.address
    expected = {
        "(type)": ["dict", ""],
        "REQUEST_METHOD": ["str", "'POST'"],
        "SCRIPT_NAME": ["str", "''"],
        "PATH_INFO": ["str", "'/environ/a b'"],
        "QUERY_STRING": ["str", "'x=1&y=%20'"],
        "REQUEST_URI": ["str", "'/environ/a%20b?x=1&y=%20'"],
        "CONTENT_TYPE": ["str", "'text/x-test'"],
        "CONTENT_LENGTH": ["str", "'5'"],
        "SERVER_NAME": ["str", f"'{peer[0]}'"],
        "SERVER_PORT": ["str", f"'{peer[1]}'"],
        "SERVER_PROTOCOL": ["str", "'HTTP/1.1'"],
        "REMOTE_ADDR": ["str", "'127.0.0.1'"],
        "HTTP_HOST": ["str", "'test.example'"],
        "wsgi.version": ["tuple", "(1, 0)"],
        "wsgi.url_scheme": ["str", "'http'"],
        "wsgi.multithread": ["bool", "True"],
        "wsgi.multiprocess": ["bool", "False"],
        "wsgi.run_once": ["bool", "False"],
        "wsgi.input_terminated": ["bool", "True"],
        "wsgi_plus.version": ["tuple", "(1, 0)"],
    }
    assert {key: facts.get(key) for key in expected} == expected
    assert re.fullmatch(r"'fermata\S*'", facts["SERVER_SOFTWARE"][1].lower())
    assert facts["REMOTE_PORT"][0] == "str" and facts["REMOTE_PORT"][1].strip("'").isdigit()
    for key in ("wsgi.input", "wsgi.errors", "wsgi.file_wrapper"):
        assert key in facts


def test_environ_has_nothing_else(server):
    """S16: of WSGI+ there is one key; nothing that a client did not send looks like a header."""
    facts = environ(server)
    assert [key for key in facts if "plus" in key.lower()] == ["wsgi_plus.version"]
    assert {key for key in facts if key.startswith("HTTP_")} == {"HTTP_HOST"}
    known = re.compile(r"[A-Z_]+|wsgi\.[a-z_]+|wsgi_plus\.version|fermata\.request_id|\(type\)")
    assert [key for key in facts if not known.fullmatch(key)] == []


def test_environ_is_of_this_request(server):
    """What one request says is not seen in the next one's environ, on the same connection or another."""
    requests = [
        ("GET", "/environ/a?x=1", [("Host", "one.example"), ("Accept", "text/a"), ("Cookie", "c=1")]),
        ("POST", "/environ/b", [("Host", "two.example:81"), ("Accept", "text/b")]),
        ("GET", "/environ/a?x=1", [("Host", "one.example")]),
        ("GET", "/environ/a", [("Host", "one.example"), ("Accept", "")]),
        ("GET", "http://three.example/environ/a?y", [("Host", "one.example"), ("Accept", "text/a")]),
        ("GET", "/environ/%61?x=1", [("Host", ""), ("User-Agent", "x" * 600)]),
        ("PUT", "/environ/b", [("Host", "two.example:81"), ("X-Unknown", "1"), ("X-Unknown", "2")]),
    ]
    with server.connect() as one, server.connect() as two:
        for i in range(3 * len(requests)):
            method, target, headers = requests[i % len(requests)]
            c = one if i // 2 % 2 else two
            c.send(build(method, target, headers, host=None))
            facts = {key: value for key, (_, value) in json.loads(c.read_response().text).items()}
            path = re.sub("^http://[^/]*", "", target)
            host = "three.example" if path != target else headers[0][1]
            wanted = {"HTTP_HOST": repr(host), "REQUEST_METHOD": repr(method), "REQUEST_URI": repr(target)}
            wanted["PATH_INFO"] = repr(path.partition("?")[0].replace("%61", "a"))
            wanted["QUERY_STRING"] = repr(path.partition("?")[2])
            wanted["REMOTE_PORT"] = repr(str(c.sock.getsockname()[1]))
            for name, value in headers[1:]:
                key = "HTTP_" + name.upper().replace("-", "_")
                wanted[key] = repr(value) if name != "X-Unknown" else "'1, 2'"
            assert {key: facts[key] for key in wanted} == wanted
            assert {key for key in facts if key.startswith("HTTP_")} == {key for key in wanted if key.startswith("HTTP_")}


def test_environ_of_an_http_1_0_request(server):
    """HTTP/1.0 needs no Host; then there is none in environ, whatever the request before said."""
    assert server.get("/hello").text == "hello"
    with server.connect() as c:
        c.send(b"GET /environ HTTP/1.0\r\n\r\n")
        facts = json.loads(c.read_response().text)
    assert "HTTP_HOST" not in facts
    assert facts["SERVER_PROTOCOL"] == ["str", "'HTTP/1.0'"]
    assert environ(server)["SERVER_PROTOCOL"] == ["str", "'HTTP/1.1'"]


def test_environ_without_body(server):
    """Without a body CONTENT_TYPE is absent or empty, and CONTENT_LENGTH too."""
    facts = environ(server, method="GET")
    for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        assert facts.get(key, ["str", "''"]) == ["str", "''"]


def test_environ_of_a_chunked_body(server):
    """A chunked body: wsgi.input_terminated says that reading to the end works, whether or not a length is given."""
    facts = environ(server, headers=[("Transfer-Encoding", "chunked")], body=chunked(b"abc", b"de"))
    assert facts["wsgi.input_terminated"] == ["bool", "True"]
    assert facts.get("CONTENT_LENGTH", ["str", "''"])[1] in ("''", "'5'")


@pytest.mark.parametrize("name", ["Transfer-Encoding", "transfer-encoding"])
def test_environ_has_no_coding_of_a_decoded_body(server, name):
    """The body is decoded, and CONTENT_LENGTH is its length: who saw Transfer-Encoding would decode it again, or send
    both on (RFC 9112, 7.1.3; RFC 3875, 4.1.2)."""
    with server.connect() as c:
        facts = json.loads(c.request("POST", "/environ", [(name, "chunked"), ("TE", "trailers")], chunked(b"abc")).text)
        assert facts["CONTENT_LENGTH"] == ["str", "'3'"]
        assert "HTTP_TRANSFER_ENCODING" not in facts
        assert facts["HTTP_TE"] == ["str", "'trailers'"]  # nothing else is taken away
        assert "HTTP_TRANSFER_ENCODING" not in json.loads(c.request("GET", "/environ").text)


def test_headers_in_environ(server):
    """Headers become HTTP_*: upper case, dashes to underscores, latin-1 text, white space around the value gone."""
    facts = environ(
        server, headers=[("X-Own-Header", "  a  b\t"), ("x-lower", "1"), ("X-Latin", "\xe4\xff"), ("X-Empty", "")]
    )
    assert facts["HTTP_X_OWN_HEADER"] == ["str", "'a  b'"]
    assert facts["HTTP_X_LOWER"][1] == "'1'"
    assert facts["HTTP_X_LATIN"][1] == repr("\xe4\xff")
    assert facts["HTTP_X_EMPTY"][1] == "''"


def test_content_headers_have_no_prefix(server):
    """Content-Type and Content-Length are not also there as HTTP_*."""
    facts = environ(server, headers=[("Content-Type", "a/b")], body=b"x")
    assert "HTTP_CONTENT_TYPE" not in facts and "HTTP_CONTENT_LENGTH" not in facts


def test_repeated_headers_are_joined(server):
    """Repeated fields are joined by commas, Cookie by semicolons (RFC 9110, 5.3; RFC 6265)."""
    facts = environ(
        server, headers=[("X-A", "1"), ("Cookie", "a=1"), ("X-B", "x"), ("x-a", "2"), ("cookie", "b=2"), ("X-A", "3")]
    )
    assert re.fullmatch(r"'1, ?2, ?3'", facts["HTTP_X_A"][1])
    assert facts["HTTP_COOKIE"][1] == "'a=1; b=2'"


def test_proxy_header_is_not_there(server):
    """HTTP_PROXY would be taken for a setting by CGI-minded libraries; it may be dropped or stay, but never becomes os.environ."""
    facts = environ(server, headers=[("Proxy", "http://evil.example")])
    assert facts.get("HTTP_PROXY", ["str", "'http://evil.example'"])[1] == "'http://evil.example'"


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        ("/environ/%41%zz%4", None),
        ("/environ/%C3%A4", "/environ/\xc3\xa4"),
        ("/environ/%2F%2f", "/environ///"),
        ("/environ/a+b", "/environ/a+b"),
        ("/environ/%2541", "/environ/%41"),
        ("/environ/../x", "/environ/../x"),
        ("/environ//x", "/environ//x"),
        ("/environ/;p=1", "/environ/;p=1"),
        ("/environ/%0d%0a", "/environ/\r\n"),
        ("/environ/%00", "/environ/\0"),
    ],
)
def test_path_info(server, sent, path):
    """PATH_INFO is decoded once, octets become latin-1 text; REQUEST_URI stays as it was sent.  A broken % stays or is refused."""
    answer = server.get(sent)
    if path is None:
        assert answer.status in (200, 400)
        return
    facts = json.loads(answer.text)
    assert facts["PATH_INFO"] == ["str", repr(path)]
    assert facts["REQUEST_URI"] == ["str", repr(sent)]


def test_empty_and_odd_queries(server):
    """QUERY_STRING is what follows the first question mark, undecoded."""
    for sent, query in (("?", ""), ("??a=b?", "?a=b?"), ("?%41=%zz&&", "%41=%zz&&"), ("", "")):
        assert environ(server, "/environ" + sent, method="GET")["QUERY_STRING"][1] == repr(query)


def test_server_protocol_of_1_0(server):
    """SERVER_PROTOCOL is the client's version."""
    assert environ(server, version="1.0")["SERVER_PROTOCOL"][1] == "'HTTP/1.0'"


def test_environ_on_a_unix_socket(launch, tmp_path):
    """On a unix socket SERVER_NAME and SERVER_PORT are there and not empty-typed, REMOTE_ADDR is a string."""
    server = launch("pep3333:app", bind=[f"unix:{tmp_path / 's'}"])
    facts = environ(server)
    assert facts["SERVER_NAME"][0] == facts["SERVER_PORT"][0] == "str"
    assert facts["SERVER_NAME"][1] != "''"
    assert facts.get("REMOTE_ADDR", ["str"])[0] == "str"


def test_environ_on_ipv6(launch):
    """On IPv6 the client's address is plain (RFC 3875, 4.1.8), and the server's name in brackets (4.1.14), without a zone."""
    server = launch("pep3333:app", bind=["[::1]:0"])
    facts = environ(server)
    assert (facts["REMOTE_ADDR"][1], facts["SERVER_NAME"][1]) == ("'::1'", "'[::1]'")


def test_remote_port(server):
    """REMOTE_PORT is the client's."""
    with server.connect() as c:
        facts = json.loads(c.request("GET", "/environ").text)
        assert facts["REMOTE_PORT"][1] == repr(str(c.sock.getsockname()[1]))


def test_environ_belongs_to_its_request(server):
    """The application may change environ; the next request on the connection begins anew."""
    with server.connect() as c:
        for _ in range(3):
            assert c.request("GET", "/change-environ").text == "changed"
            facts = json.loads(c.request("GET", "/environ").text)
            assert facts["SCRIPT_NAME"][1] == "''"
            assert "mine" not in facts


def test_environs_are_separate_objects(server):
    """An environ that is kept is never used again for another request."""
    for i in range(1, 6):
        assert server.get("/same-environ").text == f"{i} {i} False"
