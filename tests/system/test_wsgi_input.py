"""WSGI (PEP 3333): wsgi.input."""

from __future__ import annotations

import io
import json
import re
import zipfile

import pytest
from harness.client import chunked
from harness.limits import LONG

BODY = b"first line\nsecond\r\n\nfourth \xff\0 line\nno end"


@pytest.fixture
def server(serve):
    return serve("pep3333:app", "--threads", "4")


def content(size: int) -> bytes:
    return bytes(i % 251 for i in range(min(size, 251))) * (size // 251) + bytes(size % 251)


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
