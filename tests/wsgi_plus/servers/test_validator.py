"""wsgi_plus.validator on servers: what is right stays as it is, and what is wrong is in the log, with its number."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import ExitStack

import pytest
from harness.limits import APPS, LONG, eventually, timeout
from harness.server import environment

APP = "validator_app:app"


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


def check_quiet(server):
    log = server.log()
    assert "WSGIPlus" not in log, log[log.index("WSGIPlus") - 2000 :]


@pytest.fixture
def server(served):
    server = served(APP, "--threads", "4")
    yield server
    check_quiet(server)


def complete(server, key):
    server.call("probe.complete", f"{key}-first", "one")
    server.call("probe.complete", f"{key}-second", "two")


def test_parks_and_goes_on(server, key):
    with server.begin(f"/park?key={key}") as c:
        server.wait_events(key, "parking")
        complete(server, key)
        assert c.read_response().text == "one two"
    server.wait_events(key, "finally")


@timeout(120)
def test_two_hundred_at_once(server, key):
    """They park, are resumed in any thread, park again and end; some of the clients leave."""
    keys = [f"{key}-{number}" for number in range(200)]
    with ExitStack() as stack:
        clients = [stack.enter_context(server.begin(f"/park?key={each}", timeout=LONG)) for each in keys]
        for each in keys:
            server.wait_events(each, "parking", within=LONG)
        for c, each in zip(clients[::10], keys[::10], strict=True):
            c.reset()
            server.wait_events(each, "finally", within=LONG)
        for number, each in enumerate(keys):
            if number % 10:
                complete(server, each)
        answers = {c.read_response().text for number, c in enumerate(clients) if number % 10}
    assert answers == {"one two"}
    for each in keys:
        server.wait_events(each, "finally", within=LONG)


def test_client_leaves_while_it_is_parked(server, key):
    """S8: wait() cancels the future, and close() ran in the right context, once."""
    with server.begin(f"/park?key={key}"):
        server.wait_events(key, "parking")
    server.wait_events(key, "finally")
    assert server.call("probe.state", f"{key}-first") == "cancelled"


def test_client_leaves_a_stream(server, key):
    with server.begin(f"/stream?key={key}&n=1000") as c:
        assert next(c.iter_body(c.read_head()))
        c.reset()
    server.wait_events(key, "finally")


def test_slow_client(server, key):
    with server.begin(f"/stream?key={key}&n=100", receive_buffer=4096, timeout=LONG) as c:
        assert len(c.read_response().body) == 100 * 65536


def test_failures(server, key):
    """S5: caught, uncaught before the response has begun, and after."""
    for name, how in (("handled", ""), ("unhandled", ""), ("unhandled", "&after")):
        one = f"{key}-{name}{len(how)}"
        with server.begin(f"/{name}?key={one}{how}") as c:
            server.call("probe.fail", one)
            if how:
                assert c.read_cut() == b"begun"
            else:
                answer = c.read_response()
                assert answer.status == {"handled": 502, "unhandled": 500}[name]


def test_deadline(served, key):
    """S12: close() follows at once."""
    server = served(APP, "--request-timeout", "0.3")
    with server.begin(f"/park?key={key}") as c:
        assert c.read_response().status == 504
    server.wait_events(key, "finally")
    check_quiet(server)


@pytest.mark.parametrize("where", ["blocked", "blocked-call", "blocked-and-replaces"])
def test_deadline_while_a_step_runs(served, key, where):
    """S12.4: the client is answered, or cut off, and close() follows when the step has returned."""
    server = served(APP, "--request-timeout", "0.3")
    with server.begin(f"/{where}?key={key}") as c:
        if where == "blocked-and-replaces":
            assert c.read_cut() in (b"begun", b"")  # it may be lost (S5.8)
        else:
            assert c.read_response().status == 504
    server.call("probe.open_gate", key)
    server.wait_events(key, "finally")
    server.get("/no-such")
    check_quiet(server)


def test_upload(server):
    """S14: in memory, and in a file."""
    for lines in (0, 1, 5, 50_000):
        assert server.request("POST", "/upload", (), (b"x" * 99 + b"\n") * lines).text == str(100 * lines)


def test_keep_alive_and_head(server, key):
    with server.connect() as c:
        for _ in range(3):
            assert c.request("POST", "/upload", (), b"12345").text == "5"
            c.send_request("HEAD", "/upload")
            assert c.read_response("HEAD").status == 200
            assert c.request("GET", "/no-such").status == 404


def test_shutdown(launched, key):
    """S18: what is parked is closed, and answered with 503."""
    server = launched(APP, "--graceful-timeout", "0.2")
    with server.begin(f"/park?key={key}") as c:
        server.wait_events(key, "parking")
        server.signal(15)
        assert c.read_response().status == 503
        assert server.wait_exit() == 0
    check_quiet(server)


# What is wrong


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("wrong", "S1.3: the application textual yielded a str"),
        ("swallowed", "S15.1: the middleware swallowing asked Counted for the next item"),
        ("stringified", "S15.5: the middleware stringifying made text of a future: a block has '<Future at 0x"),
    ],
)
def test_breach(served, key, app, message):
    """The client gets a 500 and nothing else, and the log says who it was; the server goes on."""
    server = served(f"validator_app:{app}")
    start = server.log_size()
    server.call("probe.complete", f"{key}-first", "one")
    assert server.get(f"/park?key={key}").status == 500
    assert f"WSGIPlusError: {message}" in eventually(lambda: server.log(start), "the log says so")
    assert server.get(f"/park?key={key}").status == 500


# Applications that know nothing of it


PEP3333 = [
    ("GET", "/hello", None),
    ("GET", "/change-environ", None),
    *[("POST", f"/input?how={how}", b"one\ntwo\nthree\nfour") for how in ("read_all", "read_minus_one", "read_sized")],
    *[("POST", f"/input?how={how}", b"one\ntwo\nthree\nfour") for how in ("readline_all", "readlines_hint", "iterate")],
    ("POST", "/input-later", b"later"),
    ("GET", "/errors", None),
    ("GET", "/file?size=100000", None),
    ("GET", "/file?size=100000&at=5000&length=95000", None),
    ("GET", "/file-kind?kind=only-read", None),
    *[
        ("GET", f"/iterable?kind={kind}&key=k", None)
        for kind in (
            *(
                "list",
                "tuple",
                "iterator",
                "generator",
                "map",
                "set",
                "dict",
                "bytes-list",
                "old",
                "separate",
                "subclass",
            ),
            *("octets", "closing", "empty-closing", "close-raising", "many"),
        )
    ],
    ("GET", "/error?kind=exception", None),
    ("GET", "/error-in-body?kind=exception", None),
    ("GET", "/exc-info-first", None),
    ("GET", "/exc-info-none", None),
    ("GET", "/exc-info-after-empty", None),
    ("GET", "/headers-changed-later", None),
    ("GET", "/late-start", None),
    ("GET", "/write", None),
    ("GET", "/write-only", None),
]
SUSPEND = [
    *["/hello", "/many-parks?n=20", "/timer?s=0.01", "/subclass", "/asyncio-wrapped", "/done-many?n=1000"],
    *[
        f"/iterables?kind={kind}&key={kind}{later}"
        for kind in ("list", "tuple", "iterator", "map", "chain", "generator", "deque", "futures-only-last", "getitem")
        for later in ("", "-later&later")
    ],
    *[f"/at-once?n=3&when={when}" for when in ("before", "after", "other-thread", "other-thread-running")],
    *[
        "/value-of-yield?key=value",
        "/sender?key=sender",
        "/catches-and-parks?key=catches",
        "/throw-delegated?key=throw",
    ],
    *[f"/catches?kind={kind}{late}" for kind in ("failed", "cancelled") for late in ("", "&late")],
    *[f"/fails?kind={kind}&key=fails{late}" for kind in ("failed", "cancelled") for late in ("", "&late")],
    *[f"/fails-behind-wrapper?kind=failed&key=wrapper&wrapper={wrapper}" for wrapper in ("closing", "map", "chain")],
    *["/settled?kind=failed", "/settled?kind=cancelled&late", "/fails-without-throw?kind=failed&key=without"],
    *["/start-before?key=before", "/start-after?key=after", "/start-replaced?key=replaced"],
]


def spoken(answer):
    headers = {
        name: value for name, value in answer.headers if name not in ("Date", "Content-Length", "Transfer-Encoding")
    }
    return answer.status, answer.reason, headers, answer.body


@pytest.mark.parametrize(("method", "target", "body"), PEP3333, ids=[target for _, target, _ in PEP3333])
def test_plain_applications_answer_as_without_it(served, method, target, body):
    bare, checked = served("pep3333:app"), served("validator_app:checked_pep3333")
    assert spoken(checked.request(method, target, (), body)) == spoken(bare.request(method, target, (), body))
    check_quiet(checked)


@pytest.mark.parametrize("target", SUSPEND)
def test_suspending_applications_answer_as_without_it(served, target):
    bare, checked = served("suspend:app"), served("validator_app:checked_suspend")
    assert spoken(checked.get(target)) == spoken(bare.get(target))
    check_quiet(checked)


def test_flask(launched, tmp_path):
    server = launched("validator_app:checked_flaskr()", env={"FLASKR_INSTANCE": str(tmp_path)})
    assert server.get("/hello").text == "Hello, World!"
    assert server.get("/json").status == 200
    assert server.get("/stream").text == "".join(f"{i} for nobody\n" for i in range(5))
    assert server.get("/no-such").status == 404
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    assert "required" in server.request("POST", "/auth/register", form, b"username=&password=").text
    check_quiet(server)


def test_django(launched, tmp_path):
    env = {"MYSITE_DATA": str(tmp_path), "DJANGO_SETTINGS_MODULE": "mysite.settings"}
    migrate = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, cwd=APPS, env=environment(env), check=True, capture_output=True, timeout=2 * LONG)
    server = launched("validator_app:checked_mysite()", env=env)
    assert "No polls are available." in server.get("/polls/").text
    assert server.get("/admin/login/").status == 200
    assert server.get("/no-such").status == 404
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    assert server.request("POST", "/admin/login/", form, b"username=x").status == 403
    check_quiet(server)
