"""An application whose log has the request's id in every record: a context variable and a logging.Filter.

It is how it is done on any server; nothing of it knows of WSGI+.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar

import probe
from context_meetings import meetings
from routes import Routes, arguments, text
from wsgi_plus import AsyncBridge, gather, offload

routes = Routes()
bridge = AsyncBridge()
request_id: ContextVar[str] = ContextVar("request_id", default="-")


def with_request_id(application):
    def wrapped(environ, start_response):
        if "HTTP_X_REQUEST_ID" in environ:
            request_id.set(environ["HTTP_X_REQUEST_ID"])
        return application(environ, start_response)

    return wrapped


app = with_request_id(routes)


class AddRequestId(logging.Filter):
    def filter(self, record):
        record.request_id = request_id.get()
        return True


class Kept(logging.Handler):
    """Keeps what is logged: [id, message]."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append([record.request_id, record.getMessage()])


kept = Kept()
kept.addFilter(AddRequestId())
log = logging.getLogger("context_logs")
log.setLevel(logging.INFO)
log.propagate = False
log.addHandler(kept)


@routes.route
def story(environ, start_response):
    key = arguments(environ)["key"]
    log.info("%s before", key)
    try:
        probe.record(key, "parking")
        yield probe.future(key)
        log.info("%s after", key)
        yield from gather(offload(log.info, "%s on a thread", key), bridge.run(in_the_loop(key)))
        yield from text(start_response, "told")
    except ValueError as error:
        log.info("%s %s", key, error)
        yield from text(start_response, "caught", "502 Bad Gateway")
    finally:
        log.info("%s finally", key)


async def in_the_loop(key):
    log.info("%s in the loop", key)


@routes.route
def meet(environ, start_response):
    me = arguments(environ)["me"]
    yield from meetings(environ, lambda name: log.info("%s met %s", me, name))
    yield from text(start_response, "met")


# For the test


def lines(key):
    """What has been logged with this key in the message, as [id, message]."""
    return [line for line in kept.lines if key in line[1]]
