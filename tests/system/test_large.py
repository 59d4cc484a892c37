"""A gigabyte in either direction, by curl and by raw sockets, with bounded memory.  FERMATA_TEST_LARGE_MB changes how much."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading

import pytest
from harness.client import build
from harness.limits import LONG, SANITIZED, eventually, timeout

MEGABYTES = int(os.environ.get("FERMATA_TEST_LARGE_MB") or (64 if SANITIZED else 1024))
BLOCK = bytes(range(256)) * 4096
BOUND = 32_000_000


@pytest.fixture
def server(launch, tmp_path):
    limit = str((MEGABYTES << 20) + 1)
    server = launch(
        "large:app",
        "--threads",
        "2",
        "--limit-request-body",
        limit,
        env={"TMPDIR": os.environ.get("TMPDIR", "/tmp")},
        admin=True,
    )
    assert server.get("/hello").text == "hello"
    return server


@pytest.fixture
def memory(server):
    """Samples the server's memory while the test runs; gives by how much it grew at most."""
    before = server.process.rss()
    highest = [before]
    stop = threading.Event()

    def sample():
        while not stop.wait(0.05) and server.alive():
            highest[0] = max(highest[0], server.process.rss())

    thread = threading.Thread(target=sample)
    thread.start()
    yield lambda: 0 if SANITIZED else highest[0] - before
    stop.set()
    thread.join()


def digest(blocks: int) -> str:
    d = hashlib.sha256()
    for _ in range(blocks):
        d.update(BLOCK)
    return d.hexdigest()


def curl(server, path, *options, **more):
    program = shutil.which("curl")
    assert program, "curl is not installed"
    url = f"http://127.0.0.1:{server.port}{path}"
    return subprocess.run(
        [program, "--silent", "--show-error", "--fail", "--max-time", str(int(LONG * 10)), *options, url],
        check=True,
        capture_output=True,
        **more,
    )


@timeout(600)
def test_upload_by_curl(server, memory, tmp_path):
    """curl -T of a large file: whole, with bounded memory; others are served meanwhile."""
    path = tmp_path / "large"
    with path.open("wb") as f:
        for _ in range(MEGABYTES):
            f.write(BLOCK)
    said = curl(server, "/upload", "--upload-file", str(path)).stdout.decode()
    assert said == f"{MEGABYTES << 20} {digest(MEGABYTES)}"
    assert memory() < BOUND
    path.unlink()


@timeout(600)
def test_chunked_upload_by_curl(server, memory, tmp_path):
    """The same from a pipe: chunked."""
    feed = subprocess.Popen(
        ["dd", "if=/dev/zero", "bs=1M", f"count={MEGABYTES // 4}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    said = curl(server, "/upload", "--upload-file", "-", "-H", "Expect:", stdin=feed.stdout).stdout.decode()
    feed.stdout.close()
    assert feed.wait() == 0
    assert said.startswith(f"{MEGABYTES // 4 << 20} ")
    assert memory() < BOUND


@timeout(600)
@pytest.mark.parametrize("target", ["/download?mb={}", "/download?mb={}&length", "/file?mb={}"])
def test_download_by_curl(server, memory, target):
    """curl of a large response: chunked, with a length, and by file_wrapper."""
    done = curl(
        server, target.format(MEGABYTES), "--output", "/dev/null", "--write-out", "%{size_download} %{http_code}"
    )
    assert done.stdout.decode() == f"{MEGABYTES << 20} 200"
    assert memory() < BOUND


@timeout(600)
@pytest.mark.parametrize("target", ["/download?mb={}", "/file?mb={}"])
def test_download_is_whole(server, memory, target):
    """Every byte of a large response is the right one."""
    megabytes = max(MEGABYTES // 4, 4)
    got, size = hashlib.sha256(), 0
    with server.begin(target.format(megabytes), timeout=LONG) as c:
        head = c.read_head()
        for block in c.iter_body(head):
            got.update(block)
            size += len(block)
    expected = hashlib.sha256()
    for i in range(megabytes):
        expected.update(BLOCK if "download" in target or i in (0, megabytes - 1) else bytes(1 << 20))
    assert (size, got.hexdigest()) == (megabytes << 20, expected.hexdigest())
    assert memory() < BOUND


@timeout(600)
def test_upload_is_kept_on_disk_only_as_long_as_needed(server):
    """The temporary file of a large upload is gone from the disk when the request has ended."""
    files = len(server.process.fds())
    with server.connect(timeout=LONG) as c:
        c.send(build("POST", "/upload", [("Content-Length", str(64 << 20))]))
        for _ in range(64):
            c.send(BLOCK)
        assert c.read_response().text == f"{64 << 20} {digest(64)}"
    eventually(lambda: len(server.process.fds()) <= files, "the file is closed")
