"""Applications that misbehave: what their clients get, what the log says, and that other requests do not notice.

spec/manual/misbehaviour.md has a row for each test here and in test_misbehaviour_*.py.  Around each misbehaviour there is a bystander: a request that was
parked before and is answered after, on a connection that then serves another one; and nothing is left behind.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
from pathlib import Path

import pytest
from harness.bystander import bystander, nothing_left
from harness.client import Truncated, build
from harness.limits import LONG, ROOT, SANITIZED, eventually, timeout
from harness.server import Server

TABLE = ROOT / "spec/manual/misbehaviour.md"

not_sanitized = pytest.mark.skipif(SANITIZED, reason="the sanitizer has a view of its own on this")


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


@pytest.fixture
def server(serve):
    return serve("misbehave:app", "--threads", "4", "--keep-alive", "60", admin=True)


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
    """Each test of test_misbehaviour*.py has a row in spec/manual/misbehaviour.md, the large ones one for each case, and each
    row has a test."""
    text, here = TABLE.read_text(), Path(__file__)
    found = {(file or here.name, name, case) for file, name, case in MENTION.findall(text)}
    wanted = set()
    for path in here.parent.glob("test_misbehaviour*.py"):
        for name in defined(path):
            if not name.startswith("test_table_"):
                wanted |= {(path.name, name, case) for case in BY_KIND.get(name, [""])}
    assert len(wanted) > 80
    assert wanted - found == set()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| The application |")]
    assert len(rows) > 80
    assert [row for row in rows if not MENTION.search(row.rstrip("| ").rpartition(" | ")[2])] == []
