"""wsgi.input of a body that lies in a file, on a disk that does not answer: who reads it waits, no other does."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from harness.client import build
from harness.limits import LONG, ROOT, eventually

BODY = b"".join(b"%07d\n" % i for i in range(1_200_000))  # more than is kept in memory


@pytest.fixture(scope="module")
def held_pread(tmp_path_factory) -> Path:
    """The library for LD_PRELOAD."""
    library = tmp_path_factory.mktemp("preload") / "held_pread.so"
    source = ROOT / "tests" / "system" / "preload" / "held_pread.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def disk(tmp_path):
    """disk.hold(), disk.wait_reading(), disk.go_on()."""

    class Disk:
        gate = tmp_path / "gate"

        def hold(self) -> None:
            self.gate.touch()

        def wait_reading(self) -> None:
            eventually(Path(f"{self.gate}.in").exists, "a request reads")

        def go_on(self) -> None:
            self.gate.unlink(missing_ok=True)

    disk = Disk()
    yield disk
    disk.go_on()


@pytest.fixture
def server(launch, held_pread, disk):
    env = {"LD_PRELOAD": os.pathsep.join(filter(None, [os.environ.get("LD_PRELOAD"), str(held_pread)]))}
    return launch("pep3333:app", "--threads", "4", env={**env, "PREAD_HELD": str(disk.gate)}, admin=True)


@pytest.mark.parametrize("how", ["read_all", "read_sized_large", "readline_all", "readlines_all", "iterate", "readinto"])
def test_reading_holds_nobody_else(server, disk, how):
    """The GIL is not held while a body is read from its file, in whichever way: other requests are answered."""
    disk.hold()
    with server.connect(timeout=LONG) as c:
        c.send(build("POST", f"/input-size?how={how}", (), BODY))
        disk.wait_reading()
        for _ in range(3):
            assert server.get("/hello").text == "hello"
        disk.go_on()
        assert json.loads(c.read_response().text) == len(BODY)


def test_closed_while_another_thread_reads(server, disk):
    """The file is not closed under the hands of a thread that reads it; that gets its bytes, and later readers ValueError."""
    disk.hold()
    with server.connect(timeout=LONG) as c:
        c.send(build("POST", "/input-closed-meanwhile?key=closed-meanwhile", (), BODY))
        disk.wait_reading()
        server.wait_events("closed-meanwhile", "closed")
        disk.go_on()
        assert json.loads(c.read_response().text) == [BODY[:100_000].decode(), "ValueError"]
