"""Portable helpers for WSGI+: what an application can use on any server.  Pure Python, no dependencies."""

from ._blocking import blocking

__all__ = ["blocking"]
