"""What parked requests wait for: told by Python, which is asked only for the page, and which the page does not wait for."""

from __future__ import annotations

import contextlib
import os
import re
import time

import pytest
from harness.client import build
from harness.limits import LONG, ROOT, SLOW, eventually
from test_status import line_of, parked, status

PLUS = ("--pythonpath", str(ROOT / "py"))


@pytest.fixture
def server(launch):
    return launch("futures_told", "--threads", "4", "--keep-alive", "60", *PLUS, admin=True)


def groups(server):
    """Those that have been told, with a Python that has answered just now."""

    def told():
        page = status(server)
        fresh = page["python"].get("age_s", 99) < 2 * SLOW and "silent_s" not in page["python"]
        return fresh and page["places"] and all("futures" in group for group in page["places"]) and page["places"]

    return eventually(told, "it is told what they wait for", within=LONG)


def only(server):
    (group,) = groups(server)
    return group


def test_calls_that_have_not_begun(server):
    """A pool that is too small: how many of its calls run, and how many have not begun."""
    if not server.has_gil():
        pytest.skip("what waits for a pool is looked at with a GIL only")
    with parked(server, *["/pool"] * 10):
        group = only(server)
        assert (group["n"], group["looked_at"]) == (10, 10)
        assert group["futures"] == [
            {"n": 8, "kind": "ThreadPoolExecutor, not begun"},
            {"n": 2, "kind": "ThreadPoolExecutor, running"},
        ]
        text = server.admin.get("/status.txt").text
        assert "8 of 10: ThreadPoolExecutor, not begun" in text and "has not answered" not in text
        assert "8 of 10: ThreadPoolExecutor, not begun<br>2 of 10: " in server.admin.get("/").text


def test_calls_for_processes(server):
    """Calls of a ProcessPoolExecutor: one runs, a few are on their way to the process, the others have not begun."""
    if not server.has_gil():
        pytest.skip("what waits for a pool is looked at with a GIL only")
    with parked(server, *["/processes"] * 10):
        kinds = {kind["kind"]: kind["n"] for kind in only(server)["futures"]}
        assert set(kinds) == {"ProcessPoolExecutor, running", "ProcessPoolExecutor, not begun"}
        assert sum(kinds.values()) == 10 and kinds["ProcessPoolExecutor, not begun"] >= 5


def test_no_more_than_a_sample(server):
    """Of many requests 20 are looked at."""
    with parked(server, *["/pool"] * 84):
        group = only(server)
        assert (group["n"], group["looked_at"]) == (84, 20)
        assert sum(kind["n"] for kind in group["futures"]) == 20
        assert 84 == status(server)["in_flight"]["parked_future"]["n"]


@pytest.mark.parametrize(("path", "mark"), [("/task", "fetch"), ("/bridge", "there")])
def test_tasks_of_asyncio(server, path, mark):
    """Behind run_coroutine_threadsafe and AsyncBridge: the task's name, and where it stands."""
    with parked(server, path):
        eventually(lambda: "wait" in only(server)["futures"][0]["kind"] or not server.has_gil(), "the task waits")
        (kind,) = only(server)["futures"]
        assert kind["kind"].startswith("asyncio task ")
        if path == "/task":
            assert "the-task" in kind["kind"]
        if server.has_gil():
            line = f"futures_told.py:{line_of('futures_told', mark)} fetch"
            assert re.search(rf": locks\.py:\d+ wait <- .*{re.escape(line)}", kind["kind"]), kind


def test_tasks_that_stand_at_one_line(server):
    """They are one kind, with the name of one."""
    with parked(server, "/task?name=a", "/task?name=a", "/task?name=a"):
        eventually(lambda: [kind["n"] for kind in only(server)["futures"]] == [3], "all of them wait")
        (kind,) = only(server)["futures"]
        assert kind["kind"].startswith("asyncio tasks like a")


def test_names_do_no_harm(server):
    """The name of a task is the application's text, and text on each page."""
    with parked(server, "/task?name=%3Cscript%3E%1b%5B31m%09%0A%22x"):
        eventually(lambda: "script" in only(server)["futures"][0]["kind"], "the task has its name")
        for page in ("/", "/status.txt", "/status.json"):
            text = server.admin.get(page).text
            assert "\x1b" not in text and ("script" in text) and ("<script>\\x1b" not in text or page != "/")


def test_nothing_of_the_applications_is_called(server):
    """Not of a future that is of a class of its own, nor of one that is not as expected: that is of its type."""
    with parked(server, "/hostile", "/bare"):
        server.call("futures_told.lose")
        server.call("probe.clear", "hostile")
        kinds = {kind["kind"] for kind in only(server)["futures"]}
        assert kinds == {"futures_told.Hostile", "futures_told.Bare"}
        assert server.call("probe.events", "hostile") == []


def test_futures_are_let_go(server):
    """A look at them does not keep them."""
    with parked(server, *["/plain"] * 30):
        assert only(server)["looked_at"] == 20
    eventually(lambda: server.call("futures_told.alive") == 0, "no future is left")


def test_while_the_gil_is_held(server, tmp_path):
    """The page comes at once, with what was told last, how old that is, and since when Python has not answered."""
    if not server.has_gil():
        pytest.skip("no GIL keeps Python from answering")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with parked(server, "/plain", "/plain"):
        groups(server)
        with server.begin(f"/hold-the-gil?fifo={fifo}", timeout=LONG) as holding:
            fd = os.open(fifo, os.O_WRONLY)
            try:
                status(server)
                time.sleep(0.5)
                began = time.monotonic()
                page = status(server)
                assert time.monotonic() - began < 0.25 * SLOW
                assert page["python"]["silent_s"] >= 0.4 and page["python"]["age_s"] >= 0.4
                assert page["places"][0]["futures"] == [{"n": 2, "kind": "Future"}]
                assert page["in_flight"]["running"]["n"] == 1
                for path in ("/", "/status.txt"):
                    text = server.admin.get(path).text
                    assert "Python has not answered for" in text and "what they wait for is of" in text
            finally:
                os.close(fd)
            assert holding.read_response().status == 200
        assert only(server)["futures"] == [{"n": 2, "kind": "Future"}]


def test_never_told(server, tmp_path):
    """Where Python has not answered at all, that is said, and everything else as well."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with parked(server, "/plain"):
        with server.begin(f"/hold-the-gil?fifo={fifo}", timeout=LONG) as holding:
            fd = os.open(fifo, os.O_WRONLY)
            try:
                status(server)
                time.sleep(0.4)
                page = status(server)
                assert "age_s" not in page["python"] and page["python"]["silent_s"] > 0.2
                assert [group["n"] for group in page["places"]] == [1] and "futures" not in page["places"][0]
                assert "what they wait for is of" not in server.admin.get("/").text
            finally:
                os.close(fd)
            assert holding.read_response().status == 200


def test_many_pages_while_requests_come_and_go(server):
    """The list of what is parked changes all the time while it is looked at."""
    with contextlib.ExitStack() as stack:
        pages = [stack.enter_context(server.connect(timeout=LONG)) for _ in range(4)]
        for _ in range(20):
            for c in pages:
                c.send(build("GET", "/pool"))
            status(server)
            server.get("/go", timeout=LONG)
            for c in pages:
                assert c.read_response().status == 200
            status(server)
    assert status(server)["places"] == []


@pytest.mark.parametrize("options", [["--no-places"], ["--workers", "1"]], ids=["no-places", "workers"])
def test_where_it_is_not_asked_for(launch, options):
    """Without places there is nothing that it could be told of, and the arbiter has no Python."""
    server = launch("futures_told", *options, *PLUS, admin=True)
    with parked(server, "/plain"):
        page = status(server)
        assert "python" not in page and not any("futures" in group for group in page["places"])
