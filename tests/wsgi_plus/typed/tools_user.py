"""What a type checker makes of validator, wsgi_plus.testing and wsgi_plus.simple_server.  See test_types.py."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from typing_extensions import assert_type
from wsgi_plus import WSGIPlusError, validated, validator
from wsgi_plus.otel import traced
from wsgi_plus.simple_server import Server
from wsgi_plus.testing import Block, Client, Failed, Parked, Request, Step

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Generator[bytes | Future[Any], None, None]:
    start_response("200 OK", [])
    yield b""


def plain(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b""]


class Middleware:
    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self.app(environ, start_response)


checked: WSGIApplication = validator(application)
spans: WSGIApplication = traced(application)
stack: WSGIApplication = validated(plain, Middleware, validator, name="plain")


def a_test(client: Client) -> None:
    request = client.get("/", headers={"X-One": "1"}, body=b"")
    assert_type(request, Request)
    assert_type(request.parked, Future[Any] | None)
    assert_type(request.status, str | None)
    assert_type(request.body, bytes)
    assert_type(request.steps, list[Step])
    assert_type(request.complete(3).run(timeout=0.5), Request)
    assert_type(client.fetch("/", method="POST", json={"a": 1}).text, str)
    for step in request.steps:
        if isinstance(step, Block):
            assert_type(step.data, bytes)
        elif isinstance(step, Failed):
            assert_type(step.error, BaseException)
        elif isinstance(step, Parked):
            assert_type(step.future, Future[Any])


def over_sockets() -> str:
    with Server(application, threads=2, request_timeout=0.5) as server:
        assert_type(server, Server)
        return server.url


def who(error: WSGIPlusError) -> tuple[str, str]:
    return error.number, error.guilty
