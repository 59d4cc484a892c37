"""Asks the admin endpoint and reads its metrics, strictly."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from .client import Address, Connection, Response
from .limits import PROMPT, eventually

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: -?\d+)?")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')

Labels = tuple[tuple[str, str], ...]


@dataclass
class Metrics:
    """One answer of /metrics."""

    types: dict[str, str] = field(default_factory=dict)
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def value(self, name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        assert key in self.samples, f"no {name}{labels or ''} among {sorted({n for n, _ in self.samples})}"
        return self.samples[key]

    def get(self, name: str, **labels: str) -> float:
        """As value, but 0 for what has not been counted yet."""
        return self.samples.get((name, tuple(sorted(labels.items()))), 0.0)

    def total(self, name: str) -> float:
        """The sum over all labels."""
        found = [value for (n, _), value in self.samples.items() if n == name]
        assert found, f"no {name}"
        return sum(found)

    def labels(self, name: str, label: str) -> set[str]:
        return {dict(labels)[label] for n, labels in self.samples if n == name}

    def in_flight(self, state: str) -> float:
        return self.value("fermata_requests_in_flight", state=state)


def parse(text: str) -> Metrics:
    """Reads Prometheus's text format 0.0.4, and checks what a lenient scraper would let pass."""
    metrics = Metrics()
    assert text.endswith("\n"), "the last line must end with a line feed"
    helped: set[str] = set()
    closed: set[str] = set()
    current = None
    for line in text.splitlines():
        if not line:
            continue
        if line.startswith("#"):
            _, kind, name, *rest = line.split(" ", 3)
            if kind == "HELP":
                assert name not in helped, f"second HELP for {name}"
                helped.add(name)
            elif kind == "TYPE":
                assert name not in metrics.types, f"second TYPE for {name}"
                assert rest[0] in ("counter", "gauge", "histogram", "summary", "untyped"), line
                metrics.types[name] = rest[0]
            continue
        found = _SAMPLE.fullmatch(line)
        assert found, f"not a sample: {line!r}"
        name, text_labels, number = found.groups()
        labels = []
        at = 0
        while text_labels and at < len(text_labels):
            label = _LABEL.match(text_labels, at)
            assert label, f"bad labels: {line!r}"
            labels.append((label.group(1), label.group(2)))
            at = label.end()
        key = (name, tuple(sorted(labels)))
        assert key not in metrics.samples, f"twice: {line!r}"
        metrics.samples[key] = float(number)
        family = name
        for suffix in ("_bucket", "_sum", "_count"):
            base = name.removesuffix(suffix)
            if base != name and metrics.types.get(base) == "histogram":
                family = base
        assert family in metrics.types, f"no TYPE before {line!r}"
        assert family in helped, f"no HELP before {line!r}"
        if family != current:
            assert family not in closed, f"the samples of {family} are not in one group"
            if current is not None:
                closed.add(current)
            current = family
        if metrics.types[family] == "counter":
            assert name.endswith("_total"), f"a counter's name ends with _total: {name}"
            assert metrics.samples[key] >= 0, line
    _check_histograms(metrics)
    return metrics


def _check_histograms(metrics: Metrics) -> None:
    for family, kind in metrics.types.items():
        if kind != "histogram":
            continue
        series: dict[Labels, list[tuple[float, float]]] = {}
        for (name, labels), value in metrics.samples.items():
            if name == f"{family}_bucket":
                rest = tuple(pair for pair in labels if pair[0] != "le")
                series.setdefault(rest, []).append((float(dict(labels)["le"].replace("Inf", "inf")), value))
        assert series, f"{family} has no buckets"
        for labels, buckets in series.items():
            bounds = [bound for bound, _ in buckets]
            counts = [count for _, count in buckets]
            assert bounds == sorted(set(bounds)) and math.isinf(bounds[-1]), f"{family}: buckets {bounds}"
            assert counts == sorted(counts), f"{family}: not cumulative: {counts}"
            assert metrics.samples[(f"{family}_count", labels)] == counts[-1], (
                f"{family}: _count is not the last bucket"
            )
            assert metrics.samples[(f"{family}_sum", labels)] >= 0


class Admin:
    def __init__(self, address: Address) -> None:
        self.address = address

    def get(self, target: str, *, timeout: float = PROMPT) -> Response:
        with Connection(self.address, timeout=timeout) as c:
            return c.request("GET", target, [("Host", "127.0.0.1")])

    def metrics(self, *, timeout: float = PROMPT) -> Metrics:
        answer = self.get("/metrics", timeout=timeout)
        assert answer.status == 200
        return parse(answer.body.decode())

    def wait(self, name: str, at_least: float, *, within: float = PROMPT, **labels: str) -> Metrics:
        """Waits until a sample has at least this value."""

        def there() -> Metrics | None:
            metrics = self.metrics()
            return metrics if metrics.get(name, **labels) >= at_least else None

        return eventually(there, f"{name}{labels or ''} >= {at_least:g}", within=within)

    def wait_in_flight(self, state: str, number: float, *, within: float = PROMPT) -> Metrics:
        """Waits until exactly that many requests are in that state."""

        def there() -> Metrics | None:
            metrics = self.metrics()
            return metrics if metrics.in_flight(state) == number else None

        return eventually(there, f"{number:g} requests in state {state}", within=within)
