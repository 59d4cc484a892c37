"""A Django of views that wait, for servers/test_served_django.py.  `key` names what is recorded, and the futures."""

from __future__ import annotations

import io
import os
import threading
from contextvars import ContextVar

import probe
from django_config import MIDDLEWARE, configure

# What is there beside Django's own; FUNCTION is for a server of its own.
CACHING = {"django.middleware.cache.UpdateCacheMiddleware", "django.middleware.cache.FetchFromCacheMiddleware"}
configure(
    __name__,
    MIDDLEWARE=[
        *([f"{__name__}.function"] if "FUNCTION" in os.environ else []),
        *(path for path in MIDDLEWARE if path not in CACHING),
        f"{__name__}.Places",
    ],
)

from django.contrib.auth import authenticate, login  # noqa: E402
from django.contrib.auth.decorators import login_required  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.exceptions import PermissionDenied  # noqa: E402
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.core.signals import request_finished, request_started  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.http import FileResponse, Http404, HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.shortcuts import redirect, render  # noqa: E402
from django.template.response import TemplateResponse  # noqa: E402
from django.urls import get_script_prefix, get_urlconf, path, reverse  # noqa: E402
from django.utils import timezone  # noqa: E402
from django.utils.deprecation import MiddlewareMixin  # noqa: E402
from django.utils.translation import get_language, gettext  # noqa: E402
from wsgi_plus import offload, sleep, suspends, wait  # noqa: E402
from wsgi_plus.django import get_wsgi_application  # noqa: E402

User.objects.create_user("anna", password="let me in")

ZONES = {"de": "Europe/Berlin", "fr": "Europe/Paris", "pl": "Europe/Warsaw", "en": "Asia/Tokyo"}

# Signals are recorded for the key of the request, which is in its context (S9.4).
current: ContextVar[str] = ContextVar("current")


def finished(**_):
    if current.get(None) is not None:
        probe.record(current.get(), "finished", threading.get_ident())


def started(environ, **_):
    key = environ.get("HTTP_X_KEY")
    if key is not None:
        current.set(key)
        probe.record(key, "started")


request_started.connect(started)
request_finished.connect(finished)


# Middleware


class Places(MiddlewareMixin):
    """Chooses URLconf and time zone by the first part of the path, if that is a language."""

    def process_request(self, request):
        language = request.path_info.split("/")[1]
        if language in ZONES:
            request.urlconf = URLCONFS[language]
            timezone.activate(ZONES[language])

    def process_response(self, request, response):
        if current.get(None) is not None:
            probe.record(current.get(), "response", response.status_code)
        return response


def function(get_response):
    def middleware(request):
        response = get_response(request)
        response["X-Function"] = response.status_code
        return response

    return middleware


# Views that wait


@suspends
def nap(request):
    yield from sleep(float(request.GET["s"]))
    return HttpResponse("rested")


def awaited(request):
    """The future of the request, which is recorded to be parking."""
    probe.record(request.GET["key"], "parking")
    return wait(probe.future(request.GET["key"]))


ERRORS = {"404": Http404("none"), "403": PermissionDenied("no"), "500": RuntimeError("on purpose")}


@suspends
def one(request):
    """Waits, and does what it is asked to before, at the end, or where it waits."""
    try:
        if "before" in request.GET:
            raise ERRORS[request.GET["before"]]
        try:
            value = yield from awaited(request)
        except ValueError as error:
            if "uncaught" in request.GET:
                raise
            return HttpResponse(f"caught {error}", status=502)
        if "after" in request.GET:
            raise ERRORS[request.GET["after"]]
        if "template" in request.GET:
            return TemplateResponse(request, "page.html", {"word": value})
        return HttpResponse(f"got {value}")
    finally:
        probe.record(request.GET["key"], "finally")


@suspends
def upload(request):
    yield from awaited(request)
    file = request.FILES["file"]
    return JsonResponse({"name": file.name, "size": file.size, "sum": sum(file.read()), "word": request.POST["word"]})


@suspends
def enter(request):
    if request.method == "GET":
        return render(request, "form.html")
    user = yield from wait(offload(check, request.POST["username"], request.POST["password"]))
    if user is None:
        raise PermissionDenied
    login(request, user)
    return redirect("/visit")


def check(name, password):
    try:
        return authenticate(username=name, password=password)
    finally:
        connection.close()  # the pool's thread has one of its own


@login_required(login_url="/enter")
@suspends
def visit(request):
    visits = request.session.get("visits", 0) + 1
    yield from sleep(0.01)
    request.session["visits"] = visits
    return HttpResponse(f"{request.user}: {visits}")


@suspends
def within(request):
    with transaction.atomic():
        User.objects.create(username=request.GET["key"])
        yield from awaited(request)


@transaction.atomic
@suspends
def around(request):
    yield from awaited(request)


def users(request):
    return HttpResponse(str(User.objects.filter(username=request.GET["key"]).count()))


# Streams


def stream(request):
    return StreamingHttpResponse(pieces(request), content_type="text/plain")


@suspends
def stream_later(request):
    yield from sleep(0.01)
    return StreamingHttpResponse(pieces(request), content_type="text/plain")


def pieces(request):
    try:
        yield "begun "
        try:
            value = yield from awaited(request)
        except ValueError as error:
            if "uncaught" in request.GET:
                raise
            value = f"caught {error}"
        yield f"{value} " * int(request.GET.get("n", "1"))
    finally:
        probe.record(request.GET["key"], "finally")


# Ordinary views


def cookie(request):
    response = HttpResponse("a cookie")
    response.set_cookie("taste", "sweet", httponly=True)
    response.set_signed_cookie("number", "1") if "signed" in request.GET else None
    return response


def numbers(request):
    return StreamingHttpResponse(str(number) for number in range(10))


def file(request):
    return FileResponse(io.BytesIO(b"file" * 50000), filename="file.bin", as_attachment=True)


def posted(request):
    return JsonResponse({**request.POST.dict(), "body": len(request.body)})


def bad(request):
    raise ERRORS[request.GET["error"]]


def page(request):
    return TemplateResponse(request, "page.html", {"word": "ordinary"})


posted.csrf_exempt = upload.csrf_exempt = True


# Language, time zone, URLconf, script prefix


def place():
    return [
        get_language(),
        gettext("Yes"),
        timezone.get_current_timezone_name(),
        get_urlconf().__name__,
        get_script_prefix(),
        reverse("mixed"),
    ]


def rounds(request):
    """Waits some times, and gives what it finds each time, and on which threads."""
    found, ids = [place()], [threading.get_ident()]
    for number in range(int(request.GET["rounds"])):
        probe.record(request.GET["all"], f"parking {number}")
        yield from wait(probe.future(f"{request.GET['key']}-{number}"))
        probe.record(request.GET["all"], f"resumed {number}")
        if "holds" in request.GET:
            probe.wait_gate(f"{request.GET['all']}-{number}")
        found.append(place())
        ids.append(threading.get_ident())
    return {"found": found, "threads": len(set(ids))}


@suspends
def mixed(request):
    return JsonResponse((yield from rounds(request)))


def mixed_stream(request):
    def blocks():
        yield b" "
        yield JsonResponse((yield from rounds(request))).content

    return StreamingHttpResponse(blocks())


def unmixed(request):
    """An ordinary view with nothing of its own, for what others may have left behind."""
    return JsonResponse([get_language(), timezone.get_current_timezone_name(), get_script_prefix()], safe=False)


VIEWS = {view.__name__.replace("_", "-"): view for view in (mixed, mixed_stream)}

URLCONFS = {
    language: type(
        f"urls_{language}",
        (),
        {"urlpatterns": [path(f"{language}/{name}", view, name=name) for name, view in VIEWS.items()]},
    )
    for language in ZONES
}

urlpatterns = [
    path(view.__name__.replace("_", "-"), view)
    for view in (
        nap,
        one,
        upload,
        enter,
        visit,
        within,
        around,
        users,
        stream,
        stream_later,
        cookie,
        numbers,
        file,
        posted,
        bad,
        page,
        unmixed,
    )
]


# Applications


def prefixed(application):
    """Below a prefix that a server in front would say."""

    def wrapped(environ, start_response):
        environ["SCRIPT_NAME"] = environ.get("HTTP_X_PREFIX", "")
        return application(environ, start_response)

    return wrapped


application = prefixed(get_wsgi_application())
stock = prefixed(WSGIHandler())
