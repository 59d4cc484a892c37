"""The WSGI+ specification as a server that can be read: for tests, and for those who write another.

    with Server(application) as server:                          in a test
        urllib.request.urlopen(server.url)

    python -m wsgi_plus.simple_server [options] MODULE[:CALLABLE]

One thread, the loop, has the sockets: it reads requests whole, sends what there is to send, notices clients that leave,
and looks at the clock.  The pool's threads run the steps of applications.  A request that waits has neither.

In the order of reading:

    Server       the loop, the pool, and the end of both (S18)
    Connection   a client: what it sends, what it is sent, and how long that may take (S8, S12, S13).  The loop's
    Request      one call of the application, step by step (S1 to S7, S9), and its response, in _request
    Wait         what stands between a parked request and the future that wakes it (S10)
    Output       what has been accepted from the application and not been sent (S13)
    Reader       the requests in the bytes of a connection (S14), in _http

Numbers are those of the specification.  What another server would decide otherwise, and what a test wants to see done
wrong, is a method or a constant of its class: override it, and give ``main`` the class of the server.
"""

from ._command import main
from ._connection import Connection
from ._output import Output
from ._request import After, Fate, Request
from ._server import Server
from ._wait import Wait

__all__ = ["After", "Connection", "Fate", "Output", "Request", "Server", "Wait", "main"]
