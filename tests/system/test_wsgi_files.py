"""WSGI (PEP 3333): wsgi.file_wrapper."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.client import build
from harness.limits import APPS, LONG, never


@pytest.fixture
def server(serve):
    return serve("pep3333:app", "--threads", "4")


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
        ("unbuffered", (APPS / "pep3333_files.py").read_text()[3:]),
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
