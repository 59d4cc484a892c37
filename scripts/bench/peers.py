"""The servers that are compared, and how each is started.

Every server is one process with access logs off, and has the number of threads that the workload names.  Where a
workload names none, a server that has threads has eight, as many as Fermata has by default.  `gunicorn` alone is left
entirely as its newest release comes.  Backlogs, limits of connections and keep-alive times are raised so that none of
them is what is measured.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .paths import APPS, BUILD, HERE

BACKLOG = min(4096, int(Path("/proc/sys/net/core/somaxconn").read_text()))  # uWSGI refuses more than the kernel keeps
CONNECTIONS = 60000
KEEP_ALIVE = "60"
THREADS = 8
FERMATA = "build/fermata"


@dataclass(frozen=True)
class Setup:
    """What a server is started with.  `threads` is None where the workload leaves it to the server; `venv` has the
    packages, those of the application too; `more` are options of Fermata's."""

    app: str
    port: int
    threads: int | None = None
    admin_port: int | None = None
    fermata: str = FERMATA
    env: dict[str, str] = field(default_factory=dict)
    venv: str = f"{BUILD}/venv"
    more: tuple[str, ...] = ()

    @property
    def bin(self) -> str:
        return f"{self.venv}/bin"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


Command = Callable[[Setup], list[str]]


@dataclass(frozen=True)
class Peer:
    """A server.  `package` is what has to be installed for it, and whose version is reported."""

    name: str
    label: str
    package: str | None
    command: Command
    threads: str


def fermata(s: Setup) -> list[str]:
    command = [s.fermata, "--pythonpath", str(APPS), "--venv", s.venv, "--bind", s.address]
    command += ["--backlog", str(BACKLOG), "--worker-connections", str(CONNECTIONS), "--keep-alive", KEEP_ALIVE]
    command += ["--log-level", "warning"]
    if s.threads:
        command += ["--threads", str(s.threads)]
    if s.admin_port:
        command += ["--admin-bind", f"127.0.0.1:{s.admin_port}"]
    return [*command, *s.more, s.app]


def launched(name: str) -> Command:
    return lambda s: [f"{s.bin}/python", f"{HERE}/launch.py", name, s.app, str(s.port)]


def granian(s: Setup) -> list[str]:
    # One thread is what it is quickest with, when the application does not block.
    threads = s.threads or 1
    command = [
        f"{s.bin}/granian",
        "--interface",
        "wsgi",
        "--host",
        "127.0.0.1",
        "--port",
        str(s.port),
        "--workers",
        "1",
    ]
    return [*command, "--blocking-threads", str(threads), "--backlog", str(BACKLOG), "--log-level", "error", s.app]


def m0serve(threads: int | None) -> Command:
    """`threads`: those that the application is called in, 0 for the loop's own; None as the workload says."""

    def command(s: Setup) -> list[str]:
        command = [f"{s.bin}/m0serve", "--host", "127.0.0.1", "--port", str(s.port), "--workers", "1"]
        command += ["--blocking-threads", str((s.threads or THREADS) if threads is None else threads)]
        return [*command, "--max-keepalive-requests", "0", "--idle-timeout", KEEP_ALIVE, "--protocol", "wsgi", s.app]

    return command


def pyvoy(s: Setup) -> list[str]:
    command = [f"{s.bin}/pyvoy", "--interface", "wsgi", "--address", "127.0.0.1", "--port", str(s.port)]
    return [*command, "--worker-threads", str(s.threads or THREADS), "--log-level", "error", s.app]


def gunicorn(*options: str) -> Command:
    def command(s: Setup) -> list[str]:
        return [f"{s.bin}/gunicorn", "-b", s.address, *options, s.app]

    return command


def gunicorn_threads(*options: str) -> Command:
    def command(s: Setup) -> list[str]:
        return gunicorn(*options, "--threads", str(s.threads or THREADS), *LARGE, "--log-level", "error")(s)

    return command


LARGE = ("--backlog", str(BACKLOG), "--worker-connections", str(CONNECTIONS), "--keep-alive", KEEP_ALIVE)
gevent = gunicorn("-k", "gevent", *LARGE, "--log-level", "error")


def uwsgi(*front: str) -> Command:
    def command(s: Setup) -> list[str]:
        option, *more = front
        command = [f"{s.bin}/uwsgi", option, s.address, *more, "--master", "--die-on-term", "--need-app"]
        command += ["--processes", "1", "--threads", str(s.threads or THREADS), "--listen", str(BACKLOG)]
        return [*command, "--disable-logging", "--home", s.venv, "--module", s.app]

    return command


def waitress(s: Setup) -> list[str]:
    command = [f"{s.bin}/waitress-serve", f"--listen={s.address}", f"--threads={s.threads or THREADS}"]
    # Its loop is on select() otherwise, which ends at 1024 descriptors.
    return [*command, f"--backlog={BACKLOG}", "--connection-limit=10000", "--asyncore-use-poll", s.app]


def cheroot(s: Setup) -> list[str]:
    command = [f"{s.bin}/cheroot", s.app, "--bind", s.address, "--threads", str(s.threads or THREADS)]
    return [*command, "--request-queue-size", str(BACKLOG)]


def uvicorn(s: Setup) -> list[str]:
    command = [
        f"{s.bin}/uvicorn",
        "--host",
        "127.0.0.1",
        "--port",
        str(s.port),
        "--loop",
        "uvloop",
        "--http",
        "httptools",
    ]
    return [*command, "--no-access-log", "--log-level", "error", "--backlog", str(BACKLOG),
            "--timeout-keep-alive", KEEP_ALIVE, s.app]  # fmt: skip


def limit(s: Setup) -> list[str]:
    return [f"{BUILD}/limit", "--port", str(s.port)]


PEERS = {
    peer.name: peer
    for peer in (
        Peer("fermata", "Fermata", None, fermata, "8 unless said"),
        Peer("limit", "limit in C", None, limit, "1"),
        Peer("bjoern", "bjoern", "bjoern", launched("bjoern"), "1"),
        Peer("fastwsgi", "FastWSGI", "fastwsgi", launched("fastwsgi"), "1"),
        Peer("fastpysgi", "FastPySGI", "fastpysgi", launched("fastpysgi"), "1"),
        Peer("freastal", "freastal", "freastal", launched("freastal"), "1"),
        Peer("granian", "granian", "granian", granian, "1 runtime, 1 blocking unless said"),
        Peer("m0serve", "m0serve", "m0serve", m0serve(0), "1"),
        Peer("m0serve-threads", "m0serve, threads", "m0serve", m0serve(None), "8 unless said"),
        Peer("pyvoy", "pyvoy", "pyvoy", pyvoy, "those of Envoy, and 8 unless said"),
        Peer(
            "uwsgi",
            "uWSGI, router",
            "uwsgi",
            uwsgi("--http", "--http-keepalive", "--http-auto-chunked"),
            "8 unless said",
        ),
        Peer("uwsgi-direct", "uWSGI, direct", "uwsgi", uwsgi("--http11-socket"), "8 unless said"),
        Peer("gthread", "gunicorn gthread", "gunicorn", gunicorn_threads("-k", "gthread"), "8 unless said"),
        Peer("gevent", "gunicorn gevent", "gevent", gevent, "1, greenlets"),
        Peer("gunicorn", "gunicorn defaults", "gunicorn", gunicorn(), "1, no keep-alive"),
        Peer("poc", "proof of concept", "gunicorn", gunicorn_threads("-k", "poc_worker.PocWorker"), "8 unless said"),
        Peer("waitress", "waitress", "waitress", waitress, "8 unless said"),
        Peer("cheroot", "cheroot", "cheroot", cheroot, "8 unless said"),
        Peer("uvicorn", "uvicorn, Starlette", "uvicorn", uvicorn, "1, asyncio"),
    )
}
