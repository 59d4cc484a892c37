"""Fixtures and hooks for tests that talk to real servers over real sockets: a conftest.py imports all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .client import close_all
from .limits import SLOW, fermata
from .server import Pool, Server, end_all

__all__ = [
    "_pool",
    "_watch_servers",
    "launch",
    "pytest_collection_finish",
    "pytest_configure",
    "pytest_runtest_makereport",
    "pytest_sessionfinish",
    "serve",
    "watch",
]

_watched: dict[int, tuple[Server, int]] = {}  # the servers of the current test, and where their logs stood


def watch(server: Server) -> Server:
    _watched.setdefault(id(server), (server, server.log_size()))
    return server


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("timeout", None) is None:
        config.option.timeout = float(config.getini("timeout")) * SLOW


def pytest_collection_finish(session: pytest.Session) -> None:
    if not session.config.option.collectonly and not fermata().exists():
        raise pytest.UsageError(f"there is no {fermata()}: build it, or say where it is with FERMATA=PATH")


def pytest_sessionfinish() -> None:
    end_all()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:
        for server, start in _watched.values():
            server.spoiled = True
            text = server.log_now(start)
            state = "running" if server.alive() else "ended"
            report.sections.append((f"log of {' '.join(server.command)} ({state})", text[-20000:] or "(empty)"))
    return report


@pytest.fixture(autouse=True)
def _watch_servers() -> Iterator[None]:
    """Forgets the servers of the test before, and looks at the logs that this test has left."""
    _watched.clear()
    yield
    close_all()
    for server, start in _watched.values():
        server.check_log(start)
        assert server.alive() or server.wait_exit(0) == server.expect, (
            f"the server died during the test: {server.wait_exit(0)}"
        )


@pytest.fixture
def launch() -> Iterator[Callable[..., Server]]:
    """launch(app, *options): a server for this test alone, listening.  Its end is part of the test."""
    servers: list[Server] = []

    def start(app: str | None, *options: str, ready: bool = True, **more: Any) -> Server:
        server = Server(app, *options, **more)
        servers.append(server)
        watch(server)
        return server.wait_ready() if ready else server

    yield start
    errors = []
    for server in servers:
        try:
            server.stop()
        except AssertionError as error:
            errors.append(str(error))
    assert not errors, "\n".join(errors)


@pytest.fixture(scope="module")
def _pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.stop()


@pytest.fixture
def serve(_pool: Pool) -> Callable[..., Server]:
    """serve(app, *options): a server that the tests of a module share, for those that leave it as it was."""

    def get(app: str, *options: str, **more: Any) -> Server:
        return watch(_pool.get(app, *options, **more))

    return get
