"""What is in /proc, and what is made of it."""

import os
import subprocess
import time

from bench import proc
from bench.proc import TICK, descendants, interpolate, parse_busy, parse_field, parse_stat

STAT = "42 (odd) name) S 7 42 42 0 -1 4194304 100 0 0 0 150 50 20 30 20 0 3 0 1234 1000 10 0"


def test_stat_with_parentheses_in_the_name() -> None:
    stat = parse_stat(STAT)
    assert (stat.pid, stat.parent) == (42, 7)
    assert stat.cpu == 200 * TICK
    assert stat.user == 150 * TICK
    assert stat.reaped == 50 * TICK


def test_busy_leaves_out_waiting_and_counts_what_the_host_took() -> None:
    assert parse_busy("cpu  1 2 3 1000 2000 4 5 6 0 0\ncpu0 9 9 9 9 9 9 9 9\n") == 21 * TICK


def test_fields() -> None:
    text = "Name:\tx\nVmRSS:\t  1234 kB\nvoluntary_ctxt_switches:\t5\n"
    assert parse_field(text, "VmRSS") == 1234
    assert parse_field(text, "voluntary_ctxt_switches") == 5
    assert parse_field(text, "Pss") == 0


def test_descendants() -> None:
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1}
    assert sorted(descendants(parents, 10)) == [10, 11, 12]
    assert descendants(parents, 99) == [99]


def test_interpolation() -> None:
    samples = [(0.0, 0.0), (1.0, 10.0), (2.0, 10.0)]
    assert interpolate(samples, 0.25) == 2.5
    assert interpolate(samples, 1.5) == 10.0
    assert interpolate(samples, -1.0) == 0.0
    assert interpolate(samples, 3.0) == 10.0


def test_a_child_is_in_the_tree_and_its_cpu_time_grows() -> None:
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as child:
        try:
            assert child.pid in proc.tree(os.getpid())
            before = proc.tree_cpu([child.pid])
            while proc.tree_cpu([child.pid]) == before:
                time.sleep(0.01)
            assert proc.memory_kb([child.pid])[0] > 0
        finally:
            child.kill()


def test_a_process_that_has_ended_counts_nothing() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert proc.tree_cpu([child.pid]) == 0
    assert proc.memory_kb([child.pid]) == (0, 0)
