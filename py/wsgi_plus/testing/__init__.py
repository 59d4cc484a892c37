"""Tests of WSGI+ applications without a socket: see each step, complete futures by hand, leave at any point.

A test tells the story of a request.  It begins, and waits; what it waits for happens; it goes on:

    >>> from concurrent.futures import Future
    >>> from wsgi_plus.testing import Client

    >>> price = Future()                                # what asks the upstream gives one of these
    >>> def application(environ, start_response):
    ...     try:
    ...         yield price
    ...     except OSError:
    ...         start_response("502 Bad Gateway", [("Content-Type", "text/plain")])
    ...         yield b"no upstream"
    ...         return
    ...     start_response("200 OK", [("Content-Type", "text/plain")])
    ...     yield b"it costs %d" % price.result()

    >>> client = Client(application)
    >>> request = client.get("/price?of=tea")
    >>> request.parked is price                         # no thread waits, and nothing has been sent
    True
    >>> request.status is None
    True
    >>> request.complete(3)                             # the future has a result, and the request goes on
    <GET /price?of=tea: 200 OK, over>
    >>> request.body
    b'it costs 3'

What if the upstream fails, or the client leaves?

    >>> price = Future()
    >>> client.get("/price").fail(OSError("refused")).status
    '502 Bad Gateway'

    >>> price = Future()
    >>> request = client.get("/price").disconnect()     # close(), which is GeneratorExit at the yield
    >>> request.steps
    [Parked(future=<Future at 0x... state=pending>), Disconnected(), Closed()]

Where futures are completed by real threads and event loops, ``run`` waits for them:

    >>> from wsgi_plus import offload, wait
    >>> def application(environ, start_response):
    ...     answer = yield from wait(offload(str.upper, environ["PATH_INFO"]))
    ...     start_response("200 OK", [("Content-Type", "text/plain")])
    ...     yield answer.encode()

    >>> Client(application).get("/path").run().text
    '/PATH'
    >>> Client(application).fetch("/path").text         # the same
    '/PATH'

Middleware is tested by driving an application behind it: ``Client(validated(application, middleware))``.
"""

from ._client import Client, RequestOptions
from ._request import MisuseError, Request
from ._steps import (
    Block,
    Closed,
    DeadlinePassed,
    Disconnected,
    Failed,
    Finished,
    Parked,
    Raised,
    Ready,
    Resumed,
    ShutDown,
    Started,
    Step,
    Written,
)

__all__ = [
    "Block",
    "Client",
    "Closed",
    "DeadlinePassed",
    "Disconnected",
    "Failed",
    "Finished",
    "MisuseError",
    "Parked",
    "Raised",
    "Ready",
    "Request",
    "RequestOptions",
    "Resumed",
    "ShutDown",
    "Started",
    "Step",
    "Written",
]
