"""What is measured, of whom, under which load: a workload is a row of a table.  measure.py knows what kinds mean."""

from collections.abc import Iterable
from dataclasses import dataclass, field

HELLO_LENGTH = 14
EXPECTED = {"compute": 5, "django_postgres_app:app": 334, "flask_data_apps:redis": 34, "flask_data_apps:sqlite": 161,
            "blocks3": 300, "blocks100": 10_000, "body64k": 64 << 10, "body1m": 1 << 20, "file100m": 100_000_000}  # fmt: skip

# A head as a browser sends it: 12 fields with Host, which the load generator adds.
REALISTIC = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: https://www.example.org/account/orders?page=2",
    "Cookie: session=f3b2c1d4e5f60718293a4b5c6d7e8f90; csrftoken=Yk3v9WqLr2TzXc5NbM7dHsGf; theme=dark; consent=1",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "X-Forwarded-For: 203.0.113.7",
)
# The five ordinary fields of a request that is parked.
ORDINARY = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: application/json",
    "Accept-Language: en-GB,en;q=0.7",
    "Accept-Encoding: gzip, deflate, br",
)


@dataclass(frozen=True)
class Workload:
    """`seconds` is a factor of the time given for a round; `rounds` a limit of rounds for what takes long."""

    name: str
    title: str
    peers: tuple[str, ...]
    app: str = "wsgi_apps:hello"
    kind: str = "wrk"
    connections: int = 32
    path: str = "/"
    headers: tuple[str, ...] = ()
    post: int = 0
    threads: int | None = None
    seconds: float = 1.0
    rounds: int | None = None
    apps: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    backend: str | None = None

    def app_of(self, peer: str) -> str:
        return self.apps.get(peer, self.app)

    def path_of(self, peer: str) -> str:
        return self.paths.get(peer, self.path)

    @property
    def length(self) -> int:
        """Of the body of a response."""
        return self.post or EXPECTED.get(self.app, EXPECTED.get(self.app.partition(":")[2], HELLO_LENGTH))


FAST = ("fermata", "bjoern", "fastwsgi", "granian", "fastpysgi", "freastal")
NEW = ("m0serve", "m0serve-threads", "pyvoy")
THREADED = ("fermata", "uwsgi", "granian", "gthread", "m0serve-threads", "pyvoy")
ALL = (*FAST, *NEW, "limit", "uwsgi", "uwsgi-direct", "gthread", "gevent", "gunicorn", "waitress", "cheroot")
SOME = (*FAST, "gthread")
FRAMEWORKS = {"loop": "the application in a loop, without a server"}
ONE_THREAD = "has one thread, which the application blocks: at most 200 requests a second"
BLOCKING = {"bjoern": ONE_THREAD, "fastwsgi": ONE_THREAD}
BLOCKED = {name: "has one thread, which the application blocks" for name in ("bjoern", "fastwsgi", "freastal")}
SHORT_WAITS = (100, 200, 500, 800, 1000, 2000)  # microseconds
NO_FUTURES = {"bjoern": "has one thread", "fastwsgi": "has one thread"}


def hello() -> Iterable[Workload]:
    yield Workload("hello-c1", "hello, 1 connection", (*FAST, "limit", "uwsgi-direct"), connections=1)
    yield Workload("hello-c32", "hello, 32 connections", ALL, connections=32)
    yield Workload("hello-c256", "hello, 256 connections", (*FAST, "limit", "uwsgi"), connections=256)
    yield Workload("hello-close", "hello, a connection for each request", (*FAST, "limit"),
                   headers=("Connection: close",), seconds=2 / 3)  # fmt: skip


def bodies() -> Iterable[Workload]:
    yield Workload("blocks-3", "a generator of 3 blocks", (*SOME, "uwsgi"), app="wsgi_apps:blocks3", seconds=2 / 3)
    yield Workload("blocks-100", "a generator of 100 blocks", FAST, app="wsgi_apps:blocks100", seconds=2 / 3)
    yield Workload("body-64k", "a body of 64 KB", FAST, app="wsgi_apps:body64k", seconds=2 / 3)
    yield Workload("body-1m", "a body of 1 MB", FAST, app="wsgi_apps:body1m", seconds=2 / 3)
    yield Workload("file-100m", "100 MB by file_wrapper, 4 connections", SOME, app="wsgi_apps:file100m", connections=4,
                   seconds=2 / 3)  # fmt: skip
    yield Workload("echo-10k", "a POST of 10 KB, echoed", SOME, app="wsgi_apps:echo", post=10_000, seconds=2 / 3)
    yield Workload("echo-1m", "a POST of 1 MB, echoed", FAST, app="wsgi_apps:echo", post=1_000_000, seconds=2 / 3)


def frameworks() -> Iterable[Workload]:
    yield Workload("realistic", "a head of 12 fields with cookies, answered with 8", (*FAST, "loop"),
                   app="wsgi_apps:realistic", headers=REALISTIC)  # fmt: skip
    for name in ("flask", "django"):
        yield Workload(name, f"{name.title()} says hello", (*FAST, "loop"), app=f"{name}_app:timed", headers=REALISTIC,
                       apps={"loop": f"{name}_app:app"})  # fmt: skip


def waiting() -> Iterable[Workload]:
    yield Workload("blocking-c32", "5 ms of waiting, 32 threads, 32 connections",
                   ("fermata", "uwsgi", "uwsgi-direct", "granian", "gthread", "waitress"),
                   app="wsgi_apps:sleep5", threads=32, seconds=2 / 3, left_out=BLOCKING)  # fmt: skip
    yield Workload("blocking-c256", "5 ms of waiting, 32 threads, 256 connections",
                   ("fermata", "uwsgi", "granian", "gthread", "gevent"),
                   app="wsgi_apps:sleep5", threads=32, connections=256, seconds=2 / 3, left_out=BLOCKING)  # fmt: skip
    for microseconds in SHORT_WAITS:
        yield Workload(f"short-wait-{microseconds}", f"{microseconds / 1000:g} ms of waiting, 8 threads, 32 connections",
                       THREADED, app="wsgi_apps:short", threads=8,
                       path=f"/{microseconds}", seconds=2 / 3, left_out=BLOCKED)  # fmt: skip
    yield Workload("mixed", "32 connections of hello, beside 4 that wait for 200 ms each",
                   ("fermata", "uwsgi", "granian", "gthread"), app="wsgi_apps:mixed", kind="mixed", threads=8,
                   left_out=BLOCKED)  # fmt: skip
    yield Workload("hog", "32 connections of hello, beside 2 that compute in Python",
                   ("fermata", "uwsgi", "granian"), app="async_wsgi_apps:hog", kind="hog",
                   threads=8, left_out=BLOCKED)  # fmt: skip


def databases() -> Iterable[Workload]:
    for app, name, backend, connections in (
        ("django_postgres_app:app", "Django and PostgreSQL: three queries and a template", "postgres", (32, 256)),
        ("flask_data_apps:redis", "Flask and Redis: two round trips", "redis", (32, 256)),
        ("flask_data_apps:sqlite", "Flask and SQLite: two queries", "sqlite", (32,)),
    ):
        for n in connections:
            yield Workload(f"{backend}-c{n}", f"{name}, 8 threads, {n} connections", THREADED, app=app, threads=8,
                           connections=n, backend=backend, left_out=BLOCKED)  # fmt: skip


def busy() -> Iterable[Workload]:
    for name, app in (("hello", "wsgi_apps:hello"), ("flask", "flask_app:app"), ("django", "django_app:app")):
        yield Workload(f"{name}-busy", f"{name.title()} beside a neighbour that takes a processor",
                       (*FAST, "m0serve-threads"), app=app, kind="busy")  # fmt: skip


def beside() -> Iterable[Workload]:
    """What others notice while many wait; only ours has an admin port to ask."""
    for microseconds in (100, 500, 2000):
        yield Workload(f"queue-{microseconds}", f"/healthz while 4,000 steps of {microseconds / 1000:g} ms wait",
                       ("fermata",), app="wsgi_apps:short", kind="queue", connections=4000, threads=8,
                       path=f"/{microseconds}", seconds=2 / 3)  # fmt: skip
    yield Workload("gate", "/healthz while 4,000 futures end at once", ("fermata",), app="async_wsgi_apps:park",
                   kind="gate", connections=4000, threads=4, path="/park")  # fmt: skip
    for how in ("compute", "nap"):
        what = "computing" if how == "compute" else "waiting"
        yield Workload(f"continuations-{how}", f"a new hello beside 2,000 continuations of 2 ms of {what}", ("fermata",),
                       app="async_wsgi_apps:queue_app", kind="continuations", connections=2000, threads=8,
                       path=f"/{how}/2000", rounds=3)  # fmt: skip
    yield Workload("trickle", "20 requests a second", (*FAST, *NEW, "uwsgi", "gthread"), kind="trickle", rounds=3)


def futures() -> Iterable[Workload]:
    starlette = {"uvicorn": "starlette_app:app"}
    yield Workload("futures", "futures done after 100 ms, 1,000 connections, 4 threads", ("fermata", "poc", "uvicorn"),
                   app="async_wsgi_apps:futures", kind="closed", connections=1000, threads=4, apps=starlette,
                   paths={"uvicorn": "/futures"})  # fmt: skip
    waiters = ("gthread", "gevent", "granian")
    for n, factor in ((1000, 1.0), (5000, 4 / 3)):
        yield Workload(f"proxy-c{n}", f"a proxy, an upstream of 50 ms and 10 KB, {n:,} connections",
                       ("fermata", "uvicorn", *waiters), app="async_wsgi_apps:proxy", kind="proxy", connections=n,
                       seconds=factor, apps={**starlette, **{peer: "proxy_threads:app" for peer in waiters}},
                       paths={"uvicorn": "/proxy/page"}, path="/page",
                       left_out={"uwsgi": "has threads that wait as gthread's do"})  # fmt: skip
    yield Workload("proxy-small", "the same with a small HTTP client, 1,000 connections", ("fermata", "uvicorn"),
                   app="async_wsgi_apps:proxy", kind="proxy", connections=1000, apps=starlette,
                   paths={"uvicorn": "/proxy/page"}, path="/page", env={"BENCH_HTTP_CLIENT": "small"})  # fmt: skip
    for n, rounds in ((10_000, 5), (50_000, 3)):
        yield Workload(f"park-{n // 1000}k", f"{n:,} requests parked at once, twice", ("fermata", "uvicorn"),
                       app="async_wsgi_apps:park", kind="park", connections=n, headers=ORDINARY, threads=4,
                       rounds=rounds, apps=starlette, path="/park")  # fmt: skip
    yield Workload("sse", "5,000 clients of an event each second", ("fermata", "uvicorn"), app="async_wsgi_apps:sse",
                   kind="sse", connections=5000, threads=4, rounds=5, apps=starlette, path="/events")  # fmt: skip


def alone() -> Iterable[Workload]:
    every_peer = (*ALL, "uvicorn")
    starlette = {"uvicorn": "starlette_app:app"}
    yield Workload("start", "from the start to the first answer", every_peer, kind="start", apps=starlette)
    yield Workload("idle", "a minute without a request", every_peer, kind="idle", rounds=1, apps=starlette)


GROUPS = (futures, waiting, databases, beside, hello, frameworks, busy, bodies, alone)
WORKLOADS = {w.name: w for group in GROUPS for w in group()}

QUICK_WORKLOADS = ("hello-c32", "blocks-3", "blocking-c32", "futures")
QUICK_PEERS = ("fermata", "limit", "bjoern", "fastwsgi", "gthread", "poc")
