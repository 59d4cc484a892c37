"""Just enough of a browser for the sites of the tests: cookies, redirects, forms, files, one connection kept alive."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urljoin, urlsplit

from .client import Connection, NoResponse, Response
from .limits import LONG
from .server import Server
from .sites import Site

BOUNDARY = "----the-boundary-of-the-tests"


class Browser:
    def __init__(self, server: Server | Site, host: str = "site.example") -> None:
        self.server, self.host = server, host
        self.cookies: dict[str, str] = {}
        self.page = Response("1.1", 0, "", [])
        self.path = "/"
        self._connection: Connection | None = None

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def _exchange(self, method: str, target: str, headers: list[tuple[str, str]], body: bytes | None) -> Response:
        for attempt in (1, 2):  # a kept connection may have been closed meanwhile
            if self._connection is None:
                self._connection = self.server.connect(timeout=LONG)
            try:
                answer = self._connection.request(method, target, headers, body, host=self.host)
                break
            except (NoResponse, BrokenPipeError, ConnectionResetError):
                self._connection.close()
                self._connection = None
                if attempt == 2:
                    raise
        if not answer.keeps_alive:
            self._connection.close()
            self._connection = None
        return answer

    def open(
        self, method: str, target: str, headers: list[tuple[str, str]] | None = None, body: bytes | None = None
    ) -> Response:
        """One request, and the redirects that follow."""
        for _ in range(5):
            cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            fields = [*(headers or []), *([("Cookie", cookies)] if cookies else [])]
            self.page = self._exchange(method, target, fields, body)
            self.path = target
            for line in self.page.all("Set-Cookie"):
                for name, morsel in SimpleCookie(line).items():
                    if morsel["max-age"] == 0 or morsel["max-age"] == "0" or not morsel.value:
                        self.cookies.pop(name, None)
                    else:
                        self.cookies[name] = morsel.coded_value
            location = self.page.header("Location")
            if self.page.status not in (301, 302, 303) or location is None:
                return self.page
            parts = urlsplit(urljoin(f"http://{self.host}{target}", location))
            method, target, body, headers = "GET", parts.path + (f"?{parts.query}" if parts.query else ""), None, None
        raise AssertionError("too many redirects")

    def get(self, target: str, headers: list[tuple[str, str]] | None = None) -> Response:
        return self.open("GET", target, headers)

    def post(
        self, target: str, fields: Mapping[str, str], files: Mapping[str, tuple[str, bytes]] | None = None
    ) -> Response:
        """A form: multipart where it has files."""
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.page.body.decode("utf-8", "replace"))
        fields = {**({"csrfmiddlewaretoken": token[1]} if token else {}), **fields}
        if files is None:
            return self.open(
                "POST", target, [("Content-Type", "application/x-www-form-urlencoded")], urlencode(fields).encode()
            )
        parts = [
            f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()
        ]
        parts += [
            f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: image/png\r\n\r\n'.encode()
            + data
            for name, (filename, data) in files.items()
        ]
        body = (
            b"".join(b"--%s\r\n%s\r\n" % (BOUNDARY.encode(), part) for part in parts)
            + b"--%s--\r\n" % BOUNDARY.encode()
        )
        return self.open("POST", target, [("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")], body)
