"""nginx with the configuration of a site, as an example or a page of the manual has it."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Any

from .client import Connection
from .limits import LONG
from .proxies import NGINX, Proxy, free_port, replaced


class Site(Proxy):
    """with Site(directory, text) as site: nginx serves what text configures, which has one `listen 80;`."""

    def __init__(self, directory: Path, text: str) -> None:
        self.port, self._dir = free_port(), directory
        text = replaced(text, {"listen 80;": f"listen 127.0.0.1:{self.port};"})
        (directory / "nginx.conf").write_text(NGINX.format(dir=directory, shown=text, connections=256))

    def __enter__(self) -> Site:
        d = self._dir
        self.run(d, "nginx-light", ["nginx", "-p", str(d), "-c", str(d / "nginx.conf"), "-e", str(d / "error.log")])
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def log(self) -> str:
        return (self._dir / "error.log").read_text()

    def connection(self) -> http.client.HTTPConnection:
        """One that is opened when it is first used, and again when it has been closed."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG)

    def connect(self, **how: Any) -> Any:
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
