"""The examples do what they say, started with the command that their head comments give."""

from __future__ import annotations

import ast
import html
import json
import re
import select
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from hashlib import sha256

import pytest
from harness.client import Response, Truncated, chunked
from harness.limits import LONG, ROOT, SLOW, TSAN, eventually
from harness.server import Server, environment, virtualenv

EXAMPLES = ROOT / "examples"
Start = Callable[..., Server]


def commands(text: str) -> list[str]:
    """The lines of a text that start the server."""
    return [line.strip() for line in text.splitlines() if re.match(r"    build/fermata ", line)]


def command(name: str) -> str:
    docstring = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text()), clean=False)
    (line,) = commands(docstring or "")
    return line


@pytest.fixture
def example(launch: Start) -> Start:
    """example(name): serves examples/NAME.py as its head comment says."""

    def start(name: str, *options: str, env: dict[str, str] | None = None, **more: object) -> Server:
        _, *told, app = shlex.split(command(name))
        if "--venv" in told:
            told[told.index("--venv") + 1] = virtualenv()
        return launch(app, *told, *options, cwd=ROOT, env=env, **more)

    return start


@pytest.fixture
def proxy(example: Start) -> Start:
    """proxy(upstream=..., timeout=...): the proxy, in front of its own toy unless told otherwise."""

    def start(*options: str, upstream: str = "", timeout: float = LONG) -> Server:
        return example("proxy", *options, env={"UPSTREAM": upstream, "UPSTREAM_TIMEOUT": str(timeout)})

    return start


class Upstream:
    """An upstream that says to every request what it is told to, and keeps what it heard."""

    def __init__(self, answer: Callable[[socket.socket], None] | bytes) -> None:
        self._answer = answer
        self.heard: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            peer, _ = self._listener.accept()
            with peer:
                peer.settimeout(LONG)
                head = b""
                while b"\r\n\r\n" not in head:
                    data = peer.recv(65536)
                    if not data:
                        break
                    head += data
                if not head:
                    return  # close() says so
                self.heard.append(head)
                try:
                    self._take_body(peer, head)
                    if isinstance(self._answer, bytes):
                        peer.sendall(self._answer)
                        peer.shutdown(socket.SHUT_WR)
                        peer.recv(1)
                    else:
                        self._answer(peer)
                except OSError:
                    pass  # it has had enough

    def _take_body(self, peer: socket.socket, head: bytes) -> None:
        """What is left unread would destroy the answer, when this end is closed."""
        said = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        left = int(said[1]) - len(head.partition(b"\r\n\r\n")[2]) if said else 0
        while left > 0 and (data := peer.recv(left)):
            left -= len(data)

    def close(self) -> None:
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join(LONG)
        self._listener.close()
        assert not self._thread.is_alive()


@pytest.fixture
def upstream() -> Iterator[Callable[..., Upstream]]:
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(closing(Upstream(answer)))


def stats(server: Server) -> dict[str, int]:
    return json.loads(server.get("/stats").text)


# The head comments


def test_readme_has_the_commands_of_the_examples():
    """examples/README.md has the same commands as the examples (but both frameworks share an environment)."""
    names = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "slow_upstream")
    told = [re.sub("--venv /tmp/\\w+", "--venv DIR", command(name)) for name in names]
    readme = [re.sub("--venv /tmp/\\w+", "--venv DIR", line) for line in commands((EXAMPLES / "README.md").read_text())]
    assert sorted(readme) == sorted(told)


# hello.py and rfc.py


def test_hello(example):
    answer = example("hello").get("/")
    assert (answer.status, answer.text) == (200, "Hello, world!\n")


def test_rfc_suspends_on_one_thread(example):
    """Twenty requests of 0.4 s each, on the one thread that the head comment asks for, take much less than eight seconds."""
    server = example("rfc", env={"DELAY": "0.4"})
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(20)]
        started = time.monotonic()
        for client in clients:
            client.send_request("GET", "/")
        answers = [client.read_response() for client in clients]
        took = time.monotonic() - started
    assert {(answer.status, answer.body) for answer in answers} == {(200, b"Hi!\n")}
    assert 0.4 <= took < 4 * SLOW


# proxy.py


def test_proxy_is_slow_for_many_at_once(proxy):
    """A hundred requests of a second each on two threads."""
    server = proxy()
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect(timeout=LONG)) for _ in range(100)]
        started = time.monotonic()
        for client in clients:
            client.send_request("GET", "/slow?ms=1000")
        answers = [client.read_response() for client in clients]
        took = time.monotonic() - started
    assert {(answer.status, answer.text) for answer in answers} == {(200, "Sorry to have kept you waiting.\n")}
    assert 1 <= took < 20 * SLOW


def test_proxy_streams(proxy):
    """A piece arrives though the next one is far away."""
    server = proxy()
    with server.connect() as client:
        client.send_request("GET", "/stream?pieces=2&ms=1000000")
        head = client.read_head()
        assert head.status == 200
        assert head.header("Keep-Alive") is None
        assert next(client.iter_body(head)) == b"piece 1\n"


def test_proxy_passes_everything_on(proxy):
    """A stream of many pieces arrives whole, and the connection can be used again."""
    with proxy().connect() as client:
        for _ in range(2):
            answer = client.request("GET", "/stream?pieces=50&ms=1&size=5000")
            assert answer.body == b"".join(b"piece %d\n" % n + b"." * 5000 for n in range(1, 51))
            assert answer.keeps_alive


def test_proxy_answers_502_when_the_upstream_breaks(proxy):
    answer = proxy().get("/fail")
    assert (answer.status, answer.reason, answer.text) == (
        502,
        "Bad Gateway",
        "502 Bad Gateway: the upstream broke off\n",
    )


def test_proxy_breaks_off_when_the_upstream_breaks_in_the_middle(proxy):
    """The client has what came before, and sees that something is missing; the log tells why."""
    server = proxy()
    with server.connect() as client:
        client.send_request("GET", "/fail?pieces=2")
        head = client.read_head()
        body = client.iter_body(head)
        assert (head.status, next(body), next(body)) == (200, b"piece 1\n", b"piece 2\n")
        with pytest.raises((Truncated, ConnectionResetError)):
            next(body)
    server.wait_log("UpstreamError: the upstream broke off")


def test_proxy_answers_502_when_nobody_listens(proxy):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        answer = proxy(upstream=f"http://127.0.0.1:{silent.getsockname()[1]}").get("/")
    assert answer.status == 502


def test_proxy_answers_504_when_the_upstream_keeps_silent(proxy):
    answer = proxy(timeout=0.3).get("/hang")
    assert (answer.status, answer.reason) == (504, "Gateway Timeout")


@pytest.mark.parametrize(
    "said",
    [
        b"hello\r\n\r\n",
        b"HTTP/1.1 200\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + 200_000 * b"a" + b"\r\n\r\n",
    ],
    ids=lambda said: said[:60].decode("latin-1"),
)
def test_proxy_answers_502_to_nonsense(proxy, upstream, said):
    assert proxy(upstream=upstream(said).address).get("/").status == 502


def test_proxy_drops_hop_by_hop_headers_both_ways(proxy, upstream):
    said = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        b"HTTP/1.1 203 Some Thing\r\nConnection: x-mine, close\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\n"
        b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"
    )
    behind = upstream(said)
    sent = [
        ("Connection", "keep-alive, X-Yours"),
        ("X-Yours", "1"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("Proxy-Authorization", "secret"),
        ("X-Kept", "1"),
        ("Via", "1.1 before"),
        ("X-Forwarded-For", "192.0.2.1"),
    ]
    answer = proxy(upstream=behind.address).get("/a%2Fb/../c?d=%20e", sent)
    assert (answer.status, answer.reason, answer.body) == (203, "Some Thing", b"ok")
    assert answer.all("Set-Cookie") == ["a=1", "b=2"]
    assert answer.header("Content-Length") == "2"
    assert not [name for name, _ in answer.headers if name.lower() in ("x-mine", "keep-alive", "upgrade", "link")]
    assert answer.keeps_alive

    (heard,) = behind.heard
    line, *fields = heard.decode("latin-1").split("\r\n")[:-2]
    assert line == "GET /a%2Fb/../c?d=%20e HTTP/1.1"
    headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    assert len(headers) == len(fields), "a header is repeated"
    assert headers == {
        "host": behind.address.removeprefix("http://"),
        "connection": "close",
        "x-kept": "1",
        "via": "1.1 before, 1.1 proxy",
        "x-forwarded-for": "192.0.2.1, 127.0.0.1",
        "x-forwarded-host": "test.example",
        "x-forwarded-proto": "http",
    }


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_proxy_passes_uploads_on(proxy, framing):
    """A body of several pieces reaches the upstream whole, however it was framed."""
    body = bytes(range(256)) * 4096
    server = proxy()
    if framing == "length":
        answer = server.request("POST", "/echo", [], body)
    else:
        answer = server.request("POST", "/echo", [("Transfer-Encoding", "chunked")], chunked(body[:10], body[10:]))
    echo = json.loads(answer.text)
    assert (echo["method"], echo["body_length"], echo["body_sha256"]) == ("POST", len(body), sha256(body).hexdigest())


def test_proxy_answers_without_bodies(proxy, upstream):
    with proxy().connect() as client:
        head = client.request("HEAD", "/slow?ms=1")
        assert (head.status, head.header("Content-Length"), head.body) == (200, "32", b"")
        assert client.request("GET", "/slow?ms=1").text == "Sorry to have kept you waiting.\n"
    for status in (204, 304):
        behind = upstream(b"HTTP/1.1 %d Nothing\r\nX-Kept: 1\r\n\r\n" % status)
        answer = proxy(upstream=behind.address).get("/")
        assert (answer.status, answer.header("X-Kept"), answer.body) == (status, "1", b"")


def test_proxy_reads_until_the_upstream_closes(proxy, upstream):
    """A response without framing, as of HTTP/1.0."""
    answer = proxy(upstream=upstream(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 100_000).address).get("/")
    assert (answer.status, answer.body) == (200, b"x" * 100_000)


@pytest.mark.parametrize("target", ["/hang", "/stream?pieces=3&ms=1000000"])
def test_proxy_cancels_the_upstream_when_the_client_leaves(proxy, target):
    """Whether it waits for the response or for a piece of it."""
    server = proxy()
    before = stats(server)
    clients = [server.connect() for _ in range(10)]
    for client in clients:
        client.send_request("GET", target)
    eventually(lambda: stats(server)["open"] == 11, "ten requests have reached the upstream, and this one")
    for client in clients:
        client.close()
    eventually(lambda: stats(server)["left"] == before["left"] + 10, "the upstream has seen ten clients leave")
    eventually(lambda: stats(server)["open"] == 1, "nothing is left open")


def test_proxy_slows_the_upstream_down_for_a_slow_client(proxy, upstream):
    """Of 128 MiB only so much is read as the buffers on the way take, until the client reads on."""
    block, blocks = b"x" * (1 << 20), 128
    sent = 0

    def answer(peer: socket.socket) -> None:
        nonlocal sent
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(block) * blocks))
        for _ in range(blocks):
            peer.sendall(block)
            sent += 1

    server = proxy("--send-timeout", "60", upstream=upstream(answer).address)
    with server.connect(timeout=LONG, receive_buffer=65536) as client:
        client.send_request("GET", "/")
        head = client.read_head()

        def stalled() -> bool:
            before = sent
            time.sleep(0.5)
            return 0 < before == sent

        eventually(stalled, "the upstream is not read any more")
        assert sent < blocks / 2
        assert sum(map(len, client.iter_body(head))) == len(block) * blocks


def test_proxy_in_front_of_a_toy_of_its_own_process(proxy):
    """slow_upstream.py by itself, as its head comment says, on a free port."""
    toy = subprocess.Popen(
        [sys.executable, "examples/slow_upstream.py", "0"], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert toy.stdout is not None
        assert select.select([toy.stdout], [], [], LONG)[0]
        address = toy.stdout.readline().split()[-1]
        assert proxy(upstream=address).get("/slow?ms=1").text == "Sorry to have kept you waiting.\n"
    finally:
        toy.kill()
        toy.communicate()


def test_proxy_as_a_module_of_a_package(launch):
    """Named examples.proxy, from the checkout, it finds its toy as well."""
    assert launch("examples.proxy:app", cwd=ROOT).get("/slow?ms=1").status == 200


# sse.py


def events(text: str) -> list[dict[str, int]]:
    return [json.loads(data) for data in re.findall(r"^data: (.*)$", text, re.MULTILINE)]


def test_sse_tells_hundreds_of_clients_on_four_threads(example):
    """250 streams at once, each of three ticks in a row, on the four threads, the server's own four and the ticker."""
    server = example("sse", env={"SSE_INTERVAL": "0.5"})
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect(timeout=LONG)) for _ in range(250)]
        for client in clients:
            client.send_request("GET", "/events?count=3")
        heads = [client.read_head() for client in clients]
        assert len(server.process.threads()) <= 4 + 4 + 1 + TSAN
        told = [events(b"".join(client.iter_body(head)).decode()) for client, head in zip(clients, heads, strict=True)]
    assert {head.header("Content-Type") for head in heads} == {"text/event-stream"}
    for mine in told:
        first = mine[0]["tick"]
        assert [event["tick"] for event in mine] == [first, first + 1, first + 2]
    assert max(event["clients"] for mine in told for event in mine) > 200


def test_sse_notices_those_who_leave(example):
    server = example("sse", env={"SSE_INTERVAL": "0.1"})
    clients = [server.connect() for _ in range(50)]
    for client in clients:
        client.send_request("GET", "/events")

    def listening() -> int:
        return events(server.get("/events?count=1").text)[0]["clients"]

    eventually(lambda: listening() == 51, "all are listening")
    for client in clients:
        client.close()
    eventually(lambda: listening() == 1, "all but this one have left")


def test_sse_has_a_page(example):
    answer = example("sse").get("/")
    assert answer.header("Content-Type") == "text/html; charset=utf-8"
    assert 'EventSource("/events")' in answer.text


# flask_app.py and django_app.py


class Browser:
    """Keeps cookies and follows redirects."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, target: str, form: str | None = None) -> Response:
        headers = [("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))]
        if form is not None:
            headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        where = f"127.0.0.1:{self._server.port}"
        answer = self._server.request(method, target, headers, form and form.encode(), timeout=LONG, host=where)
        for cookie in answer.all("Set-Cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        location = answer.header("Location")
        return answer if location is None else self.ask("GET", location.removeprefix(f"http://{where}"))


def test_flask(example):
    """Form, session, template, redirect; another browser has a session of its own."""
    browser = Browser(example("flask_app"))
    assert "Nobody yet." in browser.ask("GET", "/").text
    page = browser.ask("POST", "/sign", "name=Ada&text=%3Cb%3EHello").text
    assert "Thank you, Ada: 1 so far." in page
    assert "<b>Ada</b>: &lt;b&gt;Hello" in page
    assert "Ada: 2 so far." in browser.ask("POST", "/sign", "name=Ada&text=Again").text
    other = Browser(browser._server).ask("GET", "/").text
    assert "<b>Ada</b>: Again" in other
    assert 'value="Ada"' not in other
    assert browser.ask("GET", "/sign").status == 405
    assert browser.ask("POST", "/sign", "x" * 100_000).status == 413


def test_django(example):
    """Form, CSRF protection, session, template, redirect."""
    browser = Browser(example("django_app"))
    page = browser.ask("GET", "/").text
    assert "Nobody yet." in page
    assert browser.ask("POST", "/", "name=Ada&text=Hello").status == 403
    token = re.search('name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token
    form = f"csrfmiddlewaretoken={html.unescape(token[1])}&name=Ada&text="
    page = browser.ask("POST", "/", form + "%3Cb%3EHello").text
    assert "Thank you, Ada: 1 so far." in page
    assert "<b>Ada</b>: &lt;b&gt;Hello" in page
    assert "Ada: 2 so far." in browser.ask("POST", "/", form + "Again").text
    assert "This field is required." in browser.ask("POST", "/", form).text
