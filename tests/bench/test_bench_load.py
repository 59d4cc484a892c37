"""What the load generators print becomes metrics."""

import json

import pytest
from bench.load import Wrk, parse_load, parse_wrk
from bench.measure import closed_metrics, park_metrics
from bench.server import Failed

WRK = """Running 3s test @ http://127.0.0.1:8000/
  1 threads and 32 connections
Requests/sec:  20000.00
bench: {"requests": 60000, "duration_us": 3000000, "bytes": 6000000, "p50_us": 500, "p90_us": 600, "p99_us": 900, \
"max_us": 4000, "connect": 0, "read": 2, "write": 0, "status": 1, "timeout": 0}
"""


def test_wrk_in_machine_form() -> None:
    metrics = parse_wrk(WRK)
    assert metrics["rps"] == 20000
    assert metrics["mb_per_s"] == 2
    assert (metrics["p50_us"], metrics["p99_us"]) == (500, 900)
    assert (metrics["errors"], metrics["read_errors"]) == (3, 2)


def test_wrk_that_says_nothing_has_failed() -> None:
    with pytest.raises(Failed, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_command_of_wrk() -> None:
    wrk = Wrk(8000, 1, 1.5, "/x", ("A: b",), "data/post", threads=2)
    command = wrk.command()
    assert command[:4] == ["wrk", "-t1", "-c1", "-d2s"]  # not more threads than connections; whole seconds
    assert command[-3:] == ["http://127.0.0.1:8000/x", "--", "data/post"]
    assert command[command.index("-H") + 1] == "A: b"


def test_load_closed() -> None:
    said = {
        "requests": 10, "errors": 1, "seconds": 2.0, "rps": 5.0, "client_cpu": 0.5,
        "latency_us": {"p50": 1.0, "p90": 2.0, "p99": 3.0, "p999": 4.0, "max": 5.0},
        "per_connection": {"min": 1, "p50": 2, "max": 3},
    }  # fmt: skip
    metrics = closed_metrics(json.dumps(said))
    assert (metrics["rps"], metrics["p99_us"], metrics["most_per_connection"]) == (5.0, 3.0, 3)


def wave(**different: float) -> dict[str, object]:
    said: dict[str, object] = {
        "seconds_to_park": 1.0, "parked": 1000, "rss_before_kb": 10_000, "rss_parked_kb": 14_000, "errors": 0,
        "hello_latency_us": {"p50": 1.0, "p99": 2.0, "max": 3.0}, "seconds_to_resume": 0.02, "resumed": 1000,
    }  # fmt: skip
    return {**said, **different}


def test_load_park() -> None:
    metrics = park_metrics(json.dumps({"connections": 1000, "waves": [wave(), wave(rss_parked_kb=14_700, errors=2)]}))
    assert metrics["kb_each"] == 4
    assert metrics["resumed_per_s"] == 50_000
    assert metrics["second_growth"] == pytest.approx(0.05)
    assert metrics["errors"] == 2


def test_load_that_fails_is_quoted() -> None:
    with pytest.raises(Failed, match="usage"):
        parse_load("usage: load closed\n")
