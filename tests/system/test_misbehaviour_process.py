"""Applications that misbehave: what they do to the process, and that it ends and serves all the same."""

from __future__ import annotations

import re
import signal
import subprocess
import time

import pytest
from harness.bystander import busy, bystander, nothing_left
from harness.client import NoResponse
from harness.limits import LONG, QUIET, SANITIZED, eventually, timeout
from harness.server import Server

not_sanitized = pytest.mark.skipif(SANITIZED, reason="the sanitizer has a view of its own on this")


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


@pytest.fixture
def server(serve):
    return serve("misbehave:app", "--threads", "4", "--keep-alive", "60", admin=True)


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
        server.wait_stack(r"this is where its step is:\n[\s\S]*misbehave\w*\.py")
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
