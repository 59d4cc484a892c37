"""Views of the tests.  Those that lock need PostgreSQL."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future
from typing import Any

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from gateway import upstream
from gateway.models import Page
from gateway.views import bridge
from rest_framework.decorators import api_view, permission_classes
from rest_framework.exceptions import NotFound
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer
from rest_framework.views import APIView
from wsgi_plus import gather, sleep, suspends, wait
from wsgi_plus.django import offload

from . import told

Waits = Generator["Future[Any]", None, Any]


class PageSerializer(ModelSerializer[Page]):
    class Meta:
        model = Page
        fields = ["name", "path", "patience"]


class ApiPage(APIView):
    """A page of the upstream, with what the site knows of it."""

    @suspends
    def get(self, request: Request, name: str) -> Waits:
        found = yield from wait(offload(Page.objects.filter(name=name).first))
        if found is None:
            raise NotFound
        status, _, body = yield from wait(bridge.run(upstream.fetch(found.path)))
        return Response({**PageSerializer(found).data, "status": status, "length": len(body)})

    @suspends
    def put(self, request: Request, name: str) -> Waits:
        page = get_object_or_404(Page, name=name)
        serializer = PageSerializer(page, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        yield from sleep(0.01)
        yield from wait(offload(serializer.save))
        return Response(serializer.data)


@api_view(["GET"])
@permission_classes([IsAdminUser])
@suspends
def api_count(request: Request) -> Waits:
    return Response({"count": (yield from wait(offload(Page.objects.count)))})


def count(request: HttpRequest) -> HttpResponse:
    """In the server's thread."""
    return JsonResponse({"count": Page.objects.count()})


@suspends
def one(request: HttpRequest) -> Waits:
    """In the server's thread before and after a wait, and in one of the pool meanwhile."""
    before = Page.objects.count()
    meanwhile = yield from wait(offload(Page.objects.count))
    return JsonResponse({"same": before == meanwhile == Page.objects.count()})


def slowly() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.1)")
    return Page.objects.count()


@suspends
def ten(request: HttpRequest) -> Waits:
    counts = yield from gather(*[offload(slowly) for _ in range(10)])
    return JsonResponse({"counts": len(counts), "same": len(set(counts)) == 1})


def rename() -> None:
    Page.objects.update(path="/changed")


@suspends
def within(request: HttpRequest) -> Waits:
    """Waits within a transaction: a mistake."""
    with transaction.atomic():
        rename()
        yield from sleep(0.01)
    return HttpResponse("unreachable")


@transaction.atomic
@suspends
def around(request: HttpRequest) -> Waits:
    """Another."""
    rename()
    yield from sleep(0.01)
    return HttpResponse("unreachable")


def until_unlocked() -> int:
    """For as long as another connection has the lock with this number."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(12)")
    return Page.objects.count()


@suspends
def locked(request: HttpRequest) -> Waits:
    return JsonResponse({"count": (yield from wait(offload(until_unlocked)))})


@suspends
def fails(request: HttpRequest) -> Waits:
    yield from sleep(0.01)
    raise ValueError("on purpose")


def errors(request: HttpRequest) -> HttpResponse:
    return JsonResponse(told.errors(), safe=False)
