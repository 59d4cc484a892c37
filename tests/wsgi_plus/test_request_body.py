"""RequestBody: the body of a request, sent on to an upstream as it is."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import http.server
import io
import os
import threading
from functools import partial

import flask
import httpx
import pytest
import requests
from byhand import BOUND, finish
from wsgi_plus import AsyncBridge, RequestBody, offload, retry, wait
from wsgi_plus.simple_server import Server
from wsgi_plus.testing import Client

pytestmark = pytest.mark.filterwarnings("error")

DATA = os.urandom(1 << 20)


def body_of(data, **more):
    return RequestBody({"wsgi.input": io.BytesIO(data), "CONTENT_LENGTH": str(len(data)), **more})


def test_as_a_file():
    body = body_of(b"0123456789")
    assert (body.length, body.tell(), body.read(4), body.tell()) == (10, 0, b"0123", 4)
    assert (body.read(0), body.read(), body.read(), body.read(5), body.read(None)) == (b"", b"456789", b"", b"", b"")
    assert (body.seek(0), body.read(3), body.seek(0, os.SEEK_END), body.read()) == (0, b"012", 10, b"")


def test_in_pieces():
    body = body_of(DATA)
    assert max(map(len, body)) == 65536 and body.read() == b""
    body.seek(0)
    assert b"".join(body) == DATA


def test_in_pieces_for_a_loop():
    body = body_of(DATA)

    async def gather():
        return [piece async for piece in body.pieces()]

    pieces = asyncio.run(gather())
    assert b"".join(pieces) == DATA and max(map(len, pieces)) == 65536


def test_what_has_been_read_before():
    file = io.BytesIO(b"0123456789")
    file.read(4)
    body = RequestBody({"wsgi.input": file, "CONTENT_LENGTH": "10"})
    assert (body.length, body.tell(), body.read()) == (10, 4, b"456789")


def test_over_is_not_the_end_of_the_file():
    with body_of(b"0123456789") as body:
        assert body.read(4) == b"0123"
    for call in (body.read, partial(body.read, 1), partial(body.seek, 0), partial(next, iter(body))):
        with pytest.raises(ValueError, match="the request is over"):
            call()
    body.close()


def test_over_while_it_is_read():
    class Slow(io.BytesIO):
        def read(self, size=-1, /):
            body.close()
            return super().read(size)

    body = RequestBody({"wsgi.input": Slow(b"0123"), "CONTENT_LENGTH": "4"})
    with pytest.raises(ValueError, match="the request is over"):
        body.read(2)


def test_a_body_that_is_shorter_than_it_says():
    body = RequestBody({"wsgi.input": io.BytesIO(b"0123"), "CONTENT_LENGTH": "10"})
    assert body.read(10) == b"0123"
    with pytest.raises(ValueError, match="ends after 4 of 10 bytes"):
        body.read(10)


def test_not_more_than_its_length():
    """PEP 3333: a plain server's input may be the connection, which has more, or waits for it."""
    body = RequestBody({"wsgi.input": io.BytesIO(b"0123456789"), "CONTENT_LENGTH": "4"})
    assert (body.read(100), body.read(100), body.read()) == (b"0123", b"", b"")


@pytest.mark.parametrize(
    ("environ", "length", "read"),
    [({}, 0, b""), ({"CONTENT_LENGTH": ""}, 0, b""), ({"wsgi.input_terminated": True}, None, b"0123")],
)
def test_a_length_that_nobody_has_said(environ, length, read):
    body = RequestBody({"wsgi.input": io.BytesIO(b"0123"), **environ})
    assert (body.length, body.read()) == (length, read)


def test_of_a_request_of_a_framework():
    with flask.Flask(__name__).test_request_context("/", method="PUT", data=b"body"):
        with pytest.raises(TypeError, match=r"RequestBody\(\) takes the environ, not a LocalProxy: request.environ"):
            RequestBody(flask.request)
        assert RequestBody(flask.request.environ).read() == b"body"


def test_an_input_that_cannot_be_sought_in():
    class Stream:
        def read(self, size=-1, /):
            return b"0123"[:size]

    body = RequestBody({"wsgi.input": Stream(), "CONTENT_LENGTH": "4"})
    with pytest.raises(OSError, match="cannot be sought in"):
        body.seek(0)
    assert body.read(4) == b"0123"


# With the clients that there are


class Upstream(http.server.BaseHTTPRequestHandler):
    """Says how it has got a body, and its digest."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = self.headers["Content-Length"]
        data = self.rfile.read(int(length)) if length else b"".join(iter(self.chunk, b""))
        answer = f"{'length' if length else 'chunks'} {hashlib.sha256(data).hexdigest()}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def chunk(self):
        data = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return data

    def log_message(self, *_):
        pass


@pytest.fixture
def upstream():
    """The port of it."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def bridge():
    bridge = AsyncBridge()
    yield bridge
    bridge.close()


def by_http_client(port, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND)
    connection.request("POST", "/", body, {"Content-Length": str(body.length)})
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer


def by_requests(port, body):
    with requests.Session() as session:
        return session.post(f"http://127.0.0.1:{port}/", data=body, timeout=BOUND).text


def by_httpx(port, body):
    with httpx.Client() as client:
        return client.post(f"http://127.0.0.1:{port}/", content=body, timeout=BOUND).text


async def by_httpx_async(port, body):
    async with httpx.AsyncClient() as client:
        headers = {"Content-Length": str(body.length)}
        answer = await client.post(f"http://127.0.0.1:{port}/", content=body.pieces(), headers=headers, timeout=BOUND)
        return answer.text


@pytest.mark.parametrize("send", [by_http_client, by_requests, by_httpx, by_httpx_async])
def test_sent_on(send, upstream, bridge):
    """As it is, with its length, from a thread and from an event loop; twice, for the second try has it too."""
    tried = []

    def app(environ, start_response):
        with RequestBody(environ) as body:

            def once():
                body.seek(0)
                if send is by_httpx_async:
                    answer = yield from wait(bridge.run(send(upstream, body)))
                else:
                    answer = yield from wait(offload(send, upstream, body))
                tried.append(answer)
                if len(tried) < 2:
                    raise OSError
                return answer

            answer = yield from retry(once, on=OSError, pause=lambda *_: 0)
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield answer.encode()

    wanted = f"length {hashlib.sha256(DATA).hexdigest()}"
    client = Client(app, validate=False)  # the validator's input has what PEP 3333 says: no seek()
    assert client.fetch("/", method="POST", body=DATA).text == wanted and tried == [wanted] * 2


def test_the_client_leaves_while_it_is_read():
    """On a server that has closed its own file by then, too: a thread that reads it gets an error."""
    begun, go_on, outcomes = threading.Event(), threading.Event(), []

    def send(body):
        body.read(1000)
        begun.set()
        go_on.wait(BOUND)
        try:
            outcomes.append(body.read())
        except ValueError as error:
            outcomes.append(str(error))

    def app(environ, start_response):
        with RequestBody(environ) as body:
            job = offload(send, body)
            yield from wait(job)

    with Server(app) as server:
        with httpx.Client() as client:
            gone = threading.Thread(target=leave, args=[client, server.url])
            gone.start()
            assert begun.wait(BOUND)
            gone.join()
        for _ in range(int(BOUND * 100)):
            if not server.requests:
                break
            threading.Event().wait(0.01)
        go_on.set()
        finish(wait(offload(lambda: None)))
    for _ in range(int(BOUND * 100)):
        if outcomes:
            break
        threading.Event().wait(0.01)
    assert outcomes == ["the request is over, and its body with it"]


def leave(client, url):
    with pytest.raises(httpx.ReadTimeout):
        client.post(url, content=DATA, timeout=httpx.Timeout(BOUND, read=0.5))
