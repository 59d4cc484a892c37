"""WSGI (PEP 3333): start_response and write()."""

from __future__ import annotations

import pytest
from harness.client import build
from harness.limits import LONG, never


@pytest.fixture
def server(serve):
    return serve("pep3333:app", "--threads", "4")


def test_exc_info_replaces_headers(server):
    """start_response with exc_info before a header has left replaces the first call."""
    answer = server.get("/exc-info-before")
    assert (answer.status, answer.reason, answer.body) == (503, "Changed", b"changed")
    assert answer.header("X-First") is None
    assert answer.header("X-Second") == "2"


def test_exc_info_in_the_first_call(server):
    """exc_info may be given in the first call, and None is as none."""
    assert server.get("/exc-info-first").status == 500
    assert server.get("/exc-info-first").body == b"own error page"
    assert server.get("/exc-info-none").body == b"none"


def test_exc_info_after_an_empty_block(server):
    """An empty block has sent nothing: the headers can still be replaced."""
    answer = server.get("/exc-info-after-empty")
    assert (answer.status, answer.body) == (503, b"changed")


def test_exc_info_too_late(server):
    """After the first block start_response raises what it was given, and the response fails visibly."""
    with server.connect() as c:
        c.send(build("GET", "/exc-info-after?key=late"))
        c.read_failed()
    assert server.wait_events("late", "raised")[0][1] == "the reason for the change"


MISUSES = """twice status-bytes status-int status-none headers-none header-one header-three header-name-bytes
    header-value-bytes header-value-int header-value-none header-value-wide header-name-wide header-value-surrogate status-wide
    no-arguments one-argument four-arguments unknown-keyword exc-info-text""".split()


@pytest.mark.parametrize("how", MISUSES)
def test_start_response_misused(server, how):
    """A wrong call raises in the application; not caught, it is an application error."""
    start = server.log_size()
    assert server.get(f"/misuse?how={how}").status == 500
    found = server.wait_log(
        r"Error handling request GET /misuse.*[\s\S]*?^(?:.*\] )?(\w*(?:Error|Exception))\b", start=start
    )
    assert found[1] in ("TypeError", "ValueError", "AssertionError", "UnicodeEncodeError", "RuntimeError")


@pytest.mark.parametrize("how", [how for how in MISUSES if how not in ("twice", "exc-info-text")])
def test_start_response_misuse_caught(server, how):
    """A wrong call has no effect: an application that catches it can still answer, with exc_info."""
    answer = server.get(f"/misuse-caught?how={how}&key=caught-{how}")
    assert (answer.status, answer.body) == (200, b"recovered")
    assert len(server.events(f"caught-{how}")) == 1


@pytest.mark.parametrize("how", [how for how in MISUSES if how not in ("twice", "exc-info-text")])
def test_start_response_misuse_forgotten(server, how):
    """A call that was rejected is as if it had not been made: the next one needs no exc_info.  (PEP 3333 has it
    otherwise; what can be said of an answer is that it is the only one.)"""
    answer = server.get(f"/misuse-caught?how={how}&key=forgotten-{how}&forgets")
    assert (answer.status, answer.body) == (200, b"recovered")
    assert len(server.events(f"forgotten-{how}")) == 1


HEADS = ("exc-info-nothing", "exc-info-empty", "no-reason", "length-twice", "length-thrice", "length-blanks",
         "length-twice-and-blanks", "length-zeros")  # fmt: skip


@pytest.mark.parametrize("kind", HEADS)
def test_what_others_take(server, kind):
    """What other servers take and means only one thing: exc_info of no exception, a status without a reason, a
    Content-Length twice or with blanks around it.  It is sent in the form that HTTP has for it."""
    with server.connect() as c:
        answer = c.request("GET", f"/head-of?kind={kind}")
        assert (answer.status, answer.reason, answer.body) == (200, "" if kind == "no-reason" else "OK", b"body")
        assert answer.framing == "length"
        if kind.startswith("length"):
            assert answer.all("Content-Length") == ["4"]
        assert c.request("GET", "/hello").text == "hello"


@pytest.mark.parametrize("kind", ["exc-info-nothing", "exc-info-empty"])
def test_exc_info_of_no_exception_replaces_nothing(server, kind):
    """It is as if none were given: a second call is an error."""
    start = server.log_size()
    assert server.get(f"/head-of?kind={kind}&after").status == 500
    server.wait_log("start_response called twice without exc_info", start=start)


def test_start_response_headers_are_taken_at_once(server):
    """The list of headers may be changed afterwards."""
    answer = server.get("/headers-changed-later")
    assert (answer.status, answer.header("X-A"), answer.body) == (200, "1", b"fine")


@pytest.mark.parametrize("target", ["/never-started", "/never-started-empty"])
def test_start_response_never_called(server, target):
    """A body, or the end, without start_response is an application error."""
    start = server.log_size()
    assert server.get(target).status == 500
    server.wait_log(f"Error handling request GET {target}", start=start)


def test_start_response_by_a_generator(server):
    """A generator calls start_response when it is first iterated, after an empty block even."""
    answer = server.get("/late-start")
    assert (answer.status, answer.body) == (201, b"late")


def test_write(server):
    """write() and returned blocks arrive in order."""
    assert server.get("/write").text == "written twice and returned"
    answer = server.get("/write-only")
    assert (answer.framing, answer.text) == ("length", "only")
    assert server.get("/write-misuse").text == "TypeError"


def test_write_of_more_than_the_length(server):
    """PEP 3333, "Handling the Content-Length Header": no more is sent, and write() raises."""
    answer = server.get("/write-too-much?key=too-much")
    assert (answer.framing, answer.text) == ("length", "abcdef")
    wanted = ["taken"] + 2 * ["write() of more than the Content-Length; the rest is cut off"]
    # The response is complete with the second call, while the application has yet to hear of it.
    assert [name for name, _ in server.wait_events("too-much", *wanted)] == wanted


def test_write_in_another_thread(server):
    """write() belongs to the thread that runs the request; any other gets an exception, and writes nothing."""
    assert server.get("/write-elsewhere").text == "RuntimeError"


def test_start_response_in_another_thread(server):
    """S6.6: it belongs to the thread that runs the request, as write() does."""
    assert server.get("/start-elsewhere").text == "RuntimeError"


def test_write_is_sent_before_the_application_goes_on(server):
    """A block that was written is transmitted though the application does not return."""
    with server.connect() as c:
        c.send(build("GET", "/write-at-once?key=gate"))
        head = c.read_head()
        blocks = c.iter_body(head)
        assert next(blocks) == b"written"
        server.call("probe.open_gate", "gate")
        assert b"".join(blocks) == b" and on"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_write_to_a_client_that_is_gone(server, how):
    """write() raises when its client takes no more; that is the client's doing and no error in the log."""
    start = server.log_size()
    with server.begin(f"/write-endless?key=write-{how}", receive_buffer=4096) as c:
        c.read_head()
        never(lambda: server.events(f"write-{how}"), "write() does not wait for the client")
        getattr(c, how)()
    server.wait_events(f"write-{how}", "ended")
    assert server.get("/hello").text == "hello"
    assert "ERROR" not in server.log(start)


def test_write_to_a_client_that_does_not_read(launch):
    """write() has no way to suspend, but its deadline is kept: it raises, and the thread is free again."""
    server = launch("pep3333:app", "--threads", "1", "--request-timeout", "1")
    with server.begin("/write-endless?key=stalled", receive_buffer=4096, timeout=LONG):
        server.wait_events("stalled", "ended")
        assert server.get("/hello").text == "hello"


@pytest.mark.parametrize("target", ["/write-after-end", "/start-after-end"])
def test_callables_kept_beyond_the_end(server, target):
    """write and start_response that are kept do nothing to later requests: they raise, or have no effect."""
    with server.connect() as c:
        for _ in range(5):
            answer = c.request("GET", target)
            assert answer.status == 200
            assert b"STRAY" not in answer.body
            assert answer.header("X-Stray") is None
