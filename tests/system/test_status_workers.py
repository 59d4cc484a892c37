"""?worker=N on the arbiter's admin port: the pages of one worker, answered by that, whatever it and its client do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal

import jsonschema
import pytest
from harness.admin import parse
from harness.client import Connection, NoResponse, Truncated
from harness.limits import LONG, PROMPT, ROOT, TSAN, eventually, timeout
from harness.process import Process
from harness.workers import wait_ready, workers_of
from test_stacks import ASKS, stacks
from test_status import SCHEMA, line_of

pytestmark = [timeout(180)]

HOST = [("Host", "127.0.0.1")]


@pytest.fixture
def site(launch):
    """site(app, *options): a server with workers, all of which are ready."""

    def start(app: str = "places", *options: str, workers: int = 2, **more):
        more.setdefault("admin", True)
        server = launch(app, "--workers", str(workers), "--threads", "2", *options, **more)
        if more["admin"]:
            wait_ready(server, workers)
        return server

    return start


def ask(server, target, method="GET", headers=HOST, within=LONG):
    with Connection(server.admin_address(), timeout=within) as c:
        return c.request(method, target, headers)


def status(server, worker, page="/status.json", query=""):
    answer = ask(server, f"{page}?worker={worker}{query}")
    assert answer.status == 200, answer.text
    assert answer.header("Connection") == "close"
    told = json.loads(answer.text)
    if page == "/status.json":
        jsonschema.Draft202012Validator(SCHEMA).validate(told)
        assert told["server"]["worker"] == worker and "workers" not in told["server"]
    return told


def parked_in(server) -> dict[int, int]:
    """How many requests are parked in which slot."""
    return {w["slot"]: w["parked"] for w in workers_of(server)}


@contextlib.contextmanager
def parked(server, wanted: dict[int, int], target="/deep"):
    """So many requests that are parked in each slot.  Who accepts a connection is not ours to say: what is one too many
    there is given up again."""
    with contextlib.ExitStack() as stack:
        have = parked_in(server)
        assert not any(have.values())
        while have != wanted:
            c = server.begin(target, timeout=LONG)
            stack.callback(c.close)
            now = eventually(lambda: (now := parked_in(server)) != have and now, "one more is parked", within=LONG)
            if any(now[slot] > wanted[slot] for slot in now):
                c.close()
                eventually(lambda: parked_in(server) == have, "and is given up", within=LONG)
            else:
                have = now
        yield
    eventually(lambda: not any(parked_in(server).values()), "none is left", within=LONG)


@contextlib.contextmanager
def stopped(pid):
    """A process that the kernel does not let go on."""
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: "T (stopped)" in open(f"/proc/{pid}/status").read(), "it is stopped")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def pid_of(server, slot) -> int:
    (pid,) = (w["pid"] for w in workers_of(server) if w["slot"] == slot)
    return pid


def outcome(c) -> int | str:
    """The status of an answer, or that there is none."""
    try:
        return c.read_response().status
    except (NoResponse, Truncated, ConnectionResetError):
        return "closed"


# ---- what is shown ----


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
def test_each_worker(site, preload):
    """Its own requests, places and numbers, and nothing of the other's."""
    server = site("places", *preload)
    with parked(server, {0: 3, 1: 1}):
        for slot, n in ((0, 3), (1, 1)):
            told = status(server, slot)
            assert told["server"]["pid"] == pid_of(server, slot) and told["server"]["ready"]
            assert told["threads"]["limit"] == 2
            (group,) = told["places"]
            assert (group["n"], group["line"], group["function"]) == (n, line_of("places", "leaf"), "leaf")
            assert told["in_flight"]["parked_future"]["n"] == n == len(told["requests"])
            metrics = parse(ask(server, f"/metrics?worker={slot}").text)
            assert metrics.in_flight("parked_future") == n
            assert ("fermata_workers_wanted", ()) not in metrics.samples
            text = ask(server, f"/status.txt?worker={slot}").text
            assert f"pid {pid_of(server, slot)}, worker {slot}, up" in text
            assert text.partition("OLDEST REQUESTS")[2].count("GET /deep") == n and re.search(
                rf"{n}  median .*places.py:\d+ leaf", text
            )
            page = ask(server, f"/?worker={slot}")
            assert f"worker {slot} - fermata</title>" in page.text and '<a href="/">' in page.text
            assert page.text.partition("Oldest requests")[2].count("<code>/deep</code>") == n
        sums = json.loads(ask(server, "/status.json").text)
        assert sums["in_flight"]["parked_future"]["n"] == 4 and sums["server"]["workers"] == 2
        rows = status(server, 0, "/requests.json", "&limit=2")
        assert len(rows["requests"]) == 2 and rows["truncated"] == 1
        assert len(status(server, 0, "/requests.json", f"&after={rows['last']}")["requests"]) == 1
        assert status(server, 1, "/requests.json", "&state=running")["requests"] == []
        assert ask(server, "/requests.json?worker=1&other=1").status == 400


def test_what_they_wait_for(site):
    """Python is asked in the worker."""
    server = site("futures_told", "--pythonpath", str(ROOT / "py"), workers=1)
    with parked(server, {0: 2}, "/plain"):

        def told():
            groups = status(server, 0)["places"]
            return groups and groups[0].get("futures")

        assert eventually(told, "it is told what they wait for", within=LONG) == [{"n": 2, "kind": "Future"}]


def test_places_as_metrics(site):
    """--metrics-places: those of a worker are with the worker."""
    server = site("places", "--metrics-places")
    with parked(server, {0: 2, 1: 1}):
        for slot, n in ((0, 2), (1, 1)):
            samples = parse(ask(server, f"/metrics?worker={slot}").text).samples
            at = {
                dict(labels)["place"]: value
                for (name, labels), value in samples.items()
                if name == "fermata_parked_requests"
            }
            assert at == {f"places.py:{line_of('places', 'leaf')}": n, "other": 0}


def test_all_of_them(site):
    """Without ?worker= the pages list the workers, with links, complete without script; and what is each one's own is not there."""
    server = site()
    with parked(server, {0: 1, 1: 2}):
        page = ask(server, "/").text
        for slot, n in ((0, 1), (1, 2)):
            row = rf'<tr><td><a href="/\?worker={slot}">worker {slot}</a><td class=n>{pid_of(server, slot)}<td>ready.*?<td class=n>{n}<td>'
            assert re.search(row, page)
            assert re.search(
                rf"^ +{slot} +{pid_of(server, slot)}  ready .* {n}$", ask(server, "/status.txt").text, re.M
            )
    assert "style=" not in page and "onclick" not in page
    for target, method, headers in (
        ("/requests.json", "GET", HOST),
        ("/stacks", "POST", ASKS),
        ("/metrics/app", "GET", HOST),
    ):
        answer = ask(server, target, method, headers)
        assert (answer.status, answer.text) == (400, "each worker has its own: ?worker=N says which (0, 1)\n")
    assert ask(server, "/nothing?worker=0").status == 404


# ---- who asks ----


PAGES = ["/", "/status.json", "/status.txt", "/requests.json"]


@pytest.mark.parametrize("page", [*PAGES, "/metrics", "/metrics/app"])
def test_workers_that_there_are_not(site, page):
    server = site(workers=1)
    answer = ask(server, f"{page}?worker=7")
    assert (answer.status, answer.text) == (404, "there is no worker 7, but there are 0\n")
    for wrong in ("", "x", "-1", "99999999999999999999"):
        answer = ask(server, f"{page}?worker={wrong}")
        assert (answer.status, answer.text) == (400, "worker=N: the number of a worker\n"), wrong
    assert ask(server, f"{page}?worker=0").status in ((404, 503) if page == "/metrics/app" else (200,))
    for open_to_all in ("/healthz?worker=7", "/readyz?worker=7", "/workers?worker=7"):
        assert ask(server, open_to_all).status == 200  # the arbiter's


def test_who_may_see_it(site):
    """The same rules as for a single process; nothing is handed over against them."""
    server = site(workers=1)
    for page in PAGES:
        target = f"{page}?worker=0"
        assert ask(server, target, headers=[*HOST, ("Sec-Fetch-Site", "cross-site")]).status == 403
        assert ask(server, target, headers=[("Host", "evil.example")]).status == 421
        assert ask(server, target, headers=[("Host", "localhost"), ("Sec-Fetch-Site", "same-origin")]).status == 200
        refused = ask(server, target, "POST", ASKS)
        assert (refused.status, refused.header("Allow")) == (405, "GET, HEAD")
        with Connection(server.admin_address()) as c:
            c.send(f"HEAD {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert c.read_response("HEAD").status == 200
    assert ask(server, "/stacks?worker=0", "POST", HOST).status == 403
    assert ask(server, "/stacks?worker=0", "GET", ASKS).status == 405
    assert ask(server, "/stacks?worker=0", "POST", [*ASKS, ("Sec-Fetch-Site", "cross-site")]).status == 403
    answer = ask(server, "/?worker=0")
    assert (
        "default-src 'none'" in answer.header("Content-Security-Policy")
        and answer.header("Cache-Control") == "no-store"
    )


@pytest.mark.parametrize(("options", "expected"), [([], 403), (["--admin-status"], 200)], ids=["hidden", "shown"])
def test_beyond_this_machine(site, options, expected):
    server = site("places", "--admin-bind", "0.0.0.0:0", *options, workers=1, admin=False)
    eventually(lambda: server.admin_address() is not None, "the admin endpoint listens", within=LONG)
    port = server.admin_address()[1]

    def get(target):
        with Connection(("127.0.0.1", port)) as c:
            return c.request("GET", target, HOST).status

    eventually(lambda: get("/metrics?worker=0") == 200, "it is ready", within=LONG)  # numbers are for all
    assert [get(f"{page}?worker=0") for page in PAGES] == [expected] * 4


def test_more_names(site):
    """--admin-host holds for workers as well."""
    server = site("places", "--admin-host", "metrics.example", workers=1)
    assert ask(server, "/status.json?worker=0", headers=[("Host", "metrics.example")]).status == 200


def test_on_a_unix_socket(site, tmp_path):
    server = site("places", "--admin-bind", f"unix:{tmp_path}/admin", workers=1, admin=False)
    eventually(lambda: server.admin_address() is not None, "the admin endpoint listens", within=LONG)
    eventually(lambda: ask(server, "/status.json?worker=0").status == 200, "it is ready", within=LONG)


def test_requests_in_one_write(site):
    """What came before is answered by the arbiter, the one with ?worker= by the worker, and what follows by nobody."""
    server = site()
    with Connection(server.admin_address(), timeout=LONG) as c:
        asks = ("/healthz", "/readyz", "/status.json?worker=1", "/healthz")
        c.send("".join(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" for target in asks).encode())
        answers = [c.read_response() for _ in range(3)]
        assert [answer.status for answer in answers] == [200] * 3
        assert [answer.header("Connection") for answer in answers] == ["keep-alive", "keep-alive", "close"]
        assert json.loads(answers[2].text)["server"]["worker"] == 1
        assert c.ended() == "eof"


def test_heads(site):
    """One that comes a byte at a time, one with all that a browser sends, and those that are too long for it, or have a body."""
    server = site()
    with Connection(server.admin_address(), timeout=LONG) as c:
        c.send_pieces(bytes([b]) for b in b"GET /status.json?worker=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert c.read_response().status == 200
    cookies = [*HOST, ("User-Agent", "x" * 400), *((f"X-{n}", "y" * 1000) for n in range(10))]
    assert ask(server, "/status.json?worker=1", headers=cookies).status == 200
    long = [*HOST, *((f"X-{n}", "y" * 4000) for n in range(10))]
    answer = ask(server, "/status.json?worker=1", headers=long)
    assert (answer.status, answer.text) == (431, "the head is too long to be handed to a worker\n")
    assert ask(server, "/status.json", headers=long).status == 200
    with Connection(server.admin_address(), timeout=LONG) as c:
        c.send(
            b"POST /stacks?worker=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Fermata: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        )
        assert c.read_response().status == 400


def test_clients_that_leave(site):
    """At once, or while they are being answered, by the dozen: nothing is left of them, and descriptors do not grow."""
    server = site(workers=1)
    worker = pid_of(server, 0)

    def descriptors():
        return [len(Process(pid).fds()) for pid in (server.pid, worker)]

    assert status(server, 0)
    before = eventually(lambda: (n := descriptors()) == descriptors() and n, "they are at rest")
    for n in range(200):
        c = Connection(server.admin_address(), timeout=LONG)
        c.send(b"GET /?worker=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        if n % 3 == 0:
            c.reset()
        elif n % 3 == 1:
            c.close()
        else:
            assert c.read_response().status == 200
            c.close()
    eventually(lambda: all(now <= then for now, then in zip(descriptors(), before)), "all are closed", within=LONG)
    assert status(server, 0)["server"]["pid"] == worker


def test_many_that_do_not_read(site):
    """A worker has no more of them than it may; the others are answered."""
    server = site("places", "--keep-alive", "60", workers=1)
    worker = pid_of(server, 0)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Connection(server.admin_address(), timeout=LONG)) for _ in range(150)]
        for c in clients:
            c.send(b"GET /status.json?worker=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert status(server, 0)
        assert sum(link.startswith("socket:") for link in Process(worker).fds().values()) < 64 + 30
        assert outcome(clients[-1]) == 200
    assert server.admin.get("/healthz").status == 200


# ---- workers that do not answer ----


def test_a_worker_that_is_being_started(launch, tmp_path):
    broken = tmp_path / "broken"
    server = launch("workers:app", "--workers", "2", admin=True, env={"WORKERS_BREAK": str(broken)})
    wait_ready(server, 2)
    broken.write_text("hold")
    one = pid_of(server, 1)
    os.kill(one, signal.SIGKILL)
    eventually(
        lambda: [w["state"] for w in workers_of(server) if w["slot"] == 1 and w["pid"] != one] == ["loading"],
        "it is started again",
        within=LONG,
    )
    held = pid_of(server, 1)
    answer = ask(server, "/status.json?worker=1")
    assert (answer.status, answer.text) == (503, f"worker 1 (pid {held}) is being started\n")
    assert "loading" in ask(server, "/").text
    assert status(server, 0)["server"]["ready"]
    broken.write_text("kill")
    os.kill(held, signal.SIGKILL)
    told = eventually(
        lambda: (
            "has ended, and is about to be started again" in (text := ask(server, "/status.txt?worker=1").text) and text
        ),
        "it has ended",
        within=LONG,
    )
    assert told == "worker 1 has ended, and is about to be started again: /workers says more\n"
    broken.unlink()
    wait_ready(server, 2)
    assert status(server, 1)


def test_a_worker_that_is_stopped(site):
    """Who has asked it waits; who asks later is told; the arbiter answers all others; and when it goes on it answers."""
    server = site("places", "--timeout", "0")
    with stopped(pid_of(server, 1)), contextlib.ExitStack() as stack:
        first = stack.enter_context(Connection(server.admin_address(), timeout=LONG))
        first.send(b"GET /status.json?worker=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")

        def refused():
            c = stack.enter_context(Connection(server.admin_address(), timeout=LONG))
            c.send(b"GET /status.txt?worker=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            return c.readable(0.05) and c.read_response()

        answer = eventually(refused, "it is said that it does not answer", within=LONG, every=0.2)
        assert answer.status == 503
        assert (
            answer.text
            == f"worker 1 (pid {pid_of(server, 1)}) does not answer: its event loop has not turned for a second or more\n"
        )
        for target in ("/healthz", "/readyz", "/metrics", "/workers", "/", "/status.json?worker=0"):
            assert ask(server, target, within=PROMPT).status == 200
        assert not first.readable(0)
        os.kill(pid_of(server, 1), signal.SIGCONT)
        assert json.loads(first.read_response().text)["server"]["worker"] == 1
        eventually(lambda: ask(server, "/status.json?worker=1").status == 200, "it answers again", within=LONG)


def test_more_than_there_is_room_for(site):
    """As many as wait for a stopped worker: the arbiter tells all others at once, and those that wait are answered."""
    server = site("places", "--timeout", "0", workers=1)
    head = (
        b"GET /requests.json?worker=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        + b"".join(b"X-%d: %s\r\n" % (n, b"y" * 3000) for n in range(4))
        + b"\r\n"
    )
    with contextlib.ExitStack() as stack:
        with stopped(pid_of(server, 0)):
            clients = [stack.enter_context(Connection(server.admin_address(), timeout=LONG)) for _ in range(120)]
            for c in clients:
                c.send(head)
            assert eventually(lambda: [c for c in clients if c.readable(0)], "one is refused", within=LONG)
            assert ask(server, "/healthz", within=PROMPT).status == 200
        outcomes = [outcome(c) for c in clients]
    assert set(outcomes) <= {200, 503, "closed"} and {200, 503} <= set(outcomes), outcomes
    assert status(server, 0)


def test_a_worker_that_is_killed_meanwhile(site):
    """Its client sees the connection closed, and the next worker is shown."""
    server = site("places", "--timeout", "0")
    one = pid_of(server, 1)
    with stopped(one), Connection(server.admin_address(), timeout=LONG) as c:
        c.send(b"GET /status.json?worker=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert ask(server, "/healthz").status == 200  # it has been read by then
        os.kill(one, signal.SIGKILL)
        assert outcome(c) == "closed"
    wait_ready(server, 2, {one})
    assert status(server, 1)["server"]["pid"] == pid_of(server, 1) != one


def test_a_worker_that_drains(site):
    """It is shown to the end, as a single process is: why does it not end?"""
    server = site("places", "--graceful-timeout", "60", workers=1)
    with server.begin("/deep", timeout=LONG):
        server.admin.wait_in_flight("parked_future", 1, within=LONG)
        server.signal(signal.SIGTERM)
        told = eventually(lambda: (told := status(server, 0))["server"]["draining"] and told, "it drains", within=LONG)
        assert [group["n"] for group in told["places"]] == [1]
        assert ", draining" in ask(server, "/status.txt?worker=0").text.splitlines()[0]
    assert server.wait_exit() == 0


def test_a_client_in_the_end(site):
    """One that a worker has not answered when it ends is ended with it."""
    server = site("measured:app", "--venv", str(ROOT / "build/venv"), workers=1)
    server.call("measured.behave", "wait")
    with Connection(server.admin_address(), timeout=LONG) as c:
        c.send(b"GET /metrics/app?worker=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        server.wait_events("collector", "waits")
        server.signal(signal.SIGTERM)
        assert outcome(c) in ("closed", 503)
    assert server.wait_exit() == 0


def test_replaced_workers(site):
    """After a reload the new one of the slot is shown, also while the old one drains."""
    server = site("places", "--drain-timeout", "60", workers=1)
    one = pid_of(server, 0)
    with server.begin("/deep", timeout=LONG):
        server.admin.wait_in_flight("parked_future", 1, within=LONG)
        server.signal(signal.SIGHUP)
        eventually(
            lambda: sorted(w["state"] for w in workers_of(server)) == ["draining", "ready"], "one drains", within=LONG
        )
        told = status(server, 0)
        assert told["server"]["pid"] != one and told["places"] == []
        page = ask(server, "/").text
        assert page.count('<a href="/?worker=0">') == 2 and page.index(">ready<") < page.index(">draining<")


# ---- another program in the arbiter's place ----


def test_after_an_upgrade(launch, tmp_path):
    """Workers that were taken over show their pages to the new program's clients."""
    broken = tmp_path / "broken"
    server = launch("workers:app", "--workers", "2", admin=True, env={"WORKERS_BREAK": str(broken)})
    before = wait_ready(server, 2)
    broken.write_text("raise")  # so that the old ones stay
    server.signal(signal.SIGUSR2)
    server.wait_log("Reload failed", within=LONG)
    assert wait_ready(server, 2) == before
    assert {status(server, slot)["server"]["pid"] for slot in (0, 1)} == before
    broken.unlink()


# ---- stacks, and the application's metrics ----


def test_stacks(site):
    """POST /stacks?worker=N: where that one's threads are."""
    server = site("basic", workers=1)
    with server.begin("/gate?key=k", timeout=LONG) as held:
        server.admin.wait_in_flight("running", 1, within=LONG)
        answer = ask(server, "/stacks?worker=0", "POST", ASKS)
        assert answer.status == 200 and "GET /gate  (id " in answer.text
        (frames,) = stacks(answer.text).values()
        assert any(function == "gate" for _, _, function in frames), frames
        server.call("probe.open_gate", "k")
        assert held.read_response().status == 200


@pytest.mark.skipif(TSAN, reason="ThreadSanitizer keeps signals back from a thread that is in C")
@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
def test_stacks_while_the_gil_is_held(site, tmp_path, preload):
    """In a worker, too, the thread that holds it says where it is; and the page is there."""
    server = site("hog:app", *preload, workers=1)
    os.mkfifo(tmp_path / "fifo")
    gate = os.open(tmp_path / "fifo", os.O_RDWR)
    try:
        with server.begin(f"/hold-the-gil?fifo={tmp_path}/fifo", timeout=LONG) as held:
            server.admin.wait_in_flight("running", 1, within=LONG)

            def says():
                text = ask(server, "/stacks?worker=0", "POST", ASKS).text
                return "each has said by itself where it is" in text and re.search(r'hog\.py", line \d+ in hold', text)

            eventually(says, "the thread has said where it is", within=LONG)
            assert status(server, 0)["running"][0]["path"] == "/hold-the-gil"
            os.write(gate, b".")
            assert held.read_response().status == 200
    finally:
        os.write(gate, b".")
        os.close(gate)


def test_metrics_of_the_application(site):
    """/metrics/app?worker=N: each worker's own registry."""
    server = site("measured:app", "--venv", str(ROOT / "build/venv"))
    for _ in range(5):
        assert server.get("/quote").status == 200
    counts = []
    for slot in (0, 1):
        answer = ask(server, f"/metrics/app?worker={slot}")
        assert answer.status == 200 and answer.header("Age") == "0", answer.text
        metrics = parse(answer.text)
        counts.append(metrics.get("quotes_total", of='\\"odd\\"\\nname'))
        assert metrics.value("open_orders") == 17
    assert sum(counts) == 5 and counts[0] != counts[1]
