"""The reader of simple_server: the streams of tests/http (its README says how a file reads), in any pieces."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import pytest
from harness.limits import ROOT
from wsgi_plus.simple_server import _http as http

FOLDER = ROOT / "tests" / "http"
LIMITS = {"request_line": "LINE", "fields": "FIELDS", "field_size": "FIELD"}

CASES = {f"{path.parent.name}/{path.stem}": path for path in sorted(FOLDER.glob("*valid/*.http"))}


def load(path: Path) -> tuple[dict[str, str], list[dict[str, str]], bytes]:
    """What is said of the stream, of each of its requests, and the stream."""
    about, _, stream = path.read_bytes().partition(b"\n---\n")
    found: list[dict[str, str]] = [{}]
    for line in about.decode("latin-1").split("\n"):
        key, _, value = line.partition(": ")
        if key == "request":
            found.append({})
        found[0 if key == "status" else -1][key.removesuffix(":")] = value
    return found[0], found[1:], stream


def pieces(data: bytes, how: str) -> list[bytes]:
    if how == "whole":
        return [data]
    if how == "bytes" and len(data) < 3000:
        return [data[i : i + 1] for i in range(len(data))]
    return re.findall(rb"(?s).*?\r\n|.+?$", data)


def read(stream: list[bytes], limit: int) -> tuple[list[tuple[http.Head, bytes]], int, bytes]:
    """The requests, the status of the refusal or 0, and what was said before the responses."""
    said: list[bytes] = []
    reader = http.Reader(limit=limit, put=said.append)
    found = []
    try:
        for piece in stream:
            reader.buffer += piece
            while one := reader.next():
                found.append((one[0], one[1].read()))
                one[1].close()
    except http.Refusal as refusal:
        return found, refusal.status, b"".join(said)
    finally:
        reader.close()
    return found, 0, b"".join(said)


def test_there_are_cases() -> None:
    assert len(CASES) > 200


@pytest.mark.parametrize("how", ["whole", "lines", "bytes"])
@pytest.mark.parametrize("name", CASES)
def test_replay(name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request as it is described, and then the refusal, with its status."""
    about, requests, stream = load(CASES[name])
    limits = dict(pair.split("=") for pair in about.get("limits", "").split())
    monkeypatch.setattr(http, "LINE", 8190)
    for key, value in limits.items():
        if key in LIMITS:
            monkeypatch.setattr(http, LIMITS[key], int(value))
    found, status, said = read(pieces(stream, how), int(limits.get("body", 1 << 20)))
    assert status == int(about.get("status", 0))
    assert len(found) == len(requests)
    for request, (head, body) in zip(requests, found):
        check(request, head, body)
    if how == "lines":
        waits = [request.get("expect") for request, (_, body) in zip(requests, found) if body]
        assert said == b"HTTP/1.1 100 Continue\r\n\r\n" * waits.count("100-continue")


def check(request: dict[str, str], head: http.Head, body: bytes) -> None:
    assert f"{head.method} {head.target}" == request["request"]
    assert head.keep_alive == (request.get("persist", "keep-alive") == "keep-alive")
    if "body" in request:
        assert body.decode("latin-1") == request["body"]
    else:
        assert len(body) == int(request.get("length", 0))
    for key, seen in (("path", head.path), ("query", head.query), ("host", head.fields.get("host", [""])[0])):
        assert request.get(key, seen) == seen
    if "field" in request:
        name, _, value = request["field"].partition(":")
        assert head.fields[name][0] == value.strip()


POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


def test_body_in_a_file() -> None:
    """S14.2: a large body is not kept in memory, and is whole."""
    data = bytes(range(256)) * 4096
    for head, stream in (
        (POST + b"Content-Length: %d\r\n\r\n" % len(data), data),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)),
    ):
        reader = http.Reader(limit=1 << 30, put=lambda _: None)
        reader.buffer += head
        assert reader.next() is None
        for at in range(0, len(stream), 50_000):
            reader.buffer += stream[at : at + 50_000]
            found = reader.next()
        assert found is not None
        assert isinstance(found[1].fileno(), int)
        assert found[1].read() == data
        found[1].close()


def test_body_that_is_not_whole_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """S14.4: the application does not get it, and nothing is left of it."""
    made: list[Any] = []

    def make(**how: Any) -> Any:
        made.append(SpooledTemporaryFile(**how))
        return made[-1]

    monkeypatch.setattr(http, "SpooledTemporaryFile", make)
    reader = http.Reader(limit=1 << 30, put=lambda _: None)
    reader.buffer += POST + b"Content-Length: 10\r\n\r\n12345"
    assert reader.next() is None
    reader.close()
    assert reader.next() is None
    assert [file.closed for file in made] == [True]


def test_body_that_cannot_be_kept(monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture) -> None:
    """S14: where a file cannot be had the request is refused, and it is logged why."""

    class Full(SpooledTemporaryFile[bytes]):
        def write(self, _: object) -> int:
            raise OSError("no space left")

    monkeypatch.setattr(http, "SpooledTemporaryFile", Full)
    assert read([POST + b"Content-Length: 5\r\n\r\n12345"], 10)[1] == 500
    assert "no space left" in log.text
    log.clear()


def test_phases() -> None:
    """What the timeouts go by."""
    reader = http.Reader(limit=100, put=lambda _: None)
    assert (reader.next(), reader.phase) == (None, http.Phase.IDLE)
    reader.buffer += b"POST /"
    assert (reader.next(), reader.phase) == (None, http.Phase.HEAD)
    reader.buffer += b" HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1"
    assert (reader.next(), reader.phase) == (None, http.Phase.BODY)
    before = reader.since
    reader.buffer += b"2"
    found = reader.next()
    assert found is not None and reader.since > before
    found[1].close()
    assert (reader.next(), reader.phase) == (None, http.Phase.IDLE)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01",  # TLS
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00",
    ],
)
def test_refused_before_the_line_ends(data: bytes) -> None:
    """What cannot become a line is not waited for."""
    assert read([data], 10)[1] == 400


@pytest.mark.parametrize(
    ("data", "is_head"),
    [
        (b"HEAD / HTTP/2.0\r\n", True),
        (b"HEAD /" + b"x" * 9000, True),
        (b"HEAD / HTTP/1.1\r\n\r\n", True),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", True),
        (b"HEADER / HTTP/1.1\r\n\r\n", False),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nHEAD \r\n", False),
    ],
)
def test_refused_head(data: bytes, is_head: bool) -> None:
    """RFC 9110, 9.3.2: the answer to HEAD has no body, however early it is refused."""
    reader = http.Reader(limit=100, put=lambda _: None)
    reader.buffer += data
    with pytest.raises(http.Refusal):
        while reader.next() is None:
            pass
    assert reader.is_head is is_head


def test_long_white_space_is_quick() -> None:
    """No expression goes over a field again and again."""
    field = b"X: " + b" " * 8000 + b"a" + b" " * 100
    found, status, _ = read([b"GET / HTTP/1.1\r\nHost: a\r\n" + (field + b"\r\n") * 98 + b"\r\n"], 10)
    assert status == 0
    assert found[0][0].fields["x"] == ["a"] * 98


def test_answer() -> None:
    """S5.7: a response of the server's own says its status, that the connection ends, and no more."""
    head, _, body = http.answer(504).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert (lines[0], body) == (b"HTTP/1.1 504 Gateway Timeout", b"504 Gateway Timeout\n")
    assert {line.partition(b":")[0] for line in lines[1:]} == {
        *(b"Content-Type", b"Content-Length", b"Connection", b"Date", b"Server")
    }
    assert b"Connection: close" in lines and b"Content-Length: %d" % len(body) in lines
    assert http.answer(504, with_body=False).endswith(b"\r\n\r\n")
