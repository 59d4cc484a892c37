"""A worker for gunicorn that runs WSGI+ applications by the specification: parked requests hold no thread.

    gunicorn --worker-class wsgi_plus.gunicorn.Worker --threads 8 app:app

For teams that run gunicorn and want to adopt the API before the server.  gunicorn is imported by this module only.

The worker is ``wsgi_plus.simple_server`` on gunicorn's listeners, and not gunicorn's gthread worker with futures added:
that reads bodies and sends responses in its threads, so that a client that is slow at either holds one (S13, S14), and
sees a client that has left only when it writes (S8).

What is gunicorn's stays gunicorn's: processes, reloading, signals, ``--max-requests``, the access log, the error log (in
which SIGUSR1 writes what is parked), the hooks ``pre_request`` and ``post_request`` (in a pool thread), ``--keep-alive``,
``--graceful-timeout``, ``--worker-connections`` (count parked requests in), ``--forwarded-allow-ips``,
``--secure-scheme-headers`` and ``SCRIPT_NAME``.  TLS and the PROXY protocol are for a server in front: with them it does
not start.  HTTP/2 and gunicorn's limits of heads are not heeded (8190 bytes a line and 100 fields it is), and a warning
says so where they are set.

``--timeout`` ends a worker that hangs, as ever.  What gunicorn has no option for is taken from the environment, as by
``--env WSGI_PLUS_REQUEST_TIMEOUT=60``:

    WSGI_PLUS_REQUEST_TIMEOUT     seconds from a whole request to the end of its response; 0 is no limit (S12) [0]
    WSGI_PLUS_SEND_TIMEOUT        seconds without the client taking a byte; 0 is no limit (S13) [30]
    WSGI_PLUS_LIMIT_REQUEST_BODY  bytes of a request's body (S14) [1073741824]
    WSGI_PLUS_ALLOW_HALF_CLOSE    1: who has ended his data still gets the response of a parked request (S8.5) [0]
"""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from types import FrameType, SimpleNamespace
from typing import Any

from gunicorn.config import Config
from gunicorn.http.wsgi import base_environ
from gunicorn.workers import base

from ._types import Environ
from .simple_server import Connection, Request, Server
from .simple_server._http import Refusal

__all__ = ["Worker"]

OPTIONS: dict[str, tuple[Callable[[str], float], float]] = {
    # of the server, from the environment: what makes a number of it, and the largest one
    "request_timeout": (float, 1e9),
    "send_timeout": (float, 1e9),
    "limit_request_body": (int, 1 << 40),
    "allow_half_close": (int, 1),
}
REFUSED = ("certfile", "keyfile", "proxy_protocol")
UNHEEDED = ("limit_request_line", "limit_request_fields", "limit_request_field_size", "http_protocols")
PHRASES = {499: "Client Closed Request", 500: "Internal Server Error", 503: "Unavailable", 504: "Gateway Timeout"}


class Worker(base.Worker):
    """For ``--worker-class``.  Its main thread is the loop; ``--threads`` run the steps of applications."""

    server: _Server | None = None

    @classmethod
    def check_config(cls, cfg: Config, log: Any) -> None:
        """Called by gunicorn before it forks.  Raises RuntimeError, which gunicorn shows and ends, for what cannot be."""
        wrong = [name for name in REFUSED if _is_set(cfg, name)]
        if wrong:
            raise RuntimeError(f"the worker of wsgi_plus takes no {', '.join(wrong)}: let a server in front do that")
        for name in UNHEEDED:
            if _is_set(cfg, name):
                log.warning("The worker of wsgi_plus does not heed %s", name)
        _options()

    def run(self) -> None:
        """Serves until gunicorn ends the worker."""
        _log_where_gunicorn_does()
        self.server = _Server(self)
        self.server.serve_forever()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: drains (S18)."""
        self.alive = False
        if self.server is not None:  # otherwise the first tick sees it
            self.server.shutdown()

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """SIGUSR1: opens the log files anew, and writes to the log what is parked (S12.6)."""
        super().handle_usr1(sig, frame)
        if self.server is not None:
            self.server.call(self.server.log_parked)


class _Request(Request):
    """One whose environ, hooks and line in the access log are gunicorn's."""

    server: _Server
    sent = 0  # bytes of the body
    answered: int | None = None  # an answer of the server's own

    def make_environ(self) -> Environ:
        worker, head = self.server.worker, self.head
        worker.nr += 1
        if worker.nr >= worker.max_requests and worker.alive:
            worker.log.info("Autorestarting worker after current request.")
            worker.alive = False
        environ = {**super().make_environ(), **self.server.environ}
        environ["RAW_URI"] = head.target
        environ["wsgi.url_scheme"] = self._scheme()
        script, path = os.environ.get("SCRIPT_NAME", ""), environ["PATH_INFO"]
        if not path.startswith(script):
            worker.log.error("Request path %r does not start with SCRIPT_NAME %r", path, script)
            raise Refusal(500)
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = script, path[len(script) :]
        headers = [(name.upper(), value) for name, values in head.fields.items() for value in values]
        self.seen: Any = SimpleNamespace(  # what hooks and the access log take for gunicorn's request
            method=head.method,
            uri=head.target,
            path=head.path,
            query=head.query,
            version=tuple(int(number) for number in head.version[5:].split(".")),
            headers=headers,
            scheme=environ["wsgi.url_scheme"],
            peer_addr=self.connection.peer,
        )
        return environ

    def _scheme(self) -> str:
        """What a proxy that is trusted says of its client's; 400 if it says both."""
        cfg = self.server.worker.cfg
        said = {
            value == secure
            for name, secure in cfg.secure_scheme_headers.items()
            for value in self.head.fields.get(name.lower(), ())
        }
        if not said or not _is_trusted(cfg, self.connection.peer):
            return "http"
        if len(said) > 1:
            raise Refusal(400)
        return "https" if said.pop() else "http"

    def next_item(self) -> Any:
        if self.iterator is None:
            self.server.worker.cfg.pre_request(self.server.worker, self.seen)
        return super().next_item()

    def framed(self, block: bytes) -> bytes:
        self.sent += len(block)
        return super().framed(block)

    def answer(self, status: int) -> None:
        self.answered = status
        super().answer(status)

    def over(self) -> None:
        worker = self.server.worker
        status = self.answered or (499 if self.ended and not self.begun else None)
        said = f"{status} {PHRASES[status]}" if status else self.status
        response: Any = SimpleNamespace(status=said, headers=self.headers, sent=self.sent, headers_sent=self.begun)
        try:
            worker.log.access(response, self.seen, self.environ, timedelta(seconds=monotonic() - self.began))
            worker.cfg.post_request(worker, self.seen, self.environ, response)
        except Exception:
            worker.log.exception("Exception in post_request hook")
        finally:
            super().over()


class _Connection(Connection):
    server: _Server

    def refuse(self, status: int) -> None:
        self.server.worker.log.warning("Invalid request from ip=%s: %d", self.peer[0] if self.peer else "", status)
        super().refuse(status)


class _Server(Server):
    """On the listeners of the worker.  Its clock is the worker's heartbeat."""

    connection_class = _Connection
    request_class = _Request

    def __init__(self, worker: Worker) -> None:
        cfg = worker.cfg
        last = min(1.0, cfg.graceful_timeout / 4)  # gunicorn kills at the end: by then clients must have had their 503
        super().__init__(
            worker.wsgi,
            listeners=[getattr(listener, "sock", listener) for listener in worker.sockets],
            threads=cfg.threads,
            graceful_timeout=cfg.graceful_timeout - 2 * last,
            keep_alive=cfg.keepalive,
            **_options(),
        )
        self.LAST = last
        self.most_connections = cfg.worker_connections
        self.worker = worker
        self.environ: Environ = {**base_environ(cfg), "wsgi.multithread": cfg.threads > 1}

    def _tick(self, now: float) -> None:
        self.worker.notify()
        if not self.draining and (not self.worker.alive or self.worker.ppid != os.getppid()):
            self.shutdown()
        super()._tick(now)


def _is_set(cfg: Config, name: str) -> bool:
    """Whether a setting, which not each version of gunicorn has, is another than it was."""
    setting: Any = cfg.settings.get(name)
    return setting is not None and setting.get() not in (type(setting)().get(), None, False)


def _options() -> dict[str, Any]:
    """What the environment says.  Raises RuntimeError for what is no value."""
    found: dict[str, Any] = {}
    for name, (kind, most) in OPTIONS.items():
        variable = f"WSGI_PLUS_{name.upper()}"
        text = os.environ.get(variable)
        if text is None:
            continue
        with suppress(ValueError):
            found[name] = kind(text)
        if not 0 <= found.get(name, -1) <= most:
            raise RuntimeError(f"{variable} is no number from 0 to {most}: {text!r}")
    return found


def _is_trusted(cfg: Config, peer: Any) -> bool:
    """Whether it may speak for its clients.  A Unix socket's always may, as with gunicorn's own workers."""
    allowed = cfg.forwarded_allow_ips
    if not peer or "*" in allowed:
        return True
    address = ipaddress.ip_address(peer[0].partition("%")[0])
    return any(address in ipaddress.ip_network(network) for network in allowed)


def _log_where_gunicorn_does() -> None:
    """What is logged here goes to gunicorn's error log, unless the application has handlers for it."""
    logger, theirs = logging.getLogger("wsgi_plus"), logging.getLogger("gunicorn.error")
    if not logger.handlers:
        logger.handlers = list(theirs.handlers)
        logger.propagate = False
        logger.setLevel(theirs.level)
