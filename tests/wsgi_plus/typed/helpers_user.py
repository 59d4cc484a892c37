"""What a type checker makes of the helpers in an application.  Checked by test_types.py, never run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

from typing_extensions import assert_type
from wsgi_plus import (
    Place,
    Semaphore,
    blocking,
    deadline,
    first,
    gather,
    offload,
    settled,
    shield,
    single_flight,
    sleep,
    suspends,
    timeout,
    wait,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Page:
    """A type of the user's own."""

    def close(self) -> None: ...


Waits = Generator[Future[Any], None, None]


def one_future(number: Future[int], page: Future[Page | None]) -> Waits:
    assert_type((yield from wait(number)), int)
    assert_type((yield from wait(page)), Page | None)
    assert_type((yield from settled(page)), Future[Page | None])
    assert_type((yield from timeout(0.5, page)), Page | None)
    assert_type((yield from timeout(1, number)), int)
    assert_type(shield(page), Future[Page | None])
    assert_type((yield from wait(shield(number))), int)
    assert_type(sleep(1), Generator[Future[Any], None, None])


def several(number: Future[int], text: Future[str], page: Future[Page], data: Future[bytes]) -> Waits:
    assert_type((yield from gather(number)), tuple[int])
    assert_type((yield from gather(number, text)), tuple[int, str])
    assert_type((yield from gather(number, text, page)), tuple[int, str, Page])
    assert_type((yield from gather(number, text, page, data)), tuple[int, str, Page, bytes])
    assert_type((yield from gather(number, text, page, data, page)), tuple[int, str, Page, bytes, Page])
    assert_type((yield from gather(number, text, page, data, page, text)), tuple[int, str, Page, bytes, Page, str])
    assert_type(
        (yield from gather(number, text, page, data, page, text, text)), tuple[int, str, Page, bytes, Page, str, str]
    )
    assert_type(
        (yield from gather(number, text, page, data, page, text, text, number)),
        tuple[int, str, Page, bytes, Page, str, str, int],
    )
    assert_type((yield from wait(page, discard=Page.close)), Page)
    assert_type((yield from timeout(1, page, discard=lambda late: late.close())), Page)
    assert_type((yield from gather(number, page, discard=print)), tuple[int, Page])
    assert_type((yield from first(page, page, discard=Page.close)), Future[Page])
    nine = [number] * 9
    assert_type((yield from gather(*nine)), tuple[int, ...])
    assert_type(
        (yield from gather(number, number, number, number, number, number, number, number, number)), tuple[int, ...]
    )
    assert_type((yield from gather(*[number, number])), tuple[int, ...])

    assert_type((yield from first(number)), Future[int])
    assert_type((yield from first(number, number)), Future[int])
    assert_type((yield from first(*[text])), Future[str])
    assert_type((yield from first(number, text)), Future[int] | Future[str])
    assert_type((yield from first(number, text, page)), Future[Any])


def scopes(number: Future[int], places: Semaphore) -> Waits:
    assert_type((yield from single_flight(("number", 1), lambda: number)), int)
    assert_type((yield from deadline(2, answer(number))), str)
    assert_type((yield from deadline(2.5, gather(number, number))), tuple[int, int])
    with (yield from places.acquire()) as place:
        assert_type(place, Place)
    place.release()


def answer(number: Future[int]) -> Generator[Future[Any], None, str]:
    return str((yield from wait(number)))


def load(name: str, size: int) -> Page:
    raise NotImplementedError


def on_threads(pool: Executor) -> Waits:
    assert_type(offload(load, "a", 1), Future[Page])
    assert_type(offload(lambda: 3), Future[int])
    assert_type(offload(load, "a", 1, pool=pool), Future[Page])
    page = yield from wait(offload(load, "a", 1))
    assert_type(page, Page)


@suspends
def view(number: int, *, text: str = "") -> Generator[Future[Any], None, Page]:
    yield from sleep(number)
    return Page()


def calls_it() -> None:
    assert_type(view(3, text="a"), Page)
    assert_type(view(number=3), Page)


class Views:
    @suspends
    def get(self, number: int) -> Generator[Future[int], None, str]:
        value: Future[int] = Future()
        return str((yield from wait(value)) + number)


assert_type(Views().get(3), str)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Generator[bytes | Future[Any], None, None]:
    """Waits among its blocks."""
    page, text = yield from gather(offload(load, "a", 1), offload(str, environ["PATH_INFO"]))
    assert_type(page, Page)
    assert_type(text, str)
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield text.encode()
    yield from sleep(0.5)


def plain(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b""]


# For a plain server, and for code that declares types of its own.
for_plain_servers: WSGIApplication = blocking(application)
plain_as_it_was: Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]] = blocking(plain)
