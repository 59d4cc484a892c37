"""What proxies in front say of a request, whom the server believes, and who only tries to be believed."""

from __future__ import annotations

import json
import socket
import struct
import subprocess

import pytest
from harness.client import build
from harness.limits import APPS, LONG, PROMPT, fermata, timeout

pytestmark = [timeout(60)]

ALL = ("--proxy-headers", "proto,for,host,port,prefix")


def environ_of(server, *headers: tuple[str, str], source: str = "127.0.0.1", target: str = "/seen") -> dict[str, str]:
    with server.connect(source=source) as c:
        return json.loads(c.request("GET", target, list(headers)).text)


# ---- X-Forwarded-* ----


def test_scheme_by_default(serve):
    """As gunicorn: from a local peer the scheme is believed, and nothing else."""
    server = serve("basic")
    environ = environ_of(
        server,
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Prefix", "/evil"),
    )
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert "fermata.peer_addr" not in environ
    assert "evil" not in environ["HTTP_HOST"]
    assert environ["SCRIPT_NAME"] == ""
    assert environ["HTTP_X_FORWARDED_FOR"] == "203.0.113.9"  # a middleware may still read it


def test_scheme_of_the_next_request(serve):
    """What one request says is not the next one's."""
    server = serve("basic")
    with server.connect() as c:
        for told, scheme in (("https", "https"), ("", "http"), ("http", "http"), ("ftp", "http"), ("https", "https")):
            headers = [("X-Forwarded-Proto", told)] if told else []
            assert json.loads(c.request("GET", "/seen", headers).text)["wsgi.url_scheme"] == scheme


@pytest.mark.parametrize(
    ("header", "value", "scheme"),
    [("X-Forwarded-Ssl", "on", "https"), ("X-Forwarded-Ssl", "off", "http"), ("X-Forwarded-Protocol", "ssl", "https")],
)
def test_gunicorns_other_headers(serve, header, value, scheme):
    assert environ_of(serve("basic"), (header, value))["wsgi.url_scheme"] == scheme


def test_off(serve):
    server = serve("basic", "--proxy-headers", "off")
    assert environ_of(server, ("X-Forwarded-Proto", "https"))["wsgi.url_scheme"] == "http"


def test_all_parts(serve):
    """Client, scheme, host, port and prefix, and where the connection came from."""
    server = serve("basic", *ALL)
    environ = environ_of(
        server,
        ("X-Forwarded-For", "203.0.113.9:4711"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "shop.example"),
        ("X-Forwarded-Port", "8443"),
        ("X-Forwarded-Prefix", "/shop"),
    )
    assert environ["REMOTE_ADDR"] == "203.0.113.9"
    assert environ["REMOTE_PORT"] == "4711"
    assert environ["fermata.peer_addr"] == "127.0.0.1"
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["HTTP_HOST"] == "shop.example:8443"
    assert environ["SERVER_NAME"] == "shop.example"
    assert environ["SERVER_PORT"] == "8443"
    assert environ["SCRIPT_NAME"] == "/shop"
    assert environ["PATH_INFO"] == "/seen"


def test_client_without_a_port(serve):
    environ = environ_of(serve("basic", *ALL), ("X-Forwarded-For", "2001:db8::9"))
    assert environ["REMOTE_ADDR"] == "2001:db8::9"
    assert "REMOTE_PORT" not in environ


def test_many_lines_are_one_list(serve):
    server = serve("basic", *ALL, "--forwarded-allow-ips", "127.0.0.1,10.0.0.0/8")
    environ = environ_of(
        server,
        ("X-Forwarded-For", "1.2.3.4, 203.0.113.9"),
        ("X-Forwarded-For", "10.1.2.3"),
        ("X-Forwarded-Proto", "https"),
    )
    assert environ["REMOTE_ADDR"] == "203.0.113.9"
    assert environ["HTTP_X_FORWARDED_FOR"] == "1.2.3.4, 203.0.113.9, 10.1.2.3"


SPOOFS = [
    [("X-Forwarded-For", "127.0.0.1, 203.0.113.9")],
    [("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-For", "203.0.113.9")],
    [("X-Forwarded-For", "10.0.0.1, 203.0.113.9")],
    [("Forwarded", "for=127.0.0.1"), ("X-Forwarded-For", "203.0.113.9")],
    [("X-Real-IP", "127.0.0.1"), ("X-Forwarded-For", "203.0.113.9")],
    [("X_Forwarded_For", "127.0.0.1"), ("X-Forwarded-For", "203.0.113.9")],
    [("X-Forwarded-For", '"127.0.0.1, 203.0.113.9')],
]


@pytest.mark.parametrize("headers", SPOOFS, ids=range(len(SPOOFS)))
def test_spoofed_client(serve, headers):
    """The proxy has appended 203.0.113.9; all else was the client's own idea."""
    assert environ_of(serve("basic", *ALL), *headers)["REMOTE_ADDR"] == "203.0.113.9"


@pytest.mark.parametrize("value", ["unknown", "_hidden", "127.0.0.1:0", "[127.0.0.1]", "localhost", "fe80::1%lo"])
def test_no_address(serve, value):
    """An entry that is no address ends the walk: the client is the peer, and what stands further left is not read."""
    environ = environ_of(serve("basic", *ALL), ("X-Forwarded-For", f"10.0.0.1, {value}"))
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert "fermata.peer_addr" not in environ


def test_untrusted_peer(serve):
    """From another address than those of --forwarded-allow-ips nothing is believed."""
    server = serve("basic", *ALL, "--forwarded-allow-ips", "127.0.0.2")
    headers = [("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Host", "evil.example")]
    trusted = environ_of(server, *headers, source="127.0.0.2")
    assert (trusted["REMOTE_ADDR"], trusted["wsgi.url_scheme"]) == ("203.0.113.9", "https")
    other = environ_of(server, *headers, source="127.0.0.3")
    assert (other["REMOTE_ADDR"], other["wsgi.url_scheme"]) == ("127.0.0.3", "http")
    assert "evil" not in other["HTTP_HOST"]


def test_any_peer_is_one_hop(serve):
    server = serve("basic", *ALL, "--forwarded-allow-ips", "*")
    environ = environ_of(server, ("X-Forwarded-For", "1.2.3.4, 203.0.113.9"), source="127.0.0.9")
    assert environ["REMOTE_ADDR"] == "203.0.113.9"


def test_unix_socket(launch, tmp_path):
    server = launch("basic", *ALL, bind=[f"unix:{tmp_path}/s"])
    with server.connect() as c:
        environ = json.loads(c.request("GET", "/seen", [("X-Forwarded-For", "203.0.113.9")]).text)
    assert environ["REMOTE_ADDR"] == "203.0.113.9"
    assert environ["fermata.peer_addr"] == ""


def test_variable(launch):
    """$FORWARDED_ALLOW_IPS is what gunicorn reads, too; the option wins."""
    server = launch("basic", env={"FORWARDED_ALLOW_IPS": "127.0.0.2"})
    assert environ_of(server, ("X-Forwarded-Proto", "https"))["wsgi.url_scheme"] == "http"
    assert environ_of(server, ("X-Forwarded-Proto", "https"), source="127.0.0.2")["wsgi.url_scheme"] == "https"
    server = launch("basic", "--forwarded-allow-ips", "127.0.0.1", env={"FORWARDED_ALLOW_IPS": "127.0.0.2"})
    assert environ_of(server, ("X-Forwarded-Proto", "https"))["wsgi.url_scheme"] == "https"


def test_forwarded(serve):
    """RFC 7239, instead of the X-Forwarded-* fields."""
    server = serve("basic", *ALL, "--forwarded-header", "forwarded")
    environ = environ_of(
        server,
        ("Forwarded", 'for="[2001:db8::9]:4711";proto=https;host=shop.example'),
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Forwarded-Prefix", "/evil"),
    )
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("2001:db8::9", "4711")
    assert (environ["wsgi.url_scheme"], environ["HTTP_HOST"]) == ("https", "shop.example")
    assert environ["SCRIPT_NAME"] == ""


def test_access_log(launch, tmp_path):
    """The client that is believed."""
    log = tmp_path / "access.log"
    server = launch("basic", *ALL, "--access-logfile", str(log))
    environ_of(server, ("X-Forwarded-For", "203.0.113.9"))
    environ_of(server)
    server.stop()
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["203.0.113.9", "127.0.0.1"]


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--forwarded-allow-ips", "localhost", "addresses, networks"),
        ("--forwarded-allow-ips", "10.0.0.0/33", "addresses, networks"),
        ("--proxy-headers", "all", "proto, for, host, port and prefix"),
        ("--forwarded-header", "x-real-ip", "x-forwarded or forwarded"),
        ("--root-path", "app", "a path"),
        ("--proxy-protocol", "v3", "off, v1, v2 or auto"),
    ],
)
def test_wrong_options(option, value, named):
    command = [str(fermata()), option, value, "basic"]
    done = subprocess.run(command, cwd=APPS, capture_output=True, text=True, check=False, timeout=LONG)
    assert done.returncode == 2
    assert option in done.stderr and named in done.stderr


# ---- --root-path ----


@pytest.mark.parametrize(
    ("target", "script", "path"),
    [
        ("/shop/seen", "/shop", "/seen"),
        ("/shop", "/shop", ""),
        ("/shop/", "/shop", "/"),
        ("/seen", "/shop", "/seen"),  # the proxy has taken it off
        ("/shopping", "/shop", "/shopping"),
        ("/s%68op/seen", "/shop", "/seen"),
    ],
)
def test_root_path(launch, target, script, path):
    server = launch("environ_text", "--root-path", "/shop")
    environ = environ_of(server, target=target)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script, path)
    assert environ["REQUEST_URI"] == target


def test_script_name_variable(launch):
    """$SCRIPT_NAME is how gunicorn is told."""
    server = launch("environ_text", env={"SCRIPT_NAME": "/shop/"})
    assert environ_of(server, target="/shop/a")["SCRIPT_NAME"] == "/shop"


# ---- the PROXY protocol ----

V1 = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 443\r\n"
V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int = 0x21, family: int = 0x11, payload: bytes | None = None, tlvs: bytes = b"") -> bytes:
    if payload is None:
        payload = socket.inet_aton("203.0.113.9") + socket.inet_aton("127.0.0.1") + struct.pack(">HH", 4711, 443)
    payload += tlvs
    return V2_SIGNATURE + bytes([command, family]) + struct.pack(">H", len(payload)) + payload


TLS = b"\x20" + struct.pack(">H", 5) + b"\x01\0\0\0\0"


def seen_behind(server, header: bytes, *, pieces: bool = False) -> dict[str, str]:
    with server.connect() as c:
        data = header + build("GET", "/seen")
        for piece in (data[i : i + 1] for i in range(len(data))) if pieces else [data]:
            c.send(piece)
        return json.loads(c.read_response().text)


@pytest.mark.parametrize(
    ("versions", "header"), [("v1", V1), ("auto", V1), ("v2", v2()), ("auto", v2())], ids=["v1", "auto1", "v2", "auto2"]
)
@pytest.mark.parametrize("pieces", [False, True])
def test_proxy_protocol(serve, versions, header, pieces):
    environ = seen_behind(serve("basic", "--proxy-protocol", versions), header, pieces=pieces)
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("203.0.113.9", "4711")
    assert environ["fermata.peer_addr"] == "127.0.0.1"
    assert environ["wsgi.url_scheme"] == "http"


def test_proxy_protocol_with_tls(serve):
    assert seen_behind(serve("basic", "--proxy-protocol", "v2"), v2(tlvs=TLS))["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2(0x20, 0, b""), v2(0x21, 0, b"")], ids=["v1", "local", "unspec"])
def test_proxy_protocol_without_a_client(serve, header):
    environ = seen_behind(serve("basic", "--proxy-protocol", "auto"), header)
    assert environ["REMOTE_ADDR"] == "127.0.0.1"


def test_proxy_protocol_for_each_request(serve):
    """It is told once, and holds for all requests of the connection."""
    server = serve("basic", "--proxy-protocol", "v1")
    with server.connect() as c:
        c.send(V1 + build("GET", "/seen") * 3)
        assert [json.loads(c.read_response().text)["REMOTE_ADDR"] for _ in range(3)] == ["203.0.113.9"] * 3


@pytest.mark.parametrize(
    ("versions", "header"),
    [
        ("v1", b""),
        ("v1", b"PROXY TCP4 203.0.113.9\r\n"),
        ("v1", v2()),
        ("v2", V1),
        ("auto", b""),
        ("auto", v2(payload=b"short")),
        ("auto", b"PROXY TCP4 " + b"1" * 200),
    ],
)
def test_no_proxy_header(serve, versions, header):
    """It is required where it is expected: nothing that follows is taken for a request, and nothing is answered."""
    server = serve("basic", "--proxy-protocol", versions)
    with server.connect() as c:
        c.send(header + build("GET", "/seen"))
        assert c.drain()[0] == b""


def test_proxy_header_where_none_is_expected(serve):
    server = serve("basic")
    with server.connect() as c:
        c.send(V1 + build("GET", "/seen"))
        assert c.read_response().status == 400


def test_proxy_protocol_from_a_stranger(serve):
    """--proxy-allow-from: another peer may not say who it is; its connection ends."""
    server = serve("basic", "--proxy-protocol", "v1", "--proxy-allow-from", "127.0.0.2")
    with server.connect(source="127.0.0.2") as c:
        c.send(V1 + build("GET", "/seen"))
        assert json.loads(c.read_response().text)["REMOTE_ADDR"] == "203.0.113.9"
    with server.connect(source="127.0.0.3") as c:
        c.send(V1 + build("GET", "/seen"))
        assert c.drain()[0] == b""


def test_slow_proxy_header(launch):
    """--header-timeout holds for it, too."""
    server = launch("basic", "--proxy-protocol", "v1", "--header-timeout", "0.5")
    with server.connect(timeout=PROMPT) as c:
        c.send(V1[:10])
        assert c.drain()[0] == b""
