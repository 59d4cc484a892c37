"""Flask-RESTful: its resources want what a method returns at once, to make a response of it; so do its decorators."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from .._suspends import ViewThatWaits

__all__ = ["within"]

HELD = (
    "%s is a method of a Resource of Flask-RESTful, which wants what it returns at once: it waits in its thread. In a "
    "flask.views.MethodView it would wait without one"
)


def within(steps: ViewThatWaits[Any], args: Sequence[Any]) -> Any:
    """What a marked function gives whom has called it: the steps, or what it returns if that is a resource."""
    package = sys.modules.get("flask_restful")
    if package is None or not args or not isinstance(args[0], package.Resource):
        return steps
    return steps.held(HELD)
