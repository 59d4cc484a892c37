"""Django's views, suspended: what comes of them is what Django makes of the same view when it waits in its thread."""

from __future__ import annotations

import gzip
import html
import io
import re
from concurrent.futures import CancelledError, Future

import pytest
from byhand import done, failed
from django_byhand import *  # noqa: F403  # sets Django up
from django_byhand import only

# ruff: isort: split
from django.contrib import messages
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, login
from django.contrib.auth.decorators import login_required, permission_required, user_passes_test
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.cache import cache
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.handlers.wsgi import WSGIHandler
from django.db import transaction
from django.http import FileResponse, Http404, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.http.multipartparser import MultiPartParserError
from django.middleware.csrf import get_token
from django.template import loader
from django.template.response import TemplateResponse
from django.test import Client, override_settings
from django.urls import get_urlconf, path
from django.utils.decorators import method_decorator
from django.utils.deprecation import MiddlewareMixin
from django.views import View
from django.views.debug import SafeExceptionReporterFilter
from django.views.decorators.cache import cache_control, cache_page, never_cache
from django.views.decorators.clickjacking import xframe_options_deny, xframe_options_exempt
from django.views.decorators.csrf import csrf_exempt, csrf_protect, ensure_csrf_cookie
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import conditional_page, etag, require_POST, require_safe
from django.views.decorators.vary import vary_on_cookie
from django_config import MIDDLEWARE
from wsgi_plus import suspends, wait
from wsgi_plus.django import SuspendingWSGIHandler, get_wsgi_application

# What a view may do at its end, whether it has waited or not


class Handled(Exception):
    """process_exception of the middleware makes a response of it."""


def raises(error):
    def ending(*_):
        raise error

    return ending


def with_cookie(request):
    response = HttpResponse("fine", headers={"X-Mine": "1"})
    response.set_cookie("taste", "sweet", httponly=True)
    return response


ENDINGS = {
    "text": lambda request: HttpResponse("fine"),
    "long": lambda request: HttpResponse("a page that is long enough to be compressed " * 10),
    "cookie": with_cookie,
    "json": lambda request: JsonResponse({"fine": True}),
    "redirect": lambda request: HttpResponseRedirect("/elsewhere"),
    "template": lambda request: TemplateResponse(request, "page.html", {"word": "rendered"}),
    "stream": lambda request: StreamingHttpResponse(word for word in ("a", b"b", 3)),
    "file": lambda request: FileResponse(io.BytesIO(b"file" * 5000), filename="name.txt"),
    "posted": lambda request: HttpResponse(request.POST["word"] + request.FILES["file"].read().decode()),
    "404": raises(Http404("none")),
    "403": raises(PermissionDenied("no")),
    "suspicious": raises(SuspiciousOperation("hm")),
    "too big": raises(RequestDataTooBig("hm")),
    "bad": raises(BadRequest("what")),
    "multipart": raises(MultiPartParserError("what")),
    "500": raises(ValueError("on purpose")),
    "cancelled": raises(CancelledError()),
    "handled": raises(Handled()),
    "nothing": lambda request: None,
    "no template": lambda request: TemplateResponse(request, "missing.html"),
    "handled late": lambda request: TemplateResponse(request, "page.html", {"word": raises(Handled())}),
}


# The ways to it


def ordinary(request):
    return ENDINGS[request.GET["ending"]](request)


@suspends
def at_once(request):
    return ordinary(request)
    yield


@suspends
def later(request):
    for number in range(3):
        assert (yield from wait(done(number))) == number
    return ordinary(request)


@suspends
def failing(request):
    """The exception comes out of a future, if the ending is one."""
    fut = Future()
    try:
        fut.set_result(ordinary(request))
    except Exception as error:
        fut.set_exception(error)
    return (yield from wait(fut))


class Chosen:
    """A view that is an object, and hands on what it gets, as decorators do."""

    csrf_exempt = True

    def __call__(self, request):
        ways = {"ordinary": ordinary, "at once": at_once, "later": later, "failing": failing}
        return ways[request.META["way"]](request)


STEPS = {"ordinary": 1, "at once": 1, "later": 4, "failing": 2}


# Other views


@suspends
def slow(request):
    answer = yield from wait(request.META["future"])
    return HttpResponse(f"got {answer}")


class Slow(View):
    """One of the methods waits."""

    @suspends
    def get(self, request, word="said"):
        answer = yield from wait(request.META["future"])
        return HttpResponse(f"{word} {answer} {request.resolver_match.view_name}")

    def post(self, request, word):
        return HttpResponse(f"{word} posted")


@suspends
def visit(request):
    """Session, user, messages and templates, before and after."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    request.session["answer"] = yield from wait(request.META["future"])
    messages.info(request, f"{request.user} comes again")
    return HttpResponse(loader.render_to_string("page.html", {"word": dict(request.session.items())}, request))


@suspends
def form(request):
    yield from wait(done())
    return HttpResponse(loader.render_to_string("form.html", {}, request))


@suspends
def log_in(request):
    user = User.objects.create(username="anna")
    yield from wait(done())
    login(request, user, "django.contrib.auth.backends.ModelBackend")
    return HttpResponse("in")


# Decorators that a view which waits can have, and those that it cannot

DECORATED = {
    "login_required": login_required(slow),
    "permission_required": permission_required("auth.add_user")(slow),
    "user_passes_test": user_passes_test(lambda user: user.is_active)(slow),
    "staff_member_required": staff_member_required(slow),
    "require_POST": require_POST(slow),
    "require_safe": require_safe(slow),
    "csrf_exempt": csrf_exempt(slow),
    "non_atomic_requests": transaction.non_atomic_requests(slow),
    "sensitive_post_parameters": sensitive_post_parameters()(slow),
    "xframe_options_exempt": xframe_options_exempt(slow),
    "method_decorator": method_decorator(login_required, "dispatch")(type("Guarded", (Slow,), {})).as_view(),
    "inside": suspends(csrf_exempt(require_POST(slow.__wrapped__))),
}

REFUSED = {
    "never_cache": never_cache(slow),
    "cache_control": cache_control(max_age=1)(slow),
    "vary_on_cookie": vary_on_cookie(slow),
    "etag": etag(lambda request: '"1"')(slow),
    "gzip_page": gzip_page(slow),
    "cache_page": cache_page(60)(slow),
    "conditional_page": conditional_page(slow),
    "ensure_csrf_cookie": ensure_csrf_cookie(slow),
    "xframe_options_deny": xframe_options_deny(slow),
}

urlpatterns = [
    path("view", Chosen()),
    path("slow", slow),
    path("slash/", slow),
    path("class/<str:word>", Slow.as_view(), name="classy"),
    path("visit", visit),
    path("form", form),
    path("login", log_in),
    *(path(f"decorated/{name}", view) for name, view in DECORATED.items()),
    *(path(f"refused/{name}", view) for name, view in REFUSED.items()),
]


# Middleware that tells what is asked of it

TOLD = []


class Telling(MiddlewareMixin):
    def tell(self, hook, *what):
        TOLD.append((type(self).__name__, hook, *what))

    def process_request(self, request):
        self.tell("request", request.path, get_urlconf())
        if request.META.get("stopped_by") == type(self).__name__:
            return HttpResponse("stopped")

    def process_view(self, request, view, args, kwargs):
        self.tell("view", type(view).__name__, args, kwargs)
        if request.META.get("viewed_by") == type(self).__name__:
            return HttpResponse("viewed")

    def process_exception(self, request, error):
        self.tell("exception", type(error).__name__)
        if isinstance(error, Handled):
            return HttpResponse("handled")

    def process_template_response(self, request, response):
        self.tell("template", response.template_name)
        return None if request.META.get("losing") == type(self).__name__ else response

    def process_response(self, request, response):
        self.tell("response", response.status_code)
        if request.META.get("failing") == type(self).__name__:
            raise ValueError("in middleware")
        return response


class Outer(Telling):
    pass


class Inner(Telling):
    pass


TELLING = {"MIDDLEWARE": [f"{__name__}.Outer", *MIDDLEWARE, f"{__name__}.Inner"]}


@pytest.fixture
def compare(ask, signals, log):
    """compare(way, "/path", ...): what the handler makes of it is what Django's makes of the ordinary view.

    Gives the number of steps, without close().
    """

    def seen(**how):
        cache.clear()
        exchange = ask(settings=TELLING, **how).finish()
        body, different = exchange.body, {"Expires"}
        if exchange.header("Content-Encoding"):
            body = gzip.decompress(body)
            different.add("Content-Length")  # the name of the file in it has a random length
        headers = sorted((name, value.strip()) for name, value in exchange.headers if name not in different)
        logged = [(record.name, record.levelname, record.getMessage()) for record in log.records]
        found = exchange.status, headers, body, TOLD[:], signals[:], logged
        for each in (TOLD, signals, log):
            each.clear()
        return found, exchange.steps

    def compared(way, target, on="ab", **how):
        expected, _ = seen(target=target, way="ordinary", handler=WSGIHandler, **how)
        found, steps = seen(target=target, way=way, on=on, **how)
        assert found == expected
        return steps - 1

    TOLD.clear()
    return compared


@pytest.mark.parametrize("way", STEPS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_same_as_without_waiting(compare, way, ending):
    """Response, hooks of middleware, signals and log."""
    how = {"HTTP_ACCEPT_ENCODING": "gzip"}
    if ending == "posted":
        parts = 'name="word"\r\n\r\nhello', 'name="file"; filename="f"\r\n\r\nfile'
        body = "".join(f"--b\r\nContent-Disposition: form-data; {part}\r\n" for part in parts) + "--b--\r\n"
        how |= {"method": "POST", "body": body.encode(), "CONTENT_TYPE": "multipart/form-data; boundary=b"}
    assert compare(way, f"/view?ending={ending}", **how) == STEPS[way]


@pytest.mark.parametrize("key", ["stopped_by", "viewed_by", "failing"])
@pytest.mark.parametrize("who", ["Outer", "Inner"])
@pytest.mark.parametrize("way", ["ordinary", "later"])
def test_middleware_that_answers_or_fails(compare, way, key, who):
    assert compare(way, "/view?ending=text", **{key: who}) == (STEPS[way] if key == "failing" else 1)


@pytest.mark.parametrize("who", ["Outer", "Inner"])
@pytest.mark.parametrize("way", ["ordinary", "later"])
def test_middleware_that_loses_the_response(compare, way, who):
    assert compare(way, "/view?ending=template", losing=who) == STEPS[way]


@pytest.mark.parametrize("target", ["/none", "/slash", "/view/"])
def test_answers_of_others(compare, target):
    compare("ordinary", target)


@pytest.mark.parametrize("way", STEPS)
@pytest.mark.parametrize(("ending", "status"), [("404", 404), ("bad", 400), ("500", 500)])
def test_technical_pages(ask, log, way, ending, status):
    with override_settings(DEBUG=True):
        exchange = ask(f"/view?ending={ending}", way=way, on="ab").finish()
    assert exchange.status == status
    assert b"DEBUG = True" in exchange.body
    assert {"404": b"none", "bad": b"BadRequest", "500": b"on purpose"}[ending] in exchange.body
    log.clear()


@pytest.mark.parametrize("way", STEPS)
def test_errors_that_are_propagated(ask, signals, way):
    """They are the server's then, as with Django.  The request ends all the same, where there is something to close."""
    exchange = ask("/view?ending=500", way=way, on="ab")
    with override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True), pytest.raises(ValueError, match="on purpose"):
        exchange.finish()
    assert "exception" in signals
    assert signals.count("finished") == (STEPS[way] > 1)


# Views


def test_a_view_waits(ask):
    fut = Future()
    exchange = ask("/slow", future=fut).step()
    assert (exchange.parked, exchange.status) == (fut, 0)
    fut.set_result(3)
    exchange.finish()
    assert (exchange.status, exchange.body) == (200, b"got 3")


def test_a_failure_is_raised_in_the_view(ask, log):
    assert ask("/slow", future=failed(PermissionDenied())).finish().status == 403
    assert ask("/slow", future=failed(ValueError())).finish().status == 500
    log.clear()


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), BaseException()])
def test_a_failure_that_is_no_exception_is_the_servers(ask, signals, error):
    """S5.6."""
    exchange = ask("/slow", future=failed(error)).step()
    with pytest.raises(type(error)):
        exchange.finish()
    assert signals == ["started", "finished"]


def test_a_failure_that_is_stopiteration_is_no_end(ask, log):
    """S5.5."""
    assert ask("/slow", future=failed(StopIteration(HttpResponse()))).finish().status == 500
    log.clear()


def test_a_class_based_view(ask):
    exchange = ask("/class/say", future=done(3), on="ab").finish()
    assert (exchange.body, exchange.steps) == (b"say 3 classy", 3)
    bare = {"MIDDLEWARE": []}
    assert ask("/class/say", method="POST", settings=bare).finish().body == b"say posted"
    exchange = ask("/class/say", method="OPTIONS", settings=bare).finish()
    assert (exchange.status, exchange.header("Allow")) == (200, "GET, POST, HEAD, OPTIONS")


def test_an_asynchronous_view(ask):
    """Django's affair."""

    async def view(request):
        return HttpResponse("fine")

    with only(view):
        assert ask().finish().body == b"fine"


@pytest.mark.parametrize("item", [b"block", None])
def test_a_view_that_yields_something_else(ask, log, item):
    @suspends
    def wrong(request):
        yield item

    with only(wrong):
        assert ask().finish().status == 500
    (record,) = log.records
    assert "not a concurrent.futures.Future" in str(record.exc_info[1])
    log.clear()


# Decorators


@pytest.fixture
def anna(fresh):
    """The cookie of a user who may everything."""
    user = User.objects.create(username="anna", is_superuser=True, is_staff=True)
    session = SessionStore()
    session[SESSION_KEY], session[HASH_SESSION_KEY] = str(user.pk), user.get_session_auth_hash()
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session.save()
    return f"sessionid={session.session_key}"


@pytest.mark.parametrize("name", DECORATED)
def test_decorators_that_are_crossed(ask, anna, name):
    how = {"HTTP_COOKIE": f"{anna}; csrftoken={'a' * 32}", "HTTP_X_CSRFTOKEN": "a" * 32, "future": Future()}
    how["method"] = "POST" if name in ("require_POST", "inside") else "GET"
    exchange = ask(f"/decorated/{name}", on="ab", **how).step()
    assert exchange.parked is how["future"]
    how["future"].set_result(3)
    assert exchange.finish().status == 200
    assert exchange.header("X-Frame-Options") == (None if name == "xframe_options_exempt" else "DENY")


@pytest.mark.parametrize("name", ["login_required", "permission_required", "user_passes_test", "method_decorator"])
def test_decorators_that_refuse(ask, name):
    exchange = ask(f"/decorated/{name}", future=Future()).finish()
    assert (exchange.status, exchange.header("Location")) == (302, f"/accounts/login/?next=/decorated/{name}")


@pytest.mark.parametrize("name", REFUSED)
def test_decorators_that_cannot_be_crossed(ask, log, name):
    """They ask for something of a response that is not there yet, and the message says so."""
    assert ask(f"/refused/{name}", future=Future()).finish().status == 500
    (record,) = log.records
    assert re.match("slow has not returned its response yet: a decorator .* asked for ", str(record.exc_info[1]))
    log.clear()


def secretive(request):
    secret = get_token(request)
    if "fails" in request.GET:
        raise ValueError(len(secret))
    return HttpResponse("fine")


def secretive_later(request):
    secret = get_token(request)
    yield done()
    if "fails" in request.GET:
        raise ValueError(len(secret))
    return HttpResponse("fine")


@pytest.mark.parametrize(("view", "works"), [(secretive, True), (suspends(secretive_later), False)])
def test_decorators_that_do_less(ask, log, view, works):
    """csrf_protect sets no cookie for what the view does, sensitive_variables hides nothing from reports."""
    with only(csrf_protect(sensitive_variables("secret")(view))):
        cookie = ask(settings={"MIDDLEWARE": []}).finish().header("Set-Cookie")
        ask("/?fails", settings={"MIDDLEWARE": []}).finish()
    (record,) = log.records
    filtered = SafeExceptionReporterFilter().get_traceback_frame_variables
    found = [dict(filtered(record.request, frame)) for frame in frames(record.exc_info[2])]
    assert (cookie is not None) == works
    assert all(set(each["secret"]) == {"*"} for each in found if "secret" in each) == works
    log.clear()


def frames(traceback):
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


# Sessions, users, messages, CSRF


def test_session_and_messages(ask, anna):
    for visits in (1, 2):
        exchange = ask(f"/visit?{visits}", future=done("fine"), on="ab", HTTP_COOKIE=anna).finish()
        page = html.unescape(exchange.body.decode())
        assert f"'visits': {visits}, 'answer': 'fine'" in page
        assert "[anna comes again]" in page


def test_logging_in(ask):
    cookie = dict(ask("/login", on="ab").finish().headers)["Set-Cookie"].partition(";")[0]
    exchange = ask("/visit", future=done(), on="ab", HTTP_COOKIE=cookie).finish()
    assert b"[anna comes again]" in exchange.body


def test_csrf(ask, log):
    exchange = ask("/form", on="ab").finish()
    cookie = exchange.header("Set-Cookie").partition(";")[0]
    token = re.search(b'value="([^"]+)"', exchange.body)[1].decode()
    for sent, status in ((token, 200), ("a" * 64, 403)):
        how = {"method": "POST", "HTTP_COOKIE": cookie, "HTTP_X_CSRFTOKEN": sent}
        assert ask("/slow", future=done(), on="ab", **how).finish().status == status
    log.clear()


# Where the server does not know of futures


@pytest.mark.parametrize("way", STEPS)
def test_on_a_plain_server(compare, way):
    """S17: the view waits in its thread."""
    assert compare(way, "/view?ending=text", wsgi_plus__version=None) == 1


def test_on_a_plain_server_a_failure_is_raised_in_the_view(ask, log):
    assert ask("/slow", future=failed(PermissionDenied()), wsgi_plus__version=None).finish().status == 403
    log.clear()


def test_the_test_client():
    """It has a handler of its own, so views wait."""
    with override_settings(ROOT_URLCONF=__name__):
        answer = Client().get("/slow", future=done(3))
    assert (answer.status_code, answer.content) == (200, b"got 3")


def test_get_wsgi_application():
    assert isinstance(get_wsgi_application(), SuspendingWSGIHandler)
