"""A pytest plugin: ``pytest_plugins = ["wsgi_plus.flask.fixtures"]`` in the uppermost conftest.py."""

from __future__ import annotations

import pytest
from flask.app import Flask

from .test import Client

__all__ = ["suspending_client"]


@pytest.fixture
def suspending_client(app: Flask) -> Client:
    """A ``wsgi_plus.flask.test.Client`` of what the fixture ``app`` gives, which is yours."""
    return Client(app)
