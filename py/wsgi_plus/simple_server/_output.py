"""What simple_server has accepted from an application and not sent yet (S13)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

__all__ = ["Output"]


class Output:
    """What has been accepted from the application and not been sent.  The pool puts it in, the loop sends it."""

    HIGH_WATER, LOW_WATER = 128 << 10, 32 << 10  # bytes: above, an application is not asked for more; below, it is

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: deque[bytes | memoryview] = deque()
        self._room: Future[None] | None = None
        self._dropped = False
        self.size = 0

    def put(self, data: bytes) -> None:
        """Takes bytes to be sent, whole; none if the client is gone."""
        with self._lock:
            if data and not self._dropped:
                self._blocks.append(data)
                self.size += len(data)

    def room(self) -> Future[None] | None:
        """Above the high-water mark a future that is done when there is room; otherwise None (S13.1)."""
        with self._lock:
            if self.size > self.HIGH_WATER and self._room is None:
                self._room = Future()
            return self._room

    def send(self, send: Callable[[bytes | memoryview], int]) -> None:
        """Sends what there is, until ``send`` raises.  Not without end: an application may put in more meanwhile."""
        for _ in range(len(self._blocks)):
            block = self._blocks[0]
            size = send(block)
            with self._lock:
                self._blocks.popleft()
                if size < len(block):
                    self._blocks.appendleft(memoryview(block)[size:])
                self.size -= size
            if self.size <= self.LOW_WATER:
                self._make_room()

    def drop(self) -> None:
        """Forgets everything, now and from now on: there is room."""
        with self._lock:
            self._dropped = True
            self._blocks.clear()
            self.size = 0
        self._make_room()

    def _make_room(self) -> None:
        with self._lock:
            room, self._room = self._room, None
        if room is not None:
            room.set_result(None)
