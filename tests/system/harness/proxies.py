"""What the tests with real proxies share: the configurations that the manual shows, and an upstream that closes too early."""

from __future__ import annotations

import itertools
import re
import socket
import threading
from collections.abc import Mapping

from .limits import LONG, ROOT


def shown(name: str, ours: Mapping[str, str]) -> str:
    """A configuration as a page of the manual shows it, with addresses of ours in place of its own."""
    pages = "".join(page.read_text() for page in (ROOT / "spec/manual").glob("*.md"))
    (text,) = re.findall(rf"<!-- {name} -->\n```\w+\n(.*?)```", pages, re.S)
    return replaced(text, ours)


def replaced(text: str, ours: Mapping[str, str]) -> str:
    """The text with other words in the places of those, each of which is there once."""
    for old, new in ours.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def free_port() -> int:
    """For a proxy that cannot be asked which port it got: one that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Closing:
    """An upstream that answers the first request of each connection, and closes in the face of the second, as a server does
    whose idea of idle is shorter than its proxy's.  One connection after the other."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str]] = []  # the number of the connection, the method
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for number in itertools.count():
            peer, _ = self._listener.accept()
            with peer, peer.makefile("rb") as lines:
                for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b""):
                    line = lines.readline()
                    while lines.readline().strip():
                        pass
                    if line:
                        self.asked.append((number, line.split()[0].decode()))
                        peer.sendall(answer)
                if (number, "GET") not in self.asked and (number, "POST") not in self.asked:
                    return  # close() says so

    def close(self) -> None:
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join(LONG)
        self._listener.close()
        assert not self._thread.is_alive()
