"""Where the main thread stands while a debugger of another process has it (PEP 768).  Compiled into the binary."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["main_thread"]


def main_thread(run_what_waits: Callable[[], None]) -> None:
    """Requests are served by other threads, which `threading.enumerate()` has."""
    run_what_waits()
