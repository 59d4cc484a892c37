"""Sites with the middleware of others, for test_django_packages.py: each in a process of its own, as they patch Django.

    python django_packages.py SITE PATH...

makes the site, and asks it for each path.  Prints as JSON what has come of each, and what has been logged.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[3] / "py")]

from django_config import configure

futures: list[Future[Any]] = []
in_view: list[Any] = []
events: list[dict[str, Any]] = []
spans: list[Any] = []


def later() -> Future[Any]:
    futures.append(Future())
    return futures[-1]


# What the site is made of

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]

SITES: dict[str, dict[str, Any]] = {
    "sentry": {},
    "sentry_alone": {"MIDDLEWARE": []},
    "cors": {"MIDDLEWARE": ["corsheaders.middleware.CorsMiddleware"], "CORS_ALLOW_ALL_ORIGINS": True},
    "htmx": {"MIDDLEWARE": ["django_htmx.middleware.HtmxMiddleware"]},
    "whitenoise": {"MIDDLEWARE": ["whitenoise.middleware.WhiteNoiseMiddleware"], "STATIC_URL": "/static/"},
    "whitenoise_outside": {"MIDDLEWARE": []},
    "history": {"MIDDLEWARE": ["simple_history.middleware.HistoryRequestMiddleware"]},
    "telemetry": {"MIDDLEWARE": ["opentelemetry.instrumentation.django.middleware.otel_middleware._DjangoMiddleware"]},
    "silk": {"MIDDLEWARE": ["silk.middleware.SilkyMiddleware"], "TEMPLATES": TEMPLATES},
    "toolbar": {
        "MIDDLEWARE": ["debug_toolbar.middleware.DebugToolbarMiddleware"],
        "DEBUG_TOOLBAR_CONFIG": {"SHOW_TOOLBAR_CALLBACK": lambda request: "shown" in request.GET},
        "STATIC_URL": "/static/",
        "DEBUG": True,
        "TEMPLATES": TEMPLATES,
    },
}
SITES["sentry_others"] = {
    "MIDDLEWARE": [name for site in ("cors", "htmx", "history", "telemetry") for name in SITES[site]["MIDDLEWARE"]],
    "CORS_ALLOW_ALL_ORIGINS": True,
}
SITES["sentry_traced"] = SITES["sentry_others"]
SITES["rest_framework"] = SITES["sentry_rest_framework"] = {
    "STATIC_URL": "/static/",
    "TEMPLATES": TEMPLATES,
    "MIDDLEWARE": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
}
APPS = {
    **dict.fromkeys(["rest_framework", "sentry_rest_framework"], ["rest_framework", "django.contrib.staticfiles"]),
    "silk": ["silk"],
    "toolbar": ["debug_toolbar", "django.contrib.staticfiles"],
}


def make(site: str) -> Any:
    """The application."""
    settings = dict(SITES[site])
    if site.startswith("sentry"):
        begin_sentry(traced=site == "sentry_traced")
    static = Path(tempfile.mkdtemp())
    (static / "site.css").write_text("static")
    if site.startswith("whitenoise"):
        settings["STATIC_ROOT"] = str(static)
    if site == "silk":
        settings["SILKY_INTERCEPT_FUNC"] = lambda request: "recorded" in request.GET
    names = ("auth", "contenttypes", "sessions", "messages")
    settings["INSTALLED_APPS"] = [*(f"django.contrib.{name}" for name in names), *APPS.get(site, [])]
    configure(__name__, **settings)
    if "telemetry" in "".join(settings.get("MIDDLEWARE", ())):
        begin_telemetry()
    from wsgi_plus.django import SuspendingWSGIHandler

    application: Any = SuspendingWSGIHandler()
    if site == "whitenoise_outside":
        from whitenoise import WhiteNoise

        return WhiteNoise(application, root=str(static), prefix="/static/")
    return application


def begin_sentry(*, traced: bool) -> None:
    import sentry_sdk
    from sentry_sdk.integrations.django import DjangoIntegration
    from sentry_sdk.transport import Transport

    class Kept(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            event = envelope.get_event() or envelope.get_transaction_event()
            if event is not None:
                events.append(event)

    more: dict[str, Any] = {}
    if traced:
        more = {"traces_sample_rate": 1.0, "integrations": [DjangoIntegration(middleware_spans=True)]}
    sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=Kept, **more)


def begin_telemetry() -> None:
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    from django.conf import settings

    kept = list(settings.MIDDLEWARE)
    DjangoInstrumentor().instrument(tracer_provider=provider)  # sets what its middleware needs, and puts it first
    settings.MIDDLEWARE = kept
    spans.append(exporter)


# Views


def seen(request: Any) -> str:
    """What a view finds of what the middleware has left."""
    found = []
    if hasattr(request, "htmx"):
        found.append(f"htmx {bool(request.htmx)}")
    if hasattr(request, "silk_filters"):
        found.append("silk")
    if "simple_history" in sys.modules:
        from simple_history.models import HistoricalRecords

        found.append(f"history {getattr(HistoricalRecords.context, 'request', None) is request}")
    if spans:
        from opentelemetry import trace

        found.append(f"span {trace.get_current_span().get_span_context().is_valid}")
    return ", ".join(found)


def api(view: Any, request: Any) -> Any:
    from rest_framework.exceptions import NotFound
    from rest_framework.response import Response
    from wsgi_plus import wait

    yield from wait(later())
    if "missing" in request.query_params:
        raise NotFound
    if "error" in request.query_params:
        raise ValueError("on purpose")
    return Response({"word": "answer"})


def urls() -> list[Any]:
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import include, path
    from wsgi_plus import suspends, wait

    @suspends
    def slow(request: Any) -> Any:
        before = seen(request)
        for _ in range(2):
            yield from wait(later())
        assert seen(request) == before
        return HttpResponse(f"<body>slow: {before}</body>")

    @suspends
    def failing(request: Any) -> Any:
        if "sentry_sdk" in sys.modules:
            sys.modules["sentry_sdk"].set_tag("mine", "kept")
        yield from wait(later())
        raise ValueError("on purpose")

    @suspends
    def caught(request: Any) -> Any:
        fut = later()
        try:
            yield from wait(fut)
        except LookupError:
            return HttpResponse("caught")

    def stream(request: Any) -> Any:
        def blocks() -> Any:
            yield "a"
            try:
                yield from wait(later())
            except LookupError:
                yield "caught"
            yield "b"

        return StreamingHttpResponse(blocks())

    def quick(request: Any) -> Any:
        return HttpResponse(f"<body>quick: {seen(request)}</body>")

    views = [slow, failing, caught, stream, quick]
    found = [path(view.__name__, view) for view in views]
    if "rest_framework" in sys.modules:
        from rest_framework.views import APIView

        found.append(path("api", type("Slow", (APIView,), {"get": suspends(api)}).as_view()))
    if "silk" in sys.modules:
        found.append(path("silk/", include("silk.urls", namespace="silk")))
    if "debug_toolbar" in sys.modules:
        found.append(path("__debug__/", include("debug_toolbar.urls")))
    return found


class _Urls:
    def __getattr__(self, name: str) -> Any:
        if name == "urlpatterns":
            self.urlpatterns = urls()
            return self.urlpatterns
        raise AttributeError(name)


# Asking


def ask(application: Any, target: str) -> dict[str, Any]:
    """What comes of a request, whose futures are completed when it is suspended.

    ``#left``: the client leaves then.  ``#fails``: they fail.  ``#held``: it is not suspended; a thread completes
    them.  ``#html``: a page is asked for.
    """
    from wsgi_plus.testing import Client

    path, _, how = target.partition("#")
    headers = {"Origin": "http://elsewhere", "HX-Request": "true"}
    if "html" in how:
        headers["Accept"] = "text/html"
    client = Client(application, validate=False, raise_errors=False, headers=headers)
    stop = threading.Event()

    def complete() -> None:
        while not stop.wait(0.05):
            for fut in futures:
                if not fut.done():
                    fut.set_result(None)

    parked, starts = 0, len(futures)
    watcher = threading.Thread(target=complete, daemon=True)
    request = client.get(path, begin=False)
    held = "held" in how
    if held:
        watcher.start()
    request.resume()
    while request.parked is not None:
        parked += 1
        if "left" in how:
            request.disconnect()
            break
        futures[-1].set_exception(LookupError("missing")) if "fails" in how else futures[-1].set_result(None)
        request.resume()
    stop.set()
    if held:
        watcher.join()
    return {
        "parked": parked,
        "waits": len(futures) - starts,
        "status": request.status_code,
        "headers": dict(request.headers.items()),
        "body": request.text,
    }


def main(site: str, targets: list[str]) -> None:
    records: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage())

    logging.getLogger().addHandler(Kept(logging.WARNING))
    sys.modules["django_packages_urls"] = _Urls()  # type: ignore[assignment]
    application = make(site)
    from django.conf import settings

    settings.ROOT_URLCONF = "django_packages_urls"
    answers = [ask(application, target) for target in targets]
    ended = [
        {"name": span.name, "status": span.attributes["http.status_code"]}
        for each in spans
        for span in each.get_finished_spans()
    ]
    told = [
        {
            "kind": event.get("type", "error"),
            "errors": [value["type"] for value in event.get("exception", {}).get("values", ())],
            "url": event.get("request", {}).get("url"),
            "transaction": event.get("transaction"),
            "tag": event.get("tags", {}).get("mine"),
        }
        for event in events
    ]
    print(json.dumps({"answers": answers, "log": records, "events": told, "spans": ended}, default=str))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
