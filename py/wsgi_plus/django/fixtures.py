"""A pytest plugin: ``pytest_plugins = ["wsgi_plus.django.fixtures"]`` in the uppermost conftest.py."""

from __future__ import annotations

import pytest

from .test import Client

__all__ = ["suspending_client"]


@pytest.fixture
def suspending_client() -> Client:
    """A ``wsgi_plus.django.test.Client``."""
    return Client()
