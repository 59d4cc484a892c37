"""Fixtures of the tests of py/wsgi_plus on servers: each test runs on Fermata and on wsgi_plus.simple_server."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
from harness.fixtures import *  # noqa: F403
from harness.fixtures import watch
from harness.limits import APPS, ROOT, fermata
from harness.server import Pool, Server, virtualenv

PATHS = [str(path) for path in (ROOT / "tests" / "wsgi_plus" / "apps", APPS, ROOT / "py")]
OPTIONS = {
    "fermata": ([str(fermata())], ["--venv", virtualenv(), "--pythonpath", ",".join(PATHS)], {}),
    "simple_server": (
        [sys.executable, "-m", "wsgi_plus.simple_server"],
        [],
        {"PYTHONPATH": os.pathsep.join(PATHS)},
    ),
}


@pytest.fixture(params=list(OPTIONS))
def server_name(request: pytest.FixtureRequest) -> str:
    """Which server a test runs on."""
    name: str = request.param
    return name


@pytest.fixture
def served(server_name: str, _pool: Pool) -> Callable[..., Server]:
    """served(app, *options): a server of either kind, which the tests of a module share.

    The application is looked for in tests/wsgi_plus/apps and tests/apps.
    """
    program, first, variables = OPTIONS[server_name]

    def get(app: str, *options: str, env: dict[str, str] | None = None, **more: Any) -> Server:
        return watch(_pool.get(app, *first, *options, program=program, env={**variables, **(env or {})}, **more))

    return get


@pytest.fixture
def launched(server_name: str, launch: Callable[..., Server]) -> Callable[..., Server]:
    """launched(app, *options): the same, for this test alone."""
    program, first, variables = OPTIONS[server_name]

    def start(app: str, *options: str, env: dict[str, str] | None = None, **more: Any) -> Server:
        return launch(app, *first, *options, program=program, env={**variables, **(env or {})}, **more)

    return start
