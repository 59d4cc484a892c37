"""WSGI (PEP 3333): environ, input, errors, file_wrapper, start_response, write(), iterables, close(), errors."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest
from harness.client import NoResponse, build, chunked
from harness.limits import APPS, LONG, PROMPT, eventually, never

BODY = b"first line\nsecond\r\n\nfourth \xff\0 line\nno end"


@pytest.fixture
def server(serve):
    return serve("pep3333:app", "--threads", "4")


def environ(server, target="/environ", headers=(), body=None, method="POST", **how):
    return json.loads(server.request(method, target, headers, body, **how).text)


# environ


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


# wsgi.input


def lines(data: bytes) -> list[bytes]:
    return re.findall(rb"(?s)[^\n]*\n|[^\n]+$", data)


READ = {
    "read_all": [BODY],
    "read_minus_one": [BODY],
    "read_none": [BODY],
    "read_sized": [BODY[i : i + 7] for i in range(0, len(BODY), 7)],
    "read_past_the_end": [BODY, b"", b"", b"", b""],
    "read_zero": [b"", b"", BODY],
    "readline_all": lines(BODY),
    "readline_sized": [line[i : i + 4] for line in lines(BODY) for i in range(0, len(line), 4)],
    "readline_minus_one": lines(BODY),
    "readlines_all": lines(BODY),
    "iterate": lines(BODY),
    "mixed": [lines(BODY)[0], b"se", b"cond\r\n", b"\n", b"".join(lines(BODY)[3:])],
}


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("how", READ)
def test_input(server, how, framing):
    """wsgi.input reads as a file does, in every way and past its end."""
    headers = [("Transfer-Encoding", "chunked")] if framing == "chunked" else []
    body = chunked(BODY[:3], BODY[3:25], BODY[25:]) if framing == "chunked" else BODY
    answer = server.request("POST", f"/input?how={how}", headers, body)
    assert [piece.encode("latin-1") for piece in json.loads(answer.text)] == READ[how]


def test_input_readlines_with_hint(server):
    """readlines(hint) may return fewer lines, never loses one."""
    answer = server.request("POST", "/input?how=readlines_hint", (), BODY)
    first, _, rest = (piece.encode("latin-1") for piece in json.loads(answer.text))
    assert first.replace(b"|", b"") + rest == BODY
    assert first.startswith(b"first line\n")


@pytest.mark.parametrize("how", [how for how in READ if how != "mixed"])
def test_input_of_no_body(server, how):
    """Without a body every way of reading gives nothing at once."""
    assert "".join(json.loads(server.get(f"/input?how={how}").text)) == ""


@pytest.mark.parametrize(
    "how", ["read_all", "read_sized", "readline_all", "readlines_all", "iterate", "readline_sized"]
)
def test_input_from_a_file(server, how):
    """A body that lies in a temporary file reads the same: lines across its inner borders too."""
    body = b"".join(b"%d\n" % i + b"x" * (i % 3000) for i in range(700)) + b"y" * 70_000
    pieces = json.loads(server.request("POST", f"/input?how={how}", (), body, timeout=LONG).text)
    assert "".join(pieces).encode("latin-1") == body
    if how in ("readline_all", "readlines_all", "iterate"):
        assert [p.encode("latin-1") for p in pieces] == lines(body)


def test_input_misuse(server):
    """Arguments that are no sizes raise TypeError or the like; reading goes on."""
    said = json.loads(server.request("POST", "/input-misuse", (), b"body").text)
    assert said[:4] == ["TypeError"] * 4
    assert "".join(said[4:]) in ("OverflowErrorbody", "ValueErrorbody", "b'body'")


def test_input_after_the_first_block(server):
    """The body can be read when the response has begun."""
    assert server.request("POST", "/input-later", (), b"x" * 600_000).body == b"began " + b"x" * 600_000


def test_input_kept_beyond_its_request(server):
    """An input that was kept gives an error or its own rest afterwards, never another request's bytes."""
    for body in (b"one", b"t" * 600_000, b"three"):
        said = server.request("POST", "/input-kept", (), body).text
        assert said in ("nothing kept", "ValueError", "OSError", "read 0", "read 3", "read 600000")


def test_unread_bodies_are_harmless(server):
    """A body that the application does not read, in memory or in a file, is not the next request."""
    with server.connect(timeout=LONG) as c:
        for size in (10, 100_000, 2_000_000):
            assert c.request("POST", "/hello", (), b"GET /error HTTP/1.1\r\n" * (size // 20)).text == "hello"
            assert c.request("POST", "/hello", [("Transfer-Encoding", "chunked")], chunked(b"x" * size)).text == "hello"
        assert c.request("GET", "/hello").text == "hello"


def test_multipart_form(server):
    """A parser that reads CONTENT_LENGTH bytes gets a form."""
    body = b"".join(
        b'--b0undary\r\nContent-Disposition: form-data; name="f%d"\r\nContent-Type: text/plain\r\n\r\nvalue %d\r\n'
        % (i, i)
        for i in range(3)
    )
    headers = [("Content-Type", 'multipart/form-data; boundary="b0undary"')]
    assert json.loads(server.request("POST", "/input-wrapped", headers, body + b"--b0undary--\r\n").text) == [
        "value 0",
        "value 1",
        "value 2",
    ]


LINES = b"".join(b"%d " % i + b"x" * (998 - len(str(i))) + b"\n" for i in range(20_000))  # a thousand bytes each


@pytest.mark.parametrize("size", [50, 9_000_000], ids=["memory", "file"])
def test_input_as_a_stream(server, size):
    """The whole body is there, so wsgi.input is what io calls a raw stream: whatever is asked, it answers as BytesIO."""
    answer = server.request("POST", "/input-as-a-stream", (), (BODY * (size // len(BODY) + 1))[:size], timeout=LONG)
    assert answer.text == "the same"


@pytest.mark.parametrize("size", [50, 9_000_000], ids=["memory", "file"])
@pytest.mark.parametrize(
    "how", ["text", "text-lines", "text-seek", "buffered", "buffered-lines", "buffered-seek", "with", "copied"]
)
def test_input_wrapped_by_others(server, how, size):
    """io.TextIOWrapper, io.BufferedReader, shutil and the with statement take it for a file, wherever it lies."""
    body = (BODY * (size // len(BODY) + 1))[:size]
    assert server.request("POST", f"/input-in?how={how}", (), body, timeout=LONG).body == body


def test_input_as_a_zip_file(server):
    """What must be sought in can be read: a zip file."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("name", "content")
    assert server.request("POST", "/input-in?how=zip", (), archive.getvalue()).text == "content"


@pytest.mark.parametrize("body", [None, b"body", b"x" * 9_000_000], ids=["none", "memory", "file"])
def test_input_closed(server, body):
    """Closed twice it is closed; whatever is asked of it then raises ValueError, and the server goes on."""
    with server.connect(timeout=LONG) as c:
        answer = c.request("POST", "/input-closed", (), body)
        assert json.loads(answer.text) == [False, None, None, True, *["ValueError"] * 13]
        assert c.request("GET", "/hello").text == "hello"


@pytest.mark.parametrize("how", ["closes", "moves"])
def test_input_of_no_body_is_the_request_s_own(server, how):
    """What one request without a body does to its wsgi.input, which it keeps, no other request sees."""
    for _ in range(3):
        assert server.get(f"/input-left?{how}").text == "0 False b''"
        assert server.request("HEAD", f"/input-left?{how}").status == 200


def test_input_of_no_body_while_others_are_served(server):
    """Nor do those that are served at the same time."""
    with server.begin("/input-held?key=input-held") as held:
        head = held.read_head()
        for _ in range(3):
            assert server.get("/input-left?closes").text == "0 False b''"
        server.call("probe.open_gate", "input-held")
        assert b"".join(held.iter_body(head)) == b"held b''"


@pytest.mark.parametrize("closes", [False, True])
def test_input_lines_by_threads(server, closes):
    """Threads that read lines of a body in a file at once, without the GIL, get whole lines, each of them once; and when
    one of them closes it the others get ValueError, not another request's bytes."""
    answer = server.request(
        "POST", "/input-by-threads" + ("?closes" if closes else ""), (), LINES, timeout=LONG
    )
    lines, different, wrong, errors = json.loads(answer.text)
    assert lines == different
    assert wrong == 0
    assert errors == (["I/O operation on a wsgi.input that is closed"] if closes else [])
    assert (lines < 20_000) if closes else (lines == 20_000)


# wsgi.errors


def test_errors_go_to_the_log_line_by_line(server):
    """wsgi.errors goes to the error log, whole lines at a time, as UTF-8."""
    start = server.log_size()
    assert server.get("/errors").status == 200
    for line in ("one line", "half a line", "several ", "at once", "ünïcode \U0001f3bc", "printed", "without an end"):
        server.wait_log(re.escape(line), start=start)


def test_errors_from_other_threads(server):
    """Any thread may write, also when the request is over."""
    start = server.log_size()
    assert server.get("/errors-elsewhere").status == 200
    server.wait_log("from a thread", start=start)
    server.wait_log("from afterwards", start=start)


def test_errors_of_requests_do_not_mix_within_lines(server):
    """A line that one request has begun and not ended does not swallow another request's line."""
    start = server.log_size()
    assert server.get("/errors-half").status == 200
    assert server.get("/errors-half?end").status == 200
    server.wait_log(r"unfinished", start=start)
    assert "unfinished unfinished" not in server.log(start)


# wsgi.file_wrapper


def content(size: int) -> bytes:
    return bytes(i % 251 for i in range(min(size, 251))) * (size // 251) + bytes(size % 251)


@pytest.mark.parametrize("block", [None, 1000])
@pytest.mark.parametrize("size", [0, 1, 1000, 65536, 1_000_000])
def test_file(server, size, block):
    """A real file is sent whole, and the connection goes on."""
    size -= size % 251 if size > 251 else 0
    with server.connect() as c:
        answer = c.request("GET", f"/file?size={size}" + (f"&block={block}" if block else ""))
        assert answer.body == content(size)
        assert c.request("GET", "/hello").text == "hello"


@pytest.mark.parametrize(
    ("at", "length"), [(0, 500), (251, None), (1000, 5), (1000, 0), (10_000, None), (100_000, None)]
)
def test_file_with_offset_and_length(server, at, length):
    """The file's position and the Content-Length bound what is sent."""
    size = 40 * 251
    target = f"/file?size={size}&at={at}" + (f"&length={length}" if length is not None else "")
    with server.connect() as c:
        answer = c.request("GET", target)
        expected = content(size)[at:]
        assert answer.body == (expected if length is None else expected[:length])
        assert c.request("GET", "/hello").text == "hello"


@pytest.mark.parametrize("kind", ["plain", "memory", "gzip", "range"])
def test_range_of_a_file_is_no_error(server, kind):
    """A Content-Length that is shorter than the file is how a part of it is sent: nothing is wrong with that."""
    start = server.log_size()
    with server.connect() as c:
        whole = c.request("GET", f"/file-of?kind={kind}").body
        answer = c.request("GET", f"/file-of?kind={kind}&length=3")
        assert (answer.framing, answer.body) == ("length", whole[:3])
        assert c.request("GET", "/hello").text == "hello"
    assert "ERROR" not in server.log(start)


FILES = {
    "plain": b"plain",
    "raw": b"raw",
    "gzip": b"uncompressed",
    "bz2": b"uncompressed",
    "lzma": b"uncompressed",
    "subclass": b"lim",
    "buffered-subclass": b"limited",
    "rot13": b"ebg13",
    "range": b"range",
    "own-read": b"its own",
    "unwritten": b"x" * 4991,
    "sparse": bytes(7),
    "proc": None,
    "memory": b"memory " * 5000,
    **({"sys": None} if Path("/sys/devices/system/cpu/online").exists() else {}),
}


@pytest.mark.parametrize("kind", FILES)
def test_file_is_what_read_gives(server, kind):
    """What the object's read() gives is sent, not what lies in the file that it may have: files that are decompressed,
    decrypted or cut on the way, what has been written and not flushed, files of /proc and /sys."""
    with server.connect() as c:
        expected = c.request("GET", f"/file-of?kind={kind}&read").body
        assert expected
        if FILES[kind] is not None:
            assert expected == FILES[kind]
        found = c.request("GET", f"/file-of?kind={kind}").body
        if kind == "proc":  # the process's status changes
            expected, found = expected[:20], found[:20]
        assert found == expected
        assert c.request("GET", "/hello").text == "hello"


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("text", "TypeError"),
        ("detached", "ValueError"),
        ("closed", "ValueError"),
        ("write-only", "UnsupportedOperation"),
    ],
)
def test_file_that_cannot_be_read(server, kind, error):
    """What read() does not give, as bytes, is not sent either: 500, as for any other iterable."""
    start = server.log_size()
    assert server.get(f"/file-of?kind={kind}").status == 500
    server.wait_log(error, start=start)


def test_file_is_sent_by_the_kernel(server):
    """An ordinary file has its length in the response: it is not iterated."""
    for kind in ("plain", "raw"):
        answer = server.get(f"/file-of?kind={kind}")
        assert (answer.framing, answer.header("Content-Length")) == ("length", str(len(answer.body)))


def test_file_shorter_than_declared(server):
    """A file shorter than its Content-Length: the connection is aborted."""
    with server.connect() as c:
        c.send(build("GET", "/file?size=251&length=1000"))
        c.read_failed()
    with server.connect() as c:
        c.send(build("GET", "/file-growing"))
        c.read_failed()


def test_file_over_head_and_1_0(server):
    """HEAD sends no byte of the file; 1.0 gets the bytes."""
    with server.connect() as c:
        c.send(build("HEAD", "/file?size=2510") + build("GET", "/hello"))
        assert c.read_response("HEAD").status == 200
        assert c.read_response().text == "hello"
    assert server.get("/file?size=2510", version="1.0").body == content(2510)


def test_file_is_closed_once(server):
    """close() of the file runs once, when it has been sent, however it was sent."""
    for i, target in enumerate(
        ("/file?size=1004", "/file?size=1004&length=100", "/file?size=0", "/file?size=2510000&block=7")
    ):
        assert server.get(f"{target}&key=file{i}", timeout=LONG).status == 200
        server.wait_events(f"file{i}", "closed")
    never(lambda: any(len(server.events(f"file{i}")) > 1 for i in range(4)), "closed twice")


def test_file_is_closed_when_the_client_is_gone(server):
    """A file whose client goes away in the middle is closed."""
    with server.connect(receive_buffer=4096) as c:
        c.send(build("GET", "/file?size=50200000&key=gone"))
        c.read_head()
        c.reset()
    server.wait_events("gone", "closed")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("bytesio", "from memory"),
        ("only-read", "only read"),
        ("pipe", "from a pipe"),
        ("raises", "no fileno"),
        ("minus-one", "fileno -1"),
        ("text", "fileno text"),
        ("buffered", "taken"),
        ("iterated", "iterated"),
        ("passed-on", "PASSED ON"),
        ("empty", ""),
        ("twice", "twice"),
        ("unbuffered", (APPS / "pep3333.py").read_text()[3:]),
    ],
)
def test_file_wrapper_over_anything(server, kind, body):
    """What has read() can be wrapped: sendfile is used only where it is right; a wrapper is an iterable as well."""
    assert server.get(f"/file-kind?kind={kind}").text == body


def test_file_after_write(server):
    """write() before a file: both arrive, in order."""
    assert server.get("/file-after-write").text == "written then a file"


def test_large_files_side_by_side(server):
    """Many files are sent at the same time to slow and fast clients, and none is mixed up."""
    held = [server.connect(timeout=LONG) for _ in range(8)]
    try:
        for i, c in enumerate(held):
            c.send(build("GET", f"/file?size={251 * (4000 + i)}"))
        for i, c in enumerate(held):
            assert c.read_response().body == content(251 * (4000 + i))
    finally:
        for c in held:
            c.close()


# start_response and write()


def test_exc_info_replaces_headers(server):
    """start_response with exc_info before a header has left replaces the first call."""
    answer = server.get("/exc-info-before")
    assert (answer.status, answer.reason, answer.body) == (503, "Changed", b"changed")
    assert answer.header("X-First") is None
    assert answer.header("X-Second") == "2"


def test_exc_info_in_the_first_call(server):
    """exc_info may be given in the first call, and None is as none."""
    assert server.get("/exc-info-first").status == 500
    assert server.get("/exc-info-first").body == b"own error page"
    assert server.get("/exc-info-none").body == b"none"


def test_exc_info_after_an_empty_block(server):
    """An empty block has sent nothing: the headers can still be replaced."""
    answer = server.get("/exc-info-after-empty")
    assert (answer.status, answer.body) == (503, b"changed")


def test_exc_info_too_late(server):
    """After the first block start_response raises what it was given, and the response fails visibly."""
    with server.connect() as c:
        c.send(build("GET", "/exc-info-after?key=late"))
        c.read_failed()
    assert server.wait_events("late", "raised")[0][1] == "the reason for the change"


MISUSES = """twice status-bytes status-int status-none headers-none header-one header-three header-name-bytes
    header-value-bytes header-value-int header-value-none header-value-wide header-name-wide header-value-surrogate status-wide
    no-arguments one-argument four-arguments unknown-keyword exc-info-text""".split()


@pytest.mark.parametrize("how", MISUSES)
def test_start_response_misused(server, how):
    """A wrong call raises in the application; not caught, it is an application error."""
    start = server.log_size()
    assert server.get(f"/misuse?how={how}").status == 500
    found = server.wait_log(
        r"Error handling request GET /misuse.*[\s\S]*?^(?:.*\] )?(\w*(?:Error|Exception))\b", start=start
    )
    assert found[1] in ("TypeError", "ValueError", "AssertionError", "UnicodeEncodeError", "RuntimeError")


@pytest.mark.parametrize("how", [how for how in MISUSES if how not in ("twice", "exc-info-text")])
def test_start_response_misuse_caught(server, how):
    """A wrong call has no effect: an application that catches it can still answer, with exc_info."""
    answer = server.get(f"/misuse-caught?how={how}&key=caught-{how}")
    assert (answer.status, answer.body) == (200, b"recovered")
    assert len(server.events(f"caught-{how}")) == 1


@pytest.mark.parametrize("how", [how for how in MISUSES if how not in ("twice", "exc-info-text")])
def test_start_response_misuse_forgotten(server, how):
    """A call that was rejected is as if it had not been made: the next one needs no exc_info.  (PEP 3333 has it
    otherwise; what can be said of an answer is that it is the only one.)"""
    answer = server.get(f"/misuse-caught?how={how}&key=forgotten-{how}&forgets")
    assert (answer.status, answer.body) == (200, b"recovered")
    assert len(server.events(f"forgotten-{how}")) == 1


HEADS = ("exc-info-nothing", "exc-info-empty", "no-reason", "length-twice", "length-thrice", "length-blanks",
         "length-twice-and-blanks", "length-zeros")  # fmt: skip


@pytest.mark.parametrize("kind", HEADS)
def test_what_others_take(server, kind):
    """What other servers take and means only one thing: exc_info of no exception, a status without a reason, a
    Content-Length twice or with blanks around it.  It is sent in the form that HTTP has for it."""
    with server.connect() as c:
        answer = c.request("GET", f"/head-of?kind={kind}")
        assert (answer.status, answer.reason, answer.body) == (200, "" if kind == "no-reason" else "OK", b"body")
        assert answer.framing == "length"
        if kind.startswith("length"):
            assert answer.all("Content-Length") == ["4"]
        assert c.request("GET", "/hello").text == "hello"


@pytest.mark.parametrize("kind", ["exc-info-nothing", "exc-info-empty"])
def test_exc_info_of_no_exception_replaces_nothing(server, kind):
    """It is as if none were given: a second call is an error."""
    start = server.log_size()
    assert server.get(f"/head-of?kind={kind}&after").status == 500
    server.wait_log("start_response called twice without exc_info", start=start)


def test_start_response_headers_are_taken_at_once(server):
    """The list of headers may be changed afterwards."""
    answer = server.get("/headers-changed-later")
    assert (answer.status, answer.header("X-A"), answer.body) == (200, "1", b"fine")


@pytest.mark.parametrize("target", ["/never-started", "/never-started-empty"])
def test_start_response_never_called(server, target):
    """A body, or the end, without start_response is an application error."""
    start = server.log_size()
    assert server.get(target).status == 500
    server.wait_log(f"Error handling request GET {target}", start=start)


def test_start_response_by_a_generator(server):
    """A generator calls start_response when it is first iterated, after an empty block even."""
    answer = server.get("/late-start")
    assert (answer.status, answer.body) == (201, b"late")


def test_write(server):
    """write() and returned blocks arrive in order."""
    assert server.get("/write").text == "written twice and returned"
    answer = server.get("/write-only")
    assert (answer.framing, answer.text) == ("length", "only")
    assert server.get("/write-misuse").text == "TypeError"


def test_write_of_more_than_the_length(server):
    """PEP 3333, "Handling the Content-Length Header": no more is sent, and write() raises."""
    answer = server.get("/write-too-much?key=too-much")
    assert (answer.framing, answer.text) == ("length", "abcdef")
    wanted = ["taken"] + 2 * ["write() of more than the Content-Length; the rest is cut off"]
    # The response is complete with the second call, while the application has yet to hear of it.
    assert [name for name, _ in server.wait_events("too-much", *wanted)] == wanted


def test_write_in_another_thread(server):
    """write() belongs to the thread that runs the request; any other gets an exception, and writes nothing."""
    assert server.get("/write-elsewhere").text == "RuntimeError"


def test_start_response_in_another_thread(server):
    """S6.6: it belongs to the thread that runs the request, as write() does."""
    assert server.get("/start-elsewhere").text == "RuntimeError"


def test_write_is_sent_before_the_application_goes_on(server):
    """A block that was written is transmitted though the application does not return."""
    with server.connect() as c:
        c.send(build("GET", "/write-at-once?key=gate"))
        head = c.read_head()
        blocks = c.iter_body(head)
        assert next(blocks) == b"written"
        server.call("probe.open_gate", "gate")
        assert b"".join(blocks) == b" and on"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_write_to_a_client_that_is_gone(server, how):
    """write() raises when its client takes no more; that is the client's doing and no error in the log."""
    start = server.log_size()
    with server.begin(f"/write-endless?key=write-{how}", receive_buffer=4096) as c:
        c.read_head()
        never(lambda: server.events(f"write-{how}"), "write() does not wait for the client")
        getattr(c, how)()
    server.wait_events(f"write-{how}", "ended")
    assert server.get("/hello").text == "hello"
    assert "ERROR" not in server.log(start)


def test_write_to_a_client_that_does_not_read(launch):
    """write() has no way to suspend, but its deadline is kept: it raises, and the thread is free again."""
    server = launch("pep3333:app", "--threads", "1", "--request-timeout", "1")
    with server.begin("/write-endless?key=stalled", receive_buffer=4096, timeout=LONG):
        server.wait_events("stalled", "ended")
        assert server.get("/hello").text == "hello"


@pytest.mark.parametrize("target", ["/write-after-end", "/start-after-end"])
def test_callables_kept_beyond_the_end(server, target):
    """write and start_response that are kept do nothing to later requests: they raise, or have no effect."""
    with server.connect() as c:
        for _ in range(5):
            answer = c.request("GET", target)
            assert answer.status == 200
            assert b"STRAY" not in answer.body
            assert answer.header("X-Stray") is None


# Iterables


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("list", "a list"),
        ("tuple", "a tuple"),
        ("iterator", "an iterator"),
        ("generator", "a generator"),
        ("map", "a map"),
        ("set", "a set"),
        ("dict", "a dict"),
        ("bytes-list", "after nothing"),
        ("old", "by index"),
        ("separate", "not its own iterator"),
        ("subclass", "a subclass"),
        ("octets", "a subclass of bytes"),
        ("large-list", "x" * 100_000 + "y" * 300_000 + "z"),
        ("large-tuple", "".join(f"{i}," * 50 for i in range(5000))),
        ("empty-blocks", ""),
        ("octets-among-others", "not known"),
        ("closing", "closing"),
        ("empty-closing", ""),
        ("many", "x" * 20_000_000),
    ],
)
def test_iterables(server, kind, body):
    """Any iterable of bytes is a body."""
    assert server.get(f"/iterable?kind={kind}", timeout=LONG).text == body


@pytest.mark.parametrize("kind", ["list", "tuple", "bytes-list", "large-list", "large-tuple", "empty-blocks"])
def test_blocks_that_are_all_there_have_a_length(server, kind):
    """A list or tuple of blocks, however many, has a length: it is said, also to HTTP/1.0 and for HEAD."""
    with server.connect(timeout=LONG) as c:
        answer = c.request("GET", f"/iterable?kind={kind}")
        assert (answer.framing, answer.header("Content-Length")) == ("length", str(len(answer.body)))
        head = c.request("HEAD", f"/iterable?kind={kind}")
        assert head.header("Content-Length") in (str(len(answer.body)), None)
        assert head.header("Transfer-Encoding") is None
        if answer.body:
            assert head.header("Content-Length") is not None
        old = c.request("GET", f"/iterable?kind={kind}", [("Connection", "keep-alive")], version="1.0")
        assert (old.body, old.framing, old.keeps_alive) == (answer.body, "length", True)
        assert c.request("GET", "/hello").text == "hello"


@pytest.mark.parametrize("kind", ["generator", "iterator", "octets-among-others"])
def test_blocks_that_come_one_by_one_have_none(server, kind):
    """What is not known beforehand is not said (a single block of bytes aside)."""
    assert server.get(f"/iterable?kind={kind}").framing == "chunked"


@pytest.mark.parametrize("status", ["204 None", "304 Same"])
def test_blocks_of_a_response_without_a_body(server, status):
    """Where there is no body no length is made up."""
    with server.connect() as c:
        answer = c.request("GET", f"/iterable?kind=list&status={status.replace(' ', '%20')}")
        assert (answer.status, answer.header("Content-Length"), answer.body) == (int(status[:3]), None, b"")
        assert c.request("GET", "/hello").text == "hello"


@pytest.mark.parametrize("length", ["", "&length=11"])
def test_reset_content_has_no_content(server, length):
    """RFC 9110, 15.3.6: and it says so, whatever the application has said."""
    with server.connect() as c:
        answer = c.request("GET", f"/iterable?kind=list&status=205%20Reset{length}")
        assert (answer.status, answer.header("Content-Length"), answer.body) == (205, "0", b"")
        assert c.request("GET", "/hello").text == "hello"


def test_blocks_and_the_application_s_own_length(server):
    """A Content-Length of the application's counts: more is cut off, less is broken off."""
    assert server.get("/iterable?kind=list&length=3").body == b"a l"
    with server.connect() as c:
        c.send(build("GET", "/iterable?kind=list&length=10"))
        c.read_failed()


@pytest.mark.parametrize("n", [0, 5, 9000])
def test_blocks_after_write(server, n):
    """What write() has sent, or holds, comes before the list, and counts where the head has not left."""
    with server.connect() as c:
        answer = c.request("GET", f"/write-then-list?n={n}")
        assert answer.text == "x" * n + " and a list"
        assert answer.framing == ("chunked" if n > 8192 else "length")
        assert c.request("GET", "/hello").text == "hello"


@pytest.mark.parametrize(
    "kind",
    [
        "none",
        "int",
        "text",
        "bytes",
        "text-list",
        "int-list",
        "none-list",
        "bytearray-list",
        "memoryview-list",
        "nested-list",
    ],
)
def test_what_is_no_body(server, kind):
    """What is not an iterable of bytes is an application error; the log names the type that came."""
    start = server.log_size()
    assert server.get(f"/iterable?kind={kind}").status == 500
    server.wait_log(r"Error handling request GET /iterable.*", start=start)
    came = {
        "none": "NoneType",
        "none-list": "NoneType",
        "text": "str",
        "text-list": "str",
        "bytes": "int",
        "nested-list": "list",
    }
    name = came.get(kind, kind.partition("-")[0])
    server.wait_log(rf"TypeError: .*\b{name}\b", start=start)


def test_wrong_block_after_bytes_have_left(server):
    """A wrong block later on: never a complete-looking response."""
    with server.connect() as c:
        c.send(build("GET", "/iterable?kind=late-text"))
        c.read_failed()


def closed_once(server, key):
    server.wait_events(key, "closed")
    never(lambda: server.call("probe.count", key, "closed") > 1, "close() ran twice", during=0.1)


@pytest.mark.parametrize("kind", ["closing", "empty-closing", "separate", "many"])
def test_close_at_the_end(server, kind):
    """close() of the iterable (not of its iterator) runs exactly once at the end."""
    assert server.get(f"/iterable?kind={kind}&key=end-{kind}", timeout=LONG).status == 200
    closed_once(server, f"end-{kind}")


@pytest.mark.parametrize("method", ["HEAD", "POST"])
def test_close_for_other_methods(server, method):
    """HEAD and requests with bodies close as well."""
    assert server.request(method, f"/iterable?kind=closing&key=method-{method}").status == 200
    closed_once(server, f"method-{method}")


@pytest.mark.parametrize(("kind", "status"), [("raising", None), ("raising-first", 500), ("both-raising", 500)])
def test_close_after_an_error(server, kind, status):
    """close() runs exactly once after an error in __next__."""
    start = server.log_size()
    with server.connect() as c:
        c.send(build("GET", f"/iterable?kind={kind}&key=error-{kind}"))
        if status:
            assert c.read_response().status == status
        else:
            c.read_failed()
    closed_once(server, f"error-{kind}")
    server.wait_log(r"RuntimeError: (raised in|first)", start=start)
    if kind == "both-raising":
        server.wait_log(r"RuntimeError: second", start=start)


def test_error_in_close(server):
    """An error in close() is logged; the response that was complete stays so, and so does the connection."""
    start = server.log_size()
    with server.connect() as c:
        assert c.request("GET", "/iterable?kind=close-raising&key=close-raising").text == "fine"
        try:
            assert c.request("GET", "/hello").text == "hello"
        except NoResponse:
            pass
    server.wait_log(r"RuntimeError: raised in close", start=start)
    closed_once(server, "close-raising")


@pytest.mark.parametrize("how", ["close", "reset"])
def test_close_when_the_client_goes_while_it_is_sent_to(server, how):
    """A client that goes away in an endless body: close() runs exactly once, soon."""
    with server.connect() as c:
        c.send(build("GET", f"/iterable?kind=endless&key=gone-{how}"))
        head = c.read_head()
        next(c.iter_body(head))
        c.reset() if how == "reset" else c.close()
    closed_once(server, f"gone-{how}")


def test_close_when_the_client_goes_while_a_step_runs(server):
    """Client gone in the middle of a step: close() runs after the step has ended, not beside it."""
    key = "gone-in-step"
    with server.connect() as c:
        c.send(build("GET", f"/slow-close?key={key}"))
        c.read_head()
        server.wait_events(key, "blocking")
        c.reset()
    never(lambda: server.call("probe.count", key, "closed"), "closed beside a running step")
    server.call("probe.open_gate", key)
    server.wait_events(key, "closed")
    assert [name for name, _ in server.events(key)] == ["blocking", "step ended", "closed"]


def test_close_that_is_no_callable(server):
    """A close that cannot be called is logged and harms no other request."""
    answer = server.get("/no-such-close")
    assert (answer.status, answer.body) in ((200, b"odd"), (500, answer.body))
    assert server.get("/hello").status == 200


# Errors


@pytest.mark.parametrize(
    "kind",
    [
        "exception",
        "unicode",
        "base",
        "stop-iteration",
        "unprintable",
        "system-exit",
        "keyboard-interrupt",
        "generator-exit",
    ],
)
def test_error_in_the_call(server, kind):
    """Whatever an application raises: plain 500 without details, traceback in the log with method and path, and it goes on."""
    start = server.log_size()
    with server.connect() as c:
        c.send(build("POST", f"/error?kind={kind}", body=b"x"))
        answer = c.read_response()
    assert answer.status == 500
    assert b"purpose" not in answer.body and b"Traceback" not in answer.body and b"pep3333" not in answer.body
    server.wait_log(r"\[ERROR\] Error handling request POST /error", start=start)
    server.wait_log(r"Traceback \(most recent call last\):[\s\S]*pep3333\.py", start=start)
    assert server.get("/hello").text == "hello"


def test_error_is_logged_with_its_text(server):
    """The log has the exception's text, beyond ASCII too, and its cause."""
    start = server.log_size()
    server.get("/error?kind=unicode")
    server.wait_log("RuntimeError: ünïcode \U0001f3bc", start=start)
    server.get("/chained")
    server.wait_log(r"KeyError: 'the cause'[\s\S]*direct cause[\s\S]*RuntimeError: the effect", start=start)


def test_recursion_error(server):
    """An application that recurses without end gets RecursionError, as everywhere."""
    start = server.log_size()
    assert server.get("/deep").status == 500
    server.wait_log("RecursionError", start=start)


@pytest.mark.parametrize("kind", ["exception", "system-exit", "keyboard-interrupt", "base"])
def test_error_in_the_body(server, kind):
    """An error in the first step is a 500; after a block the connection is aborted (or it is a 500 still)."""
    assert server.get(f"/error-in-body?kind={kind}").status == 500
    with server.connect() as c:
        c.send(build("GET", f"/error-in-body?kind={kind}&after"))
        c.read_failed()
    assert server.get("/hello").text == "hello"


def test_error_keeps_the_connection_usable(server):
    """After a 500 the connection either goes on rightly or has said that it closes."""
    with server.connect() as c:
        c.send(build("POST", "/error?kind=exception", body=b"x" * 100_000) + build("GET", "/hello"))
        answer = c.read_response()
        assert answer.status == 500
        if answer.keeps_alive:
            assert c.read_response().text == "hello"
        else:
            c.ended()


def test_log_cannot_be_forged_by_a_path(server):
    """Control characters of a path do not begin a line in the log."""
    start = server.log_size()
    server.get("/error/%0a[2026-01-01%2000:00:00%20+0000]%20[1]%20[INFO]%20forged?kind=exception")
    server.get(f"/error/{quote(chr(27))}[31m?kind=exception")
    eventually(lambda: server.log(start).count("Error handling request") >= 2, "it is logged", within=PROMPT)
    assert not re.search(r"^\[2026-01-01 .*forged", server.log(start), re.MULTILINE)
    assert "\x1b" not in server.log(start)


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
