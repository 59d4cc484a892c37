"""Applications that misbehave: they close descriptors that are the server's."""

from __future__ import annotations

import contextlib
import re
import resource

import pytest
from harness.bystander import bystander
from harness.client import NoResponse
from harness.limits import LONG, QUIET, TSAN, eventually, never
from harness.server import Server


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


def test_connection_closed_by_the_application(launch, key):
    """os.close of the number of a client's connection: that client is lost.  The next one, which gets the same number,
    is served as any other, and nothing of the first one's response goes to it."""
    server = launch("misbehave:app", "--threads", "4", "--keep-alive", "60", admin=True)
    with bystander(server, key, descriptors=False):
        lost = server.park(f"/park?key={key}", key)
        fd = server.call("misbehave_descriptors.close_client", lost.sock.getsockname()[1])
        lost.ended()
        with server.connect() as next_one:
            assert next_one.request("GET", "/hello").text == "hello"
            assert server.call("misbehave_descriptors.of_client", next_one.sock.getsockname()[1]) == fd
            server.call("probe.complete", key, "for another one")
            never(lambda: next_one.readable(0), "what was for another client")
            for _ in range(3):
                assert next_one.request("GET", "/hello").text == "hello"
            server.wait_log(rf"\[ERROR\] the application closed descriptor {fd}, a connection of ours")
    assert server.log().count("the application closed") == 1


def test_connection_closed_in_its_own_request(launch, key):
    """The same by the request itself: its response is lost, the server goes on."""
    server = launch("misbehave:app", "--threads", "4", "--keep-alive", "60", admin=True)
    with bystander(server, key, descriptors=False):
        with server.begin("/closes?what=own") as c:
            with pytest.raises((NoResponse, ConnectionResetError)):
                c.read_response()


def test_something_else_put_over_a_connection(launch, key):
    """os.dup2 over a client's connection: that client is lost, the server goes on."""
    server = launch("misbehave:app", "--threads", "4", "--keep-alive", "60", admin=True)
    with bystander(server, key, descriptors=False):
        lost = server.park(f"/park?key={key}", key)
        server.call("misbehave_descriptors.dup_over_client", lost.sock.getsockname()[1])
        lost.ended()
        server.call("probe.complete", key)
        server.admin.wait_in_flight("parked_future", 1)


def test_listening_socket_closed(launch, key):
    """No client can connect any more: /readyz and /healthz say so, the log too, and what is connected is served."""
    server = launch("misbehave:app", "--threads", "2", "--keep-alive", "60", admin=True)
    with server.connect(timeout=LONG) as c:
        assert c.request("GET", "/hello").text == "hello"
        assert server.admin.get("/healthz").status == 200
        server.call("misbehave_descriptors.close_listener", server.port)
        for _ in range(3):  # one of these connections may get the number
            assert server.admin.get("/readyz").status == 503
            assert server.admin.get("/healthz").status == 503
        assert c.request("GET", "/hello").text == "hello"
        server.wait_log(r"\[CRITICAL\] the application closed the listening socket of http://127\.0\.0\.1:\d+")
    server.admin.get("/healthz")
    assert server.log().count("the application closed") == 1


@pytest.mark.parametrize("what", ["epoll", "epoll-taken", "eventfds", "eventfds-taken", "timerfds", "timerfds-taken", "range"])
def test_vital_descriptor_closed(launch, key, what):
    """Without epoll or eventfds there is no event loop: the server says so and ends, so that it is started anew.  It
    neither spins nor hangs.  What it and its application say until then is not looked at: a socket that the application
    opens may get an eventfd's number, and what wakes a loop is written to it."""
    server = launch("misbehave:app", "--threads", "2", "--keep-alive", "60")
    server.expect = 1
    with server.begin(f"/park?key={key}"):
        server.wait_events(key, "parking")
        with contextlib.suppress(Exception):
            server.get(f"/closes?what={what}")
        with contextlib.suppress(Exception):
            server.call("probe.complete", key)

        def ended() -> bool:
            """Wakes it again: one that was not asleep needed no eventfd."""
            with contextlib.suppress(Exception):
                with server.begin(f"/park?key={key}-again") as c:
                    c.readable(0.05)
                    server.call("probe.complete", f"{key}-again", timeout=1)
                server.get("/hello", timeout=1)
            return not server.alive()

        eventually(ended, "it has ended", within=LONG)
        assert server.wait_exit(LONG) == 1
    assert server.log().count("[CRITICAL]") == 1
    assert re.search(r"\[CRITICAL\] the application closed .*, which was ours", server.log())
    assert server.log_size() < 10_000


@pytest.mark.skipif(TSAN, reason="it is a race of the application's: the log's thread writes to what it closes")
def test_standard_streams_closed(launch, key):
    """os.close(0), (1) and (2): no connection gets one of these numbers, so nothing printed goes to a client."""
    server = launch("misbehave:app", "--threads", "2", "--keep-alive", "60", admin=True)
    with bystander(server, key, descriptors=False):
        assert server.get("/closes?what=std").text == "closed"
        clients = [server.connect() for _ in range(4)]
        for c in clients:
            assert c.request("GET", "/hello").text == "hello"
            assert server.call("misbehave_descriptors.of_client", c.sock.getsockname()[1]) > 2
        assert server.get("/error-now").status == 500
        never(lambda: any(c.readable(0) for c in clients), "the log goes to a client")


def test_few_descriptors(launch, key):
    """RLIMIT_NOFILE lowered under what is open: connections wait until it is raised, and that is logged once."""
    server = launch("misbehave:app", "--threads", "2", "--keep-alive", "60", admin=True)
    with server.connect(timeout=LONG) as old:
        soft = server.process.nofile()
        assert int(old.request("GET", "/limits-files").text) > 0
        with server.begin("/hello", timeout=LONG) as c:
            assert old.request("GET", "/hello").text == "hello"
            server.wait_log("accept: Too many open files; accepting pauses and tries again")
            assert not c.readable(QUIET)
            resource_limit(server, soft)
            assert c.read_response().text == "hello"
    assert server.log().count("accept: ") == 1


def resource_limit(server: Server, soft: int) -> None:
    hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
