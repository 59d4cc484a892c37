"""PEP 3333: start_response, and what it is given."""

from __future__ import annotations

from typing import Any

from wsgi_plus.simple_server._http import HOP_BY_HOP, check_head

from . import Request, fault

Headers = list[tuple[str, str]]


@fault("P8", "P18-write")
class NothingComesBack(Request):
    """start_response gives no write."""

    def start_response(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        super().start_response(status, headers, exc_info)


@fault("P8-third")
class ByNameOnly(Request):
    """The third argument has to be given by name."""

    def start_response(self, status: str, headers: Headers, *, exc_info: Any = None) -> Any:  # type: ignore[override]
        return super().start_response(status, headers, exc_info)


@fault("P8-first")
class ExcInfoIsTooLate(Request):
    """exc_info in the first call is raised."""

    def start_response(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        if exc_info and not self.started:
            raise exc_info[1]
        return super().start_response(status, headers, exc_info)


@fault("P9-ignored")
class TheFirstCounts(Request):
    """exc_info changes nothing."""

    def start_response(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        return self.write if exc_info and self.started else super().start_response(status, headers, exc_info)


@fault("P9-added")
class HeadersAreAdded(Request):
    """With exc_info headers are added to those that there are."""

    def start_response(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        return super().start_response(status, [*self.headers, *headers], exc_info)


@fault("P9-length")
class LengthIsKept(Request):
    """With exc_info Content-Length is not replaced."""

    def start_response(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        left = self.left
        write = super().start_response(status, headers, exc_info)
        self.left = left if self.left is None else self.left
        return write


@fault("P9-empty")
class HeadersWithAnEmptyBlock(Request):
    """An empty block sends the headers."""

    def send(self, block: bytes) -> None:
        if not block:
            with self.lock:
                self.begin(None)
        super().send(block)


@fault("P10")
class TooLateIsIgnored(Request):
    """exc_info that comes too late is ignored."""

    def start_response(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        return self.write if exc_info and self.begun else super().start_response(status, headers, exc_info)


@fault("P35")
class RaisesItsOwn(Request):
    """exc_info that comes too late raises another exception."""

    def start_response(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        if exc_info and self.begun:
            raise RuntimeError("too late")
        return super().start_response(status, headers, exc_info)


@fault("P11")
class AsOftenAsYouLike(Request):
    """start_response may be called again."""

    def start_response(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        self.started = False
        return super().start_response(status, headers, exc_info)


@fault("P11-none")
class NoneIsSomething(Request):
    """None for exc_info is as good as exc_info."""

    def start_response(self, *arguments: Any) -> Any:
        if len(arguments) == 3:
            self.started = False
        return super().start_response(*arguments)


@fault("P47")
class AnErrorDoesNotCount(Request):
    """A call of start_response that has raised has not been."""

    def start_response(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        try:
            return super().start_response(status, headers, exc_info)
        except ValueError:
            self.started = False
            raise


class Unchecked(Request):
    """Looks at nothing but Content-Length."""

    def start_response(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        write = super().start_response(
            "200 OK", [header for header in headers if header[0] == "Content-Length"], exc_info
        )
        self.status, self.headers = status, list(headers)
        return write


fault("P12", "P13", "P36")(Unchecked)


@fault("P12-dropped")
class DropsHopByHop(Request):
    """Hop-by-hop headers are dropped."""

    def start_response(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        kept = [header for header in headers if header[0].lower() not in HOP_BY_HOP]
        return super().start_response(status, kept, exc_info)


@fault("P13-status")
class UncheckedStatus(Request):
    """The status is not looked at."""

    def start_response(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        write = super().start_response("200 OK", headers, exc_info)
        self.status = status
        return write


@fault("P36-late")
class LooksLate(Unchecked):
    """Finds what is wrong when the headers are sent."""

    def begin(self, known: int | None) -> None:
        if not self.begun:
            check_head(self.status, self.headers)
        super().begin(known)


class OwnMessage(Request):
    """Sends what ``spoil`` makes of the head of the response."""

    def spoil(self, head: bytes) -> bytes:
        raise NotImplementedError

    def begin(self, known: int | None) -> None:
        put, output = self.connection.output.put, self.connection.output
        if not self.begun:
            output.put = lambda data: put(self.spoil(data))  # type: ignore[method-assign]
        try:
            super().begin(known)
        finally:
            output.put = put  # type: ignore[method-assign]


@fault("P14")
class WithoutDate(OwnMessage):
    """There is no Date."""

    def spoil(self, head: bytes) -> bytes:
        return head.replace(b"Date:", b"X-Date:")


@fault("P14-twice")
class DateTwice(OwnMessage):
    """There are two of Date."""

    def spoil(self, head: bytes) -> bytes:
        return head.replace(b"\r\n", b"\r\nDate: Thu, 01 Jan 1970 00:00:01 GMT\r\n", 1)


@fault("P15-order")
class HeadersBackwards(OwnMessage):
    """The order of headers is another one."""

    def spoil(self, head: bytes) -> bytes:
        first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        return b"\r\n".join([first, *reversed(lines), b"", b""])


@fault("P15-once")
class EachHeaderOnce(OwnMessage):
    """Of headers of one name only the last is sent."""

    def spoil(self, head: bytes) -> bytes:
        first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        return b"\r\n".join([first, *{line.partition(b":")[0].lower(): line for line in lines}.values(), b"", b""])


@fault("P15-status")
class KnownStatuses(OwnMessage):
    """A status that HTTP does not define becomes 200."""

    def spoil(self, head: bytes) -> bytes:
        return head.replace(b" 299 ", b" 200 ", 1)


@fault("P37")
class HeadersInUtf8(OwnMessage):
    """Headers are sent in UTF-8."""

    def spoil(self, head: bytes) -> bytes:
        return head.decode("latin-1").encode()


@fault("P37-wide")
class QuestionMarks(Request):
    """What ISO-8859-1 does not have becomes a question mark."""

    def start_response(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        def known(text: Any) -> Any:
            return text.encode("latin-1", "replace").decode("latin-1") if isinstance(text, str) else text

        return super().start_response(
            known(status), [(known(a).replace("?", "-"), known(b)) for a, b in headers], exc_info
        )


@fault("P44")
class KeepsExcInfo(Request):
    """exc_info is kept."""

    def start_response(self, status: str, headers: Headers, exc_info: Any = None, /) -> Any:
        self.why = exc_info or None
        return super().start_response(status, headers, exc_info)
