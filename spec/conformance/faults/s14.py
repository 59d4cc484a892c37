"""S14: request bodies."""

from __future__ import annotations

from typing import Any

from wsgi_plus.simple_server import _http
from wsgi_plus.simple_server._http import Body, Needs

from . import Connection, Reader, Request, Server, fault


class Reading(Connection):
    """A connection with another reader."""

    reader_class: type[Reader]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.reader = self.reader_class(limit=self.server.limit_request_body, put=self.output.put)


class Hasty(Reader):
    def _take(self, size: int, body: Body[bytes]) -> Needs:
        yield from super()._take(min(size, len(self.buffer)), body)


@fault("S14.1")
class CallsTooEarly(Reading):
    """The application is called with what there is of the body."""

    reader_class = Hasty


@fault("S14.1-continue")
class NoContinue(Connection):
    """The server does not tell a client to continue."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.reader = Reader(limit=self.server.limit_request_body, put=lambda _: None)


@fault("S14.1-turn", "S2.4-continue")
class ContinuesOutOfTurn(Connection):
    """A reader that is ahead tells the client to continue, whatever is being sent to it."""

    told = False

    def read(self) -> None:
        super().read()
        if self.request is not None and not self.told and b"100-continue" in self.reader.buffer:
            self.told = True
            self.output.put(_http.message("100 Continue", []))


@fault("S14.2")
class NoLimit(Connection):
    """Bodies of any size."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.reader = Reader(limit=1 << 80, put=self.output.put)


@fault("S14.2-memory")
class InMemory(Server):
    """Large bodies stay in memory."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        _http.BODY_IN_MEMORY = 1 << 40
        super().__init__(*arguments, **options)


@fault("S14.3")
class OnceOnly(Request):
    """The input is gone after the first step."""

    def step(self) -> None:
        if self.iterator is not None:
            self.body.close()
        super().step()


class Lenient(Reader):
    ended = False

    def _take(self, size: int, body: Body[bytes]) -> Needs:
        while size and not self.ended:
            before = body.tell()
            yield from super()._take(min(size, len(self.buffer)), body)
            size -= body.tell() - before
            if size:
                yield


@fault("S14.4")
class TakesHalfABody(Reading):
    """A body that ends early is taken for a whole one."""

    reader: Lenient
    reader_class = Lenient

    def data_has_ended(self) -> None:
        self.reader.ended = True
        self.read()
        super().data_has_ended()
