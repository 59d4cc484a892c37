"""examples/django_site with REST framework and Sentry's SDK at its default settings (apps/gateway_tested), on SQLite."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from harness.browser import Browser
from harness.gateway import COMMANDS, HOST, Toy, make, told
from harness.limits import APPS, LONG, ROOT, eventually
from harness.server import Server

APP = "gateway_tested.wsgi"
JSON = [("Content-Type", "application/json")]


@pytest.fixture(scope="module")
def toy() -> Iterator[Toy]:
    with closing(Toy()) as made:
        yield made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("site")
    make({"SITE_DATA": str(made)})
    return made


@pytest.fixture(params=list(COMMANDS))
def server(request: pytest.FixtureRequest, launch: Callable[..., Server], data: Path, toy: Toy) -> Server:
    *words, _ = told(COMMANDS[request.param])
    paths = [str(ROOT / "py"), str(APPS)]
    env = {"SITE_DATA": str(data), "UPSTREAM": toy.address, "SECRET_KEY": "for tests only", "SENTRY": "1"}
    if "--pythonpath" in words:
        words[words.index("--pythonpath") + 1] = ",".join(paths)
    else:
        env["PYTHONPATH"] = ":".join(paths)
    return launch(APP, cwd=ROOT, env=env, program=words)


def get(server: Server, target: str) -> tuple[int, Any]:
    answer = server.get(target, timeout=LONG, host=HOST)
    return answer.status, json.loads(answer.text) if answer.text.startswith(("{", "[")) else answer.text


def events(server: Server) -> Any:
    return get(server, "/tested/told")[1]


def test_a_handler_that_waits(server):
    """What it returns is rendered, what it raises is the exception handler's; Sentry hears nothing of either."""
    page = {"name": "slow", "path": "/slow?ms=1000", "patience": 30.0}
    assert get(server, "/api/pages/slow") == (200, {**page, "status": 200, "length": 32})
    assert get(server, "/api/pages/none") == (404, {"detail": "Not found."})
    assert events(server) == []


def test_it_takes_what_is_right(server):
    """Parsers and serializers around waits."""
    for said, status in ([b'{"patience": 31}', 200], [b'{"patience": "long"}', 400], [b"{", 400]):
        answer = server.request("PUT", "/api/pages/broken", JSON, said, timeout=LONG, host=HOST)
        assert answer.status == status, answer.text
    answer = server.request("DELETE", "/api/pages/broken", timeout=LONG, host=HOST)
    assert (answer.status, answer.header("Allow")) == (405, "GET, PUT, HEAD, OPTIONS")
    assert events(server) == []


def test_permissions_come_first(server):
    assert get(server, "/api/count")[0] == 403
    with Browser(server, host=HOST) as b:
        b.get("/admin/")
        b.post("/admin/login/?next=/admin/", {"username": "ada", "password": "secret", "next": "/admin/"})
        assert json.loads(b.get("/api/count").text)["count"] >= 3
    assert events(server) == []


def test_many_wait_on_two_threads(server, toy):
    """Suspended, though Sentry's SDK has wrapped the middleware, the views and the handler: others are answered."""
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect(timeout=LONG)) for _ in range(30)]
        for client in clients:
            client.send_request("GET", "/api/pages/silent", host=HOST)
        eventually(
            lambda: toy.stats()["open"] == 31, "all have reached the upstream, beside this question", within=LONG
        )
        assert get(server, "/tested/count")[0] == 200
        left = toy.stats()["left"]
        for client in clients:
            client.close()
        eventually(lambda: toy.stats()["left"] == left + 30, "the upstream has seen them leave", within=LONG)
    assert events(server) == []


def test_what_fails_is_told_once(server):
    """Of a view and of a handler that wait: one event each, with the error that was raised."""
    assert get(server, "/tested/fails")[0] == 500
    assert events(server) == [["ValueError"]]
    assert get(server, "/api/pages/broken")[0] == 500  # the upstream breaks off
    (first, second) = events(server)
    assert (first, second[-1]) == (["ValueError"], "Broken")
