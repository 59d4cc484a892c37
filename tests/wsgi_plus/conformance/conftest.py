"""Fixtures of the tests of the conformance suite (spec/conformance), which is put on the path here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.limits import ROOT

HERE = ROOT / "spec" / "conformance"
sys.path[:0] = [str(HERE), str(HERE.parent)]


from conformance import __main__ as command
from conformance.launcher import Settings


@pytest.fixture
def conformance(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int | str | None, str, str]]:
    """conformance(*arguments): runs the command here; its exit code, output and error output."""

    def call(*arguments: str) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["conformance", *arguments])
        capsys.readouterr()
        try:
            code: int | str | None = command.main()
        except SystemExit as ended:
            code = ended.code
        return (code, *capsys.readouterr())

    return call


FAKE = """
import os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if "--slow" in sys.argv:
            time.sleep(0.5)
        if self.path.startswith("/end-all"):
            os._exit(3)
        if self.path.startswith("/endless"):
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(b".")
                time.sleep(0.01)
        said = " ".join(sys.argv[2:]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    def log_message(self, *args):
        print("log of", self.path, flush=True)

if "--bad" in sys.argv:
    sys.exit("no such option: --bad")
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def fake(tmp_path: Path) -> Settings:
    """A server that answers every GET with its command line, and knows no application."""
    path = tmp_path / "fake.py"
    path.write_text(FAKE)
    return Settings(server=f"{sys.executable} {path} {{port}}")
