"""Real proxies, with the configurations that the manual shows, and an upstream that closes too early."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import re
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from .limits import LONG, ROOT, eventually

PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/bin"


def shown(name: str, ours: Mapping[str, str]) -> str:
    """A configuration as a page of the manual shows it, with addresses of ours in place of its own."""
    pages = "".join(page.read_text() for page in (ROOT / "spec/manual").glob("*.md"))
    (text,) = re.findall(rf"<!-- {name} -->\n```\w+\n(.*?)```", pages, re.S)
    return replaced(text, ours)


def replaced(text: str, ours: Mapping[str, str]) -> str:
    """The text with other words in the places of those, each of which is there once."""
    for old, new in ours.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def free_port() -> int:
    """For a program that cannot be asked which port it got: one that was free a moment ago, and is below those that the
    kernel gives to clients, so that none of theirs can take it meanwhile."""
    for _ in range(1000):
        port = 20000 + secrets.randbelow(12000)  # whatever the order of the tests has seeded
        with socket.socket() as s, contextlib.suppress(OSError):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("", port))
            return port
    raise AssertionError("no port is free")


class Proxy:
    """One that runs, in front of an upstream, on a port of its own.  Use one of those below."""

    port: int

    def run(self, directory: Path, package: str, command: list[str], *, user: str | None = None) -> None:
        program = shutil.which(command[0], path=PATH)
        assert program, f"there is no {command[0]} ({package}): scripts/install-deps check"
        self.output = directory / f"{command[0]}.log"
        env = {**os.environ, "HOME": str(directory), "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
        with self.output.open("wb") as log:
            self.process = subprocess.Popen(
                [program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=user,
                env=env,
            )
        eventually(self.listens, f"{command[0]} listens", within=LONG)

    def log(self) -> str:
        return self.output.read_text(errors="replace")

    def listens(self) -> bool:
        try:
            self.connect().close()
        except OSError:
            assert self.process.poll() is None, self.log()
            return False
        return True

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG)
        connection.connect()
        return connection

    def status(self, target: str) -> int:
        connection = self.connect()
        connection.request("GET", target)
        status = connection.getresponse().status
        connection.close()
        return status

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(LONG)


NGINX = """
daemon off;
master_process off;
pid {dir}/nginx.pid;
worker_processes 1;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    {shown}
}}
"""


class Nginx(Proxy):
    """upstream: `unix:PATH` or `HOST:PORT`.  With a certificate and its key it ends TLS."""

    def __init__(
        self,
        directory: Path,
        upstream: str,
        user: str | None = None,
        *,
        tls: tuple[Path, Path] | None = None,
        connections: int = 256,
    ) -> None:
        self.port = free_port()
        listen = f"listen 127.0.0.1:{self.port}"
        listen += f" ssl; ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};" if tls else ";"
        ours = {"unix:/run/app/http": upstream, "listen 80;": listen}
        conf = NGINX.format(dir=directory, shown=shown("nginx", ours), connections=connections)
        (directory / "nginx.conf").write_text(conf)
        command = ["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", str(directory / "error.log")]
        self.errors = directory / "error.log"
        self.run(directory, "nginx-light", command, user=user)

    def log(self) -> str:
        return self.errors.read_text()


class Haproxy(Proxy):
    """In front of an upstream whose admin port it asks; without one it takes the upstream for well."""

    def __init__(self, directory: Path, upstream: int, admin: int | None) -> None:
        self.port = free_port()
        check = "check port 8001 inter 2s fall 2"
        ours = {
            "bind :80": f"bind 127.0.0.1:{self.port}",
            "10.0.0.1:8000": f"127.0.0.1:{upstream}",
            check: f"check port {admin} inter 100ms fall 2" if admin else "",
        }
        (directory / "haproxy.cfg").write_text(shown("haproxy", ours))
        self.run(directory, "haproxy", ["haproxy", "-db", "-f", str(directory / "haproxy.cfg")])


APACHE = """
ServerRoot {dir}
PidFile {dir}/apache.pid
Mutex file:{dir}
ServerName localhost
ErrorLog {dir}/error.log
Listen 127.0.0.1:{port}
{user}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule alias_module {modules}/mod_alias.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
LoadModule headers_module {modules}/mod_headers.so
StartServers 1
ServerLimit 1
{shown}
"""


class Apache(Proxy):
    """upstream: `unix:PATH|http://app/` or `http://HOST:PORT/`.  text is another site than the one that the page shows."""

    def __init__(self, directory: Path, upstream: str = "", text: str | None = None) -> None:
        self.port, self.errors = free_port(), directory / "error.log"
        text = text or shown("apache", {'"unix:/run/app/http|http://app/"': f'"{upstream}"'})
        site = replaced(text, {"*:80": f"127.0.0.1:{self.port}"})
        user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
        modules = "/usr/lib/apache2/modules"
        conf = APACHE.format(dir=directory, port=self.port, user=user, modules=modules, shown=site)
        (directory / "apache.conf").write_text(conf)
        self.run(directory, "apache2-bin", ["apache2", "-f", str(directory / "apache.conf"), "-DFOREGROUND"])

    def log(self) -> str:
        return super().log() + (self.errors.read_text() if self.errors.exists() else "")


class Caddy(Proxy):
    """upstream: `unix/PATH` or `HOST:PORT`."""

    def __init__(self, directory: Path, upstream: str) -> None:
        self.port = free_port()
        text = shown("caddy", {"unix//run/app/http": upstream, "app.example {": f"http://127.0.0.1:{self.port} {{"})
        (directory / "Caddyfile").write_text("{\n    admin off\n    auto_https off\n}\n" + text)
        config = ["--config", str(directory / "Caddyfile"), "--adapter", "caddyfile"]
        self.run(directory, "caddy", ["caddy", "run", *config])


class Closing:
    """An upstream that answers the first request of each connection, and closes in the face of the second, as a server does
    whose idea of idle is shorter than its proxy's.  One connection after the other."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str]] = []  # the number of the connection, the method
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for number in itertools.count():
            peer, _ = self._listener.accept()
            with peer, peer.makefile("rb") as lines:
                for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b""):
                    line = lines.readline()
                    while lines.readline().strip():
                        pass
                    if line:
                        self.asked.append((number, line.split()[0].decode()))
                        peer.sendall(answer)
                if (number, "GET") not in self.asked and (number, "POST") not in self.asked:
                    return  # close() says so

    def close(self) -> None:
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join(LONG)
        self._listener.close()
        assert not self._thread.is_alive()
