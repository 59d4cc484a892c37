"""What the tests of the conformance suite share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.check import same
from conformance.launcher import Settings
from conformance.registry import Case
from conformance.runner import run
from harness.limits import ROOT

HERE = ROOT / "spec" / "conformance"
README = HERE / "README.md"

EXCEPT: dict[str, dict[str, str]] = {
    # what does not pass, and why
    "fermata": {
        "second-call-after-an-error": "a call that was rejected is as if it had not been made: frameworks then say 500",
        "hop-by-hop": "such headers are dropped: frameworks set them, and what worked elsewhere would not",
    },
    "simple_server": {},
    "gunicorn_worker": {},
}

MAY_FAIL: dict[str, dict[str, str]] = {
    # what passes or not, and on what that depends
    "gunicorn_worker": {
        "what-has-arrived-is-served": "only gunicorn's arbiter is stopped meanwhile, and its worker has not always read"
        " before it is told to end",
    },
}


def made(name: str, function: Callable[[Any], None], *, requirements: tuple[str, ...] = ("P1",), **more: Any) -> Case:
    return Case(name, requirements, function, **more)


def shown(t: Any) -> None:
    """A case that shows nothing."""


def asks(t: Any) -> None:
    c = t.connect()
    c.get("/")
    same(c.response().status, 200, "the status")


def outcome(settings: Settings, *cases: Case, **how: Any) -> dict[str, tuple[str, str]]:
    return {found.name: (found.result, found.detail) for found in run(settings, cases, **how)}
