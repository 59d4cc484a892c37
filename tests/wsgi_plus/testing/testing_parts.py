"""What the tests of wsgi_plus.testing share: an application that waits twice, a client of it, and some constants."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from wsgi_plus.testing import Client, Started

PLAIN = [("Content-Type", "text/plain")]
STARTED = Started("200 OK", tuple(PLAIN))
SOON = 0.05  # seconds, of something that is to be too late


def hello(environ, start_response):
    start_response("200 OK", PLAIN)
    return [b"hello ", b"world"]


class Waits:
    """Waits for .first, sends a block, waits for .second, sends another; records what it sees in .seen."""

    def __init__(self):
        self.first, self.second = Future(), Future()
        self.seen = []

    def __call__(self, environ, start_response):
        try:
            yield self.first
            start_response("200 OK", PLAIN)
            yield b"one %s" % self.first.result()
            yield self.second
            yield b" two %s" % self.second.result()
        except BaseException as error:
            self.seen.append(error)
            raise
        finally:
            self.seen.append("finally")


@pytest.fixture
def app():
    return Waits()


@pytest.fixture
def client(app):
    with Client(app) as client:
        yield client


def answering(items, status="200 OK", headers=PLAIN):
    def application(environ, start_response):
        start_response(status, list(headers))
        return items

    return application
