"""Suspension: what parks a request, what the server does meanwhile, how it goes on (S1-S4, S6, S9-S11, S15-S17, S19, S20)."""

from __future__ import annotations

import json
import re
import sys
import threading
import wsgiref.simple_server
from pathlib import Path
from urllib.parse import quote

import pytest
from harness.client import Connection, build
from harness.limits import APPS, LONG, PROMPT, QUIET, ROOT, SLOW, eventually, never, timeout
from harness.server import POOL_THREAD


@pytest.fixture
def server(serve):
    """Four threads, with the admin endpoint."""
    return serve("suspend:app", "--threads", "4", "--keep-alive", "60", admin=True)


@pytest.fixture
def single(serve):
    """One thread only: a request that holds it stops all others."""
    return serve("suspend:app", "--threads", "1", "--keep-alive", "60", admin=True)


@pytest.fixture
def key(request):
    return re.sub(r"\W+", "-", request.node.name)


# S1: what suspends


@pytest.mark.parametrize("later", ["", "&later"])
@pytest.mark.parametrize(
    "kind",
    ["list", "tuple", "iterator", "map", "chain", "generator", "deque", "futures-only-last", "future-first", "getitem"],
)
def test_future_from_any_iterable(server, key, kind, later):
    """S1: a Future suspends from any PEP 3333 iterable, done already or later."""
    answer = server.get(f"/iterables?kind={kind}&key={key}{later}")
    assert (answer.status, answer.body) == (200, b"before after")


def test_subclass_of_future(server):
    """S1: subclasses of Future suspend, whatever their truth value and length."""
    assert server.get("/subclass").text == "of a subclass"


def test_future_of_an_asyncio_loop(server):
    """S1: what asyncio.run_coroutine_threadsafe gives suspends."""
    assert server.get("/asyncio-wrapped").text == "from asyncio"


HINTS = {
    "str": ("str", ""),
    "int": ("int", ""),
    "none": ("NoneType", ""),
    "bytearray": ("bytearray", ""),
    "memoryview": ("memoryview", ""),
    "duck": ("Duck", ""),
    "lambda": ("function", ""),
    "future-class": ("type", ""),
    "asyncio-future": ("Future", r"run_coroutine_threadsafe|concurrent\.futures"),
    "coroutine": ("coroutine", r"run_coroutine_threadsafe|concurrent\.futures|asyncio"),
    "list-of-futures": ("list", r"(?i)one (at a time|by one|future)|each|gather|in turn|separately"),
    "tuple-of-futures": ("tuple", ""),
}


@pytest.mark.parametrize("after", ["", "&after"])
@pytest.mark.parametrize("kind", HINTS)
def test_what_is_neither_bytes_nor_future(server, key, kind, after):
    """S1: anything else is a TypeError that names the type, and for near misses what to do instead; iteration ends."""
    start = server.log_size()
    c = server.begin(f"/wrong?kind={kind}&key={key}{after}")
    with c:
        if after:
            c.read_failed()
        else:
            assert c.read_response().status == 500
    name, hint = HINTS[kind]
    message = server.wait_log(r"^.*TypeError: (.*(?:\n(?!\[).*)*)", start=start)[1]
    assert re.search(rf"\b{name}\b", message), message
    assert re.search(hint, message), message
    server.wait_events(key, "finally")
    assert [event for event, _ in server.events(key)] == ["finally"]


# S2: meanwhile


def test_parked_request_holds_no_thread(single, key):
    """S2: with one thread and a parked request others are served."""
    with single.park(f"/park?key={key}", key) as c:
        for _ in range(20):
            assert single.get("/hello").text == "hello"
        single.call("probe.complete", key, "fine")
        assert c.read_response().text == "result fine"


@timeout(120)
def test_many_parked_requests_hold_no_threads(single, key):
    """S2: hundreds of parked requests leave one thread free, and all go on when their futures are done."""
    number = 300
    held = [single.begin(f"/park?key={key}{i}", timeout=LONG) for i in range(number)]
    try:
        metrics = single.admin.wait_in_flight("parked_future", number, within=LONG)
        assert metrics.value("fermata_threads", state="busy") == 0
        assert single.get("/hello").text == "hello"
        assert single.call("probe.complete_all", key, timeout=LONG) == number
        assert [c.read_response().text for c in held] == ["result None"] * number
    finally:
        for c in held:
            c.close()
    single.admin.wait_in_flight("parked_future", 0)


@pytest.mark.parametrize(("target", "first"), [("park-after", b"before "), ("park-after-write", b"written ")])
def test_block_before_parking_is_sent(server, key, target, first):
    """S2: what was yielded (or written) before is on its way to the client before the request is parked."""
    with server.begin(f"/{target}?key={key}") as c:
        head = c.read_head()
        assert head.status == 200
        blocks = c.iter_body(head)
        assert next(blocks) == first
        assert not c.readable(QUIET)
        server.call("probe.complete", key)
        assert b"".join(blocks) == b"after"


def test_parked_requests_are_counted(server, key):
    """S2: a parked request is in flight in the state parked_future, and only there; its wait is in the histogram."""
    before = server.admin.metrics().total("fermata_parked_seconds_count")
    with server.park(f"/park?key={key}", key) as c:
        metrics = server.admin.wait_in_flight("parked_future", 1)
        assert [metrics.in_flight(state) for state in ("queued", "running", "parked_client", "sending")] == [0] * 4
        server.call("probe.complete", key)
        c.read_response()
    server.admin.wait("fermata_parked_seconds_count", before + 1)


def test_pipelined_request_behind_a_parked_one(single, key):
    """S2: the next request of the same connection waits its turn; those of others do not."""
    with single.park(f"/park?key={key}", key) as c:
        c.send(build("GET", "/hello"))
        assert not c.readable(QUIET)
        assert single.get("/hello").text == "hello"
        single.call("probe.complete", key)
        assert c.read_response().text == "result None"
        assert c.read_response().text == "hello"


@pytest.mark.parametrize("n", [1, 50])
def test_many_suspensions_in_a_row(server, n):
    """S2: a request may park as often as it likes, with blocks between."""
    assert server.get(f"/many-parks?n={n}", timeout=LONG).text == "".join(f"{i} " for i in range(n))


def test_keep_alive_after_a_suspension(server, key):
    """S2: the connection goes on after a response with suspensions."""
    with server.connect() as c:
        for i in range(5):
            c.send(build("GET", f"/park?key={key}{i}"))
            server.wait_events(f"{key}{i}", "parking")
            server.call("probe.complete", f"{key}{i}", i)
            assert c.read_response().text == f"result {i}"


# S3: done already


def test_done_futures_do_not_park(server):
    """S3: a future that is done resumes at once: no parked time is counted."""
    server.admin.wait_in_flight("parked_future", 0)
    before = server.admin.metrics().total("fermata_parked_seconds_count")
    assert server.get("/done-many?n=100").status == 200
    assert server.admin.metrics().total("fermata_parked_seconds_count") == before


@timeout(180)
def test_done_futures_do_not_hold_the_thread(single, key):
    """S3: a request that yields done futures without end lets others have the only thread."""
    with single.begin(f"/done-until?key={key}", timeout=LONG) as c:
        single.wait_events(key, "began")
        for _ in range(5):
            assert single.get("/hello", timeout=LONG).text == "hello"
        assert single.get(f"/open-gate?key={key}", timeout=LONG).text == "open"
        assert c.read_response().text == "stopped"


@timeout(180)
def test_several_endless_ones_share_the_thread(single, key):
    """S3: several such requests all make progress, and others too."""
    held = [single.begin(f"/done-until?key={key}", timeout=LONG) for _ in range(5)]
    try:
        single.wait_events(key, *["began"] * 5, within=LONG)
        assert single.get(f"/open-gate?key={key}", timeout=LONG).text == "open"
        assert [c.read_response().text for c in held] == ["stopped"] * 5
    finally:
        for c in held:
            c.close()


def test_a_block_is_not_held_while_others_have_their_turn(server, key):
    """S2: what was yielded is on its way though the step after many done futures does not come back."""
    with server.begin(f"/done-many-then-block?key={key}") as c:
        blocks = c.iter_body(c.read_head())
        assert next(blocks) == b"first"
        server.call("probe.open_gate", key)
        assert b"".join(blocks) == b" and last"


# S4: the value of the yield


def test_value_of_yield_is_none(server, key):
    """S4: the yield of a future, pending or done, and of a block, gives None."""
    assert json.loads(server.get(f"/value-of-yield?key={key}").text) == [None, None, None, "result"]


def test_send_is_never_called(server, key):
    """S4: plain iteration: send of a wrapper is not used, throw only for failures."""
    assert server.get(f"/sender?key={key}").text == "sent"
    server.wait_events(key, "close")
    assert {name for name, _ in server.events(key)} == {"next", "close"}


# S6: start_response across suspensions


@pytest.mark.parametrize(("target", "reason"), [("start-before", "Before"), ("start-after", "After")])
def test_start_response_before_and_after_suspensions(server, key, target, reason):
    """S6: start_response may come before or after any number of suspensions."""
    answer = server.get(f"/{target}?key={key}")
    assert (answer.status, answer.reason, answer.body) == (201, reason, b"body")


def test_headers_do_not_leave_with_the_suspension(server, key):
    """S6: headers leave with the first block that is not empty: until then the status can be replaced by exc_info."""
    answer = server.get(f"/start-replaced?key={key}")
    assert (answer.status, answer.reason, answer.header("X-First"), answer.body) == (503, "Replaced", None, b"body")


def test_headers_do_not_leave_with_an_empty_block(server, key):
    """S6: an empty block before a suspension sends nothing."""
    with server.begin(f"/park-after-empty?key={key}") as c:
        assert not c.readable(QUIET)
        server.call("probe.complete", key)
        answer = c.read_response()
        assert (answer.status, answer.body) == (503, b"changed")


def test_headers_leave_at_the_end(server, key):
    """S6: without a block the headers leave at the end."""
    with server.begin(f"/headers-at-the-end?key={key}") as c:
        assert not c.readable(QUIET)
        server.call("probe.complete", key)
        answer = c.read_response()
        assert (answer.status, answer.header("Content-Length")) == (200, "0")


def test_exc_info_after_headers_across_a_suspension(server, key):
    """S6: after headers have left start_response with exc_info raises, across a suspension too; the response is aborted."""
    with server.begin(f"/start-too-late?key={key}") as c:
        c.read_cut()
    assert server.wait_events(key, "raised")[0][1] == "the reason for the change"


@pytest.mark.parametrize("target", ["start-twice", "start-never"])
def test_start_response_errors_across_suspensions(server, key, target):
    """S6: a second call without exc_info, or none before the first block, is an error after a suspension as before."""
    start = server.log_size()
    assert server.get(f"/{target}?key={key}").status == 500
    server.wait_log(f"Error handling request GET /{target}", start=start)


# S9: threads and contexts


def test_steps_run_on_pool_threads(server):
    """S9: every step runs on a pool thread, never on the thread that completed the future."""
    names = json.loads(server.get("/threads-of-steps").text)
    assert len(names) == 20
    assert all(POOL_THREAD.fullmatch(name) for name in names), names


def test_context_variables_follow(server, key):
    """S9: what a step sets the next one sees, on whatever thread; close() too."""
    assert json.loads(server.get(f"/context?key={key}").text) == ["unset", key, *(f"{key}-{i}" for i in range(4))]
    assert server.wait_events(key, "in close")[0][1] == f"{key}-4"


@timeout(120)
def test_contexts_are_separate(server, key):
    """S9: each request has a context of its own, side by side with others and after others on one connection."""
    held = []
    try:
        for i in range(40):
            held.append(server.begin(f"/context?key={key}-{i}&n=10", timeout=LONG))
        for i, c in enumerate(held):
            seen = json.loads(c.read_response().text)
            assert seen == ["unset", f"{key}-{i}", *(f"{key}-{i}-{j}" for j in range(9))]
            seen = json.loads(c.request("GET", f"/context?key=again-{i}&n=1").text)
            assert seen == ["unset", f"again-{i}"]
    finally:
        for c in held:
            c.close()


def test_context_of_the_call(server, key):
    """S9: the call of the application runs in the same context as its steps: a token can be reset."""
    assert server.get(f"/context-of-call?key={key}").text == "unset unset"


@timeout(180)
def test_steps_never_overlap(server):
    """S9: futures that other threads complete at the very moment of parking never make two steps of a request overlap,
    nor is a resume lost or doubled."""
    number, n = 16, 200
    held = [server.begin(f"/race?n={n}", timeout=LONG * 4) for _ in range(number)]
    try:
        assert [c.read_response().text for c in held] == [str(n)] * number
    finally:
        for c in held:
            c.close()


# S10: where done-callbacks run


@timeout(120)
def test_callbacks_are_short_and_run_no_application(server, key):
    """S10: a loop that completes a thousand futures is not held up: the callback only marks and queues."""
    number = 1000
    held = [server.begin(f"/park?key={key}{i}", timeout=LONG) for i in range(number)]
    try:
        server.admin.wait_in_flight("parked_future", number, within=LONG)
        completed, seconds = server.call("suspend_life.complete_in_the_loop", key, timeout=LONG)
        assert completed == number
        assert seconds < PROMPT
        for i, c in enumerate(held):
            assert c.read_response().text == "result None"
            thread = next(detail[0] for name, detail in server.events(f"{key}{i}") if name == "resumed")
            assert POOL_THREAD.fullmatch(thread)
    finally:
        for c in held:
            c.close()


def test_completing_while_holding_a_lock(single, key):
    """S10: a thread that completes a future while it holds a lock that the application needs neither waits nor deadlocks."""
    with single.begin(f"/needs-lock?key={key}") as c:
        single.admin.wait_in_flight("parked_future", 1)
        assert single.call("suspend_life.complete_holding_the_lock", key) < PROMPT
        assert c.read_response().text == "got the lock"


@pytest.mark.parametrize("when", ["before", "after", "other-thread", "other-thread-running"])
@pytest.mark.parametrize("n", [1, 300])
def test_done_within_add_done_callback(server, when, n):
    """S10: a future that becomes done while add_done_callback runs, in the caller or in another thread, resumes once."""
    assert server.get(f"/at-once?when={when}&n={n}", timeout=LONG).text == "all"


@pytest.mark.parametrize("when", ["fails", "raises"])
def test_failing_within_add_done_callback(server, when):
    """S10: a future that fails within add_done_callback, or whose add_done_callback raises, is an application error."""
    start = server.log_size()
    assert server.get(f"/at-once?when={when}&n=1").status == 500
    server.wait_log(r"(ValueError: failed in add_done_callback|RuntimeError: add_done_callback raised)", start=start)
    assert server.get("/hello").status == 200


# S11: recursion


@timeout(180)
@pytest.mark.parametrize("target", ["done-many?n=10000", "at-once?when=before&n=10000", "at-once?when=after&n=10000"])
def test_ten_thousand_done_futures(server, target):
    """S11: ten thousand futures that are done at once, in one request, on constant stack."""
    answer = server.get(f"/{target}", timeout=LONG * 4)
    number, _, depth = answer.text.partition(" ")
    assert number in ("10000", "all")
    assert int(depth or 0) < 10


@timeout(180)
def test_two_requests_that_complete_each_other(server, key):
    """S11: two requests whose steps complete each other's futures, ten thousand times."""
    n = 10_000 if SLOW < 3 else 2000
    with server.begin(f"/ping-pong?key={key}&n={n}&side=0", timeout=LONG * 4) as one:
        with server.begin(f"/ping-pong?key={key}&n={n}&side=1", timeout=LONG * 4) as two:
            assert one.read_response().text == two.read_response().text == "played"


@timeout(120)
def test_chain_of_requests(single, key):
    """S11: a thousand requests each of which completes the future of the next."""
    number = 1000
    held = [single.begin(f"/chain?key={key}&i={i}", timeout=LONG) for i in range(number)]
    try:
        single.admin.wait_in_flight("parked_future", number, within=LONG)
        single.call("probe.complete", f"{key}0")
        assert [c.read_response().text for c in held] == [str(i) for i in range(number)]
    finally:
        for c in held:
            c.close()


# S15: middleware


@pytest.mark.parametrize("through", ["yield-from", "for", "transforming", "yield-from,for,transforming"])
def test_middleware_that_passes_items_on(server, key, through):
    """S15: middleware that passes futures through unchanged works, stacked too."""
    answer = server.get(f"/middleware?through={through}&kind=fine&key={key}")
    assert (answer.status, answer.body.lower()) == (200, b"fine")


def test_middleware_that_delegates_passes_throw(server, key):
    """S15: with `yield from` a failure is thrown through the middleware into the application."""
    answer = server.get(f"/middleware?through=yield-from,yield-from&kind=failed&late&key={key}")
    assert (answer.status, answer.body) == (502, b"bad gateway")


def test_middleware_that_loops_does_not_swallow_a_failure(server, key):
    """S15: with a for loop the failure is thrown in the middleware, and is an application error: never a 200."""
    answer = server.get(f"/middleware?through=for&kind=failed&late&key={key}")
    assert answer.status == 500
    server.wait_events(key, "finally")


@pytest.mark.parametrize("through", ["yield-from", "for"])
def test_close_through_middleware(server, key, through):
    """S15: close reaches the application through the middleware when a parked client goes."""
    with server.park(f"/middleware?through={through}&kind=fine&park&key={key}", key):
        pass
    server.wait_events(key, "finally")


# S16, S17


def test_version_key(server):
    """S16: environ['wsgi_plus.version'] is (1, 0)."""
    assert server.get("/version").text == "(1, 0)"


@pytest.fixture
def package(monkeypatch):
    """wsgi_plus, as it lies in the tree, and the applications."""
    for folder in (APPS, ROOT / "py"):
        monkeypatch.syspath_prepend(str(folder))
    import wsgi_plus

    assert Path(wsgi_plus.__file__).is_relative_to(ROOT)
    return wsgi_plus


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_blocking_on_a_plain_server(package, key):
    """S17: blocking(app) runs a WSGI+ application on a plain WSGI server, which says nothing of wsgi_plus.version."""
    import suspend

    with wsgiref.simple_server.make_server("127.0.0.1", 0, package.blocking(suspend.app), handler_class=Quiet) as plain:
        thread = threading.Thread(target=plain.serve_forever, args=(0.01,))
        thread.start()
        try:
            for target, answer in (
                ("/timer?s=0.05", (200, b"rang")),
                ("/version", (200, b"None")),
                (f"/catches?kind=failed&late&key={key}", (502, b"upstream: ValueError True")),
                ("/value-of-yield?key=blocking", (200, b'[null, null, null, "result"]')),
            ):
                with Connection(plain.server_address[:2]) as c:
                    got = c.request("GET", target)
                    assert (got.status, got.body) == answer
        finally:
            plain.shutdown()
            thread.join()
    del sys.modules["suspend"]


def test_blocking_on_this_server(launch):
    """S17: behind blocking(app) nothing parks here either: it waits in the thread."""
    server = launch("blocked:application", "--threads", "1", "--pythonpath", str(ROOT / "py"), admin=True)
    with server.begin("/timer?s=0.5") as c, server.begin("/hello") as d:
        eventually(lambda: server.admin.metrics().in_flight("running") == 1, "it runs")
        never(lambda: server.admin.metrics().in_flight("parked_future"), "parked", during=0.2)
        assert c.read_response().text == "rang"
        assert d.read_response().text == "hello"


# S19: HEAD, 204, 304


@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified"), ("HEAD", "204 No Content")],
)
def test_without_body_it_is_iterated_as_usual(server, key, method, status):
    """S19: HEAD, 204 and 304 are iterated to the end, suspensions included; the bytes are dropped; close() runs once."""
    with server.connect() as c:
        c.send(build(method, f"/effects?key={key}&status={quote(status)}") + build("GET", "/hello"))
        answer = c.read_response(method)
        assert f"{answer.status} {answer.reason}" == status
        assert c.read_response().text == "hello"
    server.wait_events(key, "finally")
    assert [name for name, _ in server.events(key)] == ["one", "two", "three", "finally"]


# S20: one future, many waits


@timeout(120)
def test_same_future_in_a_hundred_requests(server, key):
    """S20: a hundred requests wait for one future; each is resumed once."""
    held = [server.begin(f"/park?key={key}", timeout=LONG) for _ in range(100)]
    try:
        server.admin.wait_in_flight("parked_future", 100, within=LONG)
        server.call("probe.complete", key, "shared")
        assert [c.read_response().text for c in held] == ["result shared"] * 100
    finally:
        for c in held:
            c.close()
    names = [name for name, _ in server.wait_events(key, *["finally"] * 100)]
    assert names.count("resumed") == names.count("finally") == 100


def test_same_failing_future_in_many_requests(server, key):
    """S20: the failure of a shared future reaches each of its requests."""
    held = [server.begin(f"/park?key={key}") for _ in range(20)]
    try:
        server.admin.wait_in_flight("parked_future", 20)
        server.call("probe.fail", key)
        assert [c.read_response().status for c in held] == [500] * 20
    finally:
        for c in held:
            c.close()
    assert [name for name, _ in server.wait_events(key, *["raised"] * 20)].count("resumed") == 0


def test_same_future_again_in_one_request(server, key):
    """S20: one request may yield the same future again, pending or done: each yield is one wait and one resume."""
    with server.begin(f"/same-again?key={key}&n=50") as c:
        server.admin.wait_in_flight("parked_future", 1)
        server.call("probe.complete", key, "again")
        assert c.read_response().text == "again"
    assert [detail for name, detail in server.events(key) if name == "resumed"] == list(range(50))


def test_shared_future_outlives_one_of_its_requests(server, key):
    """S20, S8: when one of two clients goes, the other's request goes on with the same future."""
    with server.begin(f"/park?key={key}") as stays:
        goes = server.begin(f"/park?key={key}")
        server.admin.wait_in_flight("parked_future", 2)
        goes.close()
        server.wait_events(key, "exit")
        assert server.call("probe.state", key) == "pending"
        server.call("probe.complete", key, "still here")
        assert stays.read_response().text == "result still here"
