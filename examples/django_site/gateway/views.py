"""An ordinary view, and one that waits for the upstream without a thread."""

from collections.abc import Generator
from concurrent.futures import Future
from typing import Any

from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe
from wsgi_plus import AsyncBridge, suspends, timeout, wait
from wsgi_plus.django import offload

from . import upstream
from .models import Page

bridge = AsyncBridge()


def index(request: HttpRequest) -> HttpResponse:
    return render(request, "gateway/index.html", {"pages": Page.objects.order_by("name")})


@require_safe
@suspends
def page(request: HttpRequest, name: str) -> Generator[Future[Any], None, HttpResponse]:
    found = get_object_or_404(Page, name=name)
    try:
        status, kind, body = yield from timeout(found.patience, bridge.run(upstream.fetch(found.path)))
    except TimeoutError:
        return HttpResponse("the upstream keeps silent\n", status=504, content_type="text/plain")
    except upstream.Broken as error:
        return HttpResponse(f"the upstream fails: {error}\n", status=502, content_type="text/plain")
    yield from wait(offload(count, found))
    return HttpResponse(body, status=status, content_type=kind)


def count(page: Page) -> None:
    """Writes, and so may have to wait for other writers: in a thread of the pool, and not in one of the server."""
    Page.objects.filter(pk=page.pk).update(served=F("served") + 1)
