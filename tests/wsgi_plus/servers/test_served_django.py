"""Django views that wait, on real servers."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter
from contextlib import ExitStack

import pytest
from harness.browser import Browser
from harness.client import build
from harness.limits import LONG

APP, STOCK = "django_app:application", "django_app:stock"
ZONES = {"de": "Europe/Berlin", "fr": "Europe/Paris", "pl": "Europe/Warsaw", "en": "Asia/Tokyo"}
YES = {"de": "Ja", "fr": "Oui", "pl": "Tak", "en": "Yes"}


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


@pytest.fixture
def server(served):
    """One thread: a request that holds it stops all others."""
    return served(APP, "--threads", "1")


def park(server, target, key):
    """A connection whose request waits."""
    c = server.connect()
    c.send_request("GET", target, [("X-Key", key)])
    server.wait_events(key, "parking")
    return c


def names(server, key):
    return [name for name, _ in server.events(key)]


def ends(server, key):
    """How a request went, when it is over."""
    server.wait_events(key, "finished")
    return [name for name in names(server, key) if name != "parking"]


# Waiting


def test_a_hundred_views_on_one_thread(server):
    with ExitStack() as stack:
        clients = [stack.enter_context(server.begin("/nap?s=0.5", timeout=LONG)) for _ in range(100)]
        assert {c.read_response().text for c in clients} == {"rested"}


@pytest.mark.parametrize(
    ("target", "how", "status", "text"),
    [
        ("/one?key=", ("complete", "fine"), 200, "got fine"),
        ("/one?template&key=", ("complete", "fine"), 200, "fine "),
        ("/one?key=", ("fail",), 502, "caught failed on purpose"),
        ("/one?uncaught&key=", ("fail",), 500, "Server Error (500)"),
        ("/one?key=", ("cancel",), 500, "Server Error (500)"),
        ("/one?after=404&key=", ("complete",), 404, "nothing at /one"),
        ("/one?after=403&key=", ("complete",), 403, "403 Forbidden"),
        ("/one?after=500&key=", ("complete",), 500, "Server Error (500)"),
    ],
)
def test_what_a_view_does_after_a_wait(server, key, target, how, status, text):
    with park(server, target + key, key) as c:
        server.call(f"probe.{how[0]}", key, *how[1:])
        answer = c.read_response()
    assert (answer.status, answer.header("X-Frame-Options")) == (status, "DENY")
    assert text in answer.text
    assert ends(server, key) == ["started", "finally", "response", "finished"]


@pytest.mark.parametrize("status", [404, 403, 500])
def test_what_a_view_does_before_a_wait(server, key, status):
    answer = server.get(f"/one?before={status}&key={key}", [("X-Key", key)])
    assert (answer.status, answer.header("X-Frame-Options")) == (status, "DENY")
    assert ends(server, key) == ["started", "finally", "response", "finished"]


@pytest.mark.parametrize("target", ["/one?key=", "/stream?key=", "/stream-later?key="])
def test_the_client_leaves(server, key, target):
    """S8: the view is closed and its future cancelled, on the server's thread (S7.3); the request is over once."""
    with park(server, target + key, key):
        pass
    assert ends(server, key) == ["started", *(["response"] if "stream" in target else []), "finally", "finished"]
    assert server.call("probe.state", key) == "cancelled"
    assert server.get("/nap?s=0").text == "rested"


@pytest.mark.parametrize("target", ["/one?key=", "/stream?key="])
def test_clients_leave_while_their_futures_are_completed(served, key, target):
    """Whichever comes first: each view and each request ends once, and nothing is logged."""
    server = served(APP, "--threads", "4")
    start = server.log_size()
    keys = [f"{key}-{number}" for number in range(30)]
    with ExitStack() as stack:
        clients = {each: stack.enter_context(park(server, target + each, each)) for each in keys}
        for number, each in enumerate(keys):
            order = [clients[each].close, lambda each=each: server.call("probe.complete_all", each)]
            for act in order if number % 2 else reversed(order):
                act()
    for each in keys:
        assert Counter(ends(server, each)) >= Counter(["started", "finally", "finished"])
        assert max(Counter(names(server, each)).values()) == 1
    assert server.log(start) == ""


@pytest.mark.parametrize("target", ["/one?key=", "/stream?key="])
def test_the_deadline(served, key, target):
    """S12.2."""
    server = served(APP, "--threads", "1", "--request-timeout", "1")
    with park(server, target + key, key) as c:
        if "stream" in target:
            assert b"begun ".startswith(c.read_cut())
        else:
            assert c.read_response().status == 504
    assert ends(server, key)[-2:] == ["finally", "finished"]
    assert server.call("probe.state", key) == "cancelled"


def test_uploads_are_there_after_a_wait(server, key):
    """In memory and in files."""
    for number, size in enumerate((10, 5_000_000)):
        mine = f"{key}-{number}"
        parts = [("word", b"hello"), ('file"; filename="f', b"\x01" * size)]
        body = b"".join(
            b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
            for name, value in parts
        )
        with server.connect(timeout=LONG) as c:
            c.send_request(
                "POST",
                f"/upload?key={mine}",
                [("Content-Type", "multipart/form-data; boundary=b")],
                body + b"--b--\r\n",
            )
            server.wait_events(mine, "parking", within=LONG)
            server.call("probe.complete", mine)
            answer = c.read_response()
        assert json.loads(answer.text) == {"name": "f", "size": size, "sum": size, "word": "hello"}


def test_sessions_users_and_forms(served):
    """CSRF, login, session: of views that wait."""
    server = served(APP, "--threads", "2")
    with Browser(server) as b, Browser(server) as other:
        assert b.get("/visit").status == 200 and "<form>" in b.page.text  # redirected
        assert other.post("/enter", {"username": "anna", "password": "let me in"}).status == 403  # without a token
        for expected in (1, 2, 3):
            if expected == 1:
                b.post("/enter", {"username": "anna", "password": "let me in"})
            else:
                b.get("/visit")
            assert b.page.text == f"anna: {expected}"
        other.get("/enter")
        assert other.post("/enter", {"username": "anna", "password": "let me out"}).status == 403


# Threads


def expected(language, prefix):
    return [language, YES[language], ZONES[language], f"urls_{language}", f"{prefix}/", f"{prefix}/{language}/mixed"]


@pytest.mark.parametrize("view", ["mixed", "mixed-stream"])
def test_languages_and_the_like_are_not_mixed_up(served, key, view):
    """Forty are resumed three times in any order, while one of them holds a thread so that others are needed."""
    server = served(APP, "--threads", "4")
    first, *rest = members = [f"{key}-{number}" for number in range(40)]
    wanted = {who: ([*ZONES][number % 4], f"/site{number}") for number, who in enumerate(members)}
    order = random.Random(3)
    with ExitStack() as stack:
        clients = {}
        for who, (language, prefix) in wanted.items():
            c = clients[who] = stack.enter_context(server.connect(timeout=LONG))
            target = f"/{language}/{view}?rounds=3&all={key}&key={who}{'&holds' if who == first else ''}"
            c.send_request("GET", target, [("X-Prefix", prefix), ("Accept-Language", language)])
        for number in range(3):
            server.wait_events(key, *len(members) * [f"parking {number}"], within=LONG)
            assert json.loads(server.get("/unmixed").text) == ["en", "America/Chicago", "/"]
            server.call("probe.complete", f"{first}-{number}")
            server.wait_events(key, f"resumed {number}", within=LONG)
            for who in order.sample(rest, len(rest)):
                server.call("probe.complete", f"{who}-{number}")
            server.wait_events(key, *len(members) * [f"resumed {number}"], within=LONG)
            server.call("probe.open_gate", f"{key}-{number}")
        answers = {who: json.loads(c.read_response().text) for who, c in clients.items()}
    for who, answer in answers.items():
        assert answer["found"] == [expected(*wanted[who])] * 4
    assert max(answer["threads"] for answer in answers.values()) > 1


# Transactions


def test_waiting_within_a_transaction(server, key):
    """It is rolled back, the future is not waited for, and the log says why."""
    start = server.log_size()
    assert server.get(f"/within?key={key}").status == 500
    server.wait_log("TransactionManagementError: waiting within a transaction of the database 'default'", start=start)
    assert server.call("probe.state", key) == "cancelled"
    assert server.get(f"/users?key={key}").text == "0"


def test_a_transaction_around_a_view(server, key):
    start = server.log_size()
    assert server.get(f"/around?key={key}").status == 500
    server.wait_log("ImproperlyConfigured: .* called within a transaction of the database 'default'", start=start)
    assert names(server, key) == []


# Streams


@pytest.mark.parametrize("view", ["stream", "stream-later"])
def test_a_hundred_streams_on_one_thread(server, key, view):
    with ExitStack() as stack:
        clients = [stack.enter_context(server.begin(f"/{view}?key={key}", timeout=LONG)) for _ in range(100)]
        for c in clients:
            head = c.read_head()
            assert (head.status, next(c.iter_body(head))) == (200, b"begun ")
            c.head = head
        server.call("probe.complete", key, "ended")
        assert {b"".join(c.iter_body(c.head)) for c in clients} == {b"ended "}


@pytest.mark.parametrize("view", ["stream", "stream-later"])
def test_failures_in_streams(server, key, view):
    with park(server, f"/{view}?key={key}", key) as c:
        server.call("probe.fail", key)
        assert c.read_response().body == b"begun caught failed on purpose "
    assert ends(server, key) == ["started", "response", "finally", "finished"]


@pytest.mark.parametrize("view", ["stream", "stream-later"])
def test_failures_that_are_not_caught_break_the_stream_off(server, key, view):
    with park(server, f"/{view}?uncaught&key={key}", key) as c:
        server.call("probe.fail", key)
        assert c.read_cut() == b"begun "
    assert ends(server, key) == ["started", "response", "finally", "finished"]


def test_compressed_streams_wait_without_a_thread(server, key):
    """S15.5: and each has sent what there was before."""
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect(timeout=LONG)) for _ in range(20)]
        for c in clients:
            c.send_request("GET", f"/stream?key={key}&n=1000", [("Accept-Encoding", "gzip")])
        bodies = []
        for c in clients:
            head = c.read_head()
            assert head.header("Content-Encoding") == "gzip"
            body = c.iter_body(head)
            bodies.append((next(body), body))
        server.call("probe.complete", key, "ended")
        for first, rest in bodies:
            packed = first + b"".join(rest)
            assert gzip.decompress(packed) == b"begun " + b"ended " * 1000
            assert len(packed) < 300


# Middleware that cannot be crossed


def test_function_style_middleware(launched, key):
    """It gets its response, from views that hold threads; that is said once."""
    server = launched(APP, "--threads", "4", env={"FUNCTION": "1"})
    for number in range(3):
        mine = f"{key}-{number}"
        with park(server, f"/one?key={mine}", mine) as c:
            server.call("probe.complete", mine, "fine")
            answer = c.read_response()
        assert (answer.text, answer.header("X-Function")) == ("got fine", "200")
        assert ends(server, mine) == ["started", "finally", "response", "finished"]
    assert server.log().count("django_app.function cannot be suspended") == 1


def test_streams_within_function_style_middleware(launched, key):
    """They are not its affair."""
    server = launched(APP, "--threads", "1", env={"FUNCTION": "1"})
    with park(server, f"/stream?key={key}", key) as c:
        assert server.get("/users?key=").text == "0"
        server.call("probe.complete", key, "ended")
        answer = c.read_response()
    assert (answer.text, answer.header("X-Function")) == ("begun ended ", "200")
    assert "cannot be suspended" not in server.log()


# Ordinary views

ORDINARY = [
    build("GET", "/cookie"),
    build("GET", "/numbers"),
    build("GET", "/file"),
    build("GET", "/page"),
    build("HEAD", "/page"),
    build("GET", "/page", [("If-None-Match", '"x"'), ("Accept-Language", "de")]),
    build("GET", "/bad?error=404"),
    build("GET", "/bad?error=403"),
    build("GET", "/bad?error=500"),
    build("GET", "/no/such/page"),
    build("POST", "/posted", [("Content-Type", "application/x-www-form-urlencoded")], b"a=1&b=2"),
    build("POST", "/page", [], b"no token"),
    build("OPTIONS", "/unmixed", [("X-Prefix", "/site")]),
]


def test_ordinary_responses_are_django_s(served):
    """To the byte, but for the date."""

    def said(app, request):
        with served(app, "--threads", "1").connect() as c:
            c.send(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
            whole, end = c.drain()
        assert (end, whole.count(b"\r\nDate: ")) == ("eof", 1)
        return re.sub(b"\r\nDate: [^\r]*", b"", whole)

    for request in ORDINARY:
        assert said(APP, request) == said(STOCK, request)
