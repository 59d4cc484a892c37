"""nginx with the configuration of a site, as an example or a page of the manual has it."""

from __future__ import annotations

import http.client
import shutil
import subprocess
from pathlib import Path
from typing import Any

from .client import Connection
from .limits import LONG, eventually
from .proxies import free_port

CONF = """
daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    {text}
}}
"""


class Site:
    """with Site(directory, text) as site: nginx serves what text configures, which has one `listen 80;`."""

    def __init__(self, directory: Path, text: str) -> None:
        self.dir, self.port = directory, free_port()
        assert text.count("listen 80;") == 1
        conf = CONF.format(dir=directory, text=text.replace("listen 80;", f"listen 127.0.0.1:{self.port};"))
        (directory / "nginx.conf").write_text(conf)

    def __enter__(self) -> Site:
        program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
        assert program, "there is no nginx: scripts/install-deps check"
        self._process = subprocess.Popen(
            [program, "-p", self.dir, "-c", self.dir / "nginx.conf", "-e", self.dir / "error.log"], stdin=subprocess.DEVNULL
        )
        eventually(self._listens, "nginx listens", within=LONG)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(LONG)

    def _listens(self) -> bool:
        try:
            self.connection().connect()
        except OSError:
            assert self._process.poll() is None, self.log()
            return False
        return True

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG)

    def connect(self, **how: Any) -> Connection:
        """One on which a test can see each byte."""
        return Connection(("127.0.0.1", self.port), **how)

    def get(self, target: str, headers: dict[str, str] | None = None) -> str:
        """The body of a page that is there."""
        connection = self.connection()
        try:
            connection.request("GET", target, headers=headers or {})
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status == 200, (answer.status, text, self.log())
            return text
        finally:
            connection.close()

    def log(self) -> str:
        return (self.dir / "error.log").read_text()
