"""The pages: a basket that grows, what the site learns of its client, and a page that takes its time."""

from __future__ import annotations

import time

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template import engines
from django.urls import path
from django.views.decorators.http import require_POST

PAGE = engines["django"].from_string("""<!DOCTYPE html>
<title>Shop</title>
<link rel="stylesheet" href="/static/style.css">
<h1>Basket</h1>
<ul>{% for thing in basket %}<li>{{ thing }}</li>{% endfor %}</ul>
<form method="post" action="/add">{% csrf_token %}<input name="thing" required> <button>Add</button></form>
""")


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PAGE.render({"basket": request.session.get("basket", [])}, request))


@require_POST
def add(request: HttpRequest) -> HttpResponse:
    request.session["basket"] = [*request.session.get("basket", []), request.POST["thing"]]
    return HttpResponseRedirect("/")


def where(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"client": request.META["REMOTE_ADDR"], "url": request.build_absolute_uri("/")})


def slow(request: HttpRequest) -> HttpResponse:
    time.sleep(float(request.GET["seconds"]))
    return HttpResponse("at last")


urlpatterns = [path("", index), path("add", add), path("where", where), path("slow", slow)]
