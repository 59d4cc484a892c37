"""No example lets its client write more than a path and a query into what it sends to its upstream.

Whatever the client asks for, the upstream is sent requests of one line and a head each, on a connection each, and none that
the client has written.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from harness.client import Connection
from harness.limits import LONG, ROOT, timeout
from harness.server import Server, environment, virtualenv

pytestmark = timeout(120)

EXAMPLES = ROOT / "examples"
BODY = b"data: 1\n"  # of no use to an example, so that none asks again for more of it
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(BODY), BODY)


class Recorder:
    """An upstream that answers each connection once, and keeps all that was said on it until its end."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            peer, _ = self._listener.accept()
            with peer:
                peer.settimeout(LONG)
                said = b""
                while b"\r\n\r\n" not in said and (data := peer.recv(65536)):
                    said += data
                if not said:
                    return  # close() says so
                try:
                    peer.sendall(ANSWER)
                    peer.shutdown(socket.SHUT_WR)
                    while data := peer.recv(65536):
                        said += data
                except OSError:
                    pass  # it has read what it wanted
                self.heard.append(said)

    def all(self) -> list[bytes]:
        """What was said on each connection so far, in their order; no more are taken."""
        if self._thread.is_alive():
            socket.create_connection(self._listener.getsockname()).close()  # is taken after those that wait
            self._thread.join(2 * LONG)
            assert not self._thread.is_alive()
        return self.heard

    def close(self) -> None:
        self.all()
        self._listener.close()


@pytest.fixture
def upstream() -> Iterator[Recorder]:
    with closing(Recorder()) as recorder:
        yield recorder


def printed(document: Path, name: str) -> str:
    """A program that a document shows."""
    (code,) = re.findall(rf"<!-- {re.escape(name)} -->\n```python\n(.*?)```", document.read_text(), re.S)
    return code


class Example:
    """How an example is started in front of an upstream, and what the head of a path is that reaches it."""

    def __init__(self, launch: Callable[..., Server], directory: Path, upstream: Recorder) -> None:
        self.launch, self.dir, self.upstream = launch, directory, upstream

    def write(self, name: str, code: str) -> None:
        assert re.search(r"\b9000\b", code), f"{name} has another upstream"
        (self.dir / name).write_text(re.sub(r"\b9000\b", str(self.upstream.port), code))

    def serve(self, app: str, *options: str, chdir: Path | None = None, **env: str) -> Server:
        return self.launch(
            app, "--threads", "2", "--pythonpath", str(ROOT / "py"), *options, cwd=chdir or self.dir, env=env
        )

    def readme(self) -> Server:
        self.write("proxy.py", printed(ROOT / "spec/manual/quickstart.md", "proxy.py"))
        return self.serve("proxy:app")

    def proxy(self) -> Server:
        return self.serve("proxy:app", chdir=EXAMPLES, UPSTREAM=f"http://127.0.0.1:{self.upstream.port}")

    def package(self) -> Server:
        self.write("hello.py", printed(ROOT / "py" / "README.md", "hello"))
        return self.serve("hello:app")

    def package_flask(self) -> Server:
        self.write("hello.py", printed(ROOT / "py" / "README.md", "hello"))
        (self.dir / "same.py").write_text(printed(ROOT / "py" / "README.md", "flask"))
        return self.serve("same:app", "--venv", virtualenv())

    def aggregator(self) -> Server:
        upstreams = f"http://127.0.0.1:{self.upstream.port}"
        return self.serve(
            "app:app", "--venv", virtualenv(), chdir=EXAMPLES / "aggregator", UPSTREAMS=upstreams, PATIENCE=str(LONG)
        )

    def llm_gateway(self) -> Server:
        url = f"http://127.0.0.1:{self.upstream.port}"
        return self.serve("app:app", "--venv", virtualenv(), chdir=EXAMPLES / "llm_gateway", MODEL=url, PATIENCE="5")

    def aggregator_twenty(self) -> Server:
        return self._twenty("aggregator", "app")

    def llm_gateway_twenty(self) -> Server:
        return self._twenty("llm_gateway", "app")

    def django_site_twenty(self) -> Server:
        return self._twenty("django_site", "application")

    def _twenty(self, name: str, app: str) -> Server:
        self.write("twenty_lines.py", (EXAMPLES / name / "twenty_lines.py").read_text())
        return self.serve(f"twenty_lines:{app}")

    def django_site(self) -> Server:
        """Clients choose one of its pages; what it asks for is in its database, here with paths that no form has seen."""
        env = {"SITE_DATA": str(self.dir), "UPSTREAM": f"127.0.0.1:{self.upstream.port}", "SECRET_KEY": "for tests only"}
        env["PYTHONPATH"] = str(ROOT / "py")
        site = EXAMPLES / "django_site"
        paths = ["/fine", "/a HTTP/1.0\r\n\r\nGET /admin", "/a\nb", "/a b", "/\0", "/\u2028", "http://evil.example/a"]
        for words in (["migrate"], ["shell", "-c", SHELL.format(paths=paths)]):
            subprocess.run(
                [sys.executable, str(site / "manage.py"), *words],
                cwd=site,
                env=environment(env),
                check=True,
                capture_output=True,
                timeout=2 * LONG,
            )
        return self.serve("gateway.wsgi", "--venv", virtualenv(), chdir=site, **env)


SHELL = """
from gateway.models import Page
for number, path in enumerate({paths!r}):
    Page.objects.create(name=f"p{{number}}", path=path)
"""

# Where a client can say something that goes further: {} is what it says, as it stands in the request line.
PLACES = {
    "readme": ["/{}", "/x?{}"],
    "proxy": ["/{}", "/x?{}"],
    "package": ["/{}"],
    "package_flask": ["/same/{}/x", "/same/x/{}"],
    "aggregator": ["/products/42?{}", "/products/{}"],
    "aggregator_twenty": ["/{}", "/42?{}"],
    "llm_gateway": ["/generate?prompt={}", "/{}"],
    "llm_gateway_twenty": ["/{}", "/generate?{}"],
    "django_site": ["/pages/{}", *(f"/pages/p{number}?{{}}" for number in range(7))],
    "django_site_twenty": ["/{}", "/x?{}"],
}

SAID = [
    "a%20HTTP/1.0%0d%0a%0d%0aGET%20/admin",
    "a%20HTTP/1.0%0d%0aX-Evil:%20/admin%0d%0a",
    "a%20HTTP/1.0%0a%0aGET%20/admin",
    "a%0aGET%20/admin",
    "a%0dGET%20/admin",
    "a%00%20/admin",
    "a%09b%0b%0c%1c%85%a0/admin",
    "%C3%A9%E2%80%A8%F0%9F%90%8D",
    "%ff%80",
    "a%3Fb%23c%25d",
    "%2e%2e/%2e%2e/admin",
]
ODD = [
    "GET //evil.example/..",
    "GET ///",
    "GET /a://b",
    "GET http://evil.example",
    "GET http://evil.example/a",
    "GET http://evil.example?q",
    "GET http://evil.example/a%0d%0a%0d%0aGET%20/admin",
    "GET http://evil.example//evil.example/..",
    "OPTIONS *",
    "OPTIONS http://evil.example",
    "GET /\xe9",
    "GET /\xe2\x80\xa8%0a",
    "GET a",
    "GET evil.example/x",
]
REQUEST_LINE = re.compile(rb"(GET|POST|OPTIONS) (/[!-~\x80-\xff]*|\*) HTTP/1\.[01]")  # octets stay what they were


def ask(server: Server, line: str) -> int:
    """The status of the answer to a request line that is sent as it is."""
    with Connection(server.address, timeout=LONG) as c:
        c.send(f"{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode("latin-1"))
        said, _ = c.drain()
        found = re.match(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ", said)
        assert found, (line, said)
        return int(found[1])


@pytest.mark.parametrize("name", PLACES)
def test_nothing_is_written_into_a_head(
    launch: Callable[..., Server], tmp_path: Path, upstream: Recorder, name: str
) -> None:
    """What reaches the upstream is one request on each connection, whose head is the example's own."""
    server = getattr(Example(launch, tmp_path, upstream), name)()
    for place in PLACES[name]:
        for said in SAID:
            ask(server, f"GET {place.format(said)}")
    for line in ODD:
        ask(server, line)
    heard = upstream.all()
    assert len(heard) >= len(SAID), "the upstream is not asked"
    for said in heard:
        head, _, body = said.partition(b"\r\n\r\n")
        first, *fields = head.split(b"\r\n")
        assert REQUEST_LINE.fullmatch(first), said
        assert b"evil.example" not in first.replace(b"//evil.example/..", b""), said
        assert all(re.fullmatch(rb"[A-Za-z-]+: [^\r\n\0]*", field) for field in fields), said
        assert not any(field.startswith(b"X-Evil") for field in fields), said
        length = next((int(field[15:]) for field in fields if field.lower().startswith(b"content-length:")), 0)
        assert len(body) == length, said


@pytest.mark.parametrize("name", ["readme", "proxy", "django_site_twenty"])
def test_what_the_upstream_is_asked(
    launch: Callable[..., Server], tmp_path: Path, upstream: Recorder, name: str
) -> None:
    """A proxy passes path and query on as they were sent, and of an absolute-form no more than these."""
    server = getattr(Example(launch, tmp_path, upstream), name)()
    wanted = {
        "/": "/",
        "/a%20b%0d%0a?q=%0a&%C3%A9": "/a%20b%0d%0a?q=%0a&%C3%A9",
        "//evil.example/..": "//evil.example/..",
        "/a://b/c": "/a://b/c",
        "/\xe9?\xe2\x80\xa8": "/\xe9?\xe2\x80\xa8",
        "/?u=http://evil.example/": "/?u=http://evil.example/",
        "http://evil.example": "/",
        "http://evil.example?q": "/?q",
        "HTTPS://evil.example:81/a%20b?c": "/a%20b?c",
        "http://evil.example//evil.example/..": "//evil.example/..",
    }
    for target in wanted:
        assert ask(server, f"GET {target}") == 200
    assert [said.split(b" ")[1].decode("latin-1") for said in upstream.all()] == list(wanted.values())


@pytest.mark.parametrize("name", ["package", "aggregator_twenty"])
def test_a_decoded_path_is_quoted_again(
    launch: Callable[..., Server], tmp_path: Path, upstream: Recorder, name: str
) -> None:
    """What was a part of the path stays one, and does not begin a query or a fragment."""
    server = getattr(Example(launch, tmp_path, upstream), name)()
    ask(server, "GET /a%3Fb%23c%20d%C3%A9%0D%0A%25")
    heard = upstream.all()
    assert heard
    for said in heard:
        assert said.split(b" ")[1].rstrip(b"?").endswith(b"/a%3Fb%23c%20d%C3%A9%0D%0A%25"), said
