"""Portable helpers for WSGI+: what an application can use on any server.  Pure Python, no dependencies.

An application that is a generator waits with ``yield from``, and holds no thread meanwhile:

    value = yield from wait(future)              the result of a future, or what it failed with
    future = yield from settled(future)          the future, done, whether or not it has failed
    one, two = yield from gather(first, second)  the results of several
    winner = yield from first(one, two)          the one that is done first
    yield from sleep(0.5)                        seconds
    value = yield from timeout(2.0, future)      the result, or TimeoutError
    value = yield from deadline(2.0, steps())    what a generator returns whose waits have so many seconds together
    value = yield from single_flight(key, ask)   the result of one call for all who want the same
    value = yield from retry(lambda: ask())      tries again after a pause, if that fails
    with (yield from places.acquire()): ...      no more than so many at the same time (``Semaphore``)
    item = yield from channel.get()              what other threads put into a ``Channel``, or publish by a ``Topic``
    with TaskGroup() as tasks: ...               futures that are cancelled however the request ends

Each of them cancels the futures that it waits for when it is left before its end, which is what happens when the client
goes away: the generator is closed (S8).  A future that other requests wait for too is protected by ``shield``.

Futures come from ``offload(function, ...)`` for blocking calls, from ``AsyncBridge`` for coroutines, and from whatever
else gives a ``concurrent.futures.Future``.  What outlives its request is given to ``background(function, ...)``.  With
``RequestBody(environ)`` the body of a request is sent on to an upstream as it is.
"""

from ._blocking import blocking
from ._bridge import AsyncBridge, Opened
from ._deadline import deadline
from ._flights import single_flight
from ._limits import Place, Semaphore
from ._offload import offload
from ._request_body import RequestBody
from ._retry import backoff, retry
from ._suspends import suspends
from ._tasks import TaskGroup, background
from ._timer import sleep, timeout
from ._topics import Channel, ChannelClosed, ChannelOverflow, Topic
from ._validator import WSGIPlusError, WSGIPlusWarning, validated, validator
from ._wait import first, gather, settled, shield, wait

__all__ = [
    "AsyncBridge",
    "Channel",
    "ChannelClosed",
    "ChannelOverflow",
    "Opened",
    "Place",
    "RequestBody",
    "Semaphore",
    "TaskGroup",
    "Topic",
    "WSGIPlusError",
    "WSGIPlusWarning",
    "background",
    "backoff",
    "blocking",
    "deadline",
    "first",
    "gather",
    "offload",
    "retry",
    "settled",
    "shield",
    "single_flight",
    "sleep",
    "suspends",
    "timeout",
    "validated",
    "validator",
    "wait",
]
