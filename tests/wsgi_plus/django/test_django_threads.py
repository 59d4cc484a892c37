"""What Django keeps by thread, for views that change threads: locals, database connections, transactions (S9.3)."""

from __future__ import annotations

import contextvars
import functools
import itertools
import random
import re
import threading
from concurrent.futures import Future

import pytest
from byhand import done
from django_byhand import *  # noqa: F403  # sets Django up
from django_byhand import only

# ruff: isort: split
from django.contrib.auth.models import User
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import get_script_prefix, get_urlconf, path, reverse
from django.utils import timezone, translation
from django.utils.deprecation import MiddlewareMixin
from django.utils.translation import gettext
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from wsgi_plus import suspends, wait
from wsgi_plus.django import SuspendingWSGIHandler

ZONES = {"de": "Europe/Berlin", "fr": "Europe/Paris", "pl": "Europe/Warsaw", "en": "Asia/Tokyo"}
YES = {"de": "Ja", "fr": "Oui", "pl": "Tak", "en": "Yes"}


def found():
    """The locals of this step, by what they are for."""
    return {
        "language": translation.get_language(),
        "word": gettext("Yes"),
        "zone": timezone.get_current_timezone_name(),
        "urlconf": get_urlconf(),
        "prefix": get_script_prefix(),
        "url": reverse("here"),
    }


def expected(language, prefix):
    return {
        "language": language,
        "word": YES[language],
        "zone": ZONES[language],
        "urlconf": URLCONFS[language],
        "prefix": f"{prefix}/",
        "url": f"{prefix}/{language}/here",
    }


class Places(MiddlewareMixin):
    """Says where the request is, by its URLconf and time zone; the language is LocaleMiddleware's."""

    def process_request(self, request):
        language = request.META["language"]
        request.urlconf = URLCONFS[language]
        timezone.activate(ZONES[language])

    def process_response(self, request, response):
        request.META["seen"].append(found())
        return response


SETTINGS = {"MIDDLEWARE": ["django.middleware.locale.LocaleMiddleware", f"{__name__}.Places"]}


@suspends
def here(request):
    seen = request.META["seen"]
    try:
        for fut in request.META["futures"]:
            seen.append(found())
            yield fut
            seen.append(found())
        return HttpResponse("fine")
    finally:
        seen.append(found())


@suspends
def streamed(request):
    """The rest of the steps are the stream's."""
    yield done()
    return StreamingHttpResponse(stream(request))


def stream(request):
    seen = request.META["seen"]
    try:
        for fut in request.META["futures"]:
            seen.append(found())
            yield "block"
            seen.append(found())
            yield fut
            seen.append(found())
    finally:
        seen.append(found())


def plain(request):
    return StreamingHttpResponse(stream(request))


def urlconf(language):
    """URLs under that language."""
    views = {"here": here, "streamed": streamed, "plain": plain}
    return type(
        "URLs", (), {"urlpatterns": [path(f"{language}/{name}", view, name=name) for name, view in views.items()]}
    )


urlpatterns = []  # those are for the middleware to choose
URLCONFS = {language: urlconf(language) for language in ZONES}


def asked(ask, view, language, futures, on, prefix=""):
    more = {
        "language": language,
        "HTTP_ACCEPT_LANGUAGE": language,
        "SCRIPT_NAME": prefix,
        "seen": [],
        "futures": futures,
    }
    exchange = ask(f"/{language}/{view}", on=on, settings=SETTINGS, **more)
    exchange.expected = expected(language, prefix)
    exchange.seen = more["seen"]
    return exchange


def on_thread(threads, name):
    """What the next request finds, that comes with a context of its own."""
    return threads.run(name, contextvars.Context().run, outside)


def outside():
    return (
        translation.get_language(),
        timezone.get_current_timezone_name(),
        get_urlconf(),
        get_script_prefix(),
        [each for each in caches.all(initialized_only=True)],
    )


NOTHING = ("en-us", "America/Chicago", None, "/", [])


# Locals


@pytest.mark.parametrize("view", ["here", "streamed", "plain"])
def test_locals_go_with_the_request(ask, threads, view):
    """To the end, and on each thread; nothing stays behind."""
    exchange = asked(ask, view, "de", [done() for _ in range(5)], "ab", "/site").finish()
    assert exchange.status == 200
    assert len(exchange.seen) >= 10
    assert [seen for seen in exchange.seen if seen != exchange.expected] == []
    assert [on_thread(threads, name) for name in "ab"] == [NOTHING, NOTHING]


@pytest.mark.parametrize("view", ["here", "streamed", "plain"])
def test_locals_of_a_request_whose_client_leaves(ask, threads, view):
    """S7.3: on the thread where close() is."""
    exchange = asked(ask, view, "fr", [done(), Future()], "ab").step()
    while exchange.parked.done():
        exchange.step()
    seen = len(exchange.seen)
    exchange.close()
    assert len(exchange.seen) == seen + 1
    assert [seen for seen in exchange.seen if seen != exchange.expected] == []
    assert [on_thread(threads, name) for name in "ab"] == [NOTHING, NOTHING]


def test_nothing_stays_while_it_is_parked(ask, threads):
    """On the thread that it has left, and on that where it is over."""
    exchange = asked(ask, "here", "pl", [Future(), done()], "ab").step()
    assert on_thread(threads, "a") == NOTHING
    exchange.parked.set_result(None)
    exchange.step()
    assert [on_thread(threads, name) for name in "ab"] == [NOTHING, NOTHING]


@pytest.mark.parametrize("seed", range(5))
def test_interleaved_requests_have_their_own(ask, threads, seed):
    """Two dozen requests, with steps in any order on three threads."""
    pick = random.Random(seed)
    exchanges = [
        asked(
            ask, pick.choice(["here", "streamed", "plain"]), language, [done() for _ in range(4)], names, f"/{number}"
        )
        for number, (language, names) in enumerate(itertools.product(ZONES, itertools.permutations("abc")))
    ]
    running = exchanges[:]
    while running:
        exchange = pick.choice(running)
        exchange.step()
        if exchange.parked is None:
            running.remove(exchange)
    for exchange in exchanges:
        assert len(exchange.seen) >= 8
        assert [seen for seen in exchange.seen if seen != exchange.expected] == []
    assert [on_thread(threads, name) for name in "abc"] == [NOTHING] * 3


def test_what_a_view_changes_stays_changed(ask):
    """Also within a with statement around a wait, and in ordinary views' streams."""
    seen = []

    @suspends
    def view(request):
        translation.activate("de")
        yield done()
        seen.append(gettext("Yes"))
        with translation.override("fr"), timezone.override("Asia/Tokyo"):
            yield done()
            seen.append((gettext("Yes"), timezone.get_current_timezone_name()))
        seen.append((gettext("Yes"), timezone.get_current_timezone_name()))
        translation.deactivate_all()
        yield done()
        seen.append(translation.get_language())
        return HttpResponse()

    with only(view):
        ask(on="abc", settings={"MIDDLEWARE": []}).finish()
    assert seen == ["Ja", ("Oui", "Asia/Tokyo"), ("Ja", "America/Chicago"), None]


def test_an_asgiref_that_is_not_known(monkeypatch):
    """As those before 3.8 were: locals that stay on their thread are no secret."""
    monkeypatch.setattr("asgiref.local.Local", threading.local)
    with pytest.raises(ImproperlyConfigured, match="this version of asgiref is not known"):
        SuspendingWSGIHandler()


def test_caches_go_with_the_request(ask):
    """And are closed, once, at its end, wherever that is."""
    seen, closed = [], []

    @suspends
    def view(request):
        mine = caches["other"]
        mine.close = lambda: closed.append(mine)
        for _ in range(3):
            yield done()
            seen.append(caches["other"] is mine)
        return HttpResponse()

    with only(view):
        ask(on="ab", settings={"MIDDLEWARE": []}).finish()
    assert seen == [True] * 3
    assert len(closed) == 1


# Database connections


@pytest.fixture
def database(ask, threads):
    """No thread is connected; names of threads that are."""

    def connected():
        return {name for name in "ab" if threads.run(name, lambda: connection.connection is not None)}

    for name in "ab":
        threads.run(name, connections.close_all)
    yield connected
    for name in "ab":
        threads.run(name, age, 0)
        threads.run(name, connections.close_all)


def age(seconds):
    connection.settings_dict["CONN_MAX_AGE"] = seconds


@suspends
def counts(request):
    """Uses the database before and after each wait."""
    User.objects.count()
    for fut in request.META["futures"]:
        yield from wait(fut)
        User.objects.count()
    return HttpResponse("fine")


def counted(request):
    """The same as a stream."""
    yield f"{User.objects.count()}"
    for fut in request.META["futures"]:
        yield fut
        yield f"{User.objects.count()}"


BARE = {"MIDDLEWARE": []}


@pytest.mark.parametrize("view", [counts, lambda request: StreamingHttpResponse(counted(request))])
def test_connections_are_closed_where_they_were_used(ask, database, view):
    with only(view):
        exchange = ask(on="ab", settings=BARE, futures=[done(), done()])
        while exchange.step().parked is not None:
            assert database() == set()
        assert database() == set()


def test_connections_are_closed_before_the_response_is_sent(ask, database):
    """Where it is not streamed: close() may come later, and in another thread (S7.3)."""
    with only(lambda request: counts(request)):
        exchange = ask(on="ab", settings=BARE, futures=[done()]).step()
        assert exchange.on_thread(lambda: next(exchange._iterator)) == b"fine"
        assert database() == set()


def test_connections_of_ordinary_views(ask, database):
    """They too."""
    with only(lambda request: HttpResponse(User.objects.count())):
        exchange = ask(on="ab", settings=BARE)
        exchange.on_thread(lambda: exchange._app(exchange._environ, exchange._start))
        assert database() == set()


def test_connections_are_kept_as_long_as_they_may(ask, threads, database):
    for name in "ab":
        threads.run(name, age, None)
    with only(counts):
        ask(on="ab", settings=BARE, futures=[done()]).finish()
    assert database() == {"a", "b"}


def test_connections_that_have_become_too_old_are_not_used(ask, threads, database):
    """Those of the thread on which a view goes on."""
    for name in "ab":
        threads.run(name, age, None)
        threads.run(name, lambda: connection.ensure_connection())
    old = threads.run("b", lambda: connection.connection)
    used = []

    @suspends
    def view(request):
        yield done()
        connection.ensure_connection()
        used.append(connection.connection)
        return HttpResponse()

    with only(view):
        exchange = ask(on="ab", settings=BARE).step()
        threads.run("b", setattr, connection, "close_at", 0)
        exchange.finish()
    assert [each is old for each in used] == [False]


def test_a_stream_keeps_its_connection_between_blocks(ask, database):
    """As with Django, where a cursor may be open all the time."""

    def blocks(request):
        for user in User.objects.iterator(1):
            yield user.username

    User.objects.bulk_create(User(username=name) for name in ("anna", "bert"))
    with only(lambda request: StreamingHttpResponse(blocks(request))):
        assert ask(on="ab", settings=BARE).finish().body == b"annabert"
    assert database() == set()


def test_a_connection_that_broke_before_a_wait(ask, threads, database):
    """It is looked at at the end of the step, not by the next request that finds it."""
    for name in "ab":
        threads.run(name, age, None)

    @suspends
    def view(request):
        connection.ensure_connection()
        connection.errors_occurred = True
        connection.is_usable = lambda: False
        yield done()
        return HttpResponse()

    with only(view):
        ask(on="ab", settings=BARE).step()
        assert database() == set()
    threads.run("a", lambda: vars(connections["default"]).pop("is_usable"))


# Transactions


@pytest.fixture
def refused(ask, log):
    """refused(view): the error that Django logs for it."""

    def error(view, **how):
        with only(view):
            assert ask(on="ab", settings=BARE, **how).finish().status == 500
        (record,) = log.records
        log.clear()
        return record.exc_info[1]

    return error


@pytest.mark.parametrize("version", [(1, 0), None])
def test_waiting_within_a_transaction(refused, version):
    """The error is raised at the yield, so what was begun is rolled back and the future cancelled; on any server."""
    fut = Future()
    seen = []

    @suspends
    def view(request):
        try:
            with transaction.atomic():
                User.objects.create(username="never")
                yield from wait(fut)
        finally:
            seen.append(User.objects.filter(username="never").exists())

    error = refused(view, wsgi_plus__version=version)
    assert isinstance(error, transaction.TransactionManagementError)
    assert "waiting within a transaction of the database 'default'" in str(error)
    assert (seen, fut.cancelled()) == ([False], True)


def test_the_error_can_be_caught(ask):
    @suspends
    def view(request):
        try:
            with transaction.atomic():
                yield done()
        except transaction.TransactionManagementError:
            yield done()
            return HttpResponse("caught")

    with only(view):
        assert ask(on="ab", settings=BARE).finish().body == b"caught"


def test_waiting_without_autocommit(refused):
    @suspends
    def view(request):
        transaction.set_autocommit(False)
        try:
            yield done()
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)

    assert isinstance(refused(view), transaction.TransactionManagementError)


def test_transactions_between_waits(ask):
    @suspends
    def view(request):
        for name in ("carla", "dora"):
            with transaction.atomic():
                User.objects.create(username=name)
            yield done()
        return HttpResponse(str(User.objects.filter(username__in=["carla", "dora"]).delete()[0]))

    with only(view):
        assert ask(on="ab", settings=BARE).finish().body == b"2"


def test_streaming_within_a_transaction(ask):
    """Blocks are Django's affair; a future is refused."""

    def blocks():
        with transaction.atomic():
            yield b"block"
            yield done()

    with only(lambda request: StreamingHttpResponse(blocks())):
        exchange = ask(settings=BARE)
        with pytest.raises(transaction.TransactionManagementError):
            exchange.finish()
    assert exchange.body == b"block"


def generator(request):
    User.objects.count()
    yield from wait(done())
    return HttpResponse("fine")


waits = suspends(generator)


@pytest.fixture
def atomic_requests(threads):
    settings = connections.settings["default"]
    settings["ATOMIC_REQUESTS"] = True
    yield
    settings["ATOMIC_REQUESTS"] = False


@pytest.mark.parametrize("version", [(1, 0), None])
def test_atomic_requests(refused, atomic_requests, version):
    error = refused(waits, wsgi_plus__version=version)
    assert isinstance(error, ImproperlyConfigured)
    assert "@transaction.non_atomic_requests" in str(error)


@pytest.mark.parametrize(
    "view",
    [
        transaction.non_atomic_requests(suspends(generator)),
        suspends(transaction.non_atomic_requests(lambda request: generator(request))),
        lambda request: HttpResponse(str(connection.in_atomic_block)),
    ],
)
def test_atomic_requests_of_others(ask, atomic_requests, view):
    with only(view):
        assert ask(on="ab", settings=BARE).finish().body in (b"fine", b"True")


def test_a_transaction_around_the_view(refused):
    """It would be over before the view begins."""
    error = refused(transaction.atomic(waits))
    assert isinstance(error, ImproperlyConfigured)
    assert "called within a transaction of the database 'default'" in str(error)


@pytest.mark.parametrize("manager", [translation.override("de"), timezone.override("Asia/Tokyo"), transaction.atomic])
@pytest.mark.parametrize("order", ["inside", "outside", "of a method"])
def test_context_managers_as_decorators(refused, manager, order):
    """As atomic they would be over before the view begins.  Those of contextlib are known."""
    views = {
        "inside": suspends(manager(generator)),
        "outside": csrf_exempt(manager(suspends(generator))),
        "of a method": type("Page", (View,), {"get": suspends(manager(method))}).as_view(),
    }
    error = refused(views[order])
    assert isinstance(error, ImproperlyConfigured)
    assert re.search("ends before (generator|method) begins, which waits|called within a transaction", str(error))


def method(self, request):
    """As generator()."""
    yield from generator(request)


def in_german(view):
    """A decorator that knows of generators."""
    german = translation.override("de")

    @functools.wraps(view)
    def wrapper(request):
        with german:
            return (yield from view(request))

    return wrapper


def test_a_context_manager_that_stays(ask):
    @suspends
    @in_german
    def view(request):
        yield done()
        return HttpResponse(gettext("Yes"))

    with only(view):
        assert ask(on="ab", settings=BARE).finish().body == b"Ja"
