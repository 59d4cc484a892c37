"""A Django with Sentry's SDK, other people's middleware and REST framework, for servers/test_served_packages.py."""

from __future__ import annotations

import json
from typing import Any

import sentry_sdk
from django_config import MIDDLEWARE, configure
from sentry_sdk.transport import Transport

events: list[dict[str, Any]] = []


class Kept(Transport):
    """Sends nothing, and keeps it."""

    def capture_envelope(self, envelope: Any) -> None:
        event = envelope.get_event()
        if event is not None:
            events.append(event)


sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=Kept)
configure(
    __name__,
    MIDDLEWARE=[
        "whitenoise.middleware.WhiteNoiseMiddleware",
        "corsheaders.middleware.CorsMiddleware",
        *(path for path in MIDDLEWARE if "cache" not in path),
        "django_htmx.middleware.HtmxMiddleware",
        "simple_history.middleware.HistoryRequestMiddleware",
    ],
    STATIC_URL="/static/",
    CORS_ALLOW_ALL_ORIGINS=True,
)

from django.http import HttpResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.decorators import api_view  # noqa: E402
from rest_framework.exceptions import NotFound  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from simple_history.models import HistoricalRecords  # noqa: E402
from wsgi_plus import sleep, suspends  # noqa: E402
from wsgi_plus.django import get_wsgi_application  # noqa: E402


@suspends
def nap(request: Any) -> Any:
    yield from sleep(float(request.GET["s"]))
    assert HistoricalRecords.context.request is request
    return HttpResponse(f"rested {bool(request.htmx)}")


@suspends
def fails(request: Any) -> Any:
    yield from sleep(0.01)
    raise ValueError("on purpose")


@api_view(["GET"])
@suspends
def api(request: Any) -> Any:
    yield from sleep(float(request.query_params["s"]))
    if "missing" in request.query_params:
        raise NotFound
    return Response({"rested": True})


def stream(request: Any) -> Any:
    def blocks() -> Any:
        yield "first "
        yield from sleep(float(request.GET["s"]))
        yield "last"

    return StreamingHttpResponse(blocks())


def told(request: Any) -> HttpResponse:
    """What Sentry has been told."""
    return HttpResponse(json.dumps([[value["type"] for value in event["exception"]["values"]] for event in events]))


urlpatterns = [path(view.__name__, view) for view in (nap, fails, stream, told)]
urlpatterns.append(path("api", api))
application = get_wsgi_application()
