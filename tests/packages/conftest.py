"""Fixtures of the system tests.  Each test talks to a real server over real sockets; see harness/."""

from harness.fixtures import *  # noqa: F403
