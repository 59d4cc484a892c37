"""Fixtures of the tests of operations, which talk to real servers too."""

from harness.fixtures import *  # noqa: F403
