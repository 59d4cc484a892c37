"""The status pages: what waits where, told without Python, and nothing that is not to be shown."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time

import jsonschema
import pytest
from harness.admin import parse
from harness.client import Connection, build
from harness.limits import LONG, ROOT, SLOW, eventually, fermata, timeout

APPS = ROOT / "tests/apps"
SCHEMA = json.loads((ROOT / "spec/status.schema.json").read_text())


def get(target: str) -> bytes:
    return build("GET", target, [("Host", "127.0.0.1")])


def line_of(app: str, mark: str) -> int:
    """The line of a test's application that is marked so."""
    lines = (APPS / f"{app}.py").read_text().splitlines()
    (number,) = (n for n, line in enumerate(lines, 1) if line.endswith(f"# the line: {mark}"))
    return number


def status(server, path="/status.json"):
    answer = server.admin.get(path, timeout=LONG)
    assert answer.status == 200, answer.text
    assert answer.header("Content-Type") == "application/json"
    told = json.loads(answer.text)
    if path == "/status.json":
        jsonschema.Draft202012Validator(SCHEMA).validate(told)
    return told


@pytest.fixture
def server(launch):
    return launch("places", "--threads", "2", "--keep-alive", "60", admin=True)


@contextlib.contextmanager
def parked(server, *targets):
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(server.begin(target, timeout=LONG)) for target in targets]
        server.admin.wait_in_flight("parked_future", len(targets), within=LONG)
        yield held
        assert server.get("/go", timeout=LONG).text == "gone"
        assert [c.read_response().status for c in held] == [200] * len(held)


def test_nothing_waits(server):
    """An idle server has a status, and nothing in it."""
    told = status(server)
    assert told["server"]["application"] == "places" and told["server"]["ready"]
    assert told["threads"] == {"limit": 2, "busy": 0, "idle": 2}
    assert [told[name] for name in ("places", "running", "requests")] == [[], [], []]
    assert set(told["in_flight"].values().__iter__().__next__()) == {"n", "oldest_s"}
    assert told["truncated"] == 0


FOUND = ["generator", "closing", "closing3", "map", "chain", "chain2", "peek", "islice", "tee", "sentinel", "slots", "bound", "loop", "told", "inherited"]


KNOWN = ("generator", "told", "inherited")  # without a guess


@pytest.mark.parametrize("shape", FOUND)
def test_places_behind_wrappers(server, shape):
    """Whatever an application's generator is wrapped in, the line that it waits at is told; what was guessed is marked.
    Without a GIL nothing is guessed, as another thread may change what an object refers to."""
    with parked(server, f"/shape/{shape}"):
        (group,) = status(server)["places"]
    if shape not in KNOWN and not server.has_gil():
        assert (group["function"], group["guessed"]) == ("loop" if shape == "loop" else None, False)
        return
    assert (group["line"], group["function"], group["n"]) == (line_of("places", "leaf"), "leaf", 1)
    assert group["file"].endswith("/places.py")
    assert group["guessed"] == (shape not in KNOWN)


def test_libraries_that_are_passed_over():
    """The server and wsgi_plus pass over the same ones."""
    (names,) = re.findall(r"names\[\] = \{(.*?)\};", (ROOT / "src/wsgi/place.c").read_text(), re.S)
    (sets,) = re.findall(r"^LIBRARIES = frozenset\(\{(.*?)\}\)", (ROOT / "py/wsgi_plus/_places.py").read_text(), re.M | re.S)
    here = {name.removesuffix(".py") for name in re.findall(r'"/([^/"]+)/?"', names)}
    assert here == set(re.findall(r'"(\w+)"', sets)) and len(here) > 4


def test_a_place_that_cannot_be_seen(server):
    """An iterator that nothing refers to is not made up."""
    with parked(server, "/shape/hidden"):
        (group,) = status(server)["places"]
    assert (group["place"], group["file"], group["guessed"]) == (0, None, False)


def test_groups(server):
    """Requests are grouped by the line, with how many there are and how long they wait."""
    with parked(server, *(f"/wide?n={n}" for n in (1, 1, 1, 2, 2))):
        time.sleep(0.3)
        told = status(server)
        groups = {group["line"]: group for group in told["places"]}
        odd, even = groups[line_of("places", "odd")], groups[line_of("places", "even")]
        assert (odd["n"], even["n"]) == (3, 2)
        assert [group["n"] for group in told["places"]] == [3, 2]
        for group in (odd, even):
            assert 0.25 <= group["median_s"] <= group["max_s"] * 1.07
            assert group["max_s"] < 0.3 + 5 * SLOW
        assert told["in_flight"]["parked_future"]["n"] == 5
        rows = status(server, f"/requests.json?place={odd['place']}")["requests"]
        assert len(rows) == 3 and {row["path"] for row in rows} == {"/wide"}
        assert odd["example"] in {row["id"] for row in rows}


def test_the_same_line_again(server):
    """A line has one number, however often requests wait there, and a line that was left says nothing."""
    for _ in range(20):
        with parked(server, "/deep"):
            (group,) = status(server)["places"]
            assert (group["function"], group["place"]) == ("leaf", 1)
    assert status(server)["places"] == []


def test_without_places(launch):
    """--no-places: requests are counted, and it is not said where they wait."""
    server = launch("places", "--no-places", admin=True)
    with parked(server, "/deep"):
        told = status(server)
    assert told["server"]["places"] is False
    assert [(group["place"], group["n"], group["file"]) for group in told["places"]] == [(0, 1, None)]


PARKED = "fermata_parked_requests"


def parked_at(metrics):
    """Requests by the label that says where they are parked."""
    return {dict(labels)["place"]: n for (name, labels), n in metrics.samples.items() if name == PARKED}


def test_places_as_metrics(launch):
    """--metrics-places: how many are parked where, as many as there are in that state; and none when they have gone on."""
    server = launch("places", "--threads", "2", "--metrics-places", admin=True)
    odd, even, leaf = (f"places.py:{line_of('places', mark)}" for mark in ("odd", "even", "leaf"))
    assert parked_at(server.admin.metrics()) == {"other": 0}
    wrapped = "/shape/closing" if server.has_gil() else "/shape/told"
    with parked(server, *(f"/wide?n={n}" for n in (1, 1, 1, 2, 2)), wrapped, "/deep", "/shape/hidden"):
        page = server.admin.get("/metrics").body
        metrics = parse(page.decode())
        assert parked_at(metrics) == {odd: 3, even: 2, leaf: 2, "other": 1}
        assert metrics.in_flight("parked_future") == 8
        if promtool := shutil.which("promtool"):
            done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True)
            assert (done.returncode, done.stdout + done.stderr) == (0, b"")
        with server.begin("/deep"):
            server.admin.wait(PARKED, 3, place=leaf)
        eventually(lambda: parked_at(server.admin.metrics())[leaf] == 2, "its client has left")
    assert parked_at(server.admin.metrics()) == {"other": 0}


def test_many_places_as_metrics(launch):
    """No more series than 20 and one, however many lines there are; many requests come and go, and none is left over."""
    server = launch("places", "--threads", "4", "--metrics-places", admin=True)
    with parked(server, *(f"/line?n={n}" for n in range(30) for _ in range(1 + n // 25))):
        at = parked_at(server.admin.metrics())
        assert len(at) == 21 and at["other"] == 10 and sorted(at.values())[-7:] == [1, 2, 2, 2, 2, 2, 10]
    for _ in range(5):
        assert server.get("/many?n=300", timeout=LONG).status == 200
    assert parked_at(server.admin.metrics()) == {"other": 0}


def test_places_are_no_metrics_unless_asked_for(server):
    """Without the option there is no such series."""
    with parked(server, "/deep"):
        assert PARKED not in server.admin.metrics().types


@timeout(240)
def test_more_places_than_there_is_room_for(server):
    """Beyond 4,095 places requests are counted under none."""
    for _ in range(9):  # each time they are new
        assert server.get("/many?n=500", timeout=LONG).status == 200
    with parked(server, "/deep"):
        (group,) = status(server)["places"]
    assert (group["place"], group["file"]) == (0, None)


def has_our_python() -> bool:
    """Flask is in the environment that the tests run in, which one version of Python can use."""
    said = subprocess.run([fermata(), "--version"], capture_output=True, text=True, check=True).stdout
    return f"Python {sys.version_info.major}.{sys.version_info.minor}." in said


@pytest.mark.skipif(not has_our_python(), reason="the server has another Python than the environment of the tests")
def test_suspended_views_of_flask(launch):
    """The line of the view is shown, not those of Flask or wsgi_plus around it."""
    server = launch("flask_places", "--pythonpath", str(ROOT / "py"), "--venv", str(ROOT / "build/venv"), admin=True)
    for path, function in (("/view", "ask"), ("/stream", "stream.<locals>.items")):
        with server.begin(path, timeout=LONG):
            server.admin.wait_in_flight("parked_future", 1, within=LONG)
            (group,) = status(server)["places"]
            assert group["file"].endswith("flask_places.py"), group
            assert group["function"].split(".")[-1] == function.split(".")[-1]
            assert server.get("/go", timeout=LONG).status == 200
        server.admin.wait_in_flight("parked_future", 0, within=LONG)


def test_running_steps(launch):
    """What runs is told with its thread, its request, and since when."""
    server = launch("basic", "--threads", "2", admin=True)
    with server.begin("/gate?key=k", timeout=LONG) as held:
        server.admin.wait_in_flight("running", 1)
        time.sleep(0.2)
        told = status(server)
        (step,) = told["running"]
        assert re.fullmatch(r"fermata-[123]", step["thread"]) and step["path"] == "/gate"
        assert 0.2 <= step["since_s"] < 0.2 + 10 * SLOW
        assert told["requests"][0]["thread"] == step["thread"]
        assert told["threads"]["busy"] == 1
        server.call("probe.open_gate", "k")
        assert held.read_response().status == 200


def test_slowest(launch):
    """The slowest requests of the last minutes, also after they have ended."""
    server = launch("basic", admin=True)
    for seconds in (0.3, 0.1, 0.2):
        server.get(f"/slow?s={seconds}")
    told = eventually(lambda: [s for s in status(server)["slowest"] if s["path"] == "/slow"][2:] and status(server), "all are there")
    slow = [s["took_s"] for s in told["slowest"] if s["path"] == "/slow"]
    assert sorted(slow, reverse=True) == slow and 0.3 <= slow[0]
    assert told["slowest"][0]["status"] == 200


def test_requests_are_paged(server):
    """The oldest first, a page at a time, none twice and none left out."""
    with parked(server, *["/deep"] * 25):
        seen, after = [], 0
        while True:
            page = status(server, f"/requests.json?after={after}&limit=10")
            if not page["requests"]:
                break
            seen += [row["id"] for row in page["requests"]]
            after = page["last"]
        assert seen == sorted(seen) and len(set(seen)) == 25
        assert status(server, "/requests.json?limit=10")["truncated"] == 15
        assert status(server, "/requests.json?state=running")["requests"] == []
        assert len(status(server, "/requests.json?state=parked_future&limit=1000")["requests"]) == 25
        for wrong in ("limit=1001", "limit=x", "state=nothing", "place=4096", "after=-1", "other=1", "limit"):
            assert server.admin.get(f"/requests.json?{wrong}").status == 400, wrong


SECRET = "s3cr3t"


@pytest.mark.parametrize("page", ["/", "/status.json", "/status.txt", "/requests.json"])
def test_what_is_never_shown(server, page):
    """Query, fields and body of a request are in no page; a path is, cut, and as what it is."""
    odd = "/<script>alert(1)</script>%22'&" + "x" * 400
    with server.connect(timeout=LONG) as c:
        body = SECRET.encode()
        c.send(
            build(
                "POST", f"/deep?token={SECRET}",
                [("Authorization", SECRET), ("Cookie", SECRET), ("X-Other", SECRET), ("Content-Length", str(len(body)))],
            ) + body
        )
        server.admin.wait_in_flight("parked_future", 1)
        answer = server.admin.get(page)
        assert answer.status == 200 and SECRET not in answer.text
        assert "/deep" in answer.text
        server.get("/go")
        assert c.read_response().status == 200
    with server.connect(timeout=LONG) as c:
        c.send(build("GET", odd))
        assert c.read_response().status in (200, 400)
    text = server.admin.get(page).text
    assert ("<script>alert" not in text or page == "/status.txt") and "\x1b" not in text and "x" * 260 not in text


@pytest.mark.parametrize("page", ["/", "/status.json", "/status.txt", "/requests.json"])
def test_paths_can_be_left_out(launch, page):
    """--status-paths none: where paths have secrets in them."""
    server = launch("places", "--status-paths", "none", admin=True)
    with parked(server, "/deep"):
        assert "/deep" not in server.admin.get(page).text


def test_what_the_page_may_do(server):
    """Its policy lets it load nothing, and run what it came with; nothing keeps it."""
    answer = server.admin.get("/")
    policy = answer.header("Content-Security-Policy")
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert answer.header("Content-Type") == "text/html; charset=utf-8"
    assert answer.header("Cache-Control") == "no-store" and answer.header("X-Content-Type-Options") == "nosniff"
    import base64
    import hashlib

    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "style=" not in answer.text and "onclick" not in answer.text


@pytest.mark.parametrize("page", ["/", "/status.json", "/status.txt", "/requests.json"])
def test_who_may_see_it(launch, page):
    """As /workers: not by a name that could be anyone's, and not from another machine."""
    server = launch("places", "--admin-bind", "0.0.0.0:0")
    eventually(lambda: server.admin_address() is not None, "the admin endpoint listens", within=LONG)
    with Connection(("127.0.0.1", server.admin_address()[1])) as c:
        c.send(get(page))
        assert c.read_response().status == 403
    server = launch("places", admin=True)
    with Connection(server.admin_address()) as c:
        c.send(f"GET {page} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode())
        assert c.read_response().status == 421


def test_requests_in_one_write(server):
    """What follows a request for the status waits for its answer; a client that goes meanwhile takes nothing along."""
    with Connection(server.admin_address()) as c:
        c.send(get("/status.json") + get("/healthz") + get("/") + get("/readyz"))
        assert [c.read_response().status for _ in range(4)] == [200] * 4
    for _ in range(20):
        with Connection(server.admin_address()) as c, Connection(server.admin_address()) as d:
            c.send(get("/status.json"))
            d.send(get("/status.json"))
            c.reset()
            assert d.read_response().status == 200
    assert server.admin.get("/healthz").status == 200


@timeout(180)
def test_while_the_gil_is_held(launch, tmp_path):
    """Page and places need no Python: they are complete while a C call holds the GIL."""
    import os

    server = launch("hog:app", "--threads", "2", admin=True)
    os.mkfifo(tmp_path / "fifo")
    gate = os.open(tmp_path / "fifo", os.O_RDWR)
    try:
        with server.begin("/park", timeout=LONG):
            server.admin.wait_in_flight("parked_future", 1)
            with server.begin(f"/hold-the-gil?fifo={tmp_path}/fifo", timeout=LONG) as held:
                server.admin.wait_in_flight("running", 1)
                time.sleep(0.3)
                told = status(server)
                assert [group["n"] for group in told["places"]] == [1]
                assert told["places"][0]["file"].endswith("hog.py")
                assert told["running"][0]["path"] == "/hold-the-gil"
                assert "hog.py" in server.admin.get("/").text
                os.write(gate, b".")
                assert held.read_response().status == 200
    finally:
        os.write(gate, b".")
        os.close(gate)


@timeout(240)
def test_many(server):
    """With a few thousand parked the groups add up to the gauges, the page is short, and other requests go on."""
    number = int(3000 / SLOW)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(server.begin("/deep", timeout=LONG)) for _ in range(number)]
        server.admin.wait_in_flight("parked_future", number, within=LONG)
        for _ in range(5):
            told = status(server)
            assert sum(group["n"] for group in told["places"]) == number == told["in_flight"]["parked_future"]["n"]
            assert told["truncated"] == number - 200
            assert server.get("/hello").text == "hello"
        assert len(server.admin.get("/").body) < 200_000
        server.get("/go", timeout=LONG)
        assert all(c.read_response().status == 200 for c in held)
    eventually(lambda: status(server)["places"] == [], "none waits any more", within=LONG)


def test_sums_of_workers(launch):
    """With workers the arbiter has sums, and says where the workers are told of one by one."""
    server = launch("places", "--workers", "2", admin=True)
    eventually(lambda: status(server)["threads"]["limit"] == 16, "both are ready", within=LONG)
    with server.begin("/deep", timeout=LONG) as c, server.begin("/deep", timeout=LONG):
        server.admin.wait_in_flight("parked_future", 2, within=LONG)
        told = status(server)
        assert told["server"]["workers"] == 2 and told["in_flight"]["parked_future"]["n"] == 2
        assert told["in_flight"]["parked_future"]["oldest_s"] > 0 and told["requests"] == []
        assert all("/workers" in server.admin.get(page).text for page in ("/", "/status.txt"))
        c.reset()

