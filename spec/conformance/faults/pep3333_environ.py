"""PEP 3333: environ."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from . import Request, fault


class Own(dict[str, Any]):
    """A dict, and not one itself."""


@fault("P1-subclass")
class OwnMapping(Request):
    """environ is of a subclass of dict."""

    def make_environ(self) -> dict[str, Any]:
        return Own(super().make_environ())


@fault("P1-number")
class NumberOfThePort(Request):
    """A CGI variable is no text."""

    def make_environ(self) -> dict[str, Any]:
        return {**super().make_environ(), "SERVER_PORT": self.server.address[1]}


@fault("P1-version")
class AlwaysTheSameVersion(Request):
    """SERVER_PROTOCOL is that of the server."""

    def make_environ(self) -> dict[str, Any]:
        return {**super().make_environ(), "SERVER_PROTOCOL": "HTTP/1.1"}


@fault("P1-query")
class QueryDecoded(Request):
    """QUERY_STRING is decoded."""

    def make_environ(self) -> dict[str, Any]:
        return {**super().make_environ(), "QUERY_STRING": unquote(self.head.query)}


@fault("P1-name")
class WithoutAName(Request):
    """There is no SERVER_NAME."""

    def make_environ(self) -> dict[str, Any]:
        environ = super().make_environ()
        del environ["SERVER_NAME"]
        return environ


@fault("P1-twice")
class PathTwice(Request):
    """SCRIPT_NAME is a part of PATH_INFO, too."""

    def make_environ(self) -> dict[str, Any]:
        environ = super().make_environ()
        return {**environ, "SCRIPT_NAME": environ["PATH_INFO"][: environ["PATH_INFO"].rindex("/")]}


@fault("P2")
class AnotherVersion(Request):
    """wsgi.version is a text."""

    def make_environ(self) -> dict[str, Any]:
        return {**super().make_environ(), "wsgi.version": "1.0"}


@fault("P2-flag")
class WithoutAFlag(Request):
    """There is no wsgi.multiprocess."""

    def make_environ(self) -> dict[str, Any]:
        environ = super().make_environ()
        del environ["wsgi.multiprocess"]
        return environ


@fault("P3-text")
class PathAsText(Request):
    """PATH_INFO is what the path means in UTF-8."""

    def make_environ(self) -> dict[str, Any]:
        return {**super().make_environ(), "PATH_INFO": unquote(self.head.path)}


@fault("P3-twice")
class PathDecodedTwice(Request):
    """PATH_INFO is decoded twice."""

    def make_environ(self) -> dict[str, Any]:
        environ = super().make_environ()
        return {**environ, "PATH_INFO": unquote(environ["PATH_INFO"], "latin-1")}


@fault("P3-header")
class HeadersAsText(Request):
    """Header fields are what they mean in UTF-8."""

    def make_environ(self) -> dict[str, Any]:
        environ = super().make_environ()
        headers = {
            key: environ[key].encode("latin-1").decode(errors="replace") for key in environ if key[:5] == "HTTP_"
        }
        return {**environ, **headers}


@fault("P4")
class WithoutHeaders(Request):
    """Some header fields are not in environ."""

    def make_environ(self) -> dict[str, Any]:
        return {key: value for key, value in super().make_environ().items() if not key.startswith("HTTP_X")}


@fault("P4-last")
class LastHeader(Request):
    """Of a repeated field there is only the last value."""

    def make_environ(self) -> dict[str, Any]:
        for values in self.head.fields.values():
            del values[:-1]
        return super().make_environ()


@fault("P4-type")
class ContentTypeAsAnyOther(Request):
    """Content-Type is a header field like others."""

    def make_environ(self) -> dict[str, Any]:
        environ = super().make_environ()
        environ["HTTP_CONTENT_TYPE"] = environ.pop("CONTENT_TYPE", "")
        return environ


@fault("P4-absent")
class AbsentAndEmpty(Request):
    """A field that was not sent is there, and empty."""

    def make_environ(self) -> dict[str, Any]:
        return {"HTTP_ACCEPT": "", **super().make_environ()}


@fault("P5")
class LooksIntoEnviron(Request):
    """What the application writes into environ decides how it is served."""

    @property
    def has_body(self) -> bool:
        return super().has_body and self.environ["REQUEST_METHOD"] != "HEAD"


@fault("P5-kept")
class OneEnviron(Request):
    """All requests have the same dict."""

    kept: dict[str, Any] = {}

    def make_environ(self) -> dict[str, Any]:
        self.kept.update(super().make_environ())
        return self.kept


@fault("P43-false")
class DeniesItsThreads(Request):
    """wsgi.multithread is always false."""

    def make_environ(self) -> dict[str, Any]:
        return {**super().make_environ(), "wsgi.multithread": False}


@fault("P43-true")
class AlwaysMultithread(Request):
    """wsgi.multithread is always true."""

    def make_environ(self) -> dict[str, Any]:
        return {**super().make_environ(), "wsgi.multithread": True}


@fault("P43-once")
class AlwaysOnce(Request):
    """wsgi.run_once is always true."""

    def make_environ(self) -> dict[str, Any]:
        return {**super().make_environ(), "wsgi.run_once": True}
