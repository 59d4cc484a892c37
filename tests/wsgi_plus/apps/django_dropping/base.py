"""SQLite as if it were a server at the other end of a network: it drops connections, and has few of them."""

from __future__ import annotations

import threading
from typing import Any

from django.db import OperationalError
from django.db.backends.sqlite3.base import DatabaseWrapper as SQLite

__all__ = ["DatabaseWrapper", "Far"]


class Far:
    """The server.  ``most`` are the connections that it has for all, and ``seconds`` is how long one is waited for."""

    most = 1000
    seconds = 0.2

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: dict[int, Any] = {}
        self.opened = 0

    @property
    def open(self) -> int:
        return len(self._open)

    def drop(self) -> None:
        """As its restart does, or an idle timeout between: Django is not told."""
        with self._changed:
            for connection in self._open.values():
                connection.close()

    def connected(self, connection: Any) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._open) < self.most, self.seconds):
                connection.close()
                raise OperationalError("too many connections")
            self._open[id(connection)] = connection
            self.opened += 1

    def closed(self, connection: Any) -> None:
        with self._changed:
            self._open.pop(id(connection), None)
            self._changed.notify()


far = Far()


class DatabaseWrapper(SQLite):
    def get_new_connection(self, conn_params: Any) -> Any:
        made = super().get_new_connection(conn_params)
        far.connected(made)
        return made

    def _close(self) -> None:
        if self.connection is not None:
            far.closed(self.connection)
        super()._close()

    def is_usable(self) -> bool:
        try:
            self.connection.execute("SELECT 1")
        except Exception:
            return False
        return True
