"""PEP 3333: the iterable, its blocks, its close(), and write."""

from __future__ import annotations

from typing import Any

from wsgi_plus.simple_server._http import Body, Head
from wsgi_plus.simple_server._request import Fate

from . import Connection, Request, fault


@fault("P16", "P18-held")
class HoldsBack(Request):
    """Sends the body when it has all of it."""

    def __init__(self, connection: Connection, head: Head, body: Body[bytes]) -> None:
        self.held: list[bytes] = []
        super().__init__(connection, head, body)

    def holds(self) -> bool:
        return True

    def send(self, block: bytes) -> None:
        if self.holds():
            self.held.append(block)
        else:
            super().send(block)

    def release(self) -> None:
        held, self.held = self.held, []
        for block in held:
            super().send(block)

    def complete(self) -> None:
        self.release()
        super().complete()

    def fail(self, error: BaseException) -> None:
        self.release()
        super().fail(error)


@fault("P16-length")
class HoldsBackWithALength(HoldsBack):
    """Sends a body of known length when it has all of it."""

    def holds(self) -> bool:
        return self.left is not None


@fault("P16-old")
class HoldsBackForOldClients(HoldsBack):
    """Sends the body to clients of HTTP/1.0 when it has all of it."""

    def holds(self) -> bool:
        return self.head.version == "HTTP/1.0"


@fault("P18-order")
class WritesAtTheEnd(HoldsBack):
    """What is written comes behind what is yielded."""

    def holds(self) -> bool:
        return self.iterable is None


@fault("P18-length")
class OneBlockIsAll(HoldsBack):
    """Takes the length of the only block for that of the body, though something was written before it."""

    def holds(self) -> bool:
        return self.iterator is None

    def known_length(self, iterable: Any) -> int | None:
        self.known = super().known_length(iterable)
        self.release()
        return self.known


@fault("P17")
class NeverCloses(Request):
    """close() is not called."""

    def close(self) -> None:
        self.iterable = self.iterator = None


@fault("P17-error")
class ClosesWhatHasGoneWell(Request):
    """close() is not called after an error."""

    def fail(self, error: BaseException) -> None:
        super().fail(error)
        self.iterable = None


@fault("P17-left")
class ClosesForThoseWhoStay(Request):
    """close() is not called when the client has left."""

    def close(self) -> None:
        if not self.ended:
            super().close()


@fault("P17-unstarted")
class ClosesWhatHasStarted(Request):
    """close() is not called where start_response was not."""

    def close(self) -> None:
        if self.started:
            super().close()


@fault("P17-twice")
class ClosesTwice(Request):
    """close() is called twice."""

    def close(self) -> None:
        iterable = self.iterable
        super().close()
        self.iterable = iterable
        super().close()


@fault("P17-early")
class ClosesWhenItHasIterated(Request):
    """Closes when it has the first item."""

    def next_item(self) -> Any:
        item = super().next_item()
        iterable = self.iterable
        if hasattr(iterable, "close"):
            iterable.close()
            self.iterable = None
        return item


@fault("P19-getitem")
class WantsIter(Request):
    """An iterable has to have __iter__."""

    def known_length(self, iterable: Any) -> int | None:
        iterable.__iter__  # noqa: B018
        return super().known_length(iterable)


@fault("P19-iterator")
class WantsIterators(Request):
    """Takes only sequences and iterators."""

    def known_length(self, iterable: Any) -> int | None:
        if not hasattr(iterable, "__next__") and not hasattr(iterable, "__getitem__"):
            raise TypeError("no iterator")
        return super().known_length(iterable)


@fault("P20")
class EmptyChunks(Request):
    """Every block is a chunk, and an empty chunk is the last one."""

    def send(self, block: bytes) -> None:
        super().send(block)
        if not block and self.begun and self.chunked:
            self.connection.output.put(self.framed(block))


@fault("P20-refused")
class NoEmptyBlocks(Request):
    """An empty block is an error."""

    def send(self, block: bytes) -> None:
        if not block:
            raise ValueError("an empty block")
        super().send(block)


@fault("P21")
class AssumesItHasStarted(Request):
    """start_response has to be called before the iteration."""

    def known_length(self, iterable: Any) -> int | None:
        if not self.started:
            raise RuntimeError("start_response was not called")
        return super().known_length(iterable)


@fault("P22")
class SendsAll(Request):
    """Content-Length is the application's affair."""

    def send(self, block: bytes) -> None:
        with self.lock:
            if self.ended or not block:
                return
            self.begin(self.known)
            if self.has_body:
                self.connection.output.put(self.framed(block))
        self.connection.changed()

    def complete(self) -> None:
        self.left = 0
        super().complete()


@fault("P22-block")
class SendsWholeBlocks(SendsAll):
    """Stops at the end of the block with which there is enough."""

    def send(self, block: bytes) -> None:
        if self.left is None or self.left > 0:
            super().send(block)
            self.left = None if self.left is None else self.left - len(block)


@fault("P22-written")
class SendsAllThatIsWritten(SendsAll):
    """What is written beyond Content-Length is sent."""

    def send(self, block: bytes) -> None:
        if self.iterable is None:
            super().send(block)
        else:
            Request.send(self, block)


@fault("P39")
class KeepsWaiting(Request):
    """Where there is less than Content-Length says the connection stays open."""

    def complete(self) -> None:
        self.left = 0
        super().complete()


@fault("P40")
class AsksToTheEnd(Request):
    """Goes on asking though Content-Length is reached."""

    def handle(self, item: Any) -> Fate:
        if isinstance(item, bytes):
            self.send(item)
            return self.await_client()
        return super().handle(item)


@fault("P40-written")
class WritesInVain(Request):
    """write takes more than Content-Length says, and drops it."""

    def write(self, data: bytes, /) -> None:
        self.send(data)


@fault("P26")
class Encodes(Request):
    """A block may be text."""

    def handle(self, item: Any) -> Fate:
        return super().handle(item.encode() if isinstance(item, str) else item)


@fault("P26-skipped")
class SkipsWhatIsNone(Request):
    """None as a block is nothing."""

    def handle(self, item: Any) -> Fate:
        return Fate.AGAIN if item is None else super().handle(item)


@fault("P45")
class LinesOfTheNet(Request):
    """Text has CRLF at the end of its lines."""

    def send(self, block: bytes) -> None:
        super().send(block.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


@fault("P38")
class LooksForFiles(Request):
    """Asks the iterable whether it is a file."""

    def known_length(self, iterable: Any) -> int | None:
        return None if hasattr(iterable, "fileno") else super().known_length(iterable)
