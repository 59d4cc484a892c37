"""Django (4.2 and later, with asgiref 3.8 and later) with views that wait without a thread.

In wsgi.py, in place of Django's function of the same name:

    from wsgi_plus.django import get_wsgi_application

    application = get_wsgi_application()

and any view, or method of a class-based view, may be a generator that waits and returns its response:

    from wsgi_plus import suspends, wait

    @suspends
    def index(request):
        answer = yield from wait(ask())
        return HttpResponse(answer)

Other views are Django's affair as ever.  What follows is about those that wait.

Steps.  Each may be in another thread (S9).  Language, time zone, URLconf, script prefix and cache connections go with
the request; thread-locals of others do not.  A call that is given to ``offload`` or ``AsyncBridge`` has none of them.
When the client leaves, GeneratorExit is raised in the view; there is no process_response then, but request_finished.

Databases.  Connections stay with their thread.  At the end of each step they are closed, or kept, as CONN_MAX_AGE says;
before each wait, where a view waits in its thread.  A view must not wait within transaction.atomic(): that raises
TransactionManagementError at the yield.  Nor may it wait with a queryset half read (``iterator()``), or be called
within a transaction: with ATOMIC_REQUESTS it has to be marked with ``@transaction.non_atomic_requests``, or there is an
ImproperlyConfigured for each request.  What asks the database in a thread of a pool is given to the ``offload`` of this
module, which looks after the connections there; that of ``wsgi_plus`` does not, and a warning says so once.

Middleware.  A view waits without a thread where a suspension can cross all of it.  It can cross what is like Django's
own, which are classes of MiddlewareMixin with methods process_request, process_response and so on, and no __call__ of
their own; and the middleware of some packages, of which there is a table in the README.  A function, or a class with a
__call__, must be given the response: within it views wait in their thread, and a warning for each of them says so.
Unless it says that it is crossable, by an attribute of the class or function:

    class Timing:
        def __init__(self, get_response):
            self.get_response = get_response

        def __call__(self, request):        # elsewhere
            ...

        def wsgi_plus_crossable(self, request):  # where a view may wait: the same, with a yield for get_response
            began = time.monotonic()
            response = yield
            response["X-Took"] = f"{time.monotonic() - began:.3f}"
            return response

``wsgi_plus_crossable = True`` needs no generator.  Of a class with process_request or process_response it says that its
__call__ does nothing but call these around get_response.  Of others it says that what they do after get_response is to
set headers and cookies, and to hand the response on.  That is then noted, and done when the response is there.  What
reads the response gets it, and waits for it in the thread, with the warning.  A ``with`` around get_response would end
before the view does, so such a middleware needs the generator.  It gets GeneratorExit if the client leaves.

For middleware of others there is the setting WSGI_PLUS_CROSSABLE.  It is a list of dotted paths, as in MIDDLEWARE, or a
dict of them: ``{"their.Middleware": True, "their.middleware": "my.generator_function"}``; that one is called with the
middleware and the request.  False, there or as the attribute, is for what must not be crossed: for a MiddlewareMixin
that keeps something on its thread from process_request to process_response.

Sentry.  Its SDK wraps middleware, views and the handler; views wait as without it, and its scope (tags, the user) goes
with the request.  Its transaction ends with the first step, with the status 200; what is raised later is reported with
the request, and without the transaction's name.

Decorators.  Those that decide before the view is called can be put around @suspends: login_required and its like,
require_POST and its like, csrf_exempt, non_atomic_requests, xframe_options_exempt, method_decorator with one of these.
Those that change the response raise AttributeError, as there is none yet: never_cache, cache_control, cache_page,
condition, gzip_page, vary_on_cookie, ensure_csrf_cookie.  The view can do itself what they do, with
``add_never_cache_headers``, ``patch_vary_headers`` and so on.  csrf_protect sets no cookie for what the view does: use
the middleware.  sensitive_variables hides nothing in a generator.  A context manager as a decorator would be over
before the view begins, and is refused with ImproperlyConfigured.

Django REST framework.  Handlers wait as other views do: methods of an APIView, actions of a ViewSet, functions.

    @api_view(["GET"])      # or @action(...), or nothing: a method
    @suspends
    def index(request):
        return Response((yield from wait(ask())))

Authentication, permissions, throttling and content negotiation come before the first step, exception handler and
renderers after the last one, as if it had not waited.  What else of the framework's is marked with @suspends, as
has_permission, perform_create or get_queryset, waits in its thread, which a warning says once for each.

Nothing is skipped.  A function that is marked and called, of which the response is not handed on, as of a check that a
view calls, has not been run: that is a TypeError, and a 500.  Its truth can be asked for, as ``test_func`` is, and
waits in the thread.

Streams.  The iterable of a StreamingHttpResponse may yield futures among its blocks, whatever view it comes from.
Middleware that makes another stream of it is given the blocks, and waits in the thread; GZipMiddleware does not.

On a plain WSGI server, and in Django's test client, all of this works and holds the thread while it waits (S17).  What
is an error above may work there: ``wsgi_plus.django.test`` has a test client with the rules of a server.
"""

from __future__ import annotations

import atexit
from typing import Any

import django
from django.db import connections

from .._suspends import suspends
from ._handler import SuspendingWSGIHandler
from ._offload import offload

__all__ = ["SuspendingWSGIHandler", "get_wsgi_application", "offload", "suspends"]


def get_wsgi_application() -> SuspendingWSGIHandler:
    """As Django's function of this name: sets Django up, and gives the application.  For wsgi.py.

    At the end of the process the pools of database connections are closed.
    """
    django.setup(set_prefix=False)
    atexit.register(_close_pools)
    return SuspendingWSGIHandler()


def _close_pools() -> None:
    """Else psycopg's wait for their threads when Python has none any more: five seconds each, from Python 3.13 on."""
    connection: Any  # of a backend, which may have pools
    for connection in connections.all():
        if connection.alias in getattr(connection, "_connection_pools", ()):
            connection.close_pool()
