"""Health and metrics, which are served without Python: they answer whatever the application does."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time

import pytest
from harness.admin import parse
from harness.client import Connection, Truncated, build
from harness.limits import LONG, PROMPT, SANITIZED, SLOW, eventually, timeout


@pytest.fixture
def server(serve):
    return serve("basic", "--threads", "2", admin=True)


@pytest.fixture
def parking(serve):
    return serve("suspend:app", "--threads", "2", admin=True)


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


def test_health(server):
    """/healthz: 200 and ok."""
    answer = server.admin.get("/healthz")
    assert (answer.status, answer.text.strip()) == (200, "ok")
    assert answer.header("Content-Type").startswith("text/plain")


def test_readiness(server):
    """/readyz: 200 when the application is loaded."""
    eventually(lambda: server.admin.get("/readyz").status == 200, "it is ready")


def test_readiness_while_loading(launch, tmp_path):
    """/readyz is 503 and /healthz is 200 before the application is loaded."""
    (tmp_path / "slow_start.py").write_text(
        "import os, time\n"
        "deadline = time.monotonic() + 60\n"
        "while not os.path.exists('go') and time.monotonic() < deadline:\n"
        "    time.sleep(0.01)\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '2')])\n"
        "    return [b'ok']\n"
    )
    server = launch("slow_start", cwd=tmp_path, admin=True, ready=False)
    eventually(lambda: server.admin_address() is not None, "the admin endpoint listens", within=LONG)
    assert server.admin.get("/healthz").status == 200
    assert server.admin.get("/readyz").status == 503
    (tmp_path / "go").write_text("")
    eventually(lambda: server.admin.get("/readyz").status == 200, "it is ready", within=LONG)
    server.wait_ready()
    assert server.get("/").text == "ok"


def test_other_paths_and_methods(server):
    """Nothing else is there; only GET and HEAD are answered."""
    with Connection(server.admin_address()) as c:
        assert c.request("GET", "/nothing").status == 404
    with Connection(server.admin_address()) as c:
        assert c.request("POST", "/healthz").status == 405
    with Connection(server.admin_address()) as c:
        answer = c.request("HEAD", "/healthz")
        assert (answer.status, answer.body) == (200, b"")


def test_query_strings_are_ignored(server):
    """/healthz?x is /healthz."""
    assert server.admin.get("/healthz?verbose=1").status == 200


def test_keep_alive_and_pipelining(server):
    """The endpoint is HTTP as the other one is: several requests on a connection."""
    with Connection(server.admin_address()) as c:
        c.send(build("GET", "/healthz") + build("GET", "/metrics") + build("GET", "/readyz"))
        assert c.read_response().status == 200
        metrics = c.read_response()
        assert metrics.status == 200
        assert metrics.header("Content-Type").startswith("text/plain; version=0.0.4")
        assert c.read_response().status == 200


def test_strictness(server):
    """The endpoint refuses what the other one refuses."""
    with Connection(server.admin_address()) as c:
        c.send(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert c.read_response().status == 400
        c.ended()


def test_admin_is_not_on_the_main_address(server):
    """The application's address knows nothing of the endpoint, nor the endpoint of the application."""
    assert server.get("/healthz").status == 404
    assert server.admin.get("/hello").status == 404


OPEN = ("/healthz", "/readyz", "/metrics")


def ask(address, target, headers=(), method="GET"):
    """One request with just these fields, Host among them."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
    with Connection(address) as c:
        c.send(f"{method} {target} HTTP/1.1\r\n{fields}\r\n".encode())
        return c.read_response()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8001", "localhost.evil.example", "127.0.0.1.evil.example", "a-name"])
def test_a_host_that_could_be_anyones(launch, host):
    """A name that its owner can point at this machine is asked for nothing but health and metrics: 421."""
    server = launch("basic", "--admin-host", "metrics.example", "--workers", "1", admin=True)
    eventually(lambda: server.admin.get("/readyz").status == 200, "it is ready", within=LONG)
    for target in (*OPEN, "/workers"):
        known = ask(server.admin_address(), target, [("Host", host)]).status
        assert known == (421 if target == "/workers" else 200), target


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8001", "[::1]:8001", "10.1.2.3", "localhost", "LocalHost:1", "a.localhost", "metrics.Example", "localhost."]
)
def test_hosts_that_are_known(launch, host):
    """Addresses, localhost and --admin-host."""
    server = launch("basic", "--admin-host", "other.example", "--admin-host", "metrics.example", "--workers", "1", admin=True)
    assert ask(server.admin_address(), "/workers", [("Host", host)]).status == 200


@pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)])
def test_requests_of_other_sites(launch, site, status):
    """What a page of another site asks for is refused; browsers say so in Sec-Fetch-Site."""
    server = launch("basic", "--workers", "1", admin=True)
    headers = [("Host", "127.0.0.1"), ("Sec-Fetch-Site", site)]
    assert ask(server.admin_address(), "/workers", headers).status == status
    assert ask(server.admin_address(), "/metrics", headers).status == 200


@pytest.mark.parametrize("target", ["/workers", "/", "/status.json", "/status.txt", "/requests.json", "/requests.json?limit=x", "/nothing"])
def test_nothing_keeps_what_only_some_may_see(launch, target):
    """Neither a browser nor a proxy stores it, or takes it for something else than it is."""
    server = launch("basic", "--workers", "1", admin=True)
    answer = ask(server.admin_address(), target, [("Host", "127.0.0.1")])
    assert answer.header("X-Content-Type-Options") == "nosniff" and answer.header("Cache-Control") == "no-store"
    if target == "/workers":
        assert answer.header("Content-Type") == "application/json"


@pytest.mark.parametrize(("options", "status"), [([], 403), (["--admin-status"], 200)], ids=["hidden", "shown"])
def test_beyond_this_machine(launch, options, status):
    """On an address that others can reach there are health and metrics, and the rest with --admin-status."""
    server = launch("basic", "--workers", "1", "--admin-bind", "0.0.0.0:0", *options)
    eventually(lambda: server.admin_address() is not None, "the admin endpoint listens", within=LONG)
    address = ("127.0.0.1", server.admin_address()[1])
    headers = [("Host", "127.0.0.1")]
    assert ask(address, "/workers", headers).status == status
    eventually(lambda: [ask(address, target, headers).status for target in OPEN] == [200] * 3, "all are open", within=LONG)


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]], ids=["alone", "workers"])
def test_on_a_unix_socket(launch, tmp_path, workers):
    """It may be a path, which only its owner can connect to, and which is gone afterwards."""
    path = tmp_path / "admin"
    server = launch("basic", *workers, "--umask", "0", "--admin-bind", f"unix:{path}")
    assert path.stat().st_mode & 0o777 == 0o600
    with Connection(str(path)) as c:
        assert c.request("GET", "/metrics").status == 200
    server.stop()
    assert not path.exists()


def test_no_admin_by_default(launch):
    """Without --admin-bind there is none."""
    assert launch("basic").admin_address() is None


NAMES = {
    "fermata_requests_total": "counter",
    "fermata_requests_in_flight": "gauge",
    "fermata_threads": "gauge",
    "fermata_queue_wait_seconds": "histogram",
    "fermata_step_duration_seconds": "histogram",
    "fermata_request_duration_seconds": "histogram",
    "fermata_parked_seconds": "histogram",
    "fermata_received_bytes_total": "counter",
    "fermata_sent_bytes_total": "counter",
    "fermata_connections_total": "counter",
    "fermata_connections": "gauge",
    "fermata_refused_requests_total": "counter",
    "fermata_disconnects_total": "counter",
    "fermata_request_timeouts_total": "counter",
    "fermata_application_errors_total": "counter",
    "fermata_oldest_seconds": "gauge",
    "fermata_thread_busy_seconds_total": "counter",
    "fermata_gil_wait_seconds": "histogram",
    "fermata_connections_limit": "gauge",
    "fermata_queue_limit": "gauge",
    "fermata_build_info": "gauge",
    "process_cpu_seconds_total": "counter",
    "process_resident_memory_bytes": "gauge",
    "process_virtual_memory_bytes": "gauge",
    "process_open_fds": "gauge",
    "process_max_fds": "gauge",
    "process_start_time_seconds": "gauge",
}


def test_metrics_are_complete(server):
    """/metrics is Prometheus text with every metric, its type and its help."""
    metrics = server.admin.metrics()
    assert {name: metrics.types.get(name) for name in NAMES} == NAMES
    assert metrics.labels("fermata_requests_in_flight", "state") == {
        "queued",
        "running",
        "parked_future",
        "parked_client",
        "sending",
    }
    assert metrics.labels("fermata_threads", "state") == {"busy", "idle"}
    assert metrics.value("fermata_threads", state="idle") == 2


def test_promtool_has_no_objection(server):
    """promtool check metrics, where there is one; the tests' own reader is as strict otherwise."""
    server.get("/hello")
    page = server.admin.get("/metrics").body
    promtool = shutil.which("promtool")
    if promtool:
        done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")
    assert len(parse(page.decode()).types) > 30


@pytest.mark.parametrize("workers", [0, 2], ids=["alone", "workers"])
def test_limits_and_what_runs(launch, workers):
    """Limits are those of the options, of all workers together; what runs is said, and of the process what is usual."""
    options = ["--worker-connections", "300", "--limit-queue", "7", *(["--workers", str(workers)] if workers else [])]
    server = launch("basic", *options, admin=True)
    each = workers or 1
    metrics = server.admin.wait("fermata_connections_limit", 300 * each, within=LONG)
    assert metrics.value("fermata_connections_limit") == 300 * each
    assert metrics.value("fermata_queue_limit") == 7 * each
    assert metrics.total("fermata_build_info") == 1
    said = subprocess.run([server.command[0], "--version"], capture_output=True, text=True).stdout
    (version,), (python,) = (metrics.labels("fermata_build_info", name) for name in ("version", "python"))
    assert f"fermata {version}" in said and f"Python {python}" in said
    assert metrics.value("process_open_fds") > 3
    assert metrics.value("process_max_fds") >= 256
    assert 1e6 < metrics.value("process_resident_memory_bytes") < metrics.value("process_virtual_memory_bytes")
    assert time.time() - 3600 < metrics.value("process_start_time_seconds") <= time.time() + 1


@pytest.mark.parametrize("options", [[], ["--workers", "1"]], ids=["alone", "workers"])
def test_the_oldest_of_each_state(launch, key, options):
    """A request that never ends is in no histogram, but as old as it is; afterwards there is none."""
    server = launch("suspend:app", "--threads", "1", *options, admin=True)
    states = ("queued", "running", "parked_future", "parked_client", "sending")

    def oldest(metrics):
        return {state: metrics.value("fermata_oldest_seconds", state=state) for state in states}

    eventually(lambda: not any(oldest(server.admin.metrics()).values()), "no request is there")
    begun = time.monotonic()
    parked = server.begin(f"/park?key=p{key}", timeout=LONG)
    server.admin.wait_in_flight("parked_future", 1)
    slow = server.begin(f"/blocks?mb=100&key=b{key}", receive_buffer=4096, timeout=LONG)
    server.admin.wait_in_flight("parked_client", 1)
    with slow, parked, server.begin(f"/gate?key={key}", timeout=LONG) as held:
        server.admin.wait_in_flight("running", 1)
        with server.begin("/gate?key=x", timeout=LONG) as queued:
            server.admin.wait_in_flight("queued", 1)
            time.sleep(1)
            found = oldest(server.admin.metrics())
            most = time.monotonic() - begun + 0.2
            assert all(1 <= found[state] <= most * 7 / 6 for state in states if state != "sending"), (found, most)
            assert found["sending"] == 0
            queued.reset()
            server.admin.wait_in_flight("queued", 0)
            assert server.admin.metrics().value("fermata_oldest_seconds", state="queued") == 0
        server.call("probe.open_gate", key)
        assert held.read_response().status == 200
        slow.reset()
        parked.reset()
    eventually(lambda: not any(oldest(server.admin.metrics()).values()), "no request is there any more")


@pytest.mark.parametrize("options", [[], ["--workers", "1"]], ids=["alone", "workers"])
def test_the_oldest_that_is_being_sent(launch, key, options):
    """A response whose end is kept for a client that does not read: its age is known from its last step on, whether
    anything else has woken the event loop or not."""
    server = launch("basic", "--threads", "2", *options, admin=True)

    def wait_for_its_end(n):
        """A request whose last kilobytes are kept, and whose step waits; None if the kernel has all, or it is parked."""
        sent = server.admin.metrics().value("fermata_sent_bytes_total")
        c = server.begin(f"/held-end?n={n}&key={key}{n}", receive_buffer=4096, timeout=LONG)

        def settled():
            parked = server.admin.metrics().in_flight("parked_client")
            return "parked" if parked else "there" if server.events(f"{key}{n}") else None

        how = eventually(settled, "its step waits, or it is parked", within=LONG)
        kept = n * 1000 - (server.admin.metrics().value("fermata_sent_bytes_total") - sent)
        if how == "there" and kept > 0:
            return 0, c
        server.call("probe.open_gate", f"{key}{n}")
        c.reset()
        server.admin.wait_in_flight("parked_client", 0)
        server.admin.wait_in_flight("running", 0)
        return (1 if how == "parked" else -1), None

    low, high, found = 10, 8000, None
    for _ in range(20):
        n = (low + high) // 2
        order, found = wait_for_its_end(n)
        if found:
            break
        low, high = (n, high) if order < 0 else (low, n)
    assert found, "what the kernel takes cannot be told"
    with found, Connection(server.admin_address(), timeout=LONG) as scraper:

        def scrape():
            return parse(scraper.request("GET", "/metrics", [("Host", "127.0.0.1")]).text)

        assert scrape().in_flight("running") == 1
        server.call("probe.open_gate", f"{key}{n}")
        server.wait_events(f"{key}{n}", "over")
        time.sleep(0.3)
        metrics = scrape()
        assert metrics.in_flight("sending") == 1
        assert 0.1 < metrics.value("fermata_oldest_seconds", state="sending") < 10 * SLOW
        assert len(found.read_response().body) == n * 1000
    eventually(lambda: scrape_oldest(server) == 0, "it has been sent")


def scrape_oldest(server):
    return server.admin.metrics().value("fermata_oldest_seconds", state="sending")


def test_busy_seconds_count_steps_that_run(server, key):
    """Threads are busy for as long as a step runs, and not only when it is over; it never goes back."""
    with server.begin(f"/gate?key={key}", timeout=LONG) as held:
        server.admin.wait_in_flight("running", 1)
        name = "fermata_thread_busy_seconds_total"
        before, over = server.admin.metrics().value(name), server.admin.metrics().total("fermata_step_duration_seconds_sum")
        server.admin.wait(name, before + 0.5)
        assert server.admin.metrics().total("fermata_step_duration_seconds_sum") == over
        last = server.admin.metrics().value(name)
        server.call("probe.open_gate", key)
        assert held.read_response().status == 200
    assert server.admin.metrics().value(name) >= last


def test_waiting_for_the_gil_is_counted(launch, tmp_path):
    """A step that could not begin because another thread had the GIL is in the histogram."""
    server = launch("hog:app", "--threads", "2", admin=True)
    with contextlib.closing(Held(server, tmp_path / "fifo", "/hold-the-gil")) as held:
        with server.begin("/hello", timeout=LONG) as waiting:
            time.sleep(0.4)
            assert held.let_go().status == 200
            assert waiting.read_response().text == "hello"
    metrics = server.admin.metrics()
    assert metrics.total("fermata_gil_wait_seconds_sum") >= 0.2


def test_requests_by_class(server):
    """Requests are counted by the class of their status; the 500 of an error too."""
    before = server.admin.metrics()
    server.get("/hello")
    server.get("/hello")
    server.get("/no-such-path")
    server.get("/raise")
    server.get("/respond?status=304+Not+Modified")
    for name, more in (("2xx", 2), ("3xx", 1), ("4xx", 1), ("5xx", 1)):
        server.admin.wait(
            "fermata_requests_total", before.get("fermata_requests_total", **{"class": name}) + more, **{"class": name}
        )
    after = server.admin.metrics()
    assert after.total("fermata_requests_total") == before.total("fermata_requests_total") + 5
    assert after.total("fermata_application_errors_total") == before.total("fermata_application_errors_total") + 1


def test_what_is_over_is_not_being_sent(launch):
    """Also where the loop has slept since, as nothing was to be done: its client keeps the connection, and waits."""
    server = launch("basic", admin=True)
    with server.connect() as c, Connection(server.admin_address(), timeout=LONG) as scraper:
        for _ in range(3):
            c.send_request("GET", "/slow?s=0.2")  # another thread than the one that polls
            assert c.read_response().status == 200
            time.sleep(0.3)
            scraper.send_request("GET", "/metrics")
            metrics = parse(scraper.read_response().text)
            assert (metrics.in_flight("running"), metrics.in_flight("sending")) == (0, 0)


def test_the_last_request_before_the_end_is_answered(server):
    """A client may close its side with the request."""
    with Connection(server.admin_address(), timeout=LONG) as c:
        c.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        c.half_close()
        assert c.read_response().text == "ok\n"


def test_histograms_count_requests(server):
    """Each request is in the histograms of its duration, its wait and its steps."""
    before = server.admin.metrics()
    server.get("/slow?s=0.3")
    for name in ("request_duration", "step_duration"):
        counted = f"fermata_{name}_seconds_count"
        server.admin.wait(counted, before.get(counted) + 1)
    after = server.admin.metrics()
    for name in ("request_duration", "step_duration"):
        spent = after.total(f"fermata_{name}_seconds_sum") - before.total(f"fermata_{name}_seconds_sum")
        assert 0.25 < spent < 0.3 + PROMPT, name
    assert after.total("fermata_queue_wait_seconds_count") > before.total("fermata_queue_wait_seconds_count")


def test_durations_end_with_the_response(launch):
    """The end of a request is noted when it has ended, not when its connection is looked at again."""
    server = launch("basic", "--threads", "8", "--keep-alive", "60", admin=True)
    held = [server.begin("/slow?s=0.3", timeout=LONG) for _ in range(6)]
    assert [c.read_response().status for c in held] == [200] * 6
    time.sleep(2)  # the connections stay open, nothing happens
    metrics = server.admin.wait("fermata_request_duration_seconds_count", 6)
    assert metrics.total("fermata_request_duration_seconds_sum") < 6 * 0.3 + 3 * SLOW


def test_parked_time_is_no_step(parking):
    """Time parked is in the parked histogram and in the request's duration, not in a step's."""
    before = parking.admin.metrics()
    assert parking.get("/timer?s=0.5").status == 200
    after = parking.admin.wait(
        "fermata_request_duration_seconds_count", before.get("fermata_request_duration_seconds_count") + 1
    )

    def more(name):
        return after.total(f"fermata_{name}_seconds_sum") - before.total(f"fermata_{name}_seconds_sum")

    assert more("parked") > 0.4
    assert more("request_duration") > 0.4
    assert more("step_duration") < 0.4 or SLOW > 1


def test_bytes(server):
    """Bytes in both directions are counted."""
    before = server.admin.metrics()
    assert len(server.request("POST", "/echo", (), b"x" * 100_000).body) == 100_000
    after = server.admin.wait("fermata_sent_bytes_total", before.total("fermata_sent_bytes_total") + 100_000)
    received = after.total("fermata_received_bytes_total") - before.total("fermata_received_bytes_total")
    assert 100_000 < received < 102_000
    assert after.total("fermata_sent_bytes_total") - before.total("fermata_sent_bytes_total") < 102_000


def test_connections(server):
    """Connections are counted, the open ones as a gauge; those to the endpoint itself are not among them."""
    before = server.admin.metrics()
    with server.connect() as c, server.connect() as d:
        c.request("GET", "/hello")
        d.request("GET", "/hello")
        open_now = server.admin.metrics()
        assert open_now.total("fermata_connections_total") == before.total("fermata_connections_total") + 2
        assert open_now.value("fermata_connections") >= 2
    eventually(
        lambda: server.admin.metrics().value("fermata_connections") <= before.value("fermata_connections"),
        "none is open",
    )


@pytest.mark.parametrize(
    ("state", "target"),
    [("parked_future", "/park?key="), ("running", "/gate?key="), ("parked_client", "/blocks?mb=100&key=")],
)
def test_in_flight_and_disconnects_by_state(parking, key, state, target):
    """A request is in flight in its state, and its client's going is counted under that state."""
    before = parking.admin.metrics()
    c = parking.begin(target + key, receive_buffer=4096)
    parking.admin.wait_in_flight(state, 1)
    c.reset()
    time.sleep(0.1)
    if state == "running":
        parking.call("probe.open_gate", key)
    metrics = parking.admin.wait_in_flight(state, 0)
    eventually(
        lambda: (
            parking.admin.metrics().total("fermata_disconnects_total") == before.total("fermata_disconnects_total") + 1
        ),
        "the disconnect is counted",
    )
    assert metrics.labels("fermata_disconnects_total", "state") >= {state} or state == "parked_client"


def test_queued_and_busy(server, key):
    """Requests that wait for a thread are queued; threads that run one are busy."""
    held = [server.begin(f"/gate?key={key}", timeout=LONG) for _ in range(5)]
    try:
        server.admin.wait_in_flight("running", 2)
        metrics = server.admin.wait_in_flight("queued", 3)
        assert metrics.value("fermata_threads", state="busy") == 2
        assert metrics.value("fermata_threads", state="idle") == 0
        server.call("probe.open_gate", key)
        assert [c.read_response().status for c in held] == [200] * 5
    finally:
        for c in held:
            c.close()
    metrics = server.admin.wait_in_flight("running", 0)
    assert metrics.in_flight("queued") == 0
    eventually(lambda: server.admin.metrics().value("fermata_threads", state="idle") == 2, "the threads are idle")


def answers(server, number=20):
    """Asks for everything so often. That the answers do not wait shows in that what holds the threads has not ended."""
    for _ in range(number):
        for path in ("/healthz", "/readyz", "/metrics"):
            assert server.admin.get(path, timeout=LONG).status == 200


class Held:
    """The request that holds the GIL of a server of hog:app, from its start until `let_go`."""

    def __init__(self, server, fifo, path):
        os.mkfifo(fifo)
        self.gate = os.open(fifo, os.O_RDWR)  # both, so that opening does not wait
        self.client = server.begin(f"{path}?fifo={fifo}", timeout=LONG)
        server.admin.wait_in_flight("running", 1)
        time.sleep(0.3)  # from there to read(2), where it holds the GIL

    def let_go(self):
        os.write(self.gate, b".")
        return self.client.read_response()

    def close(self):
        if self.gate >= 0:
            os.write(self.gate, b".")
            os.close(self.gate)
            self.client.close()
        self.gate = -1


@pytest.fixture
def hold(tmp_path):
    """hold(server, path) holds the server's GIL in a request."""
    with contextlib.ExitStack() as stack:
        yield lambda server, path="/hold-the-gil": stack.enter_context(
            contextlib.closing(Held(server, tmp_path / "fifo", path))
        )


@timeout(120)
def test_answers_while_every_thread_sleeps(server, key):
    """Every pool thread waits in the application, and more requests are queued: the endpoint answers."""
    held = [server.begin(f"/gate?key={key}", timeout=LONG) for _ in range(4)]
    try:
        server.admin.wait_in_flight("running", 2)
        server.admin.wait_in_flight("queued", 2)
        answers(server)
        assert server.admin.metrics().in_flight("queued") == 2
        server.call("probe.open_gate", key)
        assert [c.read_response().status for c in held] == [200] * 4
    finally:
        for c in held:
            c.close()


@timeout(120)
@pytest.mark.parametrize("where", ["hold-the-gil", "hold-the-gil-in-close", "hold-the-gil-after-parking"])
def test_answers_while_the_gil_is_held(launch, hold, where):
    """An application holds the GIL in C, for as long as we like: the endpoint answers all the while."""
    server = launch("hog:app", "--threads", "2", admin=True)
    assert server.get("/hello").text == "hello"
    held = hold(server, f"/{where}")
    answers(server)
    with server.begin("/hello", timeout=LONG) as waiting:
        server.admin.wait("fermata_connections_total", 3)
        assert server.admin.metrics().in_flight("running") >= 1
        assert held.let_go().status == 200
        assert waiting.read_response().text == "hello"


@timeout(120)
def test_io_goes_on_while_the_gil_is_held(launch, hold):
    """Meanwhile connections are accepted, bodies are read, and refusals are answered: the loop needs no Python."""
    server = launch("hog:app", "--threads", "2", admin=True)
    assert server.get("/hello").text == "hello"
    held = hold(server)
    with server.connect() as refused:
        refused.send(b"nonsense\r\n\r\n")
        assert refused.read_response().status == 400
    with server.connect(timeout=LONG) as upload:
        upload.send(build("POST", "/hello", [("Expect", "100-continue"), ("Content-Length", "3")]))
        assert upload.read_head().status == 100
        upload.send(b"abc")
        assert held.let_go().status == 200
        assert upload.read_response().text == "hello"


@timeout(120)
def test_deadline_while_the_gil_is_held(launch, hold):
    """A request's deadline is kept although the GIL is held: 504 before it is let go."""
    server = launch("hog:app", "--threads", "2", "--request-timeout", "1", admin=True)
    assert server.get("/hello").text == "hello"
    held = hold(server)
    assert held.client.read_response().status == 504
    assert server.admin.metrics().in_flight("running") == 1
    held.close()
    eventually(lambda: server.admin.metrics().in_flight("running") == 0, "the step has ended", within=LONG)


@timeout(120)
def test_client_gone_while_the_gil_is_held(launch, hold):
    """A parked client that goes while the GIL is held is closed afterwards, and nothing crashes."""
    server = launch("hog:app", "--threads", "2", admin=True)
    parked = server.begin("/park", timeout=LONG)
    server.admin.wait_in_flight("parked_future", 1)
    held = hold(server)
    parked.reset()
    server.admin.wait("fermata_disconnects_total", 1, state="parked_future")
    assert held.let_go().status == 200
    server.admin.wait_in_flight("parked_future", 0)


@timeout(120)
def test_sending_goes_on_while_the_gil_is_held(launch, hold):
    """What is already in the output of other requests is sent to their clients meanwhile."""
    server = launch("hog:app", "--threads", "2", admin=True)
    with server.begin("/blocks", receive_buffer=65536, timeout=LONG) as slow:
        head = slow.read_head()
        server.admin.wait_in_flight("parked_client", 1)
        held = hold(server)
        blocks = slow.iter_body(head)
        assert sum(len(next(blocks)) for _ in range(3)) > 0
        assert held.let_go().status == 200
        rest = sum(len(block) for block in blocks)
        assert rest > 0


def test_scraping_does_not_disturb(server):
    """A thousand scrapes leave neither memory nor descriptors behind."""
    for _ in range(50):
        server.admin.get("/metrics")
    memory, files = server.process.rss(), len(server.process.fds())
    for _ in range(1000):
        with Connection(server.admin_address()) as c:
            c.request("GET", "/metrics")
    assert server.process.rss() - memory < 1_000_000 or SANITIZED
    eventually(lambda: len(server.process.fds()) <= files, "no descriptor is left")


def test_idle_admin_connections_do_not_stay_for_ever(launch):
    """Timeouts hold for the endpoint too."""
    server = launch("basic", "--keep-alive", "1", "--header-timeout", "1", admin=True)
    with Connection(server.admin_address()) as c, Connection(server.admin_address()) as half:
        assert c.request("GET", "/healthz").status == 200
        half.send(b"GET /heal")
        assert c.ended() == "eof"
        try:
            half.drain()
        except Truncated:
            pass
