"""An application that has metrics of its own, in prometheus_client's registry, and a collector that does what it is told."""

from __future__ import annotations

import hog
import probe
import prometheus_client
from prometheus_client import REGISTRY, Counter
from prometheus_client.metrics_core import GaugeMetricFamily
from routes import Routes, text

app = Routes()
app.include(hog.app)

quotes = Counter("quotes", "Quotes that were asked for.", ["of"])
behaviour = {"is": "good"}


class Collector:
    """Collects at each scrape, in the thread that was made for it."""

    def describe(self):
        return []

    def collect(self):
        if behaviour["is"] == "raise":
            raise RuntimeError("the collector has failed on purpose")
        if behaviour["is"] == "exit":
            raise SystemExit(3)
        if behaviour["is"] == "wait":
            probe.record("collector", "waits")
            probe.wait_gate("collector")
        yield GaugeMetricFamily("open_orders", "Orders that are open.", value=17)


REGISTRY.register(Collector())


def behave(how):
    behaviour["is"] = how


@app.route
def quote(environ, start_response):
    quotes.labels(of='"odd"\nname').inc()
    return text(start_response, "12.50\n")


def generate(text):
    """What the library's function returns from now on."""
    prometheus_client.generate_latest = lambda registry: text.encode() if text.startswith("bytes") else text
