"""Longer shortages, and failures that come one behind the other."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from control import ENDLESS, OVERFLOW, Control, Site
from harness.client import build
from harness.limits import timeout
from harness.server import Server
from scenario import PARTS, Part, expect, run

SHORTAGE = 2.0  # seconds


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    c = Control(tmp_path / "control")
    yield c
    c.close()


@pytest.fixture
def server(control: Control, launch: Callable[..., Server]) -> Server:
    return launch("faulted:app", "--threads", "2", admin=True, env=control.env)


def part(name: str) -> Part:
    return next(p for p in PARTS if p.__name__ == name)


def right(server: Server, *names: str) -> None:
    bad = [(name, outcome) for name, outcome in run(server, [part(n) for n in names]) if outcome]
    assert not bad


def site(control: Control, function: str, caller: str) -> Site:
    found = [s for s in control.sites().values() if s.function == function and caller in s.label]
    assert found, f"{function} < {caller} was not reached: {sorted(s.label for s in control.sites().values())}"
    return found[0]


@timeout(60)
@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_no_descriptors_for_a_while(control: Control, server: Server, error: int) -> None:
    """Who is connected is served, who is not waits; the server says it once and does not spin."""
    with server.connect() as there:
        expect(there.request("GET", "/hello"), "hello")
        start, cpu = server.log_size(), server.process.cpu()
        control.order(site(control, "accept4", "accept_one"), error, ENDLESS)
        with server.connect() as waiting:
            waiting.send(build("GET", "/hello"))
            end = time.monotonic() + SHORTAGE
            while time.monotonic() < end:
                expect(there.request("GET", "/park"), "before between after")
                time.sleep(0.1)
            assert not waiting.readable(0)
            used, fired = server.process.cpu() - cpu, control.cancel()
            expect(waiting.read_response(), "hello")
    assert fired < SHORTAGE / 0.25 * 2, f"accept4 was called {fired} times in {SHORTAGE} s"
    assert used < SHORTAGE / 2, f"{used} s of processor time in {SHORTAGE} s"
    assert server.log(start).count("accept: ") == 1, server.log(start)


def test_file_system_without_nameless_files(control: Control, server: Server) -> None:
    """O_TMPFILE is not everywhere: then it is a file that is unlinked at once; if that fails too, 503."""
    right(server, "post_spilled")
    control.order(site(control, "open", "spool.c"), errno.EOPNOTSUPP, ENDLESS)
    right(server, "post_spilled")
    for error in (errno.ENOSPC, errno.EMFILE):
        control.order(site(control, "mkostemp", "spool.c"), error, 1, number=1)
        start = server.log_size()
        ((_, outcome),) = run(server, [part("post_spilled")])
        assert control.cancel(number=1) == 1
        assert outcome.endswith("503"), outcome
        server.wait_log("request body: ", start=start)
        time.sleep(0.15)  # that is said seldom
    right(server, "post_spilled", "keep_alive")


def test_wake_ups_beyond_counting(control: Control, server: Server) -> None:
    """The eventfd's counter is at its maximum each time a thread wakes the loop: none of them is lost."""
    right(server, "parked")
    for number, s in enumerate([s for s in control.sites().values() if s.function == "eventfd_write"][:4]):
        control.order(s, OVERFLOW, ENDLESS, number=number)
    for _ in range(20):
        right(server, "parked", "pipelined")
    assert sum(control.fired(number=number) for number in range(4)) >= 20


@timeout(120)
def test_no_memory_at_all(control: Control, server: Server) -> None:
    """Every allocation that requests reach fails in turn for a while, four at a time, while clients come and go."""
    before = control.sites()
    names = ("keep_alive", "pipelined", "head_in_pieces", "many_fields", "post", "slow_clients", "admin")
    for _ in range(2):
        right(server, *names)
    sites = [
        s
        for s in control.sites().values()
        if s.function in ("malloc", "calloc", "realloc") and (s.slot not in before or before[s.slot].calls < s.calls)
    ]
    assert len(sites) > 8
    for at in range(0, len(sites), 4):
        for number, s in enumerate(sites[at : at + 4]):
            control.order(s, errno.ENOMEM, ENDLESS, number=number)
        outcomes = dict(run(server, [part(name) for name in names]))
        for number in range(4):
            control.cancel(number=number)
        wrong = {name: outcome for name, outcome in outcomes.items() if outcome.startswith("wrong")}
        assert not wrong, [s.label for s in sites[at : at + 4]]
        assert server.alive()
        right(server, "keep_alive")
