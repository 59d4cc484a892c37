"""A Django with Sentry's SDK, other people's middleware and REST framework, on real servers."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest
from harness.limits import LONG


@pytest.fixture
def server(launched):
    """One thread: a request that holds it stops all others."""
    return launched("django_others:application", "--threads", "1")


@pytest.mark.parametrize(
    ("target", "answer"),
    [("/nap?s=0.5", "rested False"), ("/api?s=0.5", '{"rested":true}'), ("/stream?s=0.5", "first last")],
)
def test_a_hundred_on_one_thread(server, target, answer):
    with ExitStack() as stack:
        clients = [stack.enter_context(server.begin(target, timeout=LONG)) for _ in range(100)]
        assert {c.read_response().text for c in clients} == {answer}
    assert json.loads(server.get("/told").text) == []


def test_what_sentry_is_told(server):
    assert server.get("/fails").status == 500
    assert server.get("/api?s=0.01&missing").status == 404
    assert server.get("/nap?s=0.01").status == 200
    assert json.loads(server.get("/told").text) == [["ValueError"]]
