"""Thousands of requests of all kinds at once, with clients that vanish, and a ledger that has to balance."""

from __future__ import annotations

import os
import time

from harness.limits import LONG, eventually, timeout
from harness.swarm import Swarm

NUMBER = int(os.environ.get("FERMATA_STRESS_REQUESTS") or 2000)


@timeout(400)
def test_each_request_has_one_fate(launch):
    """Futures completed by several threads at random moments, clients that vanish at any byte, deadlines, pipelining:
    close() runs once for each request that began, never beside a step; the patient clients get whole answers that are
    their own; nothing is left."""
    seed = int(os.environ.get("FERMATA_STRESS_SEED") or time.time())
    print(f"FERMATA_STRESS_SEED={seed}")
    options = ("--threads", "4", "--request-timeout", "0.25", "--keep-alive", "0.3", "--graceful-timeout", "10")
    server = launch("mixed", *options, admin=True)
    swarm = Swarm(server, seed, number=NUMBER).start().join(10 * LONG)
    assert not swarm.wrong, (len(swarm.wrong), swarm.wrong[:5])
    for state in ("queued", "running", "parked_future", "parked_client", "sending"):
        server.admin.wait_in_flight(state, 0, within=LONG)
    eventually(lambda: server.admin.metrics().value("fermata_connections") == 0, "each connection is closed")
    ledger, metrics = server.call("mixed.report"), server.admin.metrics()
    balance = f"{ledger} {swarm.counts}"
    assert not {"overlapped", "closed twice", "stepped after close", "stepped after its end"} & set(ledger), balance
    assert ledger["begun"] == ledger["closed"] == sum(ledger.get(fate, 0) for fate in ("ended", "failed", "cut")), (
        balance
    )
    # Those that never began were ended while they were queued.
    never_began = metrics.total("fermata_requests_total") - ledger["begun"]
    queued = {
        name: metrics.get(name, state="queued")
        for name in ("fermata_disconnects_total", "fermata_request_timeouts_total")
    }
    assert 0 <= never_began <= sum(queued.values()), (never_began, queued, balance)
    # And all of it was there.
    assert min(ledger.get(fate, 0) for fate in ("ended", "failed", "cut")) > NUMBER / 100, balance
    assert (
        min(swarm.counts[what] for what in ("200", "vanished while sending", "vanished while reading")) > NUMBER / 50
    ), balance
    assert ledger["ended"] >= swarm.counts["200"], balance
    server.stop()
