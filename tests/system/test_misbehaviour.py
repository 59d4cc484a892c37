"""Applications that misbehave: what their clients get, what the log says, and that other requests do not notice.

spec/manual/misbehaviour.md has a row for each test here.  Around each misbehaviour there is a bystander: a request that was
parked before and is answered after, on a connection that then serves another one; and nothing is left behind.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from harness.client import NoResponse, Truncated, build
from harness.limits import LONG, PROMPT, QUIET, ROOT, SANITIZED, TSAN, eventually, never, timeout
from harness.server import Server

TABLE = ROOT / "spec/manual/misbehaviour.md"

not_sanitized = pytest.mark.skipif(SANITIZED, reason="the sanitizer has a view of its own on this")


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


@pytest.fixture
def server(serve):
    return serve("misbehave:app", "--threads", "4", "--keep-alive", "60", admin=True)


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


# What the client gets of an application error

SERVER_ERROR = re.compile(
    rb"HTTP/1\.1 500 Internal Server Error\r\nServer: fermata/\S+\r\nDate: [^\r\n]+ GMT\r\nContent-Type: text/plain\r\n"
    rb"Content-Length: 22\r\nConnection: close\r\n\r\nInternal Server Error\n"
)


def get_raw(server: Server, target: str) -> bytes:
    """All that comes for a request and one that is pipelined behind it, to the end of the connection."""
    with server.connect(timeout=LONG) as c:
        c.send(build("GET", target) + build("GET", "/hello"))
        data, end = c.drain()
        return data if end == "eof" else data + b"(reset)"


# name -> what the log says.  The client gets the 500 above and the end of the connection.
ANSWERED_500 = {
    "yields-has-bytes": "TypeError: the application yielded HasBytes, not bytes or a concurrent.futures.Future",
    "yields-mute": "TypeError: the application yielded Mute, not bytes",
    "yields-asyncio-task": r"TypeError: the application yielded _asyncio\.Task, .*asyncio\.run_coroutine_threadsafe",
    "is-a-coroutine": "TypeError: 'coroutine' object is not iterable",
    "is-an-async-generator": "TypeError: 'async_generator' object is not iterable",
    "returns-dict": "TypeError: the application yielded str, .*encode text first",
    "iter-raises": "LookupError: raised in __iter__",
    "iter-is-no-iterator": "TypeError: .*iter.* (returned non-iterator of type 'int'|must return an iterator, not int)",
    "first-next-raises": "LookupError: raised in the first __next__",
    "close-raises-after-a-raise": r"LookupError: the first error[\s\S]*Error in close\(\) after request GET "
    r"/fault[^\n]*\n[\s\S]*ValueError: the second error",
    "raises-unprintable": r"Unprintable: <(exception str\(\) failed|unprintable .* object)>",
    "raises-surrogates": r"RuntimeError: lone \\ud800 surrogate",
    "raises-cycle": "RuntimeError: two[\\s\\S]*RuntimeError: one",
    "raises-chain": "RuntimeError: number 9999",
    "replaces-traceback": r"\(its traceback cannot be shown\)",
    "recursion": "RecursionError: maximum recursion depth exceeded",
    "cancels-its-own-future": "CancelledError",
    "reprs-that-change-the-list": r"ValueError: response header a name: 'value \d+': ",
}

# name -> what the log says.  The client gets some of the body, no end of it, and the end of the connection.
BROKEN_OFF = {
    "later-next-raises": (b"before", "LookupError: raised in a later __next__"),
    "raises-within-length": (b"x" * 50, "LookupError: raised within the length"),
    "completes-twice": (b"first", "InvalidStateError"),
}

# name -> body, and what the log says or None.  The client gets a good answer, and the connection goes on.
ANSWERED_200 = {
    "yields-bytes-subclass": (b"as it is", None),
    "len-raises": (b"not asked", None),
    "raises-after-the-whole-length": (b"whole", "LookupError: raised after the whole length"),
    "close-raises-system-exit": (b"fine", r"Error in close\(\) after request GET /fault[\s\S]*SystemExit: 7"),
    "close-attribute-raises": (b"fine", r"Error in close\(\)[\s\S]*LookupError: raised when close was looked up"),
    "recursion-in-c": (b"RecursionError RecursionError RecursionError RecursionError", None),
    "recursion-in-close": (b"fine", r"Error in close\(\)[\s\S]*RecursionError"),
    "str-subclasses": (b"sub", None),
    "long-head": (b"long", None),
    "hop-by-hop": (b"hop", None),
    "headers-generator": (b"outer", None),
    "future-subclass": (b"subclass", None),
    "callback-raises": (b"went on", None),
}

ENDS = ("raises-after-the-whole-length",)  # and then the connection

# Those of them that record their close().
CLOSED = """iter-raises iter-is-no-iterator first-next-raises later-next-raises raises-within-length yields-has-bytes
    yields-mute close-raises-after-a-raise close-raises-system-exit recursion-in-close""".split()


def closed(server: Server, key: str, kind: str) -> None:
    if kind in CLOSED:
        server.wait_events(key, "closed")
        assert server.call("probe.count", key, "closed") == 1


@pytest.mark.parametrize("kind", ANSWERED_500)
def test_answered_500(server, key, kind):
    """Nothing has left: exactly the server's own 500, whatever the exception says, and the log has it once."""
    start = server.log_size()
    with bystander(server, key):
        assert SERVER_ERROR.fullmatch(get_raw(server, f"/fault?kind={kind}&key={key}"))
        server.wait_log(ANSWERED_500[kind], start=start)
        closed(server, key, kind)
    assert server.log(start).count("[ERROR] Error handling request GET /fault") == 1


@pytest.mark.parametrize("kind", BROKEN_OFF)
def test_broken_off(server, key, kind):
    """Something has left: what was yielded before arrives, the framing shows that it is not all, nothing follows."""
    body, logged = BROKEN_OFF[kind]
    start = server.log_size()
    with bystander(server, key):
        with server.connect() as c:
            c.send(build("GET", f"/fault?kind={kind}&key={key}") + build("GET", "/hello"))
            with pytest.raises(Truncated) as cut:
                c.read_response()
            assert cut.value.response is not None and cut.value.response.body == body
            c.ended()
        server.wait_log(logged, start=start)
        closed(server, key, kind)
    assert server.log(start).count("[ERROR] Error handling request GET /fault") == 1


@pytest.mark.parametrize("kind", ANSWERED_200)
def test_answered_200(server, key, kind):
    """The response is complete, and the connection goes on unless the request failed; the log says what was wrong."""
    body, logged = ANSWERED_200[kind]
    start = server.log_size()
    with bystander(server, key):
        with server.connect(timeout=LONG) as c:
            answer = c.request("GET", f"/fault?kind={kind}&key={key}")
            assert (answer.status, answer.body) == (200, body)
            if kind in ENDS:
                c.ended()
            else:
                assert c.request("GET", "/hello").text == "hello"
        if logged:
            server.wait_log(logged, start=start)
        else:
            assert "[ERROR]" not in server.log(start)
        closed(server, key, kind)


@timeout(120)
@pytest.mark.skipif(SANITIZED, reason="minutes of it; objects are counted in the other builds")
def test_nothing_is_kept(serve):
    """Ten of each leave no object, descriptor or thread behind."""
    server = serve("misbehave:app", "--threads", "2", "--keep-alive", "60", admin=True)
    slow = {"raises-chain", "recursion", "recursion-in-c", "recursion-in-close", "long-head"}
    kinds = [kind for kind in {**ANSWERED_500, **BROKEN_OFF, **ANSWERED_200} if kind not in slow]

    def all_of_them(times: int) -> None:
        for kind in kinds:
            for _ in range(times):
                with server.connect() as c:
                    c.send(build("GET", f"/fault?kind={kind}"))
                    with contextlib.suppress(Truncated):
                        c.read_response()
        server.call("probe.clear", "-")
        server.call("probe.clear", "callbacks")

    all_of_them(3)
    nothing_left(server)
    descriptors, threads = len(server.process.fds()), len(server.process.threads())
    objects = server.call("probe.collect")
    all_of_them(10)
    nothing_left(server, descriptors)
    assert len(server.process.threads()) <= threads
    assert server.call("probe.collect") - objects < 10 * 5  # some that Python keeps, but none for each request


# The log


@pytest.mark.parametrize("kind", ["raises-forged", "raises-forged-group"])
def test_log_cannot_be_forged_by_an_exception(server, key, kind):
    """A message with line ends in it begins no line as the log's own do, and does not talk to a terminal."""
    start = server.log_size()
    with bystander(server, key):
        assert server.get(f"/fault?kind={kind}").status == 500
        server.wait_log(r"Traceback[\s\S]*forged", start=start)
    raw = server.log(start)
    lines = re.split(r"[\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", raw)
    assert [line for line in lines if line.startswith("[2026-01-01")] == []
    assert re.findall(r"[\0-\x08\x0b-\x1f\x7f-\x9f]", raw) == []
    assert raw.count("Error handling request") == 1


def test_log_of_a_huge_message(server, key):
    """Twenty megabytes of message are not twenty megabytes of log."""
    start = server.log_size()
    with bystander(server, key):
        assert server.get("/fault?kind=raises-huge", timeout=LONG).status == 500
        server.wait_log(r"huge huge [\s\S]*\.\.\. \d+ bytes are left out", start=start)
    assert server.log_size() - start < 200_000


def test_log_that_nobody_reads(launch, key, tmp_path):
    """A log that goes to a pipe that is full holds no request up, and has all of it when it is read."""
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    log = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    said = b""

    def read() -> bytes:
        nonlocal said
        with contextlib.suppress(BlockingIOError):
            said += os.read(log, 1 << 20)
        return said

    try:
        server = launch("misbehave:app", "--threads", "4", "--error-logfile", str(fifo), ready=False)
        listening = re.compile(rb"Listening at: http://127.0.0.1:(\d+)")
        found = eventually(lambda: listening.search(read()), "it listens", within=LONG)
        server.addresses = lambda: [("127.0.0.1", int(found[1]))]
        with server.begin(f"/park?key={key}", timeout=LONG) as parked:
            server.wait_events(key, "parking")
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(log, b"x" * 512)
            assert server.get("/error-now").status == 500
            for _ in range(20):
                assert server.get("/hello").text == "hello"
            server.call("probe.complete", key, "fine")
            assert parked.read_response().text == "result fine"
        eventually(lambda: b"an error to be logged" in read(), "it is logged in the end")
    finally:
        server.stop()
        os.close(log)


# start_response and write


def test_start_response_twice_with_exc_info(server, key):
    """PEP 3333 allows it before anything has left: the second one counts."""
    with bystander(server, key):
        answer = server.get("/fault?kind=start-twice-exc-info")
        assert (answer.status, answer.reason, answer.body) == (502, "Bad", b"second")
        assert answer.header("X-First") is None


def test_start_response_and_write_from_elsewhere(server, key):
    """From another thread while the request is parked and while its step runs, and from anywhere after its end: each
    call raises, and no byte of it goes anywhere."""
    with bystander(server, key):
        with server.connect() as c:
            answer = c.request("GET", f"/fault?kind=start-kept-in-a-thread&key={key}")
            assert (answer.status, answer.text) == (200, "fine")
            said = server.events(key)[0][1]
            assert said == [
                "start_response called by another thread than the one that runs the request",
                "write() called by another thread than the one that runs the request",
            ]
            late = json.loads(c.request("GET", "/call-late").text)
            assert [text.partition(" called ")[2] for text in late] == ["after the request was over"] * 6


@pytest.mark.parametrize("kind", ["empty-reason", "no-reason"])
def test_empty_reason(server, key, kind):
    """An empty reason is allowed (RFC 9112, 4), and none is sent as an empty one."""
    with bystander(server, key), server.connect() as c:
        answer = c.request("GET", f"/bad-head?kind={kind}")
        assert (answer.status, answer.reason, answer.body) == (200, "", b"hello")
        assert c.request("GET", "/hello").text == "hello"


BAD_HEADS = """status-100 status-99 status-1000 status-words status-empty status-crlf status-nul
    header-crlf header-lf header-fold header-nul name-crlf name-colon name-space name-empty length-negative length-words
    length-plus length-twice length-huge length-list""".split()


@pytest.mark.parametrize("kind", BAD_HEADS)
def test_bad_head(server, key, kind):
    """A status or header that cannot be sent as it is, is not sent otherwise: ValueError in the application, a 500."""
    start = server.log_size()
    with bystander(server, key):
        assert SERVER_ERROR.fullmatch(get_raw(server, f"/bad-head?kind={kind}"))
        server.wait_log(r"ValueError: (status|response header) ", start=start)


# environ and wsgi.input


@pytest.mark.parametrize(("length", "size"), [(1000, 7), (20_000_000, 65536)], ids=["memory", "file"])
def test_input_read_from_threads_after_the_end(server, key, length, size):
    """wsgi.input that is kept is the application's: eight threads that read it at once get each byte once."""
    body = b"x" * length
    with bystander(server, key):
        assert server.request("POST", f"/fault?kind=keeps-environ&key={key}", (), body, timeout=LONG).text == "kept"
        answer = server.get(f"/read-kept?key={key}&size={size}", timeout=LONG)
        assert json.loads(answer.text) == [length, ""]


@pytest.mark.parametrize("length", [10, 900_000], ids=["memory", "file"])
def test_environ_changed_and_emptied(server, key, length):
    """environ is the application's: the server does not look at it again."""
    body = b"x" * length
    with bystander(server, key), server.connect(timeout=LONG) as c:
        assert c.request("POST", f"/fault?kind=changes-environ&key={key}", (), body).body == b"got " + body
        assert c.request("GET", "/hello").text == "hello"


# Futures


def test_future_completed_by_many_threads(server, key):
    """Sixteen threads complete one future: one of them does, the request goes on once."""
    with bystander(server, key):
        answer = server.get(f"/fault?kind=completes-from-many-threads&key={key}")
        events = server.wait_events(key, "won", *["lost"] * 15)
        assert [detail for name, detail in events if name == "won"] == [int(answer.text)]


@timeout(120)
def test_future_of_a_thousand_requests(serve, key):
    """A thousand requests wait for one future, half of their clients leave, and the others are answered."""
    server = serve("misbehave:app", "--threads", "4", "--keep-alive", "60", admin=True)
    with bystander(server, key):
        held = [server.begin(f"/park?key={key}", timeout=LONG) for _ in range(1000)]
        server.admin.wait_in_flight("parked_future", 1001, within=LONG)
        for c in held[::2]:
            c.close()
        server.admin.wait_in_flight("parked_future", 501, within=LONG)
        server.call("probe.complete", key, "shared")
        assert [c.read_response().text for c in held[1::2]] == ["result shared"] * 500
        for c in held:
            c.close()


def test_future_that_is_never_done(server, key):
    """No request is left that waits for it: it holds neither a request nor a descriptor."""
    with bystander(server, key):
        for _ in range(20):
            server.park(f"/park?key={key}-{_}", f"{key}-{_}").close()
        server.admin.wait_in_flight("parked_future", 1)


@pytest.mark.parametrize(
    ("kind", "event", "logged"),
    [
        ("raises-in-finally", "finally", r"Error in close\(\)[\s\S]*LookupError: raised in finally"),
        ("ignores-generator-exit", "ignored", r"Error in close\(\)[\s\S]*Error: generator ignored GeneratorExit"),
    ],
)
def test_generator_that_does_not_end_as_it_is_asked(server, key, kind, event, logged):
    """What a generator makes of GeneratorExit is logged, and that is all: the request is over."""
    start = server.log_size()
    with bystander(server, key):
        server.park(f"/fault?kind={kind}&key={key}", key).close()
        server.wait_events(key, event)
        server.wait_log(logged, start=start)
    assert server.log(start).count("[ERROR]") == 1


# Memory


@not_sanitized
def test_allocation_that_fails(server, key):
    """MemoryError is an exception like others."""
    start = server.log_size()
    with bystander(server, key):
        assert SERVER_ERROR.fullmatch(get_raw(server, "/fault?kind=huge-allocation"))
        server.wait_log("MemoryError", start=start)


# Time


@timeout(120)
def test_gil_held_in_c(launch, key):
    """C code that holds the GIL holds Python up, not the server: it answers its health checks, and what was parked goes
    on afterwards.  A second such step, at the end, does not keep the server from ending."""
    server = launch(
        "misbehave:app", "--threads", "2", "--request-timeout", "30", "--graceful-timeout", "1", admin=True
    )
    rounds = first = 26
    while True:  # as much as takes this machine a while
        began = time.monotonic()
        assert server.get(f"/burn?key={key}&n={rounds}", timeout=LONG).text == "burnt"
        if time.monotonic() - began > 0.2:
            break
        rounds += 1
    with bystander(server, key):
        with server.begin(f"/burn?key={key}&n={rounds + 2}", timeout=LONG) as burning:
            server.wait_events(key, *["burning"] * (rounds - first + 2))
            assert server.admin.get("/healthz").text == "ok\n"
            with server.begin("/hello", timeout=LONG) as waiting:
                assert burning.read_response().text == "burnt"
                assert waiting.read_response().text == "hello"
    with server.begin(f"/burn?key={key}&n={rounds + 20}") as burning:
        time.sleep(QUIET)
        server.signal(signal.SIGTERM)
        assert burning.read_response().status == 503
        server.expect = server.wait_exit(LONG)
    assert server.expect == 1
    assert "[ERROR] 1 steps are still running and cannot be interrupted; exiting without them" in server.log()


def test_steps_that_never_return(launch, key):
    """Steps that spin in Python: their clients get 504, their stacks are logged, and others share the processor with
    them.  At the end the server goes without them."""
    server = launch("misbehave:app", "--threads", "3", "--request-timeout", "1", "--graceful-timeout", "1")
    with server.connect(timeout=LONG) as other:
        spinning = [server.begin(f"/spin?key={key}", timeout=LONG) for _ in range(2)]
        assert [c.read_response().status for c in spinning] == [504, 504]
        server.wait_log(r"its step is still running and cannot be interrupted")
        server.wait_log(r"this is where its step is:\n[\s\S]*misbehave\.py")
        assert other.request("GET", "/hello").text == "hello"
    server.signal(signal.SIGTERM)
    server.expect = server.wait_exit(LONG)
    assert server.expect == 1
    assert "2 steps are still running and cannot be interrupted; exiting without them" in server.log()


@pytest.mark.parametrize("how", ["gone", "timeout"])
def test_empty_blocks_without_end(serve, key, how):
    """A generator of empty blocks sends nothing and never ends: it is ended with its client, or at its deadline."""
    server = serve("misbehave:app", "--threads", "2", "--request-timeout", "2", "--keep-alive", "60", admin=True)
    with server.begin(f"/endless?key={key}") as c:
        server.wait_events(key, "endless")
        assert server.get("/hello").text == "hello"
        if how == "gone":
            c.close()
        else:
            assert c.read_response().status == 504
        server.wait_events(key, "finally")
    nothing_left(server)


# The end of the process


def test_exits_in_threads(server, key):
    """SystemExit and KeyboardInterrupt in a thread of the application end that thread."""
    with bystander(server, key):
        assert server.get("/exits-in-a-thread").text == "fine"


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("exit", 3),
        ("kill", -signal.SIGKILL),
        pytest.param("abort", -signal.SIGABRT, marks=not_sanitized),
        pytest.param("segfault", -signal.SIGSEGV, marks=not_sanitized),
        pytest.param("alarm", -signal.SIGALRM, marks=not_sanitized),
    ],
)
def test_end_of_the_process(launch, key, how, code):
    """What ends a process ends the server, as its supervisor sees, and all its clients see their connections end."""
    server = launch("misbehave:app", "--threads", "2")
    server.expect = code
    with server.begin(f"/park?key={key}") as parked, server.begin(f"/ends-the-process?how={how}", timeout=LONG) as c:
        assert server.wait_exit(LONG) == code
        for connection in (parked, c):
            with pytest.raises((NoResponse, ConnectionResetError)):
                connection.read_response()


@timeout(120)
@pytest.mark.parametrize("what", ["threads", "atexit_hangs"])
def test_end_that_the_application_does_not_let_come(launch, key, what):
    """A thread that is no daemon and never ends, or an atexit handler that hangs, with all signals blocked in each of
    the application's threads: ten seconds, a message, and exit code 1."""
    server = launch("misbehave:app", "--threads", "1", env={"MISBEHAVE": what})
    assert server.get("/hello").text == "hello"
    if what == "atexit_hangs":
        server.call("misbehave.import_mask")
    server.signal(signal.SIGTERM)
    server.expect = server.wait_exit(LONG)
    assert server.expect == 1
    assert "the application's threads or atexit handlers do not end; exiting without them" in server.log()


def test_atexit_handlers_that_raise(launch, key):
    """They are shown, the others run all the same, and the server has drained: exit code 0."""
    server = launch("misbehave:app", "--threads", "1", env={"MISBEHAVE": "atexit_raises"})
    assert server.get("/hello").text == "hello"
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert server.stdout() == "registered last\nregistered first\n"
    assert "LookupError: raised at exit" in server.log()


# Children


@pytest.mark.parametrize(
    ("how", "code", "logged"),
    [
        ("returns", 1, "a child that the application has forked came back"),
        ("returns-without-start", 1, "a child that the application has forked came back"),
        ("generator", 1, "a child that the application has forked came back"),
        ("raises", 1, r"a child that the application has forked came back[\s\S]*LookupError: raised in the child"),
        ("sys-exit", 7, None),
        ("sys-exit-text", 1, "no number"),
        ("starts", 8, None),
    ],
)
def test_fork(launch, key, tmp_path, how, code, logged):
    """A child has no client: whatever it does, it sends nothing, and it ends where it would come back to the server."""
    env = {"MISBEHAVE_DIR": str(tmp_path)}
    server = launch("misbehave:app", "--threads", "4", "--keep-alive", "60", env=env, admin=True)
    with bystander(server, key):
        with server.connect(timeout=LONG) as c:
            answer = c.request("GET", f"/forks?how={how}")
            assert (answer.status, answer.text) == (200, str(code))
            assert c.request("GET", "/hello").text == "hello"
        if logged:
            server.wait_log(logged)
        else:
            assert "[ERROR]" not in server.log()
    if how == "starts":
        said = (tmp_path / "said").read_text()
        assert said == "start_response called in a child of the process that serves the request"


@pytest.mark.parametrize(
    "where",
    ["done", "add_done_callback", "exception", "iter", "next", "look up throw", "throw", "look up close", "close", "del",
     "read", "close of the file", "message", "message of a failed close"],
)  # fmt: skip
def test_fork_anywhere(launch, key, where):
    """Whatever the server calls may fork: the child comes back to the place of the call, and no further.  The response
    is the parent's, whole and once, and the server is one process."""
    server = launch("misbehave:app", "--threads", "4", "--keep-alive", "60", admin=True)
    with bystander(server, key):
        target = f"/forks-in?key={key}&where={quote(where)}"
        with server.connect(timeout=LONG) as c:
            answer = c.request("GET", target)
            bodies = {"throw": b"thrown", "look up throw": b"thrown", "read": b"file", "close of the file": b"file"}
            bodies.update(done=b"thrown", exception=b"thrown", message=b"Internal Server Error\n")
            assert (answer.status, answer.body) == (500 if where == "message" else 200, bodies.get(where, b""))
            if where != "message":
                assert c.request("GET", "/hello").text == "hello"
            else:
                c.ended()
        events = server.wait_events(key, "child")
        assert {code for name, code in events if name == "child"} == {1}
    assert "a child that the application has forked came back" in server.log()


def test_fork_in_a_signal_handler(launch, key):
    """Handlers run on the main thread, which watches over everything: a child does not."""
    server = launch("misbehave:app", "--threads", "2", env={"MISBEHAVE": "forking_handler"}, admin=True)
    with bystander(server, key):
        server.signal(signal.SIGALRM)
        assert server.wait_events("alarms", "child") == [["child", 1]]
        assert server.get("/hello").text == "hello"
    assert "a child that the application has forked came back" in server.log()


def test_fork_at_exit(launch, key):
    """The child of an atexit handler ends as the server does, without what is left for the server to do."""
    server = launch("misbehave:app", env={"MISBEHAVE": "forking_atexit"})
    assert server.get("/hello").text == "hello"
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert server.stdout() == "child 0\n"
    assert server.log().count("Drained") == 1


def test_fork_that_stays(launch, key):
    """A child that lives on holds neither a listening socket nor a connection: what the server closes is closed, and
    when it has gone connections are refused, not left in the backlog of a server that does not exist."""
    server = launch("misbehave:app", "--threads", "4", "--keep-alive", "60", admin=True)
    with bystander(server, key):
        with server.connect() as c:
            c.send(build("GET", f"/park?key={key}", version="1.0"))
            server.wait_events(key, "parking")
            child = int(server.get("/forks-and-stays").text)
            try:
                server.call("probe.complete", key, "ended")
                assert c.read_response().text == "result ended"
                c.ended()
                names = {os.readlink(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")}
                assert names & tcp_sockets(server) == set()
            except BaseException:
                os.kill(child, signal.SIGKILL)
                raise
    try:
        refuses_when_stopped(server)
        os.kill(child, 0)  # it is still there
    finally:
        os.kill(child, signal.SIGKILL)


def refuses_when_stopped(server: Server) -> None:
    address = server.address
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=PROMPT)


def tcp_sockets(server: Server) -> set[str]:
    """The sockets that the server listens on or talks to clients by, as /proc names them."""
    inodes = set()
    for line in Path(f"/proc/{server.pid}/net/tcp").read_text().splitlines()[1:]:
        inodes.add(f"socket:[{line.split()[9]}]")
    return inodes & set(server.process.fds().values())


@not_sanitized
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_forked_child_can_be_ended(server, key, name):
    """The server's handlers for SIGTERM and SIGINT are not the child's: what ends any process ends it."""
    with bystander(server, key):
        answer = server.get(f"/terminates-a-child?signal={name}")
        assert answer.text == str(-getattr(signal, name))


@not_sanitized
def test_multiprocessing(server, key):
    """multiprocessing by fork, from a request: Process.terminate() and Pool work."""
    with bystander(server, key):
        assert json.loads(server.get("/multiprocessing", timeout=LONG).text) == [-signal.SIGTERM, [0, 1, 4, 9]]


def test_popen(server, key):
    """So does subprocess."""
    with bystander(server, key):
        assert server.get("/popen").text == "42"


def test_fork_at_import(launch, key):
    """A helper that is forked while the application is loaded: it does not listen when the server is gone."""
    server = launch("misbehave:app", "--threads", "2", env={"MISBEHAVE": "fork"}, admin=True)
    [child] = server.call("misbehave.get_children")
    try:
        with bystander(server, key):
            pass
        refuses_when_stopped(server)
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


def test_fork_at_import_that_returns(launch, key):
    """A child that comes back from loading the application does not become a second server."""
    server = launch("misbehave:app", "--threads", "2", env={"MISBEHAVE": "fork_and_return"}, admin=True)
    with bystander(server, key):
        server.wait_log("a child that the application has forked came back")
    assert server.log().count("Listening at") == 1


# Descriptors


def test_connection_closed_by_the_application(launch, key):
    """os.close of the number of a client's connection: that client is lost.  The next one, which gets the same number,
    is served as any other, and nothing of the first one's response goes to it."""
    server = launch("misbehave:app", "--threads", "4", "--keep-alive", "60", admin=True)
    with bystander(server, key, descriptors=False):
        lost = server.park(f"/park?key={key}", key)
        fd = server.call("misbehave.close_client", lost.sock.getsockname()[1])
        lost.ended()
        with server.connect() as next_one:
            assert next_one.request("GET", "/hello").text == "hello"
            assert server.call("misbehave.of_client", next_one.sock.getsockname()[1]) == fd
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
        server.call("misbehave.dup_over_client", lost.sock.getsockname()[1])
        lost.ended()
        server.call("probe.complete", key)
        server.admin.wait_in_flight("parked_future", 1)


def test_listening_socket_closed(launch, key):
    """No client can connect any more: /readyz and /healthz say so, the log too, and what is connected is served."""
    server = launch("misbehave:app", "--threads", "2", "--keep-alive", "60", admin=True)
    with server.connect(timeout=LONG) as c:
        assert c.request("GET", "/hello").text == "hello"
        assert server.admin.get("/healthz").status == 200
        server.call("misbehave.close_listener", server.port)
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
            assert server.call("misbehave.of_client", c.sock.getsockname()[1]) > 2
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


# Surroundings


def test_surroundings_changed(launch, key):
    """Current directory, umask, environment and time zone changed, sys.stdout and sys.stderr closed: uploads, logs and
    the rest go on, and the server ends as ever."""
    server = launch("misbehave:app", "--threads", "2", "--keep-alive", "60", admin=True)
    with bystander(server, key):
        with server.connect(timeout=LONG) as c:
            assert c.request("GET", "/surroundings").text == "changed"
            body = b"x" * 900_000
            assert c.request("POST", f"/fault?kind=changes-environ&key={key}", (), body).body == b"got " + body
            start = server.log_size()
            assert c.request("GET", "/error-now").status == 500
            server.wait_log(r"^\[\d{4}-\d\d-\d\d [\d:]+ \+0530\] .*Error handling request GET /error-now", start=start)


@pytest.fixture(scope="module")
def comma(tmp_path_factory):
    """A locale with a decimal comma: its name, and the environment to find it."""
    directory = tmp_path_factory.mktemp("locale")
    subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", "--no-archive", str(directory / "de_DE")],
        check=True,
        capture_output=True,
    )
    return "de_DE", {"LOCPATH": str(directory)}


def test_locale_changed(launch, key, comma, tmp_path):
    """Metrics, dates and logs do not depend on the locale that the application sets for the process."""
    name, env = comma
    log = tmp_path / "access"
    server = launch(
        "misbehave:app", "--threads", "2", "--keep-alive", "60", "--access-logfile", str(log), env=env, admin=True
    )
    with bystander(server, key):
        assert server.get(f"/takes-locale?name={name}").text == "1,5"
        answer = server.get("/hello")
        assert re.fullmatch(
            r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} [\d:]{8} GMT",
            answer.header("Date") or "",
        )
        text = server.admin.get("/metrics").text
        assert re.search(r'_bucket\{le="0\.\d+"\} ', text)
        assert re.search(r"^fermata_request_duration_seconds_sum \d+(\.\d+)?$", text, re.MULTILINE)
        assert "," not in re.sub(r"\{[^}]*\}|^#.*", "", text, flags=re.MULTILINE)


# Signals


def test_signals_set_in_a_request(server, key):
    """Python allows it on the main thread alone: ValueError, and nothing changes."""
    with bystander(server, key):
        assert server.get("/sets-signals").text == "ValueError ValueError"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_server_told_to_end_by_its_application(launch, key, name):
    """os.kill of itself is like any other signal: it drains, the request that did it is answered, parked ones go on."""
    server = launch("misbehave:app", "--threads", "2", "--keep-alive", "60")
    with server.begin(f"/park?key={key}") as parked:
        server.wait_events(key, "parking")
        answer = server.get(f"/signals-itself?name={name}")
        assert (answer.status, answer.text, answer.header("Connection")) == (200, "signalled", "close")
        server.wait_log("Draining")
        server.call("probe.complete", key, "fine")
        assert parked.read_response().text == "result fine"
    assert server.wait_exit() == 0


def test_interrupt_main(server, key):
    """_thread.interrupt_main() simulates a SIGINT that Python does not handle here: nothing happens."""
    with bystander(server, key):
        assert server.get("/signals-itself?name=interrupt_main").text == "signalled"


def test_signal_handlers_of_the_application(launch, key):
    """Handlers set at import: SIGTERM and SIGINT are the server's all the same; those of SIGCHLD and SIGALRM run on
    the main thread, whichever thread has taken the signal."""
    server = launch("misbehave:app", "--threads", "2", "--keep-alive", "60", env={"MISBEHAVE": "signals"}, admin=True)
    with bystander(server, key):
        assert server.get(f"/sets-alarm?key={key}").text == "armed"
        assert server.wait_events("alarms", "alarm")[-1][1] is True
        assert server.get("/popen").text == "42"
        server.wait_events("alarms", "child")
    with server.begin(f"/park?key={key}") as parked:
        server.wait_events(key, "parking")
        server.signal(signal.SIGTERM)
        server.wait_log("Draining")
        assert "terminated" not in [name for name, _ in server.events("alarms")]
        server.call("probe.complete", key, "fine")
        assert parked.read_response().text == "result fine"
    assert server.wait_exit() == 0


@pytest.mark.parametrize("kind", ["blocks", "file"])
def test_sigpipe_reset_by_the_application(launch, key, kind):
    """signal(SIGPIPE, SIG_DFL) at import, as command line programs have it: a client that leaves ends nothing."""
    env = {"MISBEHAVE": "signals"}
    server = launch("misbehave:app", "--threads", "2", "--keep-alive", "60", env=env, admin=True)
    with bystander(server, key):
        for _ in range(5):
            with server.begin(f"/large?kind={kind}", receive_buffer=4096) as c:
                c.read_head()
                c.reset()
        nothing_left_but(server, 1)


def nothing_left_but(server: Server, parked: int) -> None:
    eventually(lambda: busy(server) == {"parked_future": parked}, "only the bystander is left")


def test_signal_handler_that_raises(launch, key):
    """SystemExit in a signal handler of the application is shown, and the server goes on."""
    env = {"MISBEHAVE": "raising_handler"}
    server = launch("misbehave:app", "--threads", "2", "--keep-alive", "60", env=env, admin=True)
    with bystander(server, key):
        assert server.get(f"/sets-alarm?key={key}").text == "armed"
        server.wait_log("SystemExit: 9")


@pytest.mark.parametrize("where", ["import", "request"])
def test_signals_masked(launch, key, where):
    """All signals blocked, at import or in each of the server's threads that run requests: SIGTERM still ends it."""
    env = {"MISBEHAVE": "mask"} if where == "import" else {}
    server = launch("misbehave:app", "--threads", "1", "--keep-alive", "60", env=env, admin=True)
    with bystander(server, key):
        for _ in range(4):
            assert server.get("/masks-signals").text == "masked"
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0


# The interpreter


def test_interpreter_settings(launch, key):
    """Switch interval, garbage collection, tracing, hooks: requests are served and errors logged."""
    server = launch("misbehave:app", "--threads", "2", "--keep-alive", "60", admin=True)
    with bystander(server, key):
        assert server.get("/interpreter").text == "set"
        for _ in range(20):
            assert server.get("/hello").text == "hello"
        assert server.get("/error-now").status == 500
        server.wait_log("LookupError: an error to be logged")
        assert server.get("/restores").text == "restored"


def test_subinterpreters(launch, key):
    """Made, used and destroyed in the request's thread and in one of its own."""
    server = launch("misbehave:app", "--threads", "2", "--keep-alive", "60", admin=True)
    with bystander(server, key, descriptors=False):
        for _ in range(2):
            assert server.get("/subinterpreters", timeout=LONG).text == "ran"


def test_c_code_that_calls_back(server, key):
    """A C function that gives the GIL up and calls Python from within."""
    with bystander(server, key):
        for _ in range(3):
            assert server.get("/calls-back").text == "True"


@pytest.mark.parametrize("own", [True, False], ids=["subclass", "foreign"])
def test_future_class_replaced_at_import(serve, key, own):
    """concurrent.futures.Future replaced while the application is loaded: a subclass suspends, nothing else does."""
    env = {"MISBEHAVE": "patched_future"}
    server = serve("misbehave:app", "--threads", "2", "--keep-alive", "60", env=env, admin=True)
    start = server.log_size()
    with bystander(server, key):
        answer = server.get("/patched" + ("?own" if own else ""))
        assert (answer.status, answer.text) == ((200, "patched") if own else (500, "Internal Server Error\n"))
        if not own:
            server.wait_log("TypeError: the application yielded Foreign, not bytes or a concurrent", start=start)


# The table

MENTION = re.compile(r"`(?:(test_\w+\.py)::)?(test_\w+?)(?:\[([^`\]]+)\])?`")


@functools.cache
def defined(path: Path) -> list[str]:
    """The names of the tests of a file."""
    return re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)


BY_KIND = {"test_answered_500": ANSWERED_500, "test_broken_off": BROKEN_OFF, "test_answered_200": ANSWERED_200}


def test_table_names_tests_that_exist() -> None:
    """Each test that spec/manual/misbehaviour.md names is there, in the file and for the case that it says."""
    here = Path(__file__)
    for file, name, case in MENTION.findall(TABLE.read_text()):
        assert name in defined(here.parent / (file or here.name)), (file, name)
        assert not case or case in BY_KIND[name], (name, case)


def test_table_is_complete() -> None:
    """Each test here has a row in spec/manual/misbehaviour.md, the large ones one for each case, and each row has a test."""
    text = TABLE.read_text()
    found = {(name, case) for file, name, case in MENTION.findall(text) if not file}
    here = [name for name in defined(Path(__file__)) if not name.startswith("test_table_")]
    wanted = {(name, "") for name in here if name not in BY_KIND}
    wanted |= {(name, kind) for name, kinds in BY_KIND.items() for kind in kinds}
    assert wanted - found == set()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| The application |")]
    assert len(rows) > 80
    assert [row for row in rows if not MENTION.search(row.rstrip("| ").rpartition(" | ")[2])] == []
