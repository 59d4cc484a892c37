"""The kinds of workloads: how each is measured, and how long that takes."""

from collections.abc import Callable

from . import measure as m
from . import waits
from .measure import Cell, Result

KINDS: dict[str, Callable[[Cell], Result]] = {
    "wrk": m.measure_wrk,
    "mixed": m.measure_mixed,
    "hog": m.measure_hog,
    "closed": m.measure_closed,
    "proxy": m.measure_proxy,
    "park": m.measure_park,
    "sse": m.measure_sse,
    "start": m.measure_start,
    "busy": waits.measure_busy,
    "queue": waits.measure_queue,
    "gate": waits.measure_gate,
    "continuations": waits.measure_continuations,
    "trickle": waits.measure_trickle,
}


def measure(cell: Cell) -> Result:
    return m.measure_loop(cell) if cell.peer == "loop" else KINDS[cell.workload.kind](cell)


def expected_seconds(cell: Cell) -> float:
    """How long a measurement takes, roughly: for the estimate that is printed first."""
    start, w = 0.7, cell.workload
    if cell.peer == "loop":
        return cell.seconds / 2 + 1
    beside = cell.seconds * 2 * m.MIXED_SECONDS + m.WARM_UP + 1.5
    parking = 2 * (m.most_connections(w.connections) / 4000 + 2) + 2
    by_kind = {
        "wrk": cell.seconds + m.WARM_UP,
        "busy": cell.seconds + m.WARM_UP,
        "mixed": beside,
        "hog": beside,
        "closed": cell.seconds + m.closed_warm_up(w) + 0.5,
        "queue": cell.seconds + m.closed_warm_up(w) + 0.5,
        "proxy": cell.seconds + m.closed_warm_up(w) + 1.5,
        "park": parking,
        "gate": parking,
        "continuations": 6.0,
        "sse": cell.seconds + 3,
        "trickle": cell.seconds + 2,
        "start": 0.0,
    }
    return start + by_kind.get(w.kind, 0.0)
