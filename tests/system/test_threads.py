"""The pool: real threads with names, all of them used, isolated from one another; quick requests beside blocking ones."""

from __future__ import annotations

import json
import re
import time

import pytest
from harness.limits import LONG, PROMPT, SLOW, TSAN, eventually, timeout
from harness.server import POOL_THREAD


@pytest.fixture
def server(serve):
    return serve("threading_app:app", "--threads", "8", "--keep-alive", "60", admin=True)


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


def test_threads_are_threading_threads(server):
    """Pool threads are real `threading` threads with names: current_thread, logging, enumerate and debuggers see them."""
    facts = json.loads(server.get("/me").text)
    assert POOL_THREAD.fullmatch(facts["name"])
    assert facts["type"] != "_DummyThread"
    assert facts["logged"] == facts["name"]
    assert all(facts[name] for name in ("ident", "native", "alive", "enumerated", "frames"))
    assert facts["main_name"] == "MainThread"
    assert facts["pid"] == server.pid


def test_all_threads_are_there(server):
    """The threading module knows all of the scheduler, under different names."""
    with server.connect() as c:
        pool = [name for name in json.loads(c.request("GET", "/me").text)["all"] if POOL_THREAD.fullmatch(name)]
    assert len(pool) == len(set(pool))
    assert len(pool) in (8, 9)  # the one that looks out may have a name as well


def test_kernel_names(server):
    """top -H and gdb show the names as well."""
    facts = json.loads(server.get("/me").text)
    assert server.process.threads()[facts["native_id"]] == facts["name"]


def test_number_of_threads(launch):
    """--threads P makes a scheduler of P + 1 pool threads, a monitor and a guard: at most P + 4 threads in all, from the start, under load too."""
    server = launch("scale", "--threads", "3")
    assert server.get("/").text == "hello"
    assert 3 <= len(server.process.threads()) <= 3 + 4 + TSAN
    held = [server.begin("/park") for _ in range(100)]
    try:
        eventually(lambda: server.get("/").text == "hello", "it answers")
        assert len(server.process.threads()) <= 3 + 4 + TSAN
        server.get("/release")
        assert [c.read_response().text for c in held] == ["resumed"] * 100
    finally:
        for c in held:
            c.close()


def test_blocking_requests_run_side_by_side(server):
    """Eight sleeping requests on eight threads take about one sleep."""
    seconds = 1.0
    began = time.monotonic()
    held = [server.begin(f"/sleep?s={seconds}", timeout=LONG) for _ in range(8)]
    try:
        said = [json.loads(c.read_response().text) for c in held]
    finally:
        for c in held:
            c.close()
    assert len({name for name, _, _ in said}) == 8
    assert max(start for _, start, _ in said) < min(end for _, _, end in said), (
        "they did not all sleep at the same time"
    )
    assert time.monotonic() - began < seconds + PROMPT


def test_barrier_of_all_threads(server, key):
    """As many requests as threads meet at a barrier, again and again: none is starved by a hand-off that does not come."""
    for i in range(10):
        held = [server.begin(f"/barrier?n=8&key={key}{i}", timeout=LONG) for _ in range(8)]
        try:
            assert len({c.read_response().text for c in held}) == 8
        finally:
            for c in held:
                c.close()


def test_no_more_than_the_threads(server, key):
    """Never more than --threads requests are in the application."""
    held = [server.begin(f"/gate?key={key}", timeout=LONG) for _ in range(12)]
    try:
        server.wait_events(key, *["entered"] * 8)
        server.admin.wait_in_flight("queued", 4)
        time.sleep(0.2)
        assert len(server.events(key)) == 8
        server.call("probe.open_gate", key)
        assert [c.read_response().text for c in held] == ["opened"] * 12
    finally:
        for c in held:
            c.close()


def test_single_thread_is_exclusive(serve, key):
    """--threads 1: one request at a time, which is what an application that is not thread-safe needs."""
    server = serve("threading_app:app", "--threads", "1", "--keep-alive", "60", admin=True)
    held = [server.begin("/sleep?s=0.05", timeout=LONG) for _ in range(10)]
    try:
        said = sorted(json.loads(c.read_response().text)[1:] for c in held)
    finally:
        for c in held:
            c.close()
    assert all(a[1] <= b[0] for a, b in zip(said, said[1:])), "two requests overlap"


@pytest.mark.parametrize(("threads", "said"), [("1", "False"), ("2", "True")])
def test_multithread_is_said(serve, threads, said):
    """PEP 3333: wsgi.multithread is whether two steps may run at the same time."""
    server = serve("pep3333:app", "--threads", threads)
    assert json.loads(server.get("/environ").text)["wsgi.multithread"] == ["bool", said]


def test_quick_requests_beside_blocking_ones(server, key):
    """With seven of eight threads blocked quick requests are quick."""
    held = [server.begin(f"/gate?key={key}", timeout=LONG) for _ in range(7)]
    try:
        server.wait_events(key, *["entered"] * 7)
        began = time.monotonic()
        with server.connect() as c:
            for _ in range(50):
                assert c.request("GET", "/hello").text == "hello"
        assert time.monotonic() - began < PROMPT
        server.call("probe.open_gate", key)
        assert [c.read_response().text for c in held] == ["opened"] * 7
    finally:
        for c in held:
            c.close()


@timeout(120)
def test_accepting_goes_on_while_all_threads_block(server, key):
    """With all threads blocked connections are accepted, read and refused as ever."""
    held = [server.begin(f"/gate?key={key}", timeout=LONG) for _ in range(8)]
    try:
        server.wait_events(key, *["entered"] * 8)
        with server.connect() as c:
            c.send(b"nonsense\r\n\r\n")
            assert c.read_response().status == 400
        waiting = [server.begin("/hello", timeout=LONG) for _ in range(100)]
        server.admin.wait_in_flight("queued", 100)
        server.call("probe.open_gate", key)
        assert [c.read_response().text for c in held + waiting] == ["opened"] * 8 + ["hello"] * 100
        for c in waiting:
            c.close()
    finally:
        for c in held:
            c.close()


@timeout(120)
def test_burning_requests_do_not_starve_others(server):
    """Two requests that burn the GIL in Python leave room for others."""
    held = [server.begin("/burn?s=2", timeout=LONG) for _ in range(2)]
    try:
        answered = 0
        began = time.monotonic()
        with server.connect(timeout=LONG) as c:
            while time.monotonic() - began < 1.5:
                assert c.request("GET", "/hello").text == "hello"
                answered += 1
        assert answered >= (10 if SLOW == 1 else 1)
        assert all(int(c.read_response().text) > 0 for c in held)
    finally:
        for c in held:
            c.close()


def test_thread_locals_stay_with_their_thread(server):
    """A thread-local is the thread's: it grows with the requests that the thread has run, nothing else."""
    highest: dict[str, int] = {}
    for _ in range(60):
        name, count = json.loads(server.get("/thread-local").text)
        assert count == highest.get(name, 0) + 1
        highest[name] = count
    assert sum(highest.values()) == 60


def test_context_is_empty_for_each_request(server, key):
    """A context variable that a request has set is not there for the next, on the same thread or connection."""
    with server.connect() as c:
        assert [c.request("GET", f"/context?key={key}{i}").text for i in range(50)] == ["unset"] * 50


def test_threads_of_the_application(server):
    """An application may start threads: they get a context of their own (before 3.14: an empty one)."""
    assert server.get("/spawn").text in ("unset", "of the request")


@timeout(120)
def test_bursts_after_calm(server, key):
    """Calm and bursts in turn: each burst of blocking requests gets all the threads, each calm after it is quick."""
    for i in range(5):
        with server.connect() as c:
            for _ in range(100):
                assert c.request("GET", "/hello").text == "hello"
        held = [server.begin(f"/barrier?n=8&key={key}{i}", timeout=LONG) for _ in range(8)]
        try:
            assert len({c.read_response().text for c in held}) == 8
        finally:
            for c in held:
                c.close()
