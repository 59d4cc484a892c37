"""Applications behind OpenTelemetry's middleware for WSGI, which knows nothing of WSGI+, and behind ours; ``key`` as in
suspend.py."""

from __future__ import annotations

import probe
from context_meetings import meetings
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id
from routes import Routes, arguments, text
from wsgi_plus import AsyncBridge, gather, offload
from wsgi_plus.otel import route, traced

routes = Routes()
bridge = AsyncBridge()

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
reader = InMemoryMetricReader()
tracer = provider.get_tracer(__name__)

app = OpenTelemetryMiddleware(routes, tracer_provider=provider, meter_provider=MeterProvider([reader]))


def routed(environ, start_response):
    route(environ["PATH_INFO"])
    return routes(environ, start_response)


ours = traced(routed, tracer_provider=provider)


@routes.route
def story(environ, start_response):
    """Spans before, around and after suspensions, and on threads that are not the server's."""
    key = arguments(environ)["key"]
    with tracer.start_as_current_span("before"):
        pass
    try:
        with tracer.start_as_current_span("around"):
            probe.record(key, "parking")
            yield probe.future(key)
            with tracer.start_as_current_span("within"):
                pass
        yield from gather(offload(on_a_thread), bridge.run(in_the_loop()))
        with tracer.start_as_current_span("after"):
            pass
        yield from text(start_response, "told")
    finally:
        with tracer.start_as_current_span("finally"):
            pass


def on_a_thread():
    with tracer.start_as_current_span("on a thread"):
        pass


async def in_the_loop():
    with tracer.start_as_current_span("in the loop"):
        pass


@routes.route
def caught(environ, start_response):
    """Handles a failure."""
    key = arguments(environ)["key"]
    probe.record(key, "parking")
    try:
        yield probe.future(key)
    except ValueError:
        yield from text(start_response, "caught", "404 Not Found")


@routes.route
def meet(environ, start_response):
    def met(name):
        with tracer.start_as_current_span(name):
            pass

    yield from meetings(environ, met)
    yield from text(start_response, "met")


# For the test


def spans(trace):
    """The spans of a trace that have ended, in the order of their ends."""
    return [
        {
            "name": span.name,
            "id": format_span_id(span.context.span_id),
            "parent": span.parent and format_span_id(span.parent.span_id),
            "start": span.start_time,
            "end": span.end_time,
            "status": span.status.status_code.name,
            "events": [event.name for event in span.events if event.name != "parked"],
            "parks": [event.name for event in span.events if event.name == "parked"],
            "http": span.attributes.get("http.status_code") or span.attributes.get("http.response.status_code"),
        }
        for span in exporter.get_finished_spans()
        if format_trace_id(span.context.trace_id) == trace
    ]


def metric(name):
    """The data points of a metric: counts of a histogram, values of a counter."""
    data = reader.get_metrics_data()
    return [
        point.count if hasattr(point, "count") else point.value
        for resource in (data.resource_metrics if data is not None else [])
        for scope in resource.scope_metrics
        for found in scope.metrics
        if found.name == name
        for point in found.data.data_points
    ]
