"""Clients that vanish: the link is cut, and neither FIN nor RST arrives.  TCP has to ask for them (--tcp-keepalive), and to
stop waiting for what they do not acknowledge (--tcp-user-timeout)."""

from __future__ import annotations

import time

import pytest
from harness import netns
from harness.client import build
from harness.limits import LONG, PROMPT, eventually, fermata, timeout

_why_not = netns.why_not()
pytestmark = [pytest.mark.skipif(_why_not is not None, reason=str(_why_not)), timeout(90)]


@pytest.fixture
def link():
    with netns.link() as link:
        yield link


@pytest.fixture
def server(launch, link):
    """On its own host, asking for its clients after a second."""

    def start(app: str, *options: str, **more):
        program = [*link.run_server(), str(fermata())]
        how = ("--tcp-keepalive", "1", "--send-timeout", "2", "--threads", "1", *options)
        return launch(app, *how, bind=[f"{netns.SERVER}:0"], program=program, **more)

    return start


def begin(link, server, target: str):
    s = link.connect(server.port, timeout=LONG)
    s.sendall(build("GET", target))
    return s


def test_parked_request(link, server):
    """Nothing is being sent: keep-alive probes find out, and the application is closed."""
    fermata = server("suspend:app")
    with begin(link, fermata, "/park?key=a"):
        fermata.wait_events("a", "parking")
        link.cut()
        events = fermata.wait_events("a", "finally", within=30)
        assert ["exit", "pending"] == [events[-2][0], events[-2][1][0]]
        fermata.call("probe.complete", "a")


def test_stream(link, server):
    """What is being sent is not acknowledged: the stream ends after --tcp-user-timeout, here --send-timeout's default."""
    fermata = server("suspend:app")
    with begin(link, fermata, "/ticks?key=b&every=0.1") as s:
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
        link.cut()
        fermata.wait_events("b", "closed", within=30)


def test_idle_connection_and_the_end(link, server):
    """SIGTERM need not wait for the graceful timeout."""
    fermata = server("suspend:app", "--graceful-timeout", "60")
    with begin(link, fermata, "/park?key=c"):
        fermata.wait_events("c", "parking")
        link.cut()
        fermata.signal(15)
        assert fermata.wait_exit(30) == 0


def test_client_that_is_only_slow_to_ask(link, server):
    """A client that says nothing but is there keeps its parked request."""
    fermata = server("suspend:app")
    with begin(link, fermata, "/park?key=d") as s:
        fermata.wait_events("d", "parking")
        time.sleep(5)
        assert [name for name, _ in fermata.events("d")] == ["called", "parking"]
        fermata.call("probe.complete", "d", 1)
        assert b"result 1" in s.recv(4096)


def test_options_off(link, server):
    """0 turns each of them off: the request stays as long as the system's own timeouts let it."""
    fermata = server("suspend:app", "--tcp-keepalive", "0", "--tcp-user-timeout", "0", "--graceful-timeout", "1")
    with begin(link, fermata, "/park?key=e"):
        fermata.wait_events("e", "parking")
        link.cut()
        time.sleep(6)
        assert [name for name, _ in fermata.events("e")] == ["called", "parking"]
        fermata.signal(15)
        assert eventually(lambda: not fermata.alive(), "it ends", within=LONG + PROMPT)
