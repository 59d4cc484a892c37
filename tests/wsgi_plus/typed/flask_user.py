"""A Flask application that waits, as its author writes it: for mypy, and never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Future
from functools import wraps
from typing import Any, TypeVar

from flask import Blueprint, Flask, Response, g, stream_with_context
from flask.typing import ResponseReturnValue
from flask.views import MethodView
from typing_extensions import ParamSpec, assert_type
from werkzeug.exceptions import HTTPException
from wsgi_plus import AsyncBridge, gather, offload, wait
from wsgi_plus.flask import suspending, suspends
from wsgi_plus.flask.test import Client
from wsgi_plus.testing import Request

P = ParamSpec("P")
R = TypeVar("R")

View = Generator[Future[Any], None, ResponseReturnValue]


class Shop(Flask):
    stock = 3


app = suspending(Shop(__name__))
assert_type(app, Shop)
bp = Blueprint("bp", __name__)


def ask(name: str) -> dict[str, int]:
    return {name: 1}


@app.get("/<name>")
@suspends
def show(name: str) -> View:
    answer = yield from wait(offload(ask, name))
    assert_type(answer, dict[str, int])
    return answer, 201, {"X-Stock": str(app.stock)}


@bp.route("/both", methods=["GET", "POST"])
@suspends
def both() -> Generator[Future[Any], None, Response]:
    one, two = yield from gather(offload(ask, "one"), offload(len, "two"))
    assert_type(two, int)
    return Response(f"{one} {two}")


assert_type(both(), Response)  # called by other code it waits


@app.before_request
@suspends
def guard() -> Generator[Future[Any], None, ResponseReturnValue | None]:
    g.user = yield from wait(offload(ask, "user"))
    return None if g.user else ("no", 403)


@app.errorhandler(HTTPException)
@suspends
def sorry(error: HTTPException) -> View:
    yield from wait(offload(ask, "log"))
    return error.description or "", error.code or 500


def guarded(view: Callable[P, R]) -> Callable[P, R]:
    @wraps(view)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return view(*args, **kwargs)

    return wrapper


@app.get("/guarded/<int:number>")
@guarded
@suspends
def page(number: int) -> View:
    yield offload(ask, str(number))
    return "page"


class Item(MethodView):
    @suspends
    def get(self, number: int) -> View:
        return (yield from wait(offload(str, number)))

    def put(self, number: int) -> ResponseReturnValue:
        return "", 204


bp.add_url_rule("/item/<int:number>", view_func=Item.as_view("item"))


@app.get("/stream")
def stream() -> Response:
    def pieces() -> Iterator[Any]:  # of a body Flask says that it is of str or of bytes only
        yield "first"
        yield str((yield from wait(offload(ask, "second"))))

    return Response(stream_with_context(pieces()))


bridge = AsyncBridge()


async def blocks() -> AsyncIterator[bytes]:
    yield b""


@app.get("/upstream")
def upstream() -> Response:
    return Response(bridge.iterate(blocks()), mimetype="text/event-stream")


def test_page() -> None:
    client = Client(app, threads=True)
    assert client.get("/stream").text == "first"
    request = client.begin("GET", "/stream", query_string={"a": "b"})
    assert_type(request, Request)
    client.finish(request, timeout=1)
