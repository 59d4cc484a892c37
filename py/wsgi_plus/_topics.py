"""Messages from any thread to requests that wait for them: to one (``Channel``), and to all (``Topic``)."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import Any, Generic, Literal, TypeVar, cast

from ._fork import forget_in_child
from ._unwaited import Unwaited
from ._wait import hold, open_gate

__all__ = ["Channel", "ChannelClosed", "ChannelOverflow", "Topic"]

T = TypeVar("T")

Slow = Literal["drop", "mark"]


class ChannelClosed(Exception):
    """There is nothing left in a ``Channel``, and nothing will come."""


class ChannelOverflow(ChannelClosed):
    """The reader of the ``Channel`` was too slow, and has been dropped."""


class Channel(Generic[T]):
    """A queue with an end, of ``limit`` items at most: any thread puts in, requests take out, and are parked meanwhile.

        with Channel() as lines:
            job = offload(convert, lines.put)          # calls it for each line, in its thread
            job.add_done_callback(lambda _: lines.close())
            ...
            line = yield from lines.get()              # ChannelClosed after the last one

    A thread that puts something in never waits: ``slow`` says what becomes of it when the channel is full.  With "drop"
    the channel ends, with all that is in it, and ``get`` raises ``ChannelOverflow``; with "mark" the oldest item makes
    room, and ``missed`` counts it.  As a context manager a channel is closed at the end of the block.  Several may wait
    for items at a time: each item goes to one of them.  In a forked child no request waits: those are requests of the
    parent.  May be used in any thread; no method but ``get`` waits.  Raises ValueError if ``limit`` is less than one.
    """

    def __init__(self, limit: int = 64, *, slow: Slow = "drop") -> None:
        _check(limit, slow)
        self.missed = 0
        """Items, of all so far, that have been forgotten as the channel was full."""
        self._limit = limit
        self._slow = slow
        self._items: deque[T] = deque()
        self._end: type[ChannelClosed] | None = None
        self._start_afresh()
        forget_in_child(self._start_afresh)

    def _start_afresh(self) -> None:
        self._lock = threading.RLock()  # reentrant, as garbage collection may call anything anywhere
        self._gates: dict[Future[None], None] = {}  # of those who wait: opened when there is anything to see

    def put(self, item: T) -> bool:
        """Whether it is in the channel now: False if that has ended, or does so by this one."""
        with self._lock:
            if self._end is not None:
                return False
            if len(self._items) >= self._limit:
                self.missed += 1
                if self._slow == "drop":
                    self.missed += len(self._items)
                    self._items.clear()
                    self._end = ChannelOverflow
                else:
                    self._items.popleft()
            if self._end is None:
                self._items.append(item)
            put = self._end is None
            gates, self._gates = self._gates, {}
        _let_look(gates)
        return put

    def get(self) -> Generator[Future[Any], None, T]:
        """``item = yield from channel.get()``: the next item.  Raises ``ChannelClosed`` after the last one.

        If it is left before its end, as by ``deadline`` or by a client that leaves, no item is lost.
        """
        return self._get(Unwaited("channel.get"))

    def _get(self, note: Unwaited) -> Generator[Future[Any], None, T]:
        note.begun()
        while True:
            # One of its own: a future keeps its callbacks for good, also those of waits that have been left.
            gate: Future[None] = Future()
            with self._lock:
                if self._items:
                    return self._items.popleft()
                if self._end is not None:
                    raise self._end(_ENDS[self._end])
                self._gates[gate] = None
            try:
                yield from hold(gate, ())
            finally:
                with self._lock:
                    self._gates.pop(gate, None)

    def close(self) -> None:
        """The end, after what is in the channel.  Again: it does nothing."""
        with self._lock:
            if self._end is None:
                self._end = ChannelClosed
            gates, self._gates = self._gates, {}
        _let_look(gates)

    def __len__(self) -> int:
        """How many items wait to be taken."""
        return len(self._items)

    def __bool__(self) -> bool:
        """Always true, also when it is empty."""
        return True

    def __enter__(self) -> Channel[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._items.clear()  # no request will ask


class Topic(Generic[T]):
    """Publishes to all who have subscribed, thousands of clients at once, with one call that waits for none of them.

        news = Topic(limit=100)                        # one for all, at module level

        def events(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/event-stream")])
            with news.subscribe() as messages:         # a Channel
                while True:
                    yield b"data: %b\\n\\n" % (yield from messages.get())

        news.publish(b"hello")                         # in any thread

    A server asks an application for no more while its client is slow (S13), so what is published meanwhile waits in the
    subscriber's channel: ``limit`` items at most, and then ``slow`` says what becomes of it, as with ``Channel``.
    Subscribers share each item, and get those that are published while they are subscribed.  One that is forgotten is
    no subscriber any more.

    A topic is that of a process: each worker has its own, and an application that publishes to all needs something
    between them, such as Redis.  In a forked child it has no subscribers, as those are requests of the parent.  May be
    used in any thread.  Raises ValueError if ``limit`` is less than one.
    """

    def __init__(self, limit: int = 64, *, slow: Slow = "drop") -> None:
        _check(limit, slow)
        self._limit = limit
        self._slow: Slow = slow
        self._closed = False
        self._forget()
        forget_in_child(self._forget)

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._channels: dict[int, weakref.ref[Channel[T]]] = {}

    def subscribe(self) -> Channel[T]:
        """``with topic.subscribe() as messages:`` gets from here on what is published, until the end of the block.

        Once the topic is closed it is a channel that has ended.
        """
        channel: Channel[T] = _Subscription(self._leave, self._limit, slow=self._slow)
        with self._lock:
            if not self._closed:
                self._channels[id(channel)] = weakref.ref(channel)
                return channel
        channel.close()
        return channel

    def publish(self, item: T) -> int:
        """Puts it into the channel of each subscriber.  Returns how many there were that have got it."""
        return sum(channel.put(item) for channel in self._subscribed())

    def close(self) -> None:
        """All subscriptions end after what is in their channels, and those to come at once: ``ChannelClosed``."""
        with self._lock:
            self._closed = True
        for channel in self._subscribed():
            channel.close()

    def __len__(self) -> int:
        """How many subscribers there are."""
        return len(self._subscribed())

    def __bool__(self) -> bool:
        """Always true, also without subscribers."""
        return True

    def _subscribed(self) -> list[Channel[T]]:
        with self._lock:
            refs = list(self._channels.values())
        return [channel for ref in refs if (channel := ref()) is not None]

    def _leave(self, key: int) -> None:
        with self._lock:
            self._channels.pop(key, None)


class _Subscription(Channel[T]):
    """Leaves its topic when it ends, however it ends."""

    def __init__(self, leave: Callable[[int], None], limit: int, *, slow: Slow) -> None:
        super().__init__(limit, slow=slow)
        self._leave = leave

    def put(self, item: T) -> bool:
        put = super().put(item)
        if not put:
            self._leave(id(self))
        return put

    def close(self) -> None:
        super().close()
        self._leave(id(self))

    def __del__(self) -> None:
        self._leave(id(self))


def _let_look(gates: Iterable[Future[None]]) -> None:
    """Wakes those who wait.  Not under the lock of a channel, as it runs the done-callbacks of a server."""
    for gate in gates:
        open_gate(gate, None)


_ENDS = {
    ChannelClosed: "there is nothing more in this channel",
    ChannelOverflow: "more was put into this channel than its limit, and not taken out in time",
}


def _check(limit: int, slow: str) -> None:
    if not isinstance(cast(object, limit), int):
        raise TypeError(f"limit is a whole number of items, not {limit!r}")
    if limit < 1:
        raise ValueError(f"a channel of {limit} items would never have any")
    if slow not in ("drop", "mark"):
        raise ValueError(f'slow is "drop" or "mark", not {slow!r}')
