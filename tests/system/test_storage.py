"""Storage that does not answer: NFS without its server, a FUSE file system that hangs, a failing disk.  Requests that need it
wait; no other request does, health checks and the end included.  tests/apps/storage.c stands for it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from harness.client import build, chunked
from harness.limits import APPS, LONG, PROMPT, SANITIZED, eventually, timeout

pytestmark = pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime has to be the first library")

MB = 1 << 20


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("storage") / "storage.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-w", "-o", path, APPS / "storage.c", "-ldl"], check=True)
    return path


class Storage:
    def __init__(self, path: Path) -> None:
        self.path = path

    def hang(self) -> None:
        self.path.write_text("")

    def hang_only(self, call: str) -> None:
        self.path.write_text(f"only {call} ")

    def recover(self) -> None:
        self.path.unlink(missing_ok=True)

    def wait_for(self, call: str) -> None:
        eventually(lambda: call in self.path.read_text(), f"{call} waits for the storage", within=LONG)


@pytest.fixture
def storage(tmp_path):
    storage = Storage(tmp_path / "hangs")
    yield storage
    storage.recover()


@pytest.fixture
def slow(launch, shim, storage):
    """A server of one thread in which storage can be made to hang."""
    env = {"LD_PRELOAD": str(shim), "FERMATA_TEST_SLOW_STORAGE": str(storage.path)}
    return launch("large", "--threads", "1", "--graceful-timeout", "5", admin=True, env=env)


def assert_others_are_served(server) -> None:
    """The only thread, too: it does not wait for what the loop is to send or has to store."""
    for _ in range(3):
        assert server.get("/hello").body == b"hello"
        assert server.admin.get("/healthz").status == 200


def test_a_file_that_cannot_be_read(slow, storage):
    with slow.connect(timeout=LONG) as c:
        storage.hang()
        c.send(build("GET", "/file?mb=3"))
        storage.wait_for("sendfile")
        assert_others_are_served(slow)
        storage.recover()
        assert len(c.read_response().body) == 3 * MB
        assert c.request("GET", "/hello").body == b"hello"


def test_a_file_that_hangs_between_two_parts(slow, storage):
    with slow.connect(timeout=LONG) as c:
        c.send(build("GET", "/file?mb=40"))
        assert c.read_head().status == 200
        storage.hang()
        size, c.received = len(c.received), b""
        while c.readable(1):
            size += len(c.sock.recv(1 << 20))
        storage.wait_for("sendfile")
        assert_others_are_served(slow)
        storage.recover()
        while size < 40 * MB:
            size += len(c.sock.recv(1 << 20))
        assert size == 40 * MB


def test_the_client_of_a_hanging_file_leaves(slow, storage):
    with slow.connect() as c:
        storage.hang()
        c.send(build("GET", "/file?mb=3"))
        storage.wait_for("sendfile")
        c.reset()
    eventually(lambda: slow.admin.metrics().value("fermata_connections") == 0, "the connection is gone")
    assert_others_are_served(slow)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_cannot_be_written(slow, storage, framing):
    body = bytes(range(256)) * (10 * MB // 256)
    with slow.connect(timeout=LONG) as c:
        storage.hang()
        if framing == "length":
            head = build("POST", "/upload", [("Content-Length", str(len(body)))])
            c.send(head + body[: 9 * MB])
        else:
            head = build("POST", "/upload", [("Transfer-Encoding", "chunked")])
            c.send(head + chunked(body[: 9 * MB])[:-5])
        storage.wait_for("pwrite")
        assert_others_are_served(slow)
        storage.recover()
        c.send(body[9 * MB :] if framing == "length" else chunked(body[9 * MB :]))
        assert c.read_response().text == f"{len(body)} {hashlib.sha256(body).hexdigest()}"
        assert c.request("GET", "/hello").body == b"hello"


def test_a_body_whose_last_bytes_cannot_be_written(slow, storage):
    """All of it has come; the request waits for the file, and so do the ones behind it on the connection."""
    body = b"b" * (8 * MB + 10)
    with slow.connect(timeout=LONG) as c:
        storage.hang()
        c.send(build("POST", "/upload", [("Content-Length", str(len(body)))]) + body + build("GET", "/hello"))
        storage.wait_for("pwrite")
        assert_others_are_served(slow)
        storage.recover()
        assert c.read_response().text == f"{len(body)} {hashlib.sha256(body).hexdigest()}"
        assert c.read_response().body == b"hello"


def test_the_client_of_a_hanging_body_leaves(slow, storage):
    with slow.connect(timeout=LONG) as c:
        storage.hang()
        c.send(build("POST", "/upload", [("Content-Length", str(9 * MB))]) + b"b" * (9 * MB))
        storage.wait_for("pwrite")
        c.reset()
    assert_others_are_served(slow)
    storage.recover()
    assert_others_are_served(slow)


def test_a_slow_disk_is_not_the_clients_fault(launch, shim, storage):
    """--body-timeout and --limit-body-rate do not run while nothing is read because of the disk."""
    env = {"LD_PRELOAD": str(shim), "FERMATA_TEST_SLOW_STORAGE": str(storage.path)}
    server = launch("large", "--body-timeout", "0.5", "--limit-body-rate", "1000000", env=env)
    body = b"b" * (12 * MB)
    with server.connect(timeout=LONG) as c:
        storage.hang()
        c.send(build("POST", "/upload", [("Content-Length", str(len(body)))]) + body[: 8 * MB + 200000])
        storage.wait_for("pwrite")
        c.send(body[8 * MB + 200000 : 8 * MB + 600000])
        assert not c.readable(2)
        storage.recover()
        c.send(body[8 * MB + 600000 :])
        assert c.read_response().text == f"{len(body)} {hashlib.sha256(body).hexdigest()}"


@timeout(90)
def test_the_end_does_not_wait_for_storage(launch, shim, storage):
    env = {"LD_PRELOAD": str(shim), "FERMATA_TEST_SLOW_STORAGE": str(storage.path)}
    server = launch("large", "--graceful-timeout", "1", env=env, expect=1)
    c = server.connect()
    storage.hang()
    c.send(build("GET", "/file?mb=3"))
    storage.wait_for("sendfile")
    server.signal(15)
    assert server.wait_exit(3 + PROMPT) == 1
    assert "storage does not answer" in server.log()


def test_a_slow_file_is_not_the_clients_fault(launch, shim, storage):
    """--send-timeout does not run while a part of a file is read."""
    env = {"LD_PRELOAD": str(shim), "FERMATA_TEST_SLOW_STORAGE": str(storage.path)}
    server = launch("large", "--send-timeout", "0.5", env=env)
    with server.connect(timeout=LONG) as c:
        c.send(build("GET", "/file?mb=40"))
        assert c.read_head().status == 200
        storage.hang()
        size, c.received = len(c.received), b""
        while c.readable(1):
            size += len(c.sock.recv(1 << 20))
        storage.wait_for("sendfile")
        assert not c.readable(3)  # four times the timeout, and more
        storage.recover()
        while size < 40 * MB:
            got = len(c.sock.recv(1 << 20))
            assert got, "it was broken off"
            size += got
        assert size == 40 * MB


def test_files_that_hang_do_not_keep_bodies_from_being_stored(slow, storage):
    """Each kind of work has threads of its own."""
    with slow.connect(timeout=LONG) as hanging, slow.connect(timeout=LONG) as c:
        storage.hang_only("sendfile")
        hanging.send(build("GET", "/file?mb=3"))
        storage.wait_for("sendfile")
        body = b"b" * (9 * MB)
        c.send(build("POST", "/upload", [("Content-Length", str(len(body)))]) + body)
        assert c.read_response().text == f"{len(body)} {hashlib.sha256(body).hexdigest()}"


def test_a_refused_body_keeps_nothing(launch):
    """Its place in the budget of files is free at once, though its connection lingers."""
    server = launch("large", "--limit-body-files", "1", "--limit-request-body", str(10 * MB))
    with server.connect(timeout=LONG) as refused, server.connect(timeout=LONG) as c:
        refused.send(build("POST", "/upload", [("Transfer-Encoding", "chunked")]) + chunked(b"b" * (9 * MB))[:-5])
        refused.send(b"%x\r\n" % (2 * MB))
        assert refused.read_response().status == 413
        c.send(build("POST", "/upload", [("Content-Length", str(9 * MB))]) + b"b" * (9 * MB))
        assert c.read_response().status == 200


def test_too_many_bodies_in_files(launch, tmp_path):
    server = launch("large", "--limit-body-files", "1", admin=True)
    part = build("POST", "/upload", [("Content-Length", str(9 * MB + 1))]) + b"b" * (9 * MB)
    with server.connect(timeout=LONG) as first, server.connect(timeout=LONG) as second:
        first.send(part)
        eventually(lambda: server.admin.metrics().value("fermata_received_bytes_total") > 9 * MB, "it has come")
        second.send(part[: len(part) - MB + 1])
        refused = second.read_response()
        assert (refused.status, refused.header("Retry-After")) == (503, "1")
        first.send(b"b")
        assert first.read_response().status == 200
    with server.connect(timeout=LONG) as third:
        third.send(part + b"b")
        assert third.read_response().status == 200
    assert server.admin.metrics().value("fermata_refused_requests_total", reason="body_files") == 1


def test_too_much_in_files(launch):
    server = launch("large", "--limit-body-disk", str(9 * MB))
    with server.connect(timeout=LONG) as c:
        c.send(build("POST", "/upload", [("Content-Length", str(20 * MB))]) + b"b" * (9 * MB + 1))
        refused = c.read_response()
        assert (refused.status, refused.header("Retry-After")) == (503, "1")
