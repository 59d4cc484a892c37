"""StreamingHttpResponse with futures among its blocks (S15)."""

from __future__ import annotations

import gzip
import io
import zlib
from concurrent.futures import CancelledError, Future

import pytest
from byhand import Wrapper, cancelled, done, failed
from django_byhand import *  # noqa: F403  # sets Django up
from django_byhand import only

# ruff: isort: split
import django
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.utils.deprecation import MiddlewareMixin
from wsgi_plus import suspends, wait

urlpatterns = []

GZIP = "django.middleware.gzip.GZipMiddleware"


def changed(content):
    for block in content:
        yield block.upper()


class Shouting(MiddlewareMixin):
    """Middleware that makes another stream of each, as Django's documentation shows it."""

    def process_response(self, request, response):
        response.streaming_content = changed(response.streaming_content)
        return response


def shouting(get_response):
    """The same as a function."""

    def middleware(request):
        response = get_response(request)
        response.streaming_content = changed(response.streaming_content)
        return response

    return middleware


SHOUTING, FUNCTION = f"{__name__}.Shouting", f"{__name__}.shouting"


@pytest.fixture
def stream(ask):
    """stream(iterable, ...): a request that it is the response to, by an ordinary view or by one that waits before."""

    def make(iterable, *middleware, waits=False, kind=StreamingHttpResponse, **more):
        def view(request):
            return kind(iterable)

        @suspends
        def waiting(request):
            yield done()
            return kind(iterable)

        def chosen(request):
            return (waiting if waits else view)(request)

        with only(chosen):
            exchange = ask(on="ab", settings={"MIDDLEWARE": middleware}, **more).step()
            return exchange.step() if waits else exchange

    return make


both = pytest.mark.parametrize("waits", [False, True], ids=["plain", "suspended"])


# Futures among the blocks


@both
def test_futures_pass(stream, waits):
    """As themselves, in their place; what else there is becomes bytes."""
    futures = [Future(), Future()]

    def blocks():
        yield "ä"
        yield futures[0]
        yield futures[0].result()
        yield futures[1]

    exchange = stream(blocks(), waits=waits)
    assert (exchange.parked, exchange.body) == (futures[0], "ä".encode())
    futures[0].set_result(3)
    assert exchange.step().parked is futures[1]
    futures[1].set_result(None)
    assert exchange.finish().blocks == ["ä".encode(), b"3"]


@both
@pytest.mark.parametrize(("fut", "error"), [(failed(), ValueError), (cancelled(), CancelledError)])
def test_failures_are_raised_in_the_stream(stream, waits, fut, error):
    """S5.2."""

    def blocks():
        try:
            yield fut
        except error:
            yield b"caught"

    assert stream(blocks(), waits=waits).finish().body == b"caught"


@both
@pytest.mark.parametrize("error", [ValueError(), SystemExit(), GeneratorExit()])
def test_failures_that_are_not_caught(stream, signals, waits, error):
    """They are the server's: the response is broken off (S5.8), and closed."""

    def blocks():
        yield b"before"
        yield failed(error)
        yield b"never"

    exchange = stream(blocks(), waits=waits)
    with pytest.raises(type(error)):
        exchange.finish()
    assert (exchange.body, signals) == (b"before", ["started", "finished"])


@both
@pytest.mark.parametrize("error", [ValueError("mine"), StopIteration()])
def test_failures_in_an_iterator_without_throw(stream, waits, error):
    """S5.4, S5.5."""
    exchange = stream(Wrapper([b"before", failed(error), b"never"]), waits=waits)
    with pytest.raises(ValueError if isinstance(error, ValueError) else RuntimeError):
        exchange.finish()
    assert exchange.body == b"before"


def test_a_list_of_futures(stream):
    assert stream([b"a", done(), b"b"]).finish().body == b"ab"


@both
def test_the_client_leaves(stream, signals, waits):
    """GeneratorExit in the generator, which cancels its future; once."""
    ended = []

    def blocks():
        try:
            yield b"block"
            yield from wait(Future())
        except GeneratorExit:
            ended.append("left")
            raise

    exchange = stream(blocks(), waits=waits)
    assert (ended, signals) == ([], ["started"])
    exchange.close()
    assert exchange.parked.cancelled()
    assert (ended, signals) == (["left"], ["started", "finished"])


@both
def test_an_iterable_is_closed_once(stream, waits):
    ended = []

    class Blocks:
        def __iter__(self):
            yield done()
            yield b"block"

        def close(self):
            ended.append(1)

    assert stream(Blocks(), waits=waits).finish().body == b"block"
    assert ended == [1]


def test_nothing_is_thrown_when_the_client_leaves(stream):
    """Only close() is called (S7.1)."""
    asked = []

    class Blocks:
        def __iter__(self):
            return self

        def __next__(self):
            return Future()

        def throw(self, error):
            asked.append("throw")
            raise error

        def close(self):
            asked.append("close")

    stream(Blocks()).close()
    assert asked == ["close"]


def test_the_value_of_a_generator_is_no_response(stream):
    def blocks():
        yield b"block"
        yield done()
        return HttpResponse("never")

    assert stream(blocks()).finish().body == b"block"


# Streams of other kinds


@both
def test_a_file_with_futures(stream, waits):
    def blocks():
        yield done()
        yield b"file"

    assert stream(blocks(), waits=waits, kind=FileResponse).finish().body == b"file"


def test_a_file_is_the_servers(stream, signals):
    """wsgi.file_wrapper gets it, as from Django."""
    wrapped = []

    def wrapper(file, size):
        wrapped.append(file)
        return Wrapper([file.read()])

    exchange = stream(io.BytesIO(b"file"), kind=FileResponse, wsgi__file_wrapper=wrapper)
    assert exchange.body == b"file"
    wrapped[0].close()  # which closes the response
    assert signals == ["started", "finished"]


def test_a_file_after_a_wait_is_iterated(stream, signals):
    """The server has its iterable already."""
    file = io.BytesIO(b"file" * 5000)
    exchange = stream(file, waits=True, kind=FileResponse, wsgi__file_wrapper=None)
    assert exchange.body == b"file" * 5000
    assert file.closed
    assert signals == ["started", "finished"]


@both
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_an_asynchronous_stream(stream, waits):
    """As with Django, which gathers it."""

    async def blocks():
        yield b"a"
        yield b"b"

    assert stream(blocks(), waits=waits).finish().body == b"ab"


@both
def test_a_stream_that_is_iterated_in_its_own_way(stream, waits):
    class Reversed(StreamingHttpResponse):
        def __iter__(self):
            return iter([*self.streaming_content][::-1])

    assert stream([b"a", b"b"], waits=waits, kind=Reversed).finish().body == b"ba"


def test_bytes_of_another_kind(stream):
    class Quoted(StreamingHttpResponse):
        def make_bytes(self, value):
            return b"<%s>" % super().make_bytes(value)

    assert stream(["a", done(), 1], kind=Quoted).finish().body == b"<a><1>"


# Middleware that changes streams


@both
@pytest.mark.parametrize("middleware", [SHOUTING, FUNCTION])
def test_changed_by_middleware(stream, log, waits, middleware):
    """It is given blocks only: who waits is it, in the thread, and that is said once."""

    def blocks():
        yield b"a"
        assert (yield from wait(done(3))) == 3
        try:
            yield failed()
        except ValueError:
            yield b"caught"

    exchange = stream(blocks(), middleware, waits=waits)
    assert (exchange.body, exchange.parked) == (b"ACAUGHT", None)
    names = [record.args[0] for record in log.records]
    assert names[-1] == (SHOUTING if middleware == SHOUTING else "middleware")
    assert all("cannot be suspended" in record.getMessage() for record in log.records)
    log.clear()


def test_changed_by_middleware_without_futures(stream):
    """No thread waits, so nothing is said."""
    assert stream([b"a", "b"], SHOUTING).finish().body == b"AB"


def test_changed_on_a_plain_server(stream):
    """S17: nor where all wait."""
    for middleware, body in (([SHOUTING], b"AB"), ([], b"ab")):
        exchange = stream([b"a", done(), b"b"], *middleware, wsgi_plus__version=None)
        assert (exchange.body, exchange.parked) == (body, None)


# GZipMiddleware


def unpacked(data):
    return zlib.decompressobj(wbits=31).decompress(data)


@both
@pytest.mark.parametrize("further", [(), (SHOUTING,)])
def test_compressed(stream, log, waits, further):
    """S15.5: futures pass, and what comes before them is there when they do."""

    def blocks():
        yield b""
        yield done()
        for number in range(3):
            yield f"block {number} " * 100
            yield b""
            yield Future() if number == 1 and not further else done()
        try:
            yield failed()
        except ValueError:
            yield b"caught"

    exchange = stream(blocks(), GZIP, *further, waits=waits, HTTP_ACCEPT_ENCODING="gzip")
    start = b"block 0 " * 100 + b"block 1 " * 100
    if not further:
        assert exchange.blocks == []  # S6.3: so that there could be another response
        while exchange.parked.done():
            exchange.step()
        assert exchange.header("Content-Encoding") == "gzip"
        assert unpacked(exchange.body) == start
        exchange.parked.set_result(None)
        exchange.finish()
    body = gzip.decompress(exchange.body)
    assert body.lower() == start + b"block 2 " * 100 + b"caught"
    assert len(exchange.body) < len(body) / 10
    assert [record.args[0] for record in log.records] == [SHOUTING] * len(further)
    log.clear()


@pytest.mark.parametrize("random", [0, 1])
def test_compressed_as_django_does_it(stream, monkeypatch, random):
    """Where there are no futures; to the byte with a Django that flushes, which Django 6 does."""
    monkeypatch.setattr("django.middleware.gzip.GZipMiddleware.max_random_bytes", random)
    blocks = [*(f"{number} " * 5000 for number in range(20)), b"", "ä"]
    ours = stream(blocks, GZIP, HTTP_ACCEPT_ENCODING="gzip")
    theirs = stream(blocks, GZIP, HTTP_ACCEPT_ENCODING="gzip", wsgi_plus__version=None)
    assert ours.headers == theirs.headers
    assert gzip.decompress(ours.body) == gzip.decompress(theirs.body) == "".join([*blocks[:20], "ä"]).encode()
    assert ours.body == theirs.body or django.VERSION < (6,)


@both
def test_the_client_leaves_what_is_compressed(stream, signals, waits):
    def blocks():
        yield b"block"
        yield from wait(Future())

    exchange = stream(blocks(), GZIP, waits=waits, HTTP_ACCEPT_ENCODING="gzip")
    exchange.close()
    assert exchange.parked.cancelled()
    assert signals == ["started", "finished"]


def test_failures_that_are_not_caught_where_it_is_compressed(stream):
    exchange = stream([b"block", failed()], GZIP, HTTP_ACCEPT_ENCODING="gzip")
    with pytest.raises(ValueError, match="on purpose"):
        exchange.finish()
    assert unpacked(exchange.body) == b"block"


def test_what_is_encoded_already_is_left_alone(stream):
    def encoded(iterable):
        return StreamingHttpResponse(iterable, headers={"Content-Encoding": "br"})

    exchange = stream([b"block", done()], GZIP, kind=encoded, HTTP_ACCEPT_ENCODING="gzip").finish()
    assert exchange.body == b"block"
