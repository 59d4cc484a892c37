"""A bystander of applications that misbehave: a request that was parked before and is answered after, on a connection that then
serves another one; and nothing is left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .client import build
from .limits import LONG, eventually
from .server import Server


def busy(server: Server) -> dict[str, float]:
    """What of the server's is in use: all of it is to be 0 in the end."""
    metrics = server.admin.metrics()
    states = ("queued", "running", "parked_future", "parked_client")
    found = {state: metrics.in_flight(state) for state in states}
    found["threads"] = metrics.value("fermata_threads", state="busy")
    return {name: value for name, value in found.items() if value}


def nothing_left(server: Server, descriptors: int | None = None) -> None:
    eventually(lambda: not busy(server), f"nothing is in flight: {busy(server)}")
    if descriptors is not None:
        eventually(lambda: len(server.process.fds()) <= descriptors, "the descriptors are given back")


@contextlib.contextmanager
def bystander(server: Server, key: str, *, descriptors: bool = True, more: int = 0) -> Iterator[None]:
    """A request that waits while something else goes wrong, and one after it on the same connection."""
    assert server.get("/hello").text == "hello"
    nothing_left(server)
    before = len(server.process.fds()) + more
    with server.connect(timeout=LONG) as c:
        c.send(build("GET", f"/park?key={key}-bystander"))
        server.wait_events(f"{key}-bystander", "parking")
        yield
        server.call("probe.complete", f"{key}-bystander", "fine")
        answer = c.read_response()
        assert (answer.status, answer.text) == (200, "result fine")
        assert c.request("GET", "/hello").text == "hello"
    assert server.get("/hello").text == "hello"
    nothing_left(server, before if descriptors else None)
