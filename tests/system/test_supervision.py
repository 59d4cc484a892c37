"""What the arbiter watches of workers that run, and how it replaces them: spec/manual/workers.md, timeouts.md."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from collections import Counter

import pytest
from harness.client import NoResponse, Truncated
from harness.limits import LONG, SANITIZED, SLOW, TSAN, eventually, never, timeout
from harness.process import Process
from harness.workers import pids, wait_ready

pytestmark = [timeout(120)]


@pytest.fixture
def site(launch):
    """site(*options): a server with workers, all of which are ready."""

    def start(*options: str, workers: int = 2, **more):
        server = launch("supervised:app", "--workers", str(workers), *options, admin=True, **more)
        wait_ready(server, workers)
        return server

    return start


def page(server) -> dict:
    return json.loads(server.admin.get("/workers").text)


def metric(server, name: str) -> int:
    found = re.search(rf"^{re.escape(name)} (\d+)$", server.admin.get("/metrics").text, re.M)
    assert found, name
    return int(found[1])


def replaced(server, why: str) -> int:
    return metric(server, f'fermata_workers_replaced_total{{why="{why}"}}')


class Asked(threading.Thread):
    """A request under way: its outcome, when it is over."""

    def __init__(self, server, target: str) -> None:
        super().__init__()
        self._server, self._target = server, target
        self.outcome = ""
        self.text = ""
        self.start()

    def run(self) -> None:
        try:
            response = self._server.get(self._target, timeout=2 * LONG)
            self.outcome, self.text = str(response.status), response.text
        except (NoResponse, Truncated, OSError) as error:
            self.outcome = type(error).__name__

    def answer(self) -> str:
        self.join()
        return self.outcome


@contextlib.contextmanager
def stream(server):
    """A response that goes on without an end: its connection, and which worker sends it."""
    with server.begin("/stream", timeout=2 * LONG) as c:
        yield c, int(next(c.iter_body(c.read_head())).removeprefix(b"data: "))


# ---- recycling ----


def test_max_requests(site):
    """New ones take the place of those that have served their number; no request notices."""
    server = site("--max-requests", "20", "--max-requests-jitter", "5")
    outcomes: Counter[str] = Counter()
    seen: set[str] = set()
    while replaced(server, "max-requests") < 5:
        i = sum(outcomes.values())
        with server.connect(timeout=LONG) as c:
            for _ in range(1 + i % 3):
                response = c.request("GET", "/who")
                outcomes[str(response.status)] += 1
                seen.add(response.text)
                if not response.keeps_alive:
                    break
    assert set(outcomes) == {"200"}, outcomes
    assert len(seen) >= 5, seen
    assert 'served its number of requests' in server.log_now()
    wait_ready(server, 2)


def test_max_worker_memory(site):
    """Two looks find it, and what it has to do still is done."""
    server = site("--max-worker-memory", str(300 << 20))
    before = pids(server)
    never(lambda: replaced(server, "max-worker-memory"), "one is replaced that has not that much")
    one = int(server.get(f"/grow?bytes={400 << 20}", timeout=LONG).text)
    eventually(lambda: replaced(server, "max-worker-memory") == 1, "it has too much", within=LONG)
    after = wait_ready(server, 2, {one})
    assert before - {one} < after


def test_worker_lifetime(site):
    server = site("--worker-lifetime", "1", workers=1)
    before = pids(server)
    eventually(lambda: not pids(server) & before, "another one is there", within=LONG)
    assert replaced(server, "worker-lifetime") >= 1
    assert server.get("/who").status == 200


def test_one_process_cannot_be_recycled(launch):
    server = launch("supervised:app", "--max-requests", "1", "--worker-lifetime", "0.1", "--max-worker-memory", "1000")
    for option in ("--max-requests", "--worker-lifetime", "--max-worker-memory"):
        server.wait_log(f"no other process that could take over: {option} has no effect")
    assert server.log().count("has no effect") == 3  # each is said once
    assert {server.get("/who").text for _ in range(3)} == {str(server.pid)}


# ---- the article's experiment: spec/manual/timeouts.md ----


def test_one_thread(site):
    """A request that takes longer than --timeout, and another that waits for it: the worker is replaced, and both are
    answered, for the old one has time to end."""
    server = site("--threads", "1", "--timeout", "1", workers=1)
    (old,) = pids(server)
    first = Asked(server, "/hold?seconds=6")
    server.admin.wait_in_flight("running", 1)
    second = Asked(server, "/who")
    (new,) = wait_ready(server, 1, {old}) if first.answer() else set()
    assert (first.answer(), first.text) == ("200", str(old))
    assert second.answer() == "200"
    assert server.get("/who").text == str(new)
    server.wait_log(rf"pid {old}\) has had all threads in one step each for too long, and requests wait")
    assert re.search(r"this is where thread fermata-\d is:", server.log_now())
    assert "time.sleep(float(arguments(environ)" in server.log_now()
    assert page(server)["slots"][0]["last"]["why"] == "exhausted"


def test_one_thread_and_nothing_waits(site):
    """Then nobody misses the thread: the request is answered."""
    server = site("--threads", "1", "--timeout", "0.5", workers=1)
    before = pids(server)
    assert server.get("/hold?seconds=3", timeout=LONG).status == 200
    assert pids(server) == before


def test_two_threads(site):
    """The other thread goes on, so nothing is wrong."""
    server = site("--threads", "2", "--timeout", "0.5", workers=1)
    before = pids(server)
    first = Asked(server, "/hold?seconds=3")
    while first.is_alive():
        assert server.get("/who").status == 200
        time.sleep(0.05)
    assert first.answer() == "200"
    assert pids(server) == before
    assert replaced(server, "exhausted") == 0


def test_a_request_that_never_ends(site):
    """It has --drain-timeout; then its client is told, and the worker is gone."""
    server = site("--threads", "1", "--timeout", "0.5", "--drain-timeout", "1", workers=1)
    (old,) = pids(server)
    first = Asked(server, "/hold?seconds=3600")
    server.admin.wait_in_flight("running", 1)
    with server.begin("/who", timeout=LONG) as c:
        assert c.read_response().status in (200, 503)  # of the old one, or of the one that comes
    assert first.answer() == "503"
    wait_ready(server, 1, {old})
    assert server.get("/who").status == 200


def test_a_replacement_that_is_late(site, tmp_path):
    """One that gets on again while there is none goes on serving."""
    server = site("--threads", "1", "--timeout", "0.5", workers=1, env={"SUPERVISED_BREAK": str(tmp_path / "broken")})
    before = pids(server)
    (tmp_path / "broken").touch()
    first = Asked(server, "/hold?seconds=2")
    server.admin.wait_in_flight("running", 1)
    second = Asked(server, "/who")
    server.wait_log("another one takes its place", within=LONG)
    eventually(lambda: server.admin.get("/readyz").status == 503, "none serves")
    assert (first.answer(), second.answer()) == ("200", "200")
    server.wait_log("The threads get on again", within=LONG)
    assert server.get("/who").text == str(min(before))
    (tmp_path / "broken").unlink()
    wait_ready(server, 1, before)


def test_one_process_says_that_it_is_stuck(launch):
    """No other process could take over: who looks at /healthz can end it."""
    server = launch("supervised:app", "--threads", "1", "--timeout", "1", admin=True)
    assert server.admin.get("/healthz").status == 200
    first = Asked(server, "/hold?seconds=5")
    server.admin.wait_in_flight("running", 1)
    second = Asked(server, "/who")
    eventually(lambda: server.admin.get("/healthz").status == 503, "it is stuck", within=LONG)
    assert "--timeout" in server.admin.get("/healthz").text
    assert server.admin.get("/readyz").status == 503
    assert (first.answer(), second.answer()) == ("200", "200")
    eventually(lambda: server.admin.get("/healthz").status == 200, "it gets on again")
    assert server.admin.get("/readyz").status == 200


def test_timeout_off(site):
    server = site("--threads", "1", "--timeout", "0", workers=1)
    before = pids(server)
    first = Asked(server, "/hold?seconds=2")
    server.admin.wait_in_flight("running", 1)
    second = Asked(server, "/who")
    assert (first.answer(), second.answer()) == ("200", "200")
    assert pids(server) == before


# ---- a loop that does not turn ----


@pytest.mark.skipif(TSAN, reason="its runtime may keep back a signal that comes while the process is stopped")
def test_silent(site):
    """A stopped process has a client: it is replaced, and killed when it does not end."""
    server = site("--timeout", "1", "--drain-timeout", "0")
    with stream(server) as (_, one):
        os.kill(one, signal.SIGSTOP)
        server.wait_log(rf"pid {one}\) has not answered for too long", within=LONG)
        wait_ready(server, 2, {one})
    assert replaced(server, "silent") == 1
    assert page(server)["slots"][0]["exits"] + page(server)["slots"][1]["exits"] == 0


@pytest.mark.skipif(TSAN, reason="its runtime keeps back signals until a thread calls something")
def test_silent_with_its_stacks(site):
    """No thread can poll: where they are goes to the log, before the worker is told to end."""
    server = site("--timeout", "1", "--drain-timeout", "0", workers=1)
    (one,) = pids(server)
    with server.begin("/freeze"):
        server.wait_log(rf"pid {one}\) has not answered for too long", within=LONG)
        server.wait_log("The event loop does not turn: this is where the threads are", within=LONG)
        wait_ready(server, 1, {one})
    assert re.search(r'File ".*supervised.py", line \d+ in freeze', server.log())
    assert server.log().count("this is where the threads are") == 1


@pytest.mark.skipif(TSAN, reason="its runtime may keep back a signal that comes while the process is stopped")
def test_an_arbiter_that_comes_late_judges_nobody(site):
    """All were stopped, as a machine that sleeps stops them."""
    server = site("--timeout", "1")
    before = pids(server)
    with stream(server) as (_, one):
        time.sleep(0.5)  # it looks
        os.kill(one, signal.SIGSTOP)
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(server.pid, signal.SIGCONT)
        os.kill(one, signal.SIGCONT)
        never(lambda: replaced(server, "silent"), "it was judged", during=1.5)
    assert pids(server) == before


def test_parked_requests_are_no_silence(site):
    server = site("--timeout", "0.4")
    before = pids(server)
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(stream(server))
        never(lambda: pids(server) != before, "one is replaced", during=2)


# ---- the GIL ----


def test_gil_timeout(site):
    server = site("--gil-timeout", "0.5", "--timeout", "0", "--drain-timeout", "1", workers=1)
    (old,) = pids(server)
    first = Asked(server, "/hold-gil?seconds=3600")
    time.sleep(0.3)
    second = Asked(server, "/who")
    server.wait_log(rf"pid {old}\) could not have the GIL for too long", within=LONG)
    wait_ready(server, 1, {old})
    server.wait_log(r"this is where the threads are:")
    assert re.search(r'File ".*supervised.py", line \d+ in hold_gil', server.log_now())
    assert server.get("/who").status == 200
    assert first.answer() != "200"
    second.join()


# ---- what it says ----


def test_min_ready(site):
    server = site("--min-ready", "2")
    assert server.admin.get("/readyz").status == 200
    one = min(pids(server))
    os.kill(one, signal.SIGKILL)
    eventually(lambda: server.admin.get("/readyz").status == 503, "one is too few", every=0.005)
    wait_ready(server, 2, {one})
    assert server.admin.get("/readyz").status == 200
    server.signal(signal.SIGTTOU)  # as many as are wanted are enough
    wait_ready(server, 1)
    assert server.admin.get("/readyz").status == 200


def test_workers_page(site):
    server = site()
    before = page(server)
    assert (before["reload"], before["serving"], before["wanted"]) == ("none", 2, 2)
    assert all(w["boot"] > 0 and w["why"] == "" for w in before["workers"])
    assert [s["exits"] for s in before["slots"]] == [0, 0]
    assert "last" not in before["slots"][0]
    one = min(before["workers"], key=lambda w: w["slot"])
    os.kill(one["pid"], signal.SIGKILL)
    wait_ready(server, 2, {one["pid"]})
    slot = page(server)["slots"][0]
    assert slot["exits"] == 1
    assert slot["backoff"] > 0
    assert (slot["last"]["pid"], slot["last"]["signal"], slot["last"]["out_of_memory"]) == (one["pid"], 9, False)
    server.signal(signal.SIGHUP)
    eventually(lambda: page(server)["reload"] == "done", "it is reloaded", within=LONG)
    assert metric(server, 'fermata_worker_exits_total{slot="0"}') == 1


def test_metrics_by_slot(site):
    """They do not go backwards when a worker is replaced."""
    server = site()
    by = [f'fermata_worker_requests_total{{slot="{slot}"}}' for slot in (0, 1)]
    for _ in range(40):
        server.get("/who")
    eventually(lambda: sum(metric(server, name) for name in by) == 40, "all are counted")
    before = [metric(server, name) for name in by]
    gone = pids(server)
    server.signal(signal.SIGHUP)
    wait_ready(server, 2, gone)
    assert [metric(server, name) for name in by] == before


# ---- the drain ----


def test_drain_timeout(site):
    """Of a worker that is replaced; streams end one after another in the last part of it."""
    server = site("--drain-timeout", "4", workers=1)
    before = pids(server)
    ends = []

    def watch(c) -> None:
        c.drain()
        ends.append(time.monotonic())

    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(stream(server))[0] for _ in range(20)]
        threads = [threading.Thread(target=watch, args=(c,)) for c in held]
        for t in threads:
            t.start()
        server.signal(signal.SIGHUP)
        for t in threads:
            t.join()
    assert max(ends) - min(ends) > 0.2, "they end one after another"
    wait_ready(server, 1, before)


def test_what_has_sent_nothing_has_all_of_the_time(site):
    server = site("--drain-timeout", "2", "--graceful-timeout", "60", workers=1)
    before = pids(server)
    first = Asked(server, "/hold?seconds=1.8")
    parked = Asked(server, "/park")
    server.admin.wait_in_flight("parked_future", 1)
    server.signal(signal.SIGHUP)
    assert first.answer() == "200"
    assert parked.answer() == "503"
    wait_ready(server, 1, before)


def test_a_stop_ends_what_drains(site):
    """A long --drain-timeout is for those that are replaced, not for the end of all."""
    server = site("--drain-timeout", "3600", "--graceful-timeout", "1", workers=1)
    before = pids(server)
    with stream(server):
        server.signal(signal.SIGHUP)
        eventually(lambda: pids(server) - before, "another one serves", within=LONG)
        server.signal(signal.SIGTERM)
        assert server.wait_exit(2 * LONG) == 0


def test_drain_workers(site):
    """Those that drain for hours do not become ever more."""
    server = site("--drain-timeout", "3600", "--drain-workers", "1", "--graceful-timeout", "1", workers=1)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            before = pids(server)
            stack.enter_context(stream(server))
            server.signal(signal.SIGHUP)
            # It alone: the next stream is to go to it.
            eventually(lambda: len(now := pids(server)) == 1 and now != before, "another one serves", within=LONG)  # noqa: B023
        server.wait_log("told to end quickly: 1 drain, no more may", within=LONG)
        eventually(lambda: len(pids(server, "draining")) == 1, "the oldest are gone", within=LONG)
        server.signal(signal.SIGTERM)
        assert server.wait_exit(2 * LONG) == 0


def test_reloads_one_upon_the_other(site):
    """More workers are replaced than may drain: the next ones serve on meanwhile, and nothing is cut off."""
    server = site(workers=1)
    with contextlib.ExitStack() as stack:
        asked = []
        for number in range(1, 6):
            before = pids(server)
            asked.append(stack.enter_context(server.begin(f"/hold?seconds={5 * SLOW:g}", timeout=2 * LONG)))
            server.admin.wait_in_flight("running", number)
            server.signal(signal.SIGHUP)
            eventually(lambda b=before: pids(server) - b, "another one serves", within=LONG)
        assert [c.read_response().status for c in asked] == [200] * 5
    assert "told to end quickly" not in server.log()
    wait_ready(server, 1)


def test_drain_idle(site):
    """How long an idle connection to a worker that is replaced is kept for its next request."""
    server = site("--drain-idle", "2", workers=1)
    (old,) = pids(server)
    with server.connect(timeout=LONG) as c:
        assert c.request("GET", "/who").text == str(old)
        server.signal(signal.SIGHUP)
        server.wait_log(rf"\[{old}\] \[INFO\] Draining", within=LONG)  # it does, and has not only been told
        response = c.request("GET", "/who")
        assert (response.text, response.keeps_alive) == (str(old), False)
    wait_ready(server, 1, {old})


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime has a thread that wakes up")
def test_all_options_and_no_client(site):
    """What is watched costs nothing while there is nothing to watch."""
    server = site("--timeout", "0.4", "--gil-timeout", "0.4", "--max-requests", "10", "--worker-lifetime", "3600")
    server.get("/who")
    processes = [Process(server.pid), *(Process(pid) for pid in pids(server))]

    def sleeps() -> bool:
        before = [p.switches() for p in processes]
        time.sleep(2)
        return [p.switches() for p in processes] == before

    eventually(sleeps, "nothing wakes up for two seconds", within=LONG, every=0)
