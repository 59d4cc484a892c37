"""Behind a real Apache and a real Caddy, with the configurations that spec/manual/behind-a-proxy.md shows, and Django behind an nginx
that ends TLS."""

from __future__ import annotations

import http.client
import json
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness.limits import LONG, timeout
from harness.proxies import Apache, Caddy, Nginx, Proxy
from harness.server import virtualenv

pytestmark = [timeout(120)]


@pytest.fixture(params=["apache-tcp", "apache-unix", "caddy-tcp", "caddy-unix"])
def behind(request, launch) -> Iterator[Callable[..., tuple[object, Proxy]]]:
    """behind(app, *options): a server and a proxy in front of it."""
    kind, _, socket = request.param.partition("-")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.chmod(0o755)  # Apache is another user

        def start(app: str, *options: str, env: dict[str, str] | None = None) -> tuple[object, Proxy]:
            bind = [f"unix:{directory}/app"] if socket == "unix" else ["127.0.0.1:0"]
            server = launch(app, "--keep-alive", "75", *options, bind=bind, admin=True, env=env)
            if kind == "apache":
                where = f"unix:{directory}/app|http://app/" if socket == "unix" else f"http://127.0.0.1:{server.port}/"
                proxy: Proxy = Apache(directory, where)
            else:
                proxy = Caddy(directory, f"unix/{directory}/app" if socket == "unix" else f"127.0.0.1:{server.port}")
            stack.callback(proxy.stop)
            return server, proxy

        yield start


def test_connections_are_kept_and_headers_are_set(behind):
    """One connection serves all, and what the page says of headers is so; what a client says under these names is not
    believed."""
    server, proxy = behind("basic", "--proxy-headers", "proto,for", "--forwarded-allow-ips", "127.0.0.1,unix")
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=LONG, source_address=("127.0.0.2", 0))
    spoofed = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1;proto=https"}
    for _ in range(10):
        connection.request("GET", "/seen", headers=spoofed)
        environ = json.loads(connection.getresponse().read())
        assert environ["HTTP_X_FORWARDED_PROTO"] == environ["wsgi.url_scheme"] == "http"
        assert environ["REMOTE_ADDR"] == "127.0.0.2"
        assert environ["HTTP_HOST"] == f"127.0.0.1:{proxy.port}"
    connection.close()
    assert server.admin.metrics().value("fermata_connections_total") == 1


def test_bodies_are_whole(behind):
    _, proxy = behind("blocks")
    body = bytes(range(256)) * 4000
    connection = proxy.connect()
    for how in ("chunked", "length", "list", "file"):
        connection.request("GET", f"/{how}?size=131072&count=20")
        assert connection.getresponse().read() == b"".join(bytes([i % 251]) * 131072 for i in range(20))
    connection.request("POST", "/digest", body)
    plain = connection.getresponse().read()
    blocks = (body[i : i + 100_000] for i in range(0, len(body), 100_000))
    connection.request("POST", "/digest", blocks, headers={"Transfer-Encoding": "chunked"}, encode_chunked=True)
    assert connection.getresponse().read() == plain
    connection.close()


def test_events_come_as_they_are_made(behind, request):
    """A block is with the client before the next one is made."""
    server, proxy = behind("suspend")
    key = request.node.name
    connection = proxy.connect()
    connection.request("GET", f"/park-after?key={key}")
    response = connection.getresponse()
    first = response.read1()
    assert first
    server.wait_events(key, "parking")
    server.call("probe.complete", key)
    assert response.read()
    connection.close()


def test_a_reload_behind_it(behind, tmp_path):
    """No request is lost, also none of those that a proxy does not repeat."""
    options = ("--workers", "2", "--graceful-timeout", "10")
    server, proxy = behind("counted", *options, env={"COUNTED": str(tmp_path / "counted")})
    connection, last = proxy.connect(), time.monotonic()
    for i in range(300):
        if i % 60 == 0:
            server.signal(signal.SIGHUP)
        late = time.monotonic() - last > 0.9  # a connection that was idle for a second may be closed at any moment
        last = time.monotonic()
        connection.request("POST", f"/now/{i}", b"x")
        response = connection.getresponse()
        answer = response.read()
        assert late or (response.status, answer.split()[0]) == (200, str(i).encode())
    connection.close()


# ---- Django behind TLS ----

DJANGO = """
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x", SECURE_SSL_REDIRECT=True,
                   MIDDLEWARE=["django.middleware.security.SecurityMiddleware"])
urlpatterns = [path("here", lambda request: JsonResponse([request.scheme, request.build_absolute_uri()], safe=False))]
app = get_wsgi_application()
"""


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    made = tmp_path / "certificate", tmp_path / "key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-out", made[0], "-keyout", made[1]], check=True, capture_output=True)
    return made


def fetch(proxy: Proxy, ca: Path | None) -> http.client.HTTPResponse:
    if ca is None:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=LONG)
    else:
        trusted = ssl.create_default_context(cafile=ca)
        connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, timeout=LONG, context=trusted)
    connection.request("GET", "/here")
    response = connection.getresponse()
    response.body = response.read()
    connection.close()
    return response


@pytest.mark.parametrize(("options", "status"), [((), 200), (("--forwarded-allow-ips", "192.0.2.1"), 301)])
def test_django_redirects_to_tls_once(launch, tmp_path, certificate, options, status):
    """SECURE_SSL_REDIRECT without a setting of its own: who comes without TLS is sent to it, who comes with it is served.
    Where the proxy is not believed it would go round for ever."""
    (tmp_path / "site_.py").write_text(DJANGO)
    server = launch("site_:app", "--venv", virtualenv(), *options, cwd=tmp_path)
    with ExitStack() as stack:
        for name in ("plain", "tls"):
            (tmp_path / name).mkdir()
        plain = Nginx(tmp_path / "plain", f"127.0.0.1:{server.port}")
        stack.callback(plain.stop)
        tls = Nginx(tmp_path / "tls", f"127.0.0.1:{server.port}", tls=certificate)
        stack.callback(tls.stop)
        sent = fetch(plain, None)
        assert (sent.status, sent.getheader("Location")) == (301, "https://127.0.0.1/here")
        served = fetch(tls, certificate[0])
        assert served.status == status
        if status == 200:
            assert json.loads(served.body) == ["https", "https://127.0.0.1/here"]
