"""Clients of apps/mixed.py: patient ones, which check every byte, and others, which vanish at any byte."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter

from .client import Connection, Truncated, build, chunked
from .limits import LONG
from .server import Server

GONE = (ConnectionError, TimeoutError, Truncated, OSError)


class Swarm:
    """`threads` clients that send requests until `number` are sent or `stop` is called. What they saw: `counts`; what
    they should not have seen: `wrong`."""

    def __init__(self, server: Server, seed: int, *, threads: int = 12, number: int | None = None) -> None:
        self.address = server.address
        self.seed = seed
        self.left = number
        self.next = 0
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(threads)]

    def start(self) -> Swarm:
        for thread in self.threads:
            thread.start()
        return self

    def stop(self) -> Swarm:
        self.stopped.set()
        return self.join()

    def join(self, within: float = 10 * LONG) -> Swarm:
        until = time.monotonic() + within
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))
        assert not any(thread.is_alive() for thread in self.threads), "a client hangs"
        return self

    def _numbers(self, wanted: int) -> list[int]:
        with self.lock:
            if self.left is not None:
                wanted = min(wanted, self.left - self.next)
            first = self.next
            self.next += wanted
            return list(range(first, first + wanted))

    def _count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def _run(self, index: int) -> None:
        rng = random.Random(self.seed * 1000 + index)
        while not self.stopped.is_set():
            numbers = self._numbers(rng.randrange(1, 5))
            if not numbers:
                return
            try:
                self._visit(rng, numbers)
            except Exception as error:  # the test reads it
                self.wrong.append(f"{numbers}: {error!r}")

    def _request(self, rng: random.Random, number: int) -> bytes:
        target = f"/mixed/{number}/{rng.randrange(1 << 30)}"
        kind = rng.randrange(4)
        body = rng.randbytes(rng.choice([1, 1, 1000, 1000, 100_000]))
        if kind == 0:
            return build("POST", target, [("Content-Length", str(len(body)))]) + body
        if kind == 1:
            return build("POST", target, [("Transfer-Encoding", "chunked")]) + chunked(body, body[:10])
        return build("GET", target)

    def _visit(self, rng: random.Random, numbers: list[int]) -> None:
        data = b"".join(self._request(rng, number) for number in numbers)
        buffer = 4096 if rng.random() < 0.05 else None  # which makes it slow
        with Connection(self.address, timeout=LONG, receive_buffer=buffer) as c:
            what = rng.random()
            if what < 0.55:
                self._send(rng, c, data)
                self._read(rng, c, numbers)
                return
            with contextlib.suppress(*GONE):
                if what < 0.7:
                    self._send(rng, c, data[: rng.randrange(len(data))])
                    self._count("vanished while sending")
                elif what < 0.95:
                    self._send(rng, c, data)
                    self._count("vanished while reading")
                    left = rng.choice([0, 1, 100, 10_000, 200_000])
                    while left > 0 and (got := len(c.sock.recv(min(left, 65536)))):
                        left -= got
                else:
                    self._send(rng, c, data)
                    c.half_close()
                    self._count("ended their direction")
                    while c.sock.recv(65536):
                        pass
            if rng.random() < 0.5:
                with contextlib.suppress(OSError):
                    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _send(self, rng: random.Random, c: Connection, data: bytes) -> None:
        """In one piece or several; a server that has had enough of it closes, which the reading then finds."""
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice([0, 0, 1, 3])))
        with contextlib.suppress(ConnectionError):
            for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                c.send(data[begin:end])
                if rng.random() < 0.3:
                    time.sleep(rng.random() * 0.003)

    def _read(self, rng: random.Random, c: Connection, numbers: list[int]) -> None:
        """One answer for each, in their order, of its own number alone, until the server closes."""
        for number in numbers:
            try:
                answer = c.read_response()
            except GONE:
                self._count("cut")
                return
            self._count(str(answer.status))
            if answer.status == 200:
                parts = answer.body.split(b",")
                if parts.pop() != b"" or set(parts) != {str(number).encode()}:
                    self.wrong.append(f"{number}: {answer.body[:100]!r}... of {len(answer.body)} bytes")
            elif answer.status not in (500, 504):
                self.wrong.append(f"{number}: {answer.status}")
            if answer.header("Connection") == "close":
                return
            if rng.random() < 0.2:
                time.sleep(rng.random() * 0.005)
