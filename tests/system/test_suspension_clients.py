"""Clients of suspended requests: those that go away, read slowly, send slowly (S8, S13, S14)."""

from __future__ import annotations

import hashlib
import re
import time

import pytest
from harness.client import NoResponse, build, chunked
from harness.limits import LONG, QUIET, SANITIZED, eventually, never, timeout


@pytest.fixture
def server(serve):
    return serve("suspend:app", "--threads", "4", "--keep-alive", "60", admin=True)


@pytest.fixture
def half(serve):
    return serve("suspend:app", "--threads", "4", "--keep-alive", "60", "--allow-half-close", admin=True)


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


def names(server, key):
    return [name for name, _ in server.events(key)]


# S8: the client is gone


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
@pytest.mark.parametrize("target", ["park", "park-after"])
def test_gone_while_parked(server, key, target, how):
    """S8: noticed at once, without a write; close() runs without waiting for the future; half a close counts as gone."""
    before = server.admin.metrics().total("fermata_disconnects_total")
    with server.park(f"/{target}?key={key}", key) as c:
        getattr(c, how)()
        server.wait_events(key, "finally")
    server.admin.wait_in_flight("parked_future", 0)
    metrics = server.admin.metrics()
    assert metrics.total("fermata_disconnects_total") == before + 1


def test_late_completion_is_harmless(server, key):
    """S8: the future is not cancelled, and its late completion finds nothing to resume."""
    with server.park(f"/park?key={key}", key):
        pass
    server.wait_events(key, "finally")
    assert server.call("probe.state", key) == "pending"
    server.call("probe.complete", key)
    assert server.get("/hello").text == "hello"
    never(lambda: "resumed" in names(server, key), "resumed after the end", during=0.1)


def test_late_failure_is_harmless(server, key):
    """S8: so does a late failure."""
    start = server.log_size()
    with server.park(f"/park?key={key}", key):
        pass
    server.wait_events(key, "finally")
    server.call("probe.fail", key)
    assert server.get("/hello").text == "hello"
    assert "failed on purpose" not in server.log(start)


def test_application_may_cancel(server, key):
    """S8: cancelling is the application's to do, on GeneratorExit; the callback of the cancelled future is harmless."""
    with server.park(f"/cancels?key={key}", key):
        pass
    assert server.wait_events(key, "exit")[-1][1] is True
    assert server.call("probe.state", key) == "cancelled"
    assert server.get("/hello").text == "hello"


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
def test_gone_with_pipelined_requests_behind(server, key, how):
    """S8: that more requests have been sent does not hide that the client is gone; they are not begun."""
    with server.park(f"/park?key={key}", key) as c:
        c.send(build("GET", f"/park?key={key}-second") * 3)
        getattr(c, how)()
        server.wait_events(key, "finally")
    never(lambda: server.events(f"{key}-second"), "the next request of a client that is gone began")


@timeout(120)
def test_gone_with_much_sent_behind(server, key):
    """S8: nor do megabytes that the server does not read while the request is parked."""
    with server.park(f"/park?key={key}", key, timeout=0.5) as c:
        try:
            for _ in range(200):
                c.send(build("POST", "/echo", body=b"x" * 60_000))
        except TimeoutError:
            pass
        assert names(server, key)[-1] == "parking"
        c.reset()
        server.wait_events(key, "finally")


def test_read_ahead_is_bounded(server, key):
    """S8: what a client sends behind a parked request is left in the kernel, not piled up in memory."""
    with server.park(f"/park?key={key}", key, timeout=1.0) as c:
        before = server.process.rss()
        sent = 0
        try:
            for _ in range(2000):
                c.send(build("POST", "/echo", body=b"x" * 65_000))
                sent += 65_000
        except TimeoutError:
            pass
        assert sent < 64_000_000, "everything was read"
        assert server.process.rss() - before < 16_000_000 or SANITIZED
        c.reset()  # a FIN would wait behind what the server does not read
        server.wait_events(key, "finally")


@pytest.mark.parametrize("target", ["park", "park-after"])
def test_half_close_allowed(half, key, target):
    """S8: with --allow-half-close a parked request whose client has shut its side goes on and is answered."""
    with half.park(f"/{target}?key={key}", key) as c:
        c.half_close()
        never(lambda: "finally" in names(half, key), "taken for gone")
        half.call("probe.complete", key)
        assert c.read_response().body in (b"result None", b"before after")
        assert c.ended() == "eof"


def test_half_close_allowed_then_reset(half, key):
    """S8: with --allow-half-close a reset still is a client that is gone."""
    with half.park(f"/park?key={key}", key) as c:
        c.half_close()
        time.sleep(QUIET)
        c.reset()
        half.wait_events(key, "finally")


def test_half_close_allowed_uses_no_cpu(half, key):
    """S8: a half-closed connection, which is readable for ever, does not keep the loop busy."""
    with half.park(f"/park?key={key}", key) as c:
        c.half_close()
        time.sleep(QUIET)
        before = half.process.cpu()
        time.sleep(1)
        assert half.process.cpu() - before < 0.3
        half.call("probe.complete", key)
        assert c.read_response().status == 200


def test_half_close_while_queued(serve, key):
    """S8: for a queued request end-of-file is not the end: its response is written."""
    server = serve("suspend:app", "--threads", "1", "--keep-alive", "60", admin=True)
    with server.begin(f"/gate?key={key}") as blocker:
        server.wait_events(key, "entered")
        with server.begin("/hello") as c:
            c.half_close()
            assert not c.readable(QUIET)
            server.call("probe.open_gate", key)
            assert c.read_response().text == "hello"
        assert blocker.read_response().text == "opened"


def test_half_close_while_running(server, key):
    """S8: nor for a running one."""
    with server.begin(f"/gate?key={key}") as c:
        server.wait_events(key, "entered")
        c.half_close()
        time.sleep(QUIET)
        server.call("probe.open_gate", key)
        assert c.read_response().text == "opened"
        assert c.ended() == "eof"


@timeout(120)
def test_half_close_while_sending(server, key):
    """S8: nor for one whose body is being sent, even when that has to wait for the client."""
    with server.begin(f"/blocks?mb=20&key={key}", receive_buffer=65536, timeout=LONG) as c:
        head = c.read_head()
        server.admin.wait_in_flight("parked_client", 1)
        c.half_close()
        time.sleep(QUIET)
        assert sum(len(block) for block in c.iter_body(head)) == 20 << 20


def test_half_close_then_park(server, key):
    """S8: a request that parks after its client has shut its side is gone as well, without --allow-half-close."""
    with server.begin(f"/watched?do=gp&key={key}") as c:
        server.wait_events(key, "at the gate")
        c.half_close()
        time.sleep(0.1)
        server.call("probe.open_gate", key)
        server.wait_events(key, "closed")
        try:
            assert c.drain()[0] == b""
        except AssertionError as error:
            pytest.fail(str(error))


def test_half_close_allowed_then_park(half, key):
    """S8: with --allow-half-close it parks and is answered."""
    with half.begin(f"/watched?do=gp&key={key}") as c:
        half.wait_events(key, "at the gate")
        c.half_close()
        half.call("probe.open_gate", key)
        half.wait_events(key, "parking")
        half.call("probe.complete", f"{key}0")
        assert c.read_response().status == 200


@pytest.mark.parametrize("how", ["close", "reset"])
def test_gone_while_queued(serve, key, how):
    """S8: a client that goes while its request is queued: the request ends in an orderly way once its turn comes."""
    server = serve("suspend:app", "--threads", "1", "--keep-alive", "60", admin=True)
    with server.begin(f"/gate?key={key}"):
        server.wait_events(key, "entered")
        with server.begin(f"/watched?do=bbb&key={key}-queued") as c:
            server.admin.wait_in_flight("queued", 1)
            getattr(c, how)()
        time.sleep(0.1)
        server.call("probe.open_gate", key)
        server.wait_events(key, "closed")
    server.admin.wait_in_flight("queued", 0)
    assert names(server, f"{key}-queued").count("closed") == (1 if "next" in names(server, f"{key}-queued") else 0)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_gone_while_its_body_is_sent(server, key, how):
    """S8, S13: a client that stops reading and then goes: the request, parked on the client, is closed at once."""
    with server.begin(f"/blocks?mb=200&key={key}", receive_buffer=4096) as c:
        c.read_head()
        server.admin.wait_in_flight("parked_client", 1)
        getattr(c, how)()
        server.wait_events(key, "finally")
    server.admin.wait_in_flight("parked_client", 0)
    assert server.events(key)[-1][1] < 200 * 16


@timeout(120)
def test_many_clients_go_at_once(server, key):
    """S8: hundreds of parked clients that vanish together leave nothing behind."""
    server.get("/hello")
    before = len(server.process.fds())
    number = 300
    held = [server.begin(f"/watched?do=p&key={key}{i}") for i in range(number)]
    server.admin.wait_in_flight("parked_future", number, within=LONG)
    for i, c in enumerate(held):
        c.reset() if i % 2 else c.close()
    server.admin.wait_in_flight("parked_future", 0, within=LONG)
    for i in range(number):
        server.wait_events(f"{key}{i}", "closed")
    assert all(names(server, f"{key}{i}").count("closed") == 1 for i in range(number))
    assert server.call("probe.complete_all", key) == number
    eventually(lambda: len(server.process.fds()) <= before, "all descriptors are closed")


@timeout(180)
def test_completing_and_going_at_the_same_moment(server, key):
    """S8, S10: a future that completes in the very moment the client goes: one of both wins, and close() runs once."""
    number = 200
    for i in range(number):
        with server.begin(f"/watched?do=pb&key={key}-{i}-") as c:
            server.wait_events(f"{key}-{i}-", "parking")
            if i % 2:
                c.reset()
                server.call("probe.complete", f"{key}-{i}-0")
            else:
                server.call("probe.complete", f"{key}-{i}-0")
                c.reset()
    for i in range(number):
        server.wait_events(f"{key}-{i}-", "closed", within=LONG)
        assert names(server, f"{key}-{i}-").count("closed") == 1
        assert "overlap" not in names(server, f"{key}-{i}-")


# S13: slow readers


MEGABYTES = 100


@timeout(240)
def test_slow_reader_of_a_large_response(serve, key):
    """S13: a generator of 100 MB whose client does not read is parked on the client: bounded memory, no thread held, and
    it goes on where it was when the client reads again."""
    server = serve("suspend:app", "--threads", "1", "--keep-alive", "60", "--send-timeout", "300", admin=True)
    server.get("/hello")
    before = server.process.rss()
    with server.begin(f"/blocks?mb={MEGABYTES}&key={key}", receive_buffer=65536, timeout=LONG * 2) as c:
        head = c.read_head()
        metrics = server.admin.wait_in_flight("parked_client", 1)
        assert metrics.value("fermata_threads", state="busy") == 0
        came = server.call("suspend.progress_of", key)
        never(lambda: server.call("suspend.progress_of", key) != came, "it is iterated though its client does not read")
        assert came < MEGABYTES * 16 / 4
        for _ in range(10):
            assert server.get("/hello").text == "hello"
        assert server.process.rss() - before < 16_000_000 or SANITIZED
        got = hashlib.sha256()
        size = 0
        for block in c.iter_body(head):
            got.update(block)
            size += len(block)
        assert server.process.rss() - before < 24_000_000 or SANITIZED
    expected = hashlib.sha256()
    for serial in range(MEGABYTES * 16):
        expected.update((b"%015d\n" % serial) * 4096)
    assert (size, got.hexdigest()) == (MEGABYTES << 20, expected.hexdigest())
    server.admin.wait_in_flight("parked_client", 0)


@timeout(180)
@pytest.mark.parametrize("size", [16, 1000_000])
def test_slow_reader_with_other_block_sizes(server, key, size):
    """S13: tiny and huge blocks: the same bound, and not a byte lost."""
    megabytes = 4 if size == 16 else 60
    with server.begin(f"/blocks?mb={megabytes}&size={size}&key={key}", receive_buffer=65536, timeout=LONG * 2) as c:
        head = c.read_head()
        time.sleep(QUIET)
        got = hashlib.sha256()
        for block in c.iter_body(head):
            got.update(block)
    expected = hashlib.sha256()
    serials = (b"%015d\n" % serial * (size // 16) for serial in range(1 << 30))
    left = megabytes << 20
    while left:
        block = next(serials)[:left]
        expected.update(block)
        left -= len(block)
    assert got.hexdigest() == expected.hexdigest()


@timeout(180)
def test_many_slow_readers(serve, key):
    """S13: fifty slow readers of large responses hold no thread and little memory each."""
    server = serve("suspend:app", "--threads", "1", "--keep-alive", "60", "--send-timeout", "300", admin=True)
    server.get("/hello")
    before = server.process.rss()
    number = 50
    held = [server.begin(f"/blocks?mb=50&key={key}{i}", receive_buffer=4096, timeout=LONG) for i in range(number)]
    try:
        server.admin.wait_in_flight("parked_client", number, within=LONG)
        assert server.get("/hello").text == "hello"
        assert server.process.rss() - before < number * 1_000_000 or SANITIZED
    finally:
        for c in held:
            c.reset()
    server.admin.wait_in_flight("parked_client", 0, within=LONG)


@timeout(120)
def test_slow_reader_of_one_large_block(server, key):
    """S13: one block larger than every buffer holds no thread either."""
    with server.begin(f"/blocks?mb=64&size={64 << 20}&key={key}", receive_buffer=65536, timeout=LONG) as c:
        head = c.read_head()
        time.sleep(QUIET)
        assert server.admin.metrics().value("fermata_threads", state="busy") == 0
        assert sum(len(block) for block in c.iter_body(head)) == 64 << 20


# S14: slow senders


def test_slow_upload_holds_no_thread(serve, key):
    """S14: bodies that come slowly hold no thread; the application is called when they are complete."""
    server = serve("suspend:app", "--threads", "1", "--keep-alive", "60", admin=True)
    uploads = [server.connect() for _ in range(20)]
    try:
        for i, c in enumerate(uploads):
            c.send(build("POST", f"/echo?key={key}{i}", [("Content-Length", "10")]) + b"12345")
        for _ in range(5):
            assert server.get("/hello").text == "hello"
        metrics = server.admin.metrics()
        assert metrics.value("fermata_threads", state="busy") == 0
        assert metrics.in_flight("running") == 0
        assert not any(server.events(f"{key}{i}") for i in range(20))
        for c in uploads:
            c.send(b"67890")
        assert [c.read_response().text for c in uploads] == ["1234567890"] * 20
    finally:
        for c in uploads:
            c.close()


@timeout(120)
def test_upload_to_a_temporary_file(launch, key, tmp_path):
    """S14: a large body goes to an unlinked file in TMPDIR, not to memory, and is kept while the request is parked."""
    server = launch("suspend:app", "--threads", "1", env={"TMPDIR": str(tmp_path)}, admin=True)
    server.get("/hello")
    before, files = server.process.rss(), len(server.process.fds())
    size = 30_000_000
    with server.connect(timeout=LONG) as c:
        c.send(build("POST", f"/park-file?key={key}", [("Content-Length", str(size))]))
        for _ in range(size // 1_000_000):
            c.send(b"x" * 1_000_000)
        server.admin.wait_in_flight("parked_future", 1)
        assert server.process.rss() - before < 8_000_000 or SANITIZED
        assert any(str(tmp_path) in name for name in server.process.fds().values())
        assert list(tmp_path.iterdir()) == []
        server.call("probe.complete", key)
        assert c.read_response().body == b"x" * size
        eventually(lambda: len(server.process.fds()) <= files + 1, "the file is closed")  # one is this connection


@timeout(120)
def test_many_uploads_are_given_back(launch, tmp_path):
    """S14: uploads that end, in whatever way, leave neither descriptors nor files."""
    server = launch("suspend:app", env={"TMPDIR": str(tmp_path)}, admin=True)
    server.get("/hello")
    before = len(server.process.fds())
    for i in range(20):
        with server.connect() as c:
            c.send(build("POST", "/echo", [("Content-Length", "1000000")]) + b"x" * 900_000)
            if i % 2:
                c.reset()
            else:
                c.send(b"x" * 100_000)
                assert len(c.read_response().body) == 1_000_000
    eventually(lambda: len(server.process.fds()) <= before, "all descriptors are closed", within=LONG)
    assert list(tmp_path.iterdir()) == []


def test_upload_that_cannot_be_kept(launch, tmp_path):
    """S14: where there is no place for a temporary file the request is answered with an error, and others go on."""
    server = launch("suspend:app", env={"TMPDIR": str(tmp_path / "nowhere")}, admin=True)
    with server.connect(timeout=LONG) as c:
        c.send(build("POST", "/echo", [("Content-Length", "1000000")]))
        c.send_pieces([b"x" * 100_000] * 10, pause=0)
        try:
            assert c.read_response().status in (500, 503, 507, 200)
        except (NoResponse, ConnectionResetError):
            pass
    assert server.get("/hello").text == "hello"
    small = server.request("POST", "/echo", (), b"small")
    assert small.text == "small"


def test_body_is_there_after_a_suspension(server, key):
    """S14: wsgi.input can be read after the request was parked."""
    with server.connect() as c:
        c.send(build("POST", f"/park-file?key={key}", [("Transfer-Encoding", "chunked")], chunked(b"still ", b"there")))
        server.admin.wait_in_flight("parked_future", 1)
        server.call("probe.complete", key)
        assert c.read_response().text == "still there"


def test_upload_interrupted_is_never_given_to_the_application(server, key):
    """S14: a body that ends early never reaches the application."""
    for size in (10, 1_000_000):
        with server.connect() as c:
            c.send(build("POST", f"/echo?key={key}", [("Content-Length", str(size))]) + b"x" * (size - 1))
    never(lambda: server.events(key), "called with half a body")
