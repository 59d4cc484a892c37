"""POST /stacks and `fermata stacks`: where the threads are that run the application, also while a C call holds the GIL."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time

import pytest
from harness.client import Connection
from harness.limits import LONG, SLOW, TSAN, eventually, timeout
from harness.server import run

ASKS = [("Host", "127.0.0.1"), ("X-Fermata", "1")]


def ask(server, headers=ASKS, method="POST", target="/stacks"):
    with Connection(server.admin_address(), timeout=LONG) as c:
        return c.request(method, target, headers)


def stacks(text: str) -> dict[str, list[tuple[str, str, str]]]:
    """By thread: file, line and function of each frame, innermost first."""
    head, *parts = text.split("\n\n")
    assert re.match(r"(\d+ threads? runs? the application|no thread runs the application)", head), text
    found = {}
    for part in parts:
        first, *frames = part.splitlines()
        name = re.match(r"(fermata-\d+) +\d+\.\d{3} s  ", first)
        assert name, first
        found[name.group(1)] = [re.fullmatch(r'  File "(.*)", line (\d+) in (.*)', line).groups() for line in frames]
    return found


keeps_signals_back = pytest.mark.skipif(TSAN, reason="ThreadSanitizer keeps signals back from a thread that is in C")


@pytest.fixture
def hog(launch):
    return launch("hog:app", "--threads", "2", admin=True)


@pytest.fixture
def hold(tmp_path):
    """hold(server, path) begins a request that holds the server's GIL in C until the test is over, or let_go() is called."""
    with contextlib.ExitStack() as stack:

        def begin(server, path="/hold-the-gil"):
            fifo = tmp_path / "fifo"
            os.mkfifo(fifo)
            gate = os.open(fifo, os.O_RDWR)
            client = server.begin(f"{path}?fifo={fifo}", timeout=LONG)
            stack.callback(client.close)
            stack.callback(os.close, gate)
            stack.callback(os.write, gate, b".")
            server.admin.wait_in_flight("running", 1, within=LONG)

            def reads():  # read(2) of the FIFO, in which the GIL is held
                paths = [f"/proc/{server.pid}/task/{tid}/syscall" for tid in os.listdir(f"/proc/{server.pid}/task")]
                for path in paths:
                    with contextlib.suppress(OSError), open(path) as file:
                        number, first = (file.read() + " - -").split()[:2]
                        if number in ("0", "63") and first != "-":
                            link = os.readlink(f"/proc/{server.pid}/fd/{int(first, 16)}")
                            if link == str(fifo):
                                return True
                return False

            eventually(reads, "it holds the GIL", within=LONG)
            return lambda: (os.write(gate, b"."), client.read_response())[1]

        yield begin


def test_nothing_runs(hog):
    answer = ask(hog)
    assert (answer.status, answer.text) == (200, "no thread runs the application\n")
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"
    assert answer.header("Cache-Control") == "no-store"
    assert run("stacks", "--pid", str(hog.pid)).stdout == answer.text


def test_python_answers(launch):
    """Steps that wait without the GIL: each thread is told with its request and its frames, and none is signalled."""
    server = launch("basic", "--threads", "3", admin=True)
    with server.begin("/gate?key=k", timeout=LONG), server.begin("/gate?key=k", timeout=LONG):
        server.admin.wait_in_flight("running", 2)
        answer = ask(server)
        assert answer.status == 200
        assert ("without Python" in answer.text) != server.has_gil()
        assert len(re.findall(r"^fermata-\d +\d+\.\d{3} s  GET /gate  \(id \d+\)$", answer.text, re.M)) == 2
        found = stacks(answer.text)
        assert len(found) == 2
        for frames in found.values():
            assert any(function == "gate" and file.endswith("/basic.py") for file, _, function in frames), frames
            assert not any(function.startswith("_bootstrap") for _, _, function in frames), frames
        assert run("stacks", "--pid", str(server.pid)).stdout.count("GET /gate") == 2
        server.call("probe.open_gate", "k")


@timeout(180)
@keeps_signals_back
@pytest.mark.parametrize("where", ["hold-the-gil", "hold-the-gil-in-close", "hold-the-gil-after-parking"])
def test_while_the_gil_is_held(hog, hold, where):
    """The thread that holds it says where it is, and its system call goes on; asked often, and by the command."""
    let_go = hold(hog, f"/{where}")
    for _ in range(3):
        began = time.monotonic()
        answer = ask(hog)
        assert answer.status == 200 and time.monotonic() - began < 3 + 5 * SLOW
        assert "1 thread runs the application; each has said by itself where it is, without Python" in answer.text
        assert f"GET /{where}  (id " in answer.text
        ((file, _, function), *outer) = next(iter(stacks(answer.text).values()))
        assert (function, file.endswith("/hog.py")) == ("hold", True), answer.text
        assert outer[0][0].endswith("/hog.py")
    done = run("stacks", "--pid", str(hog.pid))
    assert done.returncode == 0 and re.search(r'hog\.py", line \d+ in hold', done.stdout)
    assert hog.admin.get("/healthz").status == 200
    assert let_go().status == 200
    assert hog.get("/hello").text == "hello"
    eventually(lambda: ask(hog).text == "no thread runs the application\n", "Python answers again", within=LONG)


@timeout(120)
@keeps_signals_back
def test_an_idle_connection_is_not_cut_off(launch, hold):
    """A timeout for idle connections that is shorter than the wait for Python does not cut it short."""
    server = launch("hog:app", "--threads", "2", "--keep-alive", "0.2", admin=True)
    hold(server)
    assert "without Python" in ask(server).text


def test_a_second_time_while_the_gil_is_held(hog, hold):
    """Python, which was asked the first time and has not answered, is not waited for again."""
    hold(hog)
    assert ask(hog).status == 200
    began = time.monotonic()
    assert "without Python" in ask(hog).text
    assert time.monotonic() - began < 0.9 * SLOW


@keeps_signals_back
def test_many_ask_at_once(hog, hold):
    """All of them get an answer, those that ask while one is being found the same one; one that goes takes nothing along."""
    hold(hog)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Connection(hog.admin_address(), timeout=LONG)) for _ in range(20)]
        for c in clients:
            c.send(b"POST /stacks HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Fermata: 1\r\n\r\n")
        clients[0].reset()
        clients[7].reset()
        answers = [c.read_response() for n, c in enumerate(clients) if n not in (0, 7)]
    assert {answer.status for answer in answers} == {200}
    assert all('hog.py", line ' in answer.text for answer in answers)
    assert hog.admin.get("/status.json").status == 200


@timeout(120)
def test_ten_threads(launch):
    """All of them, whatever they do: wait without the GIL, or compute with it."""
    server = launch("stacked:app", "--threads", "10", admin=True)
    with contextlib.ExitStack() as stack:
        for n in range(5):
            stack.enter_context(server.begin(f"/sleeps?n={n}", timeout=LONG))
            stack.enter_context(server.begin(f"/computes?n={n}", timeout=LONG))
        server.admin.wait_in_flight("running", 10, within=LONG)

        def all_of_them():
            found = [{function for _, _, function in frames} for frames in stacks_or_none(ask(server).text).values()]
            return [sum(name in names for names in found) for name in ("sleeping", "computing")] == [5, 5]

        eventually(all_of_them, "each thread is in one of them", within=LONG)
        server.call("stacked.end_all")


ODD = [
    ("line-feed", r'/srv/a\\x0a  File "/etc/made-up", line 1 in up\\x1b\[2J\.py'),
    ("surrogate", r"\?\?\?"),
    ("long", r"\.\.\.[a-z/]{200,}/folder/last\.py"),
]


@pytest.mark.parametrize(("name", "shown"), ODD)
def test_odd_names_of_files(launch, name, shown):
    """A frame is one line, whatever its file is called; of a long path the end is shown, and the function in any case."""
    server = launch("stacked:app", "--threads", "2", admin=True)
    if not server.has_gil():
        pytest.skip("faulthandler tells the names then")
    with server.begin(f"/odd-name?{name}", timeout=LONG) as c:
        server.admin.wait_in_flight("running", 1, within=LONG)
        eventually(lambda: " in waiting\n" in ask(server).text, "it waits", within=LONG)
        text = ask(server).text
        assert re.search(rf'^  File "{shown}", line 2 in waiting$', text, re.M), text
        assert '\n  File "/etc/made-up' not in text and "\x1b" not in text
        server.call("stacked.end_all")
        assert c.read_response().status == 200


def test_an_application_that_replaces_import(launch):
    """Nothing of the application's is called to find its stacks."""
    server = launch("stacked:app", "--threads", "2", admin=True)
    with server.begin("/without-import", timeout=LONG) as c:
        server.admin.wait_in_flight("running", 1, within=LONG)
        eventually(lambda: " in sleeping\n" in ask(server).text, "it is found", within=LONG)
        server.call("stacked.end_all")
        assert c.read_response().status == 200


def stacks_or_none(text):
    """As stacks, where a step may have been over."""
    found = {}
    for part in text.split("\n\n")[1:]:
        frames = re.findall(r'^  File "(.*)", line (\d+) in (.*)$', part, re.M)
        found[part.split()[0]] = frames
    return found


@timeout(180)
def test_steps_that_end_meanwhile(launch):
    """Thousands of short steps on all threads, while somebody asks and asks: nothing breaks, nothing is made up."""
    server = launch("stacked:app", "--threads", "4", admin=True)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect(timeout=LONG)) for _ in range(8)]
        until = time.monotonic() + 4
        while time.monotonic() < until:
            for c in clients:
                c.send(b"GET /short HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = ask(server)
            assert answer.status == 200
            for frames in stacks_or_none(answer.text).values():
                assert not frames or any(file.endswith(("/stacked.py", "/routes.py")) for file, _, _ in frames), (
                    answer.text
                )
            assert [c.read_response().status for c in clients] == [200] * len(clients)


def test_a_thread_that_blocks_the_signal(launch, hold):
    """It does not answer, which is said after a moment; and it may let it through later, when nobody asks any more."""
    server = launch("hog:app", "--threads", "2", admin=True)
    hold(server, "/hold-the-gil-and-block-signals")
    began = time.monotonic()
    answer = ask(server)
    assert answer.status == 200 and "the thread has not answered: it blocks the signal" in answer.text
    assert time.monotonic() - began < 4 + 5 * SLOW
    assert server.admin.get("/healthz").status == 200


def test_a_signal_that_the_application_uses(launch, hold):
    """It is not taken from it: Python is asked, and where that does not answer it is said why there is nothing else."""
    server = launch("hog:app", "--threads", "2", admin=True)
    assert server.get("/take-the-signal").text == "taken"
    hold(server)
    answer = ask(server)
    assert answer.status == 200 and "the signal by which the thread would be asked is used by others" in answer.text
    assert server.alive()


def test_a_signal_that_is_ignored(launch, hold):
    """As nohup does with others: it stays ignored."""
    before = signal.signal(signal.SIGRTMAX - 2, signal.SIG_IGN)
    try:
        server = launch("hog:app", "--threads", "2", admin=True)
    finally:
        signal.signal(signal.SIGRTMAX - 2, before)
    hold(server)
    assert "is used by others" in ask(server).text
    os.kill(server.pid, signal.SIGRTMAX - 2)
    assert server.admin.get("/healthz").status == 200


REFUSED = [
    ("GET", ASKS, 405, "POST, with the header X-Fermata: 1"),
    ("HEAD", ASKS, 405, ""),
    ("PUT", ASKS, 405, "POST, with the header X-Fermata: 1"),
    ("POST", [("Host", "127.0.0.1")], 403, "the header X-Fermata: 1 is missing"),
    ("POST", [("Host", "127.0.0.1"), ("X-Fermata", "yes")], 403, "the header X-Fermata: 1 is missing"),
    ("POST", [("Host", "127.0.0.1"), ("X-Fermata", "")], 403, "the header X-Fermata: 1 is missing"),
    ("POST", [*ASKS, ("Sec-Fetch-Site", "cross-site")], 403, "a page of another site asks"),
    ("POST", [("Host", "evil.example"), ("X-Fermata", "1")], 421, "Host is neither"),
]


@pytest.mark.parametrize(("method", "headers", "status", "text"), REFUSED)
def test_who_may_ask(hog, method, headers, status, text):
    """Only who means it: not by a link, not by a page of another site."""
    answer = ask(hog, headers, method)
    assert answer.status == status and answer.text.startswith(text)
    assert (answer.header("Allow") == "POST") == (status == 405)
    for other in ("/status.json", "/metrics", "/"):
        refused = ask(hog, ASKS, "POST", other)
        assert (refused.status, refused.header("Allow")) == (405, "GET, HEAD")


@pytest.mark.parametrize(("options", "status"), [([], 403), (["--admin-status"], 200)], ids=["hidden", "shown"])
def test_beyond_this_machine(launch, options, status):
    server = launch("basic", "--admin-bind", "0.0.0.0:0", *options)
    eventually(lambda: server.admin_address() is not None, "the admin endpoint listens", within=LONG)
    with Connection(("127.0.0.1", server.admin_address()[1])) as c:
        assert c.request("POST", "/stacks", ASKS).status == status


def test_no_query_and_no_variables(launch):
    """Paths are cut or left out as in the other pages; queries and variables are in none."""
    server = launch("basic", "--status-paths", "none", admin=True)
    with server.begin("/gate?key=s3cr3t", timeout=LONG):
        server.admin.wait_in_flight("running", 1)
        text = ask(server).text
        assert "gate" in text and "/gate" not in text and "s3cr3t" not in text
        server.call("probe.open_gate", "s3cr3t")


def test_a_drain_while_somebody_asks(launch, hold):
    """The server ends while stacks are being found."""
    server = launch("hog:app", "--threads", "2", "--graceful-timeout", "20", admin=True)
    let_go = hold(server)
    with Connection(server.admin_address(), timeout=LONG) as c:
        c.send(b"POST /stacks HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Fermata: 1\r\n\r\n")
        server.signal(signal.SIGTERM)
        assert let_go().status == 200
        assert server.wait_exit() == 0
