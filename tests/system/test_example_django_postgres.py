"""examples/django_site on a real PostgreSQL, on Fermata and on wsgi_plus.simple_server.

Its views, and those of apps/gateway_tested that do to the database what other sites do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from harness import postgres
from harness.browser import Browser
from harness.client import Response
from harness.gateway import COMMANDS, HOST, Toy, make, told
from harness.limits import APPS, LONG, ROOT, eventually, timeout
from harness.server import Server

pytestmark = [timeout(120)]

Start = Callable[..., Server]

THREADS = 2 + 1  # of the server, by the commands of README.md; Fermata has one more, so that one can wait for events
OFFLOADED = 16  # threads of offload, at most


class Database:
    """The site's, and a connection of our own to look at others."""

    def __init__(self) -> None:
        self._cluster = postgres.Cluster()
        try:
            self.variables = self._cluster.variables
            make(self.variables)
            self.ours = self.connect()
        except BaseException:
            self._cluster.close()
            raise

    def connect(self) -> Any:
        import psycopg  # not before, as without libpq, which PostgreSQL brings along, that fails

        v = self.variables
        return psycopg.connect(host=v["PGHOST"], user=v["PGUSER"], dbname=v["PGDATABASE"], autocommit=True)

    def ask(self, query: str, *args: object) -> Any:
        return self.ours.execute(query, args).fetchone()[0]

    def connections(self, name: str) -> int:
        """How many a server has; PGAPPNAME is its name."""
        return int(self.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", name))

    def blocked(self, name: str) -> int:
        """How many of them wait for a lock."""
        found = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
        return int(self.ask(found, name))

    def drop(self, name: str) -> None:
        """Ends them, as a restart of the database does."""
        self.ours.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", [name])
        eventually(lambda: self.connections(name) == 0, "they have ended")

    def close(self) -> None:
        self.ours.close()
        self._cluster.close()


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with closing(Database()) as made:
        yield made


@pytest.fixture(scope="module")
def toy() -> Iterator[Toy]:
    with closing(Toy()) as made:
        yield made


class Site:
    """The site on a server."""

    def __init__(self, server: Server, name: str, database: Database) -> None:
        self.server, self.name, self.database = server, name, database

    def get(self, target: str) -> Response:
        return self.server.get(target, timeout=LONG, host=HOST)

    def json(self, target: str) -> Any:
        answer = self.get(target)
        assert answer.status == 200, self.server.log()[-4000:]
        return json.loads(answer.text)

    def statuses(self, target: str, times: int) -> list[int]:
        return [self.get(target).status for _ in range(times)]

    def connections(self) -> int:
        return self.database.connections(self.name)


@pytest.fixture(params=list(COMMANDS))
def site(request: pytest.FixtureRequest, launch: Start, database: Database, toy: Toy, tmp_path: Path) -> Any:
    """site(app, **variables): started as README.md says."""
    *command, own = told(COMMANDS[request.param])

    def start(app: str = own, **more: str) -> Site:
        name = f"site {request.param}"
        env = {"UPSTREAM": toy.address, "SECRET_KEY": "for tests only", "PGAPPNAME": name, "SITE_DATA": str(tmp_path)}
        env |= {**database.variables, **more}
        words, paths = list(command), [str(ROOT / "py"), str(APPS)]
        if "--pythonpath" in words:
            words[words.index("--pythonpath") + 1] = ",".join(paths)
        else:
            env["PYTHONPATH"] = ":".join(paths)
        return Site(launch(app, cwd=ROOT, env=env, program=words), name, database)

    return start


TESTED = "gateway_tested.wsgi"


def test_the_site_on_it(site):
    """What a visitor and its keeper do, and no file of SQLite."""
    here = site()
    with Browser(here.server, host=HOST) as b:
        assert {"broken", "silent", "slow"} <= set(re.findall('href="/pages/([^"]+)"', b.get("/").text))
        b.get("/admin/")
        b.post("/admin/login/?next=/admin/", {"username": "ada", "password": "secret", "next": "/admin/"})
        assert "Site administration" in b.page.text
        name = f"extra{here.server.pid}"
        b.get("/admin/gateway/page/add/")
        page = b.post("/admin/gateway/page/add/", {"name": name, "path": "/echo", "patience": "9"}).text
        assert "was added successfully" in page
        assert json.loads(b.get(f"/pages/{name}").text)["target"] == "/echo"
        assert f"{name}</a>, served 1 times" in b.get("/").text
    assert here.database.ask("SELECT served FROM gateway_page WHERE name = %s", name) == 1


def test_many_at_once(site):
    """All wait for the upstream together, and are counted."""
    here = site()
    served = "SELECT served FROM gateway_page WHERE name = 'slow'"
    before = here.database.ask(served)
    with ExitStack() as stack:
        clients = [stack.enter_context(here.server.connect(timeout=LONG)) for _ in range(50)]
        for client in clients:
            client.send_request("GET", "/pages/slow", host=HOST)
        assert [client.read_response().status for client in clients] == [200] * 50
    assert here.database.ask(served) == before + 50
    assert here.connections() <= THREADS + OFFLOADED


def test_dropped_connections_are_found_before_they_are_used(site):
    """With the site's own settings no client notices."""
    here = site(TESTED)
    assert here.statuses("/tested/ten", 2) + here.statuses("/tested/one", 8) == [200] * 10
    assert here.connections() > 10
    here.database.drop(here.name)
    assert here.statuses("/tested/one", 30) == [200] * 30
    assert here.statuses("/tested/ten", 2) == [200] * 2


def test_dropped_connections_are_not_used_twice(site):
    """With Django's default each thread learns of it by a failure, and is all right afterwards."""
    here = site(TESTED, UNCHECKED="1")
    assert here.statuses("/tested/ten", 2) + here.statuses("/tested/one", 8) == [200] * 10
    open_then = here.connections()
    here.database.drop(here.name)
    found = here.statuses("/tested/one", 5 * (THREADS + OFFLOADED)) + here.statuses("/tested/ten", 2)
    assert 1 <= found.count(500) <= open_then  # which thread serves is up to the server: one may come to it late
    assert set(found) == {200, 500}


def test_djangos_pool_of_connections(site):
    """Four for ten calls at once, and for those that come afterwards; also when they have been dropped."""
    here = site(TESTED, SITE_POOL="4")
    for _ in range(3):
        assert here.json("/tested/ten") == {"counts": 10, "same": True}
        assert here.statuses("/tested/count", 4) + here.statuses("/tested/one", 4) == [200] * 8
        assert 1 <= here.connections() <= 4
        here.database.drop(here.name)
    with ExitStack() as stack:
        clients = [stack.enter_context(here.server.connect(timeout=LONG)) for _ in range(20)]
        for client in clients:
            client.send_request("GET", "/tested/ten", host=HOST)
        assert [client.read_response().status for client in clients] == [200] * 20
    assert here.statuses("/tested/count", 8) == [200] * 8
    assert here.connections() <= 4


def test_views_that_wait_in_their_thread_hold_no_connection(site):
    """One for all: each has asked the database before it waits for a call that asks it, too."""
    here = site(TESTED, SITE_POOL="1", HELD="1")
    with ExitStack() as stack:
        clients = [stack.enter_context(here.server.connect(timeout=LONG)) for _ in range(10)]
        for client in clients:
            client.send_request("GET", "/tested/one", host=HOST)
        assert [client.read_response().status for client in clients] == [200] * 10
    assert "gateway_tested.middleware.Holding cannot be suspended" in here.server.log()


@pytest.mark.parametrize("pool", ["", "4"], ids=["connections of threads", "pool"])
def test_no_waiting_within_a_transaction(site, pool):
    """It is rolled back, and the connection can be used again."""
    here = site(TESTED, SITE_POOL=pool)
    for _ in range(6):
        assert here.get("/tested/within").status == 500
        assert here.get("/tested/around").status == 500
    assert "TransactionManagementError: waiting within a transaction of the database 'default'" in here.server.log()
    assert "ImproperlyConfigured: a view that waits (@suspends) is called within a transaction" in here.server.log()
    assert here.database.ask("SELECT count(*) FROM gateway_page WHERE path = '/changed'") == 0
    idle = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state LIKE 'idle in transaction%%'"
    assert here.database.ask(idle, here.name) == 0
    assert here.statuses("/tested/one", 8) == [200] * 8


@pytest.mark.parametrize("pool", ["", "4"], ids=["connections of threads", "pool"])
def test_clients_that_leave_take_no_connection_along(site, pool):
    """They leave while their query runs, or waits for one of the pool's threads; afterwards all is as before."""
    here = site(TESTED, SITE_POOL=pool)
    assert here.statuses("/tested/one", 8) == [200] * 8
    most = 4 if pool else THREADS + OFFLOADED
    for _ in range(3):
        with closing(here.database.connect()) as other, ExitStack() as stack:
            other.execute("SELECT pg_advisory_lock(12)")
            clients = [stack.enter_context(here.server.connect(timeout=LONG)) for _ in range(20)]
            for client in clients:
                client.send_request("GET", "/tested/locked", host=HOST)
            eventually(lambda: here.database.blocked(here.name) == min(most, OFFLOADED), "they wait", within=LONG)
            for client in clients:
                client.close()
        eventually(lambda: here.database.blocked(here.name) == 0, "no connection waits any more", within=LONG)
        assert here.statuses("/tested/one", 8) == [200] * 8
        assert here.json("/tested/ten") == {"counts": 10, "same": True}
        assert here.connections() <= most


# Without PostgreSQL


def test_without_its_programs(tmp_path, monkeypatch):
    """That is a failure where everything is to be tested, and a reason to skip elsewhere."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"there is no PostgreSQL in .*: scripts/install-deps check"):
        postgres.programs(tmp_path)
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="scripts/install-deps check"):
        postgres.programs(tmp_path)
