"""What the admin port asks of the application.  Compiled into the binary; runs in a thread that does nothing else, one
for each kind of question."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

__all__ = ["metrics"]

_SHARED = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


def metrics() -> bytes | None:
    """What prometheus_client has for a scrape; None if the application has not imported it, or is just about to.

    Where processes share a directory of metrics those of all of them are collected, as the library's own exporters do.
    """
    client: Any = sys.modules.get("prometheus_client")
    if not hasattr(client, "generate_latest"):
        return None
    registry: Any = client.REGISTRY
    if any(name in os.environ for name in _SHARED):
        registry = client.CollectorRegistry()
        importlib.import_module("prometheus_client.multiprocess").MultiProcessCollector(registry)
    text: bytes = client.generate_latest(registry)
    return text
