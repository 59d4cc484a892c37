"""Programs that the application starts: they must not notice that a server has started them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest


@pytest.fixture
def server(serve):
    return serve("children:app", "--threads", "2", admin=True)


def test_signal_handlers_can_be_set_at_import(server):
    """The application is imported on Python's main thread: signal.signal works there."""
    assert server.get("/hello").text == "hello"


def test_child_can_be_terminated(server):
    """SIGTERM is not blocked in children."""
    assert server.get("/terminate").text == str(-signal.SIGTERM)


def test_child_has_ordinary_signals(server):
    """No signal is blocked in children, and none is ignored but what the application itself ignores."""
    blocked, ignored = json.loads(server.get("/signals").text)
    assert blocked == 0
    ours = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("SigIgn"))
    allowed = int(ours.split()[1], 16)  # the shell that runs the tests may ignore some, as nohup does
    for number in (signal.SIGUSR1, signal.SIGPIPE, signal.SIGXFSZ):
        allowed |= 1 << (number - 1)
    assert ignored & 0x7FFFFFFF & ~allowed == 0


def test_child_gets_no_descriptor_of_the_server(server):
    """Neither listeners nor connections nor temporary files are inherited: they would stay open after the server."""
    with server.connect() as other:
        other.send(b"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n" + b"x" * 800_000)
        listing = server.get("/descriptors").text
    lines = [line.rpartition("-> ")[2] for line in listing.splitlines() if "->" in line]
    assert len(lines) >= 3, listing
    assert not [line for line in lines if line.startswith(("socket:", "anon_inode:")) or "deleted" in line], listing


def test_fork(server):
    """A plain fork in a request works."""
    assert server.get("/fork").text == "7"
    assert server.get("/hello").text == "hello"
