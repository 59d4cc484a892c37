"""Fixtures of the system tests: these tests talk to real servers too, built with FLAVOR=faults."""

from harness.fixtures import *  # noqa: F403
