"""WSGI (PEP 3333): what an application returns, and its close()."""

from __future__ import annotations

import pytest
from harness.client import NoResponse, build
from harness.limits import LONG, never


@pytest.fixture
def server(serve):
    return serve("pep3333:app", "--threads", "4")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("list", "a list"),
        ("tuple", "a tuple"),
        ("iterator", "an iterator"),
        ("generator", "a generator"),
        ("map", "a map"),
        ("set", "a set"),
        ("dict", "a dict"),
        ("bytes-list", "after nothing"),
        ("old", "by index"),
        ("separate", "not its own iterator"),
        ("subclass", "a subclass"),
        ("octets", "a subclass of bytes"),
        ("large-list", "x" * 100_000 + "y" * 300_000 + "z"),
        ("large-tuple", "".join(f"{i}," * 50 for i in range(5000))),
        ("empty-blocks", ""),
        ("octets-among-others", "not known"),
        ("closing", "closing"),
        ("empty-closing", ""),
        ("many", "x" * 20_000_000),
    ],
)
def test_iterables(server, kind, body):
    """Any iterable of bytes is a body."""
    assert server.get(f"/iterable?kind={kind}", timeout=LONG).text == body


@pytest.mark.parametrize("kind", ["list", "tuple", "bytes-list", "large-list", "large-tuple", "empty-blocks"])
def test_blocks_that_are_all_there_have_a_length(server, kind):
    """A list or tuple of blocks, however many, has a length: it is said, also to HTTP/1.0 and for HEAD."""
    with server.connect(timeout=LONG) as c:
        answer = c.request("GET", f"/iterable?kind={kind}")
        assert (answer.framing, answer.header("Content-Length")) == ("length", str(len(answer.body)))
        head = c.request("HEAD", f"/iterable?kind={kind}")
        assert head.header("Content-Length") in (str(len(answer.body)), None)
        assert head.header("Transfer-Encoding") is None
        if answer.body:
            assert head.header("Content-Length") is not None
        old = c.request("GET", f"/iterable?kind={kind}", [("Connection", "keep-alive")], version="1.0")
        assert (old.body, old.framing, old.keeps_alive) == (answer.body, "length", True)
        assert c.request("GET", "/hello").text == "hello"


@pytest.mark.parametrize("kind", ["generator", "iterator", "octets-among-others"])
def test_blocks_that_come_one_by_one_have_none(server, kind):
    """What is not known beforehand is not said (a single block of bytes aside)."""
    assert server.get(f"/iterable?kind={kind}").framing == "chunked"


@pytest.mark.parametrize("status", ["204 None", "304 Same"])
def test_blocks_of_a_response_without_a_body(server, status):
    """Where there is no body no length is made up."""
    with server.connect() as c:
        answer = c.request("GET", f"/iterable?kind=list&status={status.replace(' ', '%20')}")
        assert (answer.status, answer.header("Content-Length"), answer.body) == (int(status[:3]), None, b"")
        assert c.request("GET", "/hello").text == "hello"


@pytest.mark.parametrize("length", ["", "&length=11"])
def test_reset_content_has_no_content(server, length):
    """RFC 9110, 15.3.6: and it says so, whatever the application has said."""
    with server.connect() as c:
        answer = c.request("GET", f"/iterable?kind=list&status=205%20Reset{length}")
        assert (answer.status, answer.header("Content-Length"), answer.body) == (205, "0", b"")
        assert c.request("GET", "/hello").text == "hello"


def test_blocks_and_the_application_s_own_length(server):
    """A Content-Length of the application's counts: more is cut off, less is broken off."""
    assert server.get("/iterable?kind=list&length=3").body == b"a l"
    with server.connect() as c:
        c.send(build("GET", "/iterable?kind=list&length=10"))
        c.read_failed()


@pytest.mark.parametrize("n", [0, 5, 9000])
def test_blocks_after_write(server, n):
    """What write() has sent, or holds, comes before the list, and counts where the head has not left."""
    with server.connect() as c:
        answer = c.request("GET", f"/write-then-list?n={n}")
        assert answer.text == "x" * n + " and a list"
        assert answer.framing == ("chunked" if n > 8192 else "length")
        assert c.request("GET", "/hello").text == "hello"


@pytest.mark.parametrize(
    "kind",
    [
        "none",
        "int",
        "text",
        "bytes",
        "text-list",
        "int-list",
        "none-list",
        "bytearray-list",
        "memoryview-list",
        "nested-list",
    ],
)
def test_what_is_no_body(server, kind):
    """What is not an iterable of bytes is an application error; the log names the type that came."""
    start = server.log_size()
    assert server.get(f"/iterable?kind={kind}").status == 500
    server.wait_log(r"Error handling request GET /iterable.*", start=start)
    came = {
        "none": "NoneType",
        "none-list": "NoneType",
        "text": "str",
        "text-list": "str",
        "bytes": "int",
        "nested-list": "list",
    }
    name = came.get(kind, kind.partition("-")[0])
    server.wait_log(rf"TypeError: .*\b{name}\b", start=start)


def test_wrong_block_after_bytes_have_left(server):
    """A wrong block later on: never a complete-looking response."""
    with server.connect() as c:
        c.send(build("GET", "/iterable?kind=late-text"))
        c.read_failed()


def closed_once(server, key):
    server.wait_events(key, "closed")
    never(lambda: server.call("probe.count", key, "closed") > 1, "close() ran twice", during=0.1)


@pytest.mark.parametrize("kind", ["closing", "empty-closing", "separate", "many"])
def test_close_at_the_end(server, kind):
    """close() of the iterable (not of its iterator) runs exactly once at the end."""
    assert server.get(f"/iterable?kind={kind}&key=end-{kind}", timeout=LONG).status == 200
    closed_once(server, f"end-{kind}")


@pytest.mark.parametrize("method", ["HEAD", "POST"])
def test_close_for_other_methods(server, method):
    """HEAD and requests with bodies close as well."""
    assert server.request(method, f"/iterable?kind=closing&key=method-{method}").status == 200
    closed_once(server, f"method-{method}")


@pytest.mark.parametrize(("kind", "status"), [("raising", None), ("raising-first", 500), ("both-raising", 500)])
def test_close_after_an_error(server, kind, status):
    """close() runs exactly once after an error in __next__."""
    start = server.log_size()
    with server.connect() as c:
        c.send(build("GET", f"/iterable?kind={kind}&key=error-{kind}"))
        if status:
            assert c.read_response().status == status
        else:
            c.read_failed()
    closed_once(server, f"error-{kind}")
    server.wait_log(r"RuntimeError: (raised in|first)", start=start)
    if kind == "both-raising":
        server.wait_log(r"RuntimeError: second", start=start)


def test_error_in_close(server):
    """An error in close() is logged; the response that was complete stays so, and so does the connection."""
    start = server.log_size()
    with server.connect() as c:
        assert c.request("GET", "/iterable?kind=close-raising&key=close-raising").text == "fine"
        try:
            assert c.request("GET", "/hello").text == "hello"
        except NoResponse:
            pass
    server.wait_log(r"RuntimeError: raised in close", start=start)
    closed_once(server, "close-raising")


@pytest.mark.parametrize("how", ["close", "reset"])
def test_close_when_the_client_goes_while_it_is_sent_to(server, how):
    """A client that goes away in an endless body: close() runs exactly once, soon."""
    with server.connect() as c:
        c.send(build("GET", f"/iterable?kind=endless&key=gone-{how}"))
        head = c.read_head()
        next(c.iter_body(head))
        c.reset() if how == "reset" else c.close()
    closed_once(server, f"gone-{how}")


def test_close_when_the_client_goes_while_a_step_runs(server):
    """Client gone in the middle of a step: close() runs after the step has ended, not beside it."""
    key = "gone-in-step"
    with server.connect() as c:
        c.send(build("GET", f"/slow-close?key={key}"))
        c.read_head()
        server.wait_events(key, "blocking")
        c.reset()
    never(lambda: server.call("probe.count", key, "closed"), "closed beside a running step")
    server.call("probe.open_gate", key)
    server.wait_events(key, "closed")
    assert [name for name, _ in server.events(key)] == ["blocking", "step ended", "closed"]


def test_close_that_is_no_callable(server):
    """A close that cannot be called is logged and harms no other request."""
    answer = server.get("/no-such-close")
    assert (answer.status, answer.body) in ((200, b"odd"), (500, answer.body))
    assert server.get("/hello").status == 200
